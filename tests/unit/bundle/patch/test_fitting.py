"""Whether what a recipe makes is what its patch says: each wrong answer by its name."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.listing import MAX_BYTES as MAX_LIST
from appliance.bundle.manifest import Manifest, manifest_bytes, parse_manifest
from appliance.bundle.manifest_reader import MAX_BYTES
from appliance.bundle.patch.applying import Checked, require_bases
from appliance.bundle.patch.fitting import kept_files, read_target, require_sound
from appliance.bundle.patch.holdings import HeldFile
from appliance.bundle.patch.recipe import BaseFile
from appliance.errors import BundleMalformed, PatchUnfit, RecipeInvalid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.bundle.patch.conftest import Pair

LIST, MANIFEST, MODEL = "trust/SHA256SUMS", "manifest.json", "payload/model/tiny.gguf"
WHEEL = "payload/engine/a-1.1.whl"


class Made:
    """What a recipe has made in a folder, what it said it would, and the patch's manifest."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.folder = folder
        (folder / "trust").mkdir()
        for path in (LIST, MANIFEST):
            shutil.copy(pair.new / path, folder / path)
        self.patch: Manifest = parse_manifest((pair.patch / MANIFEST).read_bytes())
        entries = [entry.path for entry in pair.built.entries if entry.how != "held"]
        files = {path: (pair.new / path).read_bytes() for path in entries}
        made = {p: BaseFile(hashlib.sha256(data).hexdigest(), len(data)) for p, data in files.items()}
        self.checked = Checked([], made, taken={WHEEL})
        self.carried = {WHEEL: HeldFile(WHEEL, made[WHEEL].sha256, made[WHEEL].size, "engine", "a", ())}

    def says(self, path: str, **changes: Any) -> None:
        self.checked.made[path] = replace(self.checked.made[path], **changes)

    def carries(self, **changes: Any) -> None:
        self.carried[WHEEL] = replace(self.carried[WHEEL], **changes)

    def manifest(self, **changes: Any) -> None:
        """Another manifest, which the list names, and whose list the patch's holders signed."""
        old = (self.folder / MANIFEST).read_bytes()
        new = manifest_bytes(replace(parse_manifest(old), **changes))
        (self.folder / MANIFEST).write_bytes(new)
        listing = (self.folder / LIST).read_bytes()
        digests = [hashlib.sha256(data).hexdigest().encode() for data in (old, new)]
        (self.folder / LIST).write_bytes(listing.replace(*digests))
        self.sign()

    def sign(self) -> None:
        digest = hashlib.sha256((self.folder / LIST).read_bytes()).hexdigest()
        self.patch = replace(self.patch, makes=digest)


@pytest.fixture
def made(pair: Pair, tmp_path: Path) -> Made:
    return Made(pair, tmp_path)


def test_what_was_signed_is_what_is_made(made: Made, pair: Pair) -> None:
    target = read_target(made.folder, made.checked, made.patch)
    assert target.digest == pair.built.makes
    assert target.files.keys() == set(target.listing) - {MANIFEST}
    assert target.files[MODEL].parts == ((MODEL, 300_000),)


WRONG: dict[str, tuple[Callable[[Made], object], str]] = {
    "another list": (
        lambda made: (made.folder / LIST).write_bytes(b"x\n"),
        "another bundle than was signed",
    ),
    "another manifest": (
        lambda made: (made.folder / MANIFEST).write_bytes(b"{}"),
        "do not belong together",
    ),
    "another version": (lambda made: made.manifest(version="9"), "says otherwise of itself"),
    "another sequence": (lambda made: made.manifest(sequence=9), "says otherwise of itself"),
    "another product": (lambda made: made.manifest(product="other"), "says otherwise of itself"),
    "a file of another digest": (
        lambda made: made.says(MODEL, sha256="0" * 64),
        "makes another payload/model",
    ),
    "a file of another size": (lambda made: made.says(MODEL, size=1), "makes another payload/model"),
    "a file more": (
        lambda made: made.checked.made.update({"payload/model/more": BaseFile("0" * 64, 1)}),
        "which the bundle does not list",
    ),
    "a signature of no list": (
        lambda made: made.checked.made.update({"trust/root.7.eve.00000000.sig": BaseFile("0" * 64, 1)}),
        "which the bundle does not list",
    ),
}


