"""Patches: what a manifest may say to be one, who may sign what, recipes of holders who were deceived."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.listing import listing_bytes
from appliance.bundle.patch.applying import check
from appliance.bundle.patch.packing import pack, unpack
from appliance.errors import BundleMalformed, BundleRevoked, BundleUntrusted, RecipeInvalid
from appliance.progress import Silent
from appliance.trust.allowed_signers import allowed_signers
from appliance.trust.canonical import canonical_bytes
from tests.conftest import BundleMaker
from tests.corpus.groups import cases
from tests.independent.agreement import verify_bundle
from tests.unit.bundle.patch.conftest import (
    Pair,
    Station,
    new_contents,
    old_contents,
    root_with_patches,
)
from tests.unit.bundle.patch.test_recipe import BLOCKS, WRONG
from tests.unit.bundle.test_review_page import PASSED, Reviewer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Holders

OTHER = "e" * 64


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, holders: Holders) -> Pair:
    station = Station(BundleMaker(tmp_path_factory.mktemp("pair"), holders), root_with_patches(holders))
    old = station.bundle("old", old_contents(), sequence=1)
    new = station.bundle("new", new_contents(), sequence=2)
    built = station.build(old, new)
    station.maker.sign(built.folder, "carol", "mallory", role="patch")
    return Pair(station, old, new, built.folder, built)


def changed(pair: Pair, bundle: Path, role: str, change: Callable[[Any], None], folder: Path) -> Path:
    """A copy whose manifest was changed, and that the role's holders signed nevertheless."""
    copy = shutil.copytree(bundle, folder / "copy")
    for left in (*(copy / "trust").glob("SHA256SUMS*"), *(copy / "trust").glob("provenance*")):
        left.unlink()
    manifest = json.loads((copy / "manifest.json").read_bytes())
    change(manifest)
    (copy / "manifest.json").write_bytes(canonical_bytes(manifest))
    files = [path for path in copy.rglob("*") if path.is_file()]
    digests = {str(path.relative_to(copy)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    listing = listing_bytes(dict(sorted(digests.items())))
    (copy / "trust/SHA256SUMS").write_bytes(listing)
    names = ("carol", "mallory") if role == "patch" else ("alice", "bob")
    return pair.station.maker.sign_regardless(copy, *names, role=role)


def _base(**values: Any) -> Callable[[Any], None]:
    return lambda manifest: manifest["requires"][0].update(values)


def _kind(name: str, kind: str) -> Callable[[Any], None]:
    return lambda manifest: manifest["components"][name].update(kind=kind)


def _origin(manifest: Any, **facts: str) -> None:
    """What an origin says of a file; its keys are anybody's words."""
    for component in manifest["components"].values():
        for file in component["files"]:
            file["origin"].update(facts)


def origin_makes(manifest: Any) -> None:
    _origin(manifest, makes="d" * 64)


PATCHES: dict[str, Callable[[Any], None]] = {
    "as it was built": lambda _: None,
    "no base": lambda manifest: manifest.update(requires=[]),
    "two bases": lambda manifest: manifest["requires"].append({**manifest["requires"][0], "bundle": OTHER}),
    "the same base twice": lambda manifest: manifest["requires"].append(manifest["requires"][0]),
    "a base that is no object": lambda manifest: manifest.update(requires=[OTHER]),
    "a base without a digest": lambda manifest: manifest["requires"][0].pop("bundle"),
    "a base with more": _base(more=1),
    "a base of no version": _base(version=""),
    "a base's digest in capitals": _base(bundle=OTHER.upper()),
    "a base's sequence as text": _base(sequence="1"),
    "a base of the same sequence": _base(sequence=2),
    "a later base": _base(sequence=3),
    "a base of a negative sequence": _base(sequence=-1),
    "makes nothing": lambda manifest: manifest.pop("makes"),
    "makes what is no digest": lambda manifest: manifest.update(makes="e" * 63),
    "makes null": lambda manifest: manifest.update(makes=None),
    "makes its base": lambda manifest: manifest.update(makes=manifest["requires"][0]["bundle"]),
    "no component that says how": _kind("patch", "files"),
    "two that say how": _kind("engine", "patch"),
    "of which an origin alone says what it makes": lambda manifest: (
        manifest.pop("makes"),
        manifest.update(requires=[]),
        origin_makes(manifest),
    ),
}
WHOLE: dict[str, Callable[[Any], None]] = {
    "that requires another": lambda manifest: manifest.update(
        requires=[{"bundle": OTHER, "version": "1", "sequence": 1}]
    ),
    "that makes another": lambda manifest: manifest.update(makes=OTHER),
    "with a component that says how": _kind("engine", "patch"),
    "that calls itself a patch": lambda manifest: manifest.update(
        requires=[{"bundle": OTHER, "version": "1", "sequence": 1}], makes=OTHER[:-1] + "d"
    ),
    "with a component that says how, and an origin that says what it makes": lambda manifest: (
        _kind("engine", "patch")(manifest),
        origin_makes(manifest),
    ),
    "that is one by all signs": lambda manifest: (
        manifest.update(requires=[{"bundle": OTHER, "version": "1", "sequence": 1}], makes="d" * 64),
        manifest["components"]["engine"].update(kind="patch"),
    ),
}


@pytest.mark.parametrize("name", cases(10, {name: name for name in PATCHES}, control=["as it was built"]))
def test_a_patch(name: str, pair: Pair, tmp_path: Path) -> None:
    patch = changed(pair, pair.patch, "patch", PATCHES[name], tmp_path)
    root = pair.station.root_data
    if name == "as it was built":
        verify_bundle(patch, root, "patch", progress=Silent())
        return
    with pytest.raises(BundleMalformed):
        verify_bundle(patch, root, "patch", progress=Silent())


@pytest.mark.group(10)
@pytest.mark.control
def test_a_whole_bundle_whose_origin_says_that_it_makes_something(pair: Pair, tmp_path: Path) -> None:
    """``makes`` is a patch's word in one place alone: the page, the grammar and the program agree."""
    bundle = changed(pair, pair.new, "release", origin_makes, tmp_path)
    verify_bundle(bundle, pair.station.root_data, progress=Silent())
    assert review(pair, bundle, "release", tmp_path) == PASSED


@pytest.mark.group(10)
def test_such_a_bundle_signed_as_a_patch(pair: Pair, tmp_path: Path) -> None:
    bundle = changed(pair, pair.new, "patch", origin_makes, tmp_path)
    with pytest.raises(BundleMalformed, match="a whole bundle, which the role patch cannot vouch for"):
        verify_bundle(bundle, pair.station.root_data, "patch", progress=Silent())
    assert review(pair, bundle, "patch", tmp_path) == [*PASSED[:5], "5: FAILED"]


@pytest.mark.group(10)
def test_a_bundle_that_was_taken_back_in_the_hands_of_those_who_sign_patches(pair: Pair) -> None:
    taken = pair.station.revoking(pair.built.makes)
    with pytest.raises(BundleRevoked):
        verify_bundle(pair.patch, pair.station.root_data, "patch", [taken], progress=Silent())


def review(pair: Pair, bundle: Path, role: str, folder: Path) -> list[str]:
    """What the steps of the printed page say."""
    return Reviewer(folder, allowed_signers(pair.station.root), role=role).review(bundle)[:6]


@pytest.mark.parametrize("name", cases(10, {name: name for name in WHOLE}))
def test_a_whole_bundle(name: str, pair: Pair, tmp_path: Path) -> None:
    bundle = changed(pair, pair.new, "release", WHOLE[name], tmp_path)
    with pytest.raises(BundleMalformed):
        verify_bundle(bundle, pair.station.root_data, progress=Silent())


ROLES = {"patch": "patch", "new": "release"}
#: Which bundle, as what its holders signed it, as what it is judged.
ASKED = {
    f"{kind} signed as {signed}, judged as {asked}": (kind, signed, asked)
    for kind in ROLES
    for signed in ("patch", "release")
    for asked in ("patch", "release")
}


@pytest.mark.parametrize(
    ("kind", "signed", "asked"),
    cases(8, ASKED, control=[name for name, (kind, *said) in ASKED.items() if said == [ROLES[kind]] * 2]),
)
def test_a_kind_and_a_role(kind: str, signed: str, asked: str, pair: Pair, tmp_path: Path) -> None:
    bundle = changed(pair, getattr(pair, kind), signed, lambda _: None, tmp_path)
    if signed == asked == ROLES[kind]:
        verify_bundle(bundle, pair.station.root_data, asked, progress=Silent())
        return
    with pytest.raises(BundleUntrusted):
        verify_bundle(bundle, pair.station.root_data, asked, progress=Silent())


@pytest.mark.group(7)
@pytest.mark.parametrize("number", range(len(WRONG)))
def test_a_recipe(number: int) -> None:
    lines, said = WRONG[number]
    with pytest.raises(RecipeInvalid, match=said):
        check(lines, blocks=BLOCKS)


@pytest.mark.group(6)
@pytest.mark.parametrize("size", [101, 1 << 20, 1 << 30])
def test_a_recipe_s_frame_that_gives_more_than_was_said(size: int) -> None:
    packed = pack(bytes(min(size, 1 << 24)))
    assert packed is not None
    with pytest.raises(RecipeInvalid):
        unpack(packed * (size >> 24 or 1), 100)
