"""Patches that do not fit, bases that were changed, recipes of hostile signers: nothing is made."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.opening import open_tree
from appliance.bundle.patch import joining
from appliance.bundle.patch.holdings import bundle_holdings, open_bundle
from appliance.bundle.patch.writing import write_patch
from appliance.errors import (
    DigestMismatch,
    FileMissing,
    PatchUnfit,
    RecipeInvalid,
    SignatureInvalid,
    SpaceExhausted,
    ThresholdNotMet,
    Usage,
)
from appliance.progress import Silent
from tests.unit.bundle.patch.conftest import Pair, Station, new_contents, old_contents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL = "payload/model/tiny.gguf"


def nothing_left(folder: Path) -> bool:
    return not [path for path in folder.iterdir() if "joined" in path.name]


@pytest.fixture
def base(pair: Pair, tmp_path: Path) -> Path:
    """A copy of the old bundle, to be changed."""
    return shutil.copytree(pair.old, tmp_path / "base")


def refused(pair: Pair, base: Path, patch: Path, error: type[Exception], said: str) -> Exception:
    with pytest.raises(error, match=said) as raised:
        pair.station.join(base, patch)
    assert nothing_left(pair.station.folder)
    return raised.value


def test_a_patch_on_another_base_is_refused(pair: Pair, tmp_path: Path) -> None:
    station = Station(type(pair.station.maker)(tmp_path, pair.station.maker.holders), pair.station.root)
    contents = old_contents()
    contents["model"][1]["more"] = b"more"
    other = station.bundle("other", contents, sequence=1)
    refused(pair, other, pair.patch, PatchUnfit, "for another base")
    older = station.bundle("older", contents, sequence=0)
    refused(pair, older, pair.patch, PatchUnfit, "a patch before this one is missing")
    later = station.bundle("later", contents, sequence=3)
    refused(pair, later, pair.patch, PatchUnfit, "the patch is older than the base")
    refused(pair, pair.new, pair.patch, PatchUnfit, "was applied already")


@pytest.mark.parametrize("place", [5_000, 150_000, 299_000])
def test_one_changed_byte_in_the_base_is_noticed(pair: Pair, base: Path, place: int) -> None:
    data = bytearray((base / MODEL).read_bytes())
    data[place] ^= 1
    (base / MODEL).write_bytes(data)
    refused(pair, base, pair.patch, DigestMismatch, "otherwise than it should|changed")


def test_one_changed_byte_in_a_file_that_is_kept_is_noticed(pair: Pair, base: Path) -> None:
    place = base / "payload/engine/b-1.0.whl"
    place.write_bytes(place.read_bytes()[:-1] + b"x")
    refused(pair, base, pair.patch, DigestMismatch, "b-1.0.whl came out otherwise")


def test_a_base_that_lacks_a_file_is_refused(pair: Pair, base: Path) -> None:
    (base / MODEL).unlink()
    refused(pair, base, pair.patch, FileMissing, "missing")


def test_a_base_file_replaced_between_check_and_use_is_noticed(
    pair: Pair, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = joining.read_target

    def replace(*arguments: object) -> object:
        place = base / MODEL
        size = place.stat().st_size
        place.unlink()
        place.write_bytes(b"y" * size)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(joining, "read_target", replace)
    refused(pair, base, pair.patch, DigestMismatch, "tiny.gguf came out otherwise")


def test_a_base_that_nobody_released_is_refused(pair: Pair, base: Path) -> None:
    (base / "trust/SHA256SUMS.alice.sig").unlink()
    refused(pair, base, pair.patch, ThresholdNotMet, "too few")


def test_a_patch_signed_by_one_is_refused(pair: Pair, tmp_path: Path) -> None:
    patch = shutil.copytree(pair.patch, tmp_path / "patch")
    (patch / "trust/SHA256SUMS.carol.sig").unlink()
    refused(pair, pair.old, patch, ThresholdNotMet, "too few")


def test_a_changed_patch_is_refused(pair: Pair, tmp_path: Path) -> None:
    patch = shutil.copytree(pair.patch, tmp_path / "patch")
    recipe = patch / "payload/patch/recipe"
    recipe.write_bytes(recipe.read_bytes().replace(b"file", b"FILE", 1))
    refused(pair, pair.old, patch, DigestMismatch, "payload/patch/recipe")


def test_a_whole_bundle_is_no_patch(pair: Pair) -> None:
    refused(pair, pair.old, pair.new, SignatureInvalid, "another role")


def test_without_room_nothing_is_written(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "free_bytes", lambda _: 1000)
    refused(pair, pair.old, pair.patch, SpaceExhausted, "too little room")


def test_what_is_there_is_not_written_over(pair: Pair) -> None:
    with pytest.raises(Usage, match="exists already"):
        pair.station.join(pair.old, pair.patch, name="old")


def forged(pair: Pair, name: str, change: Callable[[list[bytes]], list[bytes]], without: str = "") -> Path:
    """A patch whose holders signed a recipe that was changed; its blocks and bundle are the real ones.

    ``without`` a file that the recipe takes.
    """
    work = pair.station.folder / f"{name}-work"
    work.mkdir()
    for part in ("blocks", "recipe"):
        shutil.copy(pair.patch / "payload/patch" / part, work / part)
    lines = (work / "recipe").read_bytes().splitlines(keepends=True)
    (work / "recipe").write_bytes(b"".join(change(lines)))
    taken = {entry.path for entry in pair.built.entries if entry.how == "whole"} - {without}
    out = pair.station.folder / name
    with open_tree(pair.old) as old, open_tree(pair.new) as new:
        holdings = bundle_holdings(open_bundle(old))
        write_patch(out, holdings, open_bundle(new), taken, work, progress=Silent())
    return pair.station.maker.sign(out, "carol", "mallory", role="patch")


def _with(word: bytes, into: bytes) -> Callable[[list[bytes]], list[bytes]]:
    """The first line that has this word gets another."""

    def change(lines: list[bytes]) -> list[bytes]:
        number = next(n for n, line in enumerate(lines) if word in line)
        return [*lines[:number], lines[number].replace(word, into), *lines[number + 1 :]]

    return change


def _without(word: bytes) -> Callable[[list[bytes]], list[bytes]]:
    """The file of this path is left out, with its parts; it must have none in the blocks."""

    def change(lines: list[bytes]) -> list[bytes]:
        start = next(n for n, line in enumerate(lines) if word in line)
        end = next(n for n in range(start + 1, len(lines)) if lines[n].startswith(b"file"))
        return [*lines[:start], *lines[end:]]

    return change


def _outside_base(lines: list[bytes]) -> list[bytes]:
    number = next(n for n, line in enumerate(lines) if line.startswith(b"delta"))
    words = lines[number].split(b" ")
    words[5] = b"%d\n" % (int(words[5]) + 1)
    return [*lines[:number], b" ".join(words), *lines[number + 1 :]]


@pytest.mark.parametrize(
    ("name", "change", "error", "said"),
    [
        ("outside", _outside_base, RecipeInvalid, "reads outside its base"),
        ("escape", _with(b" manifest.json", b" ../manifest.json"), RecipeInvalid, "path"),
        ("elsewhere", _with(b" manifest.json", b" manifest.jsom"), RecipeInvalid, "does not make manifest"),
        (
            "unlisted",
            _with(b" trust/SHA256SUMS.alice.sig", b" trust/more"),
            RecipeInvalid,
            "order|not list",
        ),
        ("lacking", _without(b" payload/engine/a-1.1.whl"), PatchUnfit, "neither patch nor base has"),
        ("base", _with(b"base ", b"base 0"), RecipeInvalid, "says nothing"),
    ],
)
def test_a_hostile_recipe_makes_nothing(
    pair: Pair,
    name: str,
    change: Callable[[list[bytes]], list[bytes]],
    error: type[Exception],
    said: str,
) -> None:
    refused(pair, pair.old, forged(pair, f"forged-{name}", change), error, said)


def test_a_file_that_the_patch_does_not_carry_is_not_taken(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = "payload/engine/a-1.1.whl"
    patch = forged(pair, "forged-take", lambda lines: lines, without=wheel)
    monkeypatch.setattr(joining, "partial_folder", lambda _: pytest.fail("something is made"))
    refused(pair, pair.old, patch, RecipeInvalid, f"it takes {wheel}")


def test_a_prefix_too_short_for_zstd_is_refused(pair: Pair) -> None:
    def shorten(lines: list[bytes]) -> list[bytes]:
        number = next(n for n, line in enumerate(lines) if line.startswith(b"delta"))
        words = lines[number].split(b" ")
        return [*lines[:number], b" ".join([*words[:5], b"7\n"]), *lines[number + 1 :]]

    refused(pair, pair.old, forged(pair, "forged-prefix", shorten), RecipeInvalid, "prefix is shorter")


def test_another_list_than_was_signed_is_not_made(pair: Pair) -> None:
    """The recipe makes the bundle's own list; its holders signed the digest of another."""
    later = new_contents()
    later["model"][1]["licence.txt"] = b"Be evil.\n"
    target = pair.station.bundle("evil", later, sequence=2)
    work = pair.station.folder / "evil-work"
    shutil.copytree(pair.patch / "payload/patch", work)
    taken = {entry.path for entry in pair.built.entries if entry.how == "whole"}
    out = pair.station.folder / "evil-patch"
    with open_tree(pair.old) as old, open_tree(target) as new:
        holdings = bundle_holdings(open_bundle(old))
        write_patch(out, holdings, open_bundle(new), taken, work, progress=Silent())
    pair.station.maker.sign(out, "carol", "mallory", role="patch")
    refused(pair, pair.old, out, RecipeInvalid, "another bundle than was signed")
