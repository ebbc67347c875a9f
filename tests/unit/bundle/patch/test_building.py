"""What a patch carries, and that it and its base make the bundle it was built for, byte for byte."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.bundle.patch.encoding import Encoder
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    BundleMalformed,
    DigestMismatch,
    PatchUnfit,
    PatchUseless,
    SignerUnknown,
    ThresholdNotMet,
    Usage,
)
from appliance.progress import Silent
from tests.independent.agreement import verifier
from tests.unit.bundle.patch.conftest import (
    WEIGHTS,
    Pair,
    Station,
    files_of,
    new_contents,
    old_contents,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.bundle.patch.recipe import Part


def test_a_patch_and_its_base_make_the_bundle(pair: Pair) -> None:
    joined = pair.station.join(pair.old, pair.patch)
    assert files_of(joined.folder) == files_of(pair.new)
    assert (joined.version, joined.release, joined.signers) == ("1.0.2", True, ("alice", "bob"))
    assert (joined.carried, joined.kept) == (2, 3)
    verify_bundle(joined.folder, pair.station.root_data, progress=Silent())


def test_a_patch_is_a_bundle_of_its_own_kind(pair: Pair) -> None:
    root = pair.station.root_data
    verified = verify_bundle(pair.patch, root, progress=Silent(), role="patch")
    verifier.verify([pair.patch], root, "patch")
    manifest = verified.manifest
    assert [base.sequence for base in manifest.requires] == [1]
    assert manifest.makes == pair.built.makes
    assert list(manifest.components) == ["engine", "patch"]
    carried = [file.path for file in manifest.components["engine"].files]
    assert carried == ["payload/engine/a-1.1.whl", "payload/engine/requirements.txt"]


def test_only_what_changed_travels(pair: Pair) -> None:
    how = {entry.path: entry for entry in pair.built.entries}
    assert how["payload/engine/b-1.0.whl"].how == "held"
    assert how["payload/engine/a-1.1.whl"].how == "whole"
    assert how["payload/model/tiny.gguf"].how == "made"
    assert how["payload/model/tiny.gguf"].carried < 300
    assert how["payload/model/tokens.json"].carried < 300
    assert how["VERIFY.txt"].how == "held"
    assert pair.built.whole_size == sum(len(data) for data in files_of(pair.new).values())


def test_the_same_bundles_give_the_same_patch(pair: Pair) -> None:
    again = pair.station.build(pair.old, pair.new, name="again")
    assert again.digest == pair.built.digest


def test_who_signs_patches_cannot_sign_bundles(station: Station) -> None:
    bundle = station.bundle("whole", old_contents(), sequence=1, signed=False)
    station.maker.sign_regardless(bundle, "carol", "mallory", role="patch")
    with pytest.raises(BundleMalformed, match="a whole bundle, which the role patch cannot vouch for"):
        verify_bundle(bundle, station.root_data, progress=Silent(), role="patch")
    with pytest.raises(ValueError, match=r"\(True, False\)"):
        verifier.verify([bundle], station.root_data, "patch")


def test_who_signs_bundles_cannot_sign_patches(pair: Pair) -> None:
    built = pair.station.build(pair.old, pair.new, name="signed-as-release")
    pair.station.maker.sign_regardless(built.folder, "alice", "bob", role="release")
    with pytest.raises(BundleMalformed, match="a patch, which the role release cannot vouch for"):
        verify_bundle(built.folder, pair.station.root_data, progress=Silent())
    with pytest.raises(ValueError, match=r"\(True, False\)"):
        verifier.verify([built.folder], pair.station.root_data)
    with pytest.raises((SignerUnknown, ThresholdNotMet)):
        pair.station.maker.sign(built.folder, "alice", role="patch")


def test_slices_are_joined_and_cut_anew(station: Station) -> None:
    block = 4 << 20
    contents = old_contents()
    contents["model"][1]["tiny.gguf"] = old = WEIGHTS * 60
    before = station.bundle("old", contents, sequence=1, slice_size=block)
    contents["model"][1]["tiny.gguf"] = old[:5_000_000] + b"inserted" * 100 + old[5_000_000:]
    after = station.bundle("new", contents, sequence=2, slice_size=block)
    patch = station.patch(before, after)
    files = parse_manifest((after / "manifest.json").read_bytes()).components["model"].files
    assert len(files[0].slices) == 5
    assert sum(path.stat().st_size for path in (patch / "payload").rglob("*.*")) < 3000
    assert files_of(station.join(before, patch).folder) == files_of(after)


def test_a_patch_that_saves_nothing_is_refused(station: Station) -> None:
    old = station.bundle("old", {**old_contents()}, sequence=1)
    contents = new_contents()
    for number, path in enumerate(["engine/b-1.0.whl", "model/tiny.gguf", "model/tokens.json"]):
        component, _, name = path.partition("/")
        contents[component][1][name] = random.Random(number).randbytes(400_000)  # noqa: S311
    new = station.bundle("new", contents, sequence=2)
    with pytest.raises(PatchUseless, match="as large as the bundle"):
        station.build(old, new)
    assert [path.name for path in station.folder.iterdir() if "patch" in path.name] == []


@pytest.mark.parametrize(("sequence", "said"), [(1, "sequence 1, to demo"), (0, "sequence 0")])
def test_a_patch_leads_forward(station: Station, sequence: int, said: str) -> None:
    old = station.bundle("old", old_contents(), sequence=1)
    new = station.bundle("new", new_contents(), sequence=sequence)
    with pytest.raises(PatchUnfit, match="a later bundle of the same product") as raised:
        station.build(old, new)
    assert said in (raised.value.found or "")


def test_a_patch_leads_to_no_patch(pair: Pair) -> None:
    with pytest.raises(PatchUnfit, match="a patch itself"):
        pair.station.build(pair.old, pair.patch, name="of-a-patch")


def test_a_damaged_base_gives_no_patch(station: Station) -> None:
    old = station.bundle("old", old_contents(), sequence=1)
    new = station.bundle("new", new_contents(), sequence=2)
    (old / "payload/model/tiny.gguf").write_bytes(WEIGHTS[:-1] + b"x")
    with pytest.raises(DigestMismatch, match="of the base is not what its bundle says"):
        station.build(old, new)


def test_a_damaged_bundle_gives_no_patch(station: Station) -> None:
    old = station.bundle("old", old_contents(), sequence=1)
    new = station.bundle("new", new_contents(), sequence=2)
    (new / "payload/model/tiny.gguf").write_bytes(WEIGHTS)
    with pytest.raises(DigestMismatch, match=r"tiny.gguf is not what its bundle says"):
        station.build(old, new)


@pytest.mark.parametrize("whose", ["old", "new"])
def test_what_is_written_to_while_it_is_read_gives_no_patch(
    whose: str, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read more than once: hashed, and then packed."""
    old = station.bundle("old", old_contents(), sequence=1)
    new = station.bundle("new", new_contents(), sequence=2)
    place = {"old": old, "new": new}[whose] / "payload/model/tiny.gguf"
    parts = Encoder.parts

    def written_to(*what: Any) -> Iterator[Part]:
        yield from parts(*what)
        place.write_bytes(place.read_bytes())

    monkeypatch.setattr(Encoder, "parts", written_to)
    with pytest.raises(DigestMismatch, match=r"tiny\.gguf was changed while it was read"):
        station.build(old, new)


def test_a_component_of_the_patchs_name_is_refused(station: Station) -> None:
    old = station.bundle("old", old_contents(), sequence=1)
    new = station.bundle("new", {**new_contents(), "patch": ("files", {"x": b"x"})}, sequence=2)
    with pytest.raises(PatchUnfit, match="a component named patch"):
        station.build(old, new)


def test_what_is_there_is_not_written_over(pair: Pair) -> None:
    with pytest.raises(Usage, match="exists already"):
        pair.station.build(pair.old, pair.new)