UNSOUND: dict[str, tuple[Callable[[Made], object], str]] = {
    "no list": (lambda made: made.checked.made.pop(LIST), "does not make trust/SHA256SUMS"),
    "no manifest": (lambda made: made.checked.made.pop(MANIFEST), "does not make manifest.json"),
    "a manifest taken whole": (
        lambda made: made.checked.taken.add(MANIFEST),
        "does not make manifest.json",
    ),
    "a list too large": (lambda made: made.says(LIST, size=MAX_LIST + 1), "trust/SHA256SUMS is too large"),
    "a manifest too large": (
        lambda made: made.says(MANIFEST, size=MAX_BYTES + 1),
        "manifest.json is too large",
    ),
    "a file taken that is not there": (lambda made: made.carried.pop(WHEEL), f"takes {WHEEL}, which"),
    "a file taken of another digest": (lambda made: made.carries(sha256="0" * 64), f"takes {WHEEL}, which"),
    "a file taken of another size": (lambda made: made.carries(size=1), f"takes {WHEEL}, which"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_a_recipe_of_which_nothing_could_come_is_refused_first(name: str, made: Made) -> None:
    change, said = UNSOUND[name]
    require_sound(made.checked, made.carried)
    change(made)
    with pytest.raises(RecipeInvalid, match=said):
        require_sound(made.checked, made.carried)


def test_list_and_manifest_may_be_as_large_as_any(made: Made) -> None:
    made.says(LIST, size=MAX_LIST)
    made.says(MANIFEST, size=MAX_BYTES)
    require_sound(made.checked, made.carried)


@pytest.mark.parametrize("more", [1, -1])
def test_a_file_of_the_base_has_its_size(made: Made, more: int) -> None:
    """Of a larger one, bytes would be read that no slice has; of a smaller one, the list says the rest."""
    target = read_target(made.folder, made.checked, made.patch)
    held = {file.sha256: file for file in target.files.values()}
    kept = kept_files(target, made.checked, held)
    assert sorted(file.path for file, _ in kept) == sorted(target.files.keys() - made.checked.made.keys())
    one = kept[0][0]
    held[one.sha256] = replace(one, size=one.size + more)
    with pytest.raises(RecipeInvalid, match="with another size than the base's"):
        kept_files(target, made.checked, held)
    del held[one.sha256]
    with pytest.raises(PatchUnfit, match="neither patch nor base has 1"):
        kept_files(target, made.checked, held)


@pytest.mark.parametrize("name", WRONG)
def test_what_was_not_signed_is_not_made(name: str, made: Made) -> None:
    change, said = WRONG[name]
    change(made)
    with pytest.raises(RecipeInvalid, match=said):
        read_target(made.folder, made.checked, made.patch)


def test_a_patch_makes_no_patch(made: Made, pair: Pair) -> None:
    inner = parse_manifest((pair.patch / MANIFEST).read_bytes())
    made.manifest(requires=inner.requires, makes="e" * 64, components=inner.components)
    with pytest.raises(RecipeInvalid, match="says otherwise of itself"):
        read_target(made.folder, made.checked, made.patch)


def test_a_list_that_breaks_the_format_is_refused(made: Made) -> None:
    (made.folder / LIST).write_bytes((made.folder / LIST).read_bytes() + b"\n")
    made.sign()
    with pytest.raises(BundleMalformed):
        read_target(made.folder, made.checked, made.patch)


@pytest.mark.parametrize("held", [{}, {"a" * 64: 1}, {"b" * 64: 100}])
def test_a_base_that_lacks_what_is_read_is_named(held: dict[str, int]) -> None:
    checked = Checked([BaseFile("a" * 64, 100)])
    with pytest.raises(PatchUnfit, match="lacks 1 of 1 files") as raised:
        require_bases(checked, held)
    assert "a" * 64 in (raised.value.found or "")
    require_bases(checked, {"a" * 64: 100})
