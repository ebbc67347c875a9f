"""Kind and role, wherever a bundle is judged; what was taken back; what a patch says of its bundle."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.bundle.media.cargo import read_cargo
from appliance.bundle.opening import open_tree
from appliance.bundle.parity.copies import find_sound_copy
from appliance.bundle.patch import joining
from appliance.bundle.patch.joining import join_patch
from appliance.bundle.volume import open_volume
from appliance.definition.hardware import Hardware
from appliance.errors import BundleMalformed, BundleRevoked, DigestMismatch, PatchUnfit, Usage
from appliance.progress import Silent
from tests.independent.agreement import verify_bundle
from tests.unit.bundle.patch.conftest import Pair, Station, new_contents, old_contents

if TYPE_CHECKING:
    from pathlib import Path

#: Kind, and the role that cannot vouch for it.
WRONG = [("new", "patch"), ("patch", "release")]
RIGHT = [("new", "release"), ("patch", "patch")]


def wrongly_signed(pair: Pair, kind: str, role: str, folder: Path) -> Path:
    bundle = shutil.copytree(getattr(pair, kind), folder / "wrong")
    for left in (*(bundle / "trust").glob("SHA256SUMS.*"), *(bundle / "trust").glob("provenance*")):
        left.unlink()
    names = {"patch": ("carol", "mallory"), "release": ("alice", "bob")}[role]
    return pair.station.maker.sign_regardless(bundle, *names, role=role)


@pytest.mark.parametrize(("kind", "role"), WRONG)
def test_nobody_signs_what_the_role_cannot_bring(pair: Pair, kind: str, role: str, tmp_path: Path) -> None:
    bundle = wrongly_signed(pair, kind, role, tmp_path)
    for signature in (bundle / "trust").glob("SHA256SUMS.*"):
        signature.unlink()
    name = {"patch": "carol", "release": "alice"}[role]
    with pytest.raises(BundleMalformed, match=f"which the role {role} cannot vouch for"):
        pair.station.maker.sign(bundle, name, role=role)
    assert not list((bundle / "trust").glob("SHA256SUMS.*"))


@pytest.mark.parametrize(("kind", "role"), WRONG)
def test_nobody_carries_or_repairs_what_the_role_cannot_bring(
    pair: Pair, kind: str, role: str, tmp_path: Path
) -> None:
    bundle, root = wrongly_signed(pair, kind, role, tmp_path), pair.station.root_data
    with open_tree(bundle) as tree:
        with pytest.raises(BundleMalformed, match=f"which the role {role} cannot vouch for"):
            read_cargo(tree, root=root, role=role)
        assert not read_cargo(tree, role=role).trusted
    with open_volume(bundle) as volume:
        with pytest.raises(BundleMalformed, match=f"which the role {role} cannot vouch for"):
            find_sound_copy([volume], root, role)
        assert find_sound_copy([volume], None, role).signers == ()


@pytest.mark.parametrize(("kind", "role"), RIGHT)
def test_what_the_role_brings_is_carried(pair: Pair, kind: str, role: str) -> None:
    with ExitStack() as stack:
        tree = stack.enter_context(open_tree(getattr(pair, kind)))
        assert read_cargo(tree, root=pair.station.root_data, role=role).trusted
        volume = stack.enter_context(open_volume(getattr(pair, kind)))
        assert len(find_sound_copy([volume], pair.station.root_data, role).signers) == 2


def test_a_bundle_that_was_taken_back_is_not_to_be_had_by_a_patch(pair: Pair) -> None:
    station, root = pair.station, pair.station.root_data
    taken = station.revoking(pair.built.makes)
    with pytest.raises(BundleRevoked):
        verify_bundle(pair.patch, root, "patch", [taken], progress=Silent())
    with pytest.raises(BundleRevoked) as raised:
        station.join(pair.old, pair.patch, "taken-back", taken)
    assert raised.value.found == pair.built.makes
    assert not (station.folder / "taken-back").exists()
    other = station.revoking("e" * 64)
    verify_bundle(pair.patch, root, "patch", [other], progress=Silent())


def test_a_bundle_that_nobody_released_is_taken_back_as_well(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rests on the patch alone: no signatures of its own are there to be judged in the end."""
    old = station.bundle("old", old_contents(), sequence=1)
    new = station.bundle("new", new_contents(), sequence=2, signed=False)
    patch = station.patch(old, new)
    makes = str(parse_manifest((patch / "manifest.json").read_bytes()).makes)
    monkeypatch.setattr(joining, "partial_folder", lambda _: pytest.fail("something is made"))
    with pytest.raises(BundleRevoked):
        station.join(old, patch, "joined", station.revoking(makes))


def test_what_the_base_knows_to_be_taken_back_is_not_made(pair: Pair, station: Station) -> None:
    """The patch brings an older word than the base does."""
    taken = station.revocation_files(station.revoking(pair.built.makes))
    old = station.bundle("old", old_contents(), sequence=1, documents=taken)
    new = station.bundle("new", new_contents(), sequence=2)
    patch = station.patch(old, new)
    verify_bundle(patch, station.root_data, "patch", progress=Silent())
    with pytest.raises(BundleRevoked):
        station.join(old, patch)
    assert not (station.folder / "joined").exists()


def test_a_base_that_was_taken_back_may_be_left(pair: Pair) -> None:
    with open_tree(pair.old) as tree:
        digest = read_cargo(tree).digest
    joined = pair.station.join(pair.old, pair.patch, "left", pair.station.revoking(digest))
    assert joined.release


def test_a_patch_ends_when_its_bundle_does_and_needs_what_that_needs(station: Station) -> None:
    needs = Hardware(gpu="h100-sxm", gpus=8, patch_gb=5)
    locked = {"valid_days": 30, "hardware": needs}
    old = station.bundle("old", old_contents(), sequence=1)
    new = station.bundle("new", new_contents(), sequence=2, locked=locked)
    patch = station.patch(old, new)
    verify_bundle(patch, station.root_data, "patch", progress=Silent())
    manifest = parse_manifest((patch / "manifest.json").read_bytes())
    assert (manifest.expires, manifest.hardware) == ("2026-03-02T12:00:00Z", needs.needs())
    back = parse_manifest((station.patch(new, _third(station), "third") / "manifest.json").read_bytes())
    assert (back.expires, back.hardware) == (None, None)


def _third(station: Station) -> Path:
    contents = new_contents()
    contents["model"][1]["licence.txt"] = b"Be better.\n"
    return station.bundle("third-bundle", contents, sequence=3)


def test_a_patch_is_no_base(pair: Pair) -> None:
    with pytest.raises(PatchUnfit, match="what the patch should start from is a patch itself"):
        pair.station.build(pair.patch, pair.new, "from-a-patch")


def test_a_document_that_was_changed_is_not_carried_on(station: Station) -> None:
    """The base has the same document, so no byte of it is needed for the recipe."""
    documents = station.revocation_files(station.revoking("e" * 64))
    old = station.bundle("old", old_contents(), sequence=1, documents=documents)
    new = station.bundle("new", new_contents(), sequence=2, documents=documents)
    place = new / "trust/revoked.1.json"
    place.write_bytes(place.read_bytes().replace(b"e" * 64, b"d" * 64))
    with pytest.raises(DigestMismatch, match=r"trust/revoked\.1\.json"):
        station.build(old, new)
    assert not (station.folder / "patch").exists()


def test_a_place_where_nothing_can_be_made_is_named_before_anything_is_read(
    pair: Pair, tmp_path: Path
) -> None:
    def join(out: Path) -> None:
        join_patch(tmp_path / "none", tmp_path / "none", out, pair.station.root_data, progress=Silent())

    with pytest.raises(Usage, match="nosuch is not a folder"):
        join(tmp_path / "nosuch/joined")
    (tmp_path / "there").symlink_to("nowhere")
    with pytest.raises(Usage, match="there exists already"):
        join(tmp_path / "there")


def test_a_folder_that_came_meanwhile_is_not_written_over(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = pair.station.folder / "meanwhile"

    def come(_: int) -> None:
        out.mkdir()
        (out / "mine").write_bytes(b"mine")

    monkeypatch.setattr(joining, "sync_file_system", come)
    with pytest.raises(Usage, match="meanwhile exists already"):
        pair.station.join(pair.old, pair.patch, "meanwhile")
    assert [path.name for path in out.iterdir()] == ["mine"]
    shutil.rmtree(out)
