"""Reading, inspecting and signing volumes; the layout that they describe."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import reader
from appliance.bundle.inspection import inspect_bundle
from appliance.bundle.media.label import VolumeShare, label_bytes, parse_label
from appliance.bundle.media.layout import Layout, agreed_layout, bundle_order
from appliance.bundle.opening import open_tree
from appliance.bundle.reader import read_contents, read_signed
from appliance.bundle.sign import sign_bundle
from appliance.errors import (
    BundleUntrusted,
    FileMissing,
    FileUnexpected,
    PreflightFailed,
    Usage,
    VolumeMissing,
)
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.conftest import CONTENTS
from tests.unit.bundle.volumes.several import BLOCK, MODEL, refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders


def test_reading_many_files_in_a_row(bundle: Path, three: list[Path]) -> None:
    with open_tree(three) as tree, tree.cursor() as cursor:
        sizes = tree.check_set(
            [str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()]
        )
        for path in sorted(sizes):
            fd, status = cursor.open(path)
            assert os.read(fd, 1 << 20) == (bundle / path).read_bytes()
            assert status.st_size == sizes[path]
            os.close(fd)


def test_no_descriptor_is_left_open(three: list[Path], verified: Callable[..., VerifiedBundle]) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counting names

    before = descriptors()
    verified(three)
    for wrong in (three[:2], [*three, three[0]], [*three, three[0].parent / "nothing"]):
        with pytest.raises((BundleUntrusted, Usage)):
            verified(wrong)
    assert descriptors() == before


def test_inspecting_reads_volumes_too(three: list[Path], two_of_three: Root, bundle: Path) -> None:
    seen = inspect_bundle(three, trusted=root_bytes(two_of_three), progress=Silent())
    assert seen.verified
    assert seen.files == inspect_bundle(bundle, trusted=None, progress=Silent()).files


def test_signing_volumes_signs_each_of_them(
    three: list[Path], holders: Holders, verified: Callable[..., VerifiedBundle]
) -> None:
    shutil.rmtree(three[1] / "spare")
    done = sign_bundle(three, holders.key("carol"))
    assert [signer.holder for signer in done.signers] == ["alice", "bob", "carol"]
    name = "trust/SHA256SUMS.carol.sig"
    made = [folder / name for folder in three] + [three[0] / "spare" / name, three[2] / "spare" / name]
    assert len({path.read_bytes() for path in made}) == 1
    assert not (three[1] / "spare").exists()
    assert [signer.holder for signer in verified(three).signers] == ["alice", "bob", "carol"]


def test_some_volumes_are_not_signed(three: list[Path], holders: Holders) -> None:
    refusal(VolumeMissing, lambda folders: sign_bundle(folders, holders.key("carol")), three[:2])
    assert not list(three[0].rglob("*carol*"))


def test_a_write_protected_volume_leaves_all_unsigned(
    three: list[Path], holders: Holders, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = os.access

    def access(path: Path, mode: int) -> bool:
        return three[2] not in path.parents and allowed(path, mode)  # as access(2) says of such a medium

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(PreflightFailed, match="medium-3"):
        sign_bundle(three, holders.key("carol"))
    assert not [path for folder in three for path in folder.rglob("*carol*")]


def test_empty_folders_are_refused(three: list[Path], verified: Callable[..., VerifiedBundle]) -> None:
    """Also those that hold files on another volume."""
    (three[0] / "payload/model").mkdir()
    said = refusal(FileUnexpected, verified, three)
    assert f"volume 1 of 3 ({three[0]}) holds empty folders" in said
    assert "payload/model" in said


def test_a_large_manifest_is_read_again_from_its_volume(
    three: list[Path], verified: Callable[..., VerifiedBundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LARGE", 0)
    large = verified(three).manifest
    assert [file.path for file in large.payload()][-1] == MODEL
    (three[0] / "manifest.json").unlink()
    assert str(three[0]) in refusal(FileMissing, lambda _: list(large.payload()), three)


def test_the_order_of_a_bundle_follows_from_its_paths(
    maker: BundleMaker,
) -> None:
    """Names that sort otherwise as text than in the manifest."""
    contents = {
        **CONTENTS,
        "engine-2": ("files", {"z": b"z"}),
        "extras": ("files", {"w": bytes(BLOCK + 1), "w.a": b"1", "w.z": b"2", "w/": b""} | {"w-x/y": b"3"}),
    }
    contents["extras"][1].pop("w/")
    bundle = maker.write("ordered", None, maker.lock(contents), slice_size=BLOCK)
    with open_tree(bundle) as tree:
        manifest = read_contents(tree, read_signed(tree)).manifest
    order = [path for file in manifest.payload() for path, _ in file.parts()]
    assert order != sorted(order)
    shuffled = ["parity/set-0001.par2", *sorted(order, reverse=True), "parity/set-0000.par2"]
    assert sorted(shuffled, key=bundle_order) == [*order, "parity/set-0000.par2", "parity/set-0001.par2"]


def test_shares_that_overlap_are_no_layout() -> None:
    label = parse_label(
        label_bytes_of(
            VolumeShare(1, 2, "payload/a/1", "payload/a/3"), VolumeShare(1, 1, "payload/a/2", "payload/a/2")
        )
    )
    assert agreed_layout([label]) is None
    backwards = parse_label(label_bytes_of(VolumeShare(1, 2, "payload/a/3", "payload/a/1")))
    assert agreed_layout([backwards]) is None


def label_bytes_of(*shares: VolumeShare) -> bytes:
    from appliance.bundle.media.label import VolumeLabel

    return label_bytes(VolumeLabel("0" * 64, "demo", "1.0.0", 1, shares))


def test_a_layout_describes_what_volumes_hold() -> None:
    layout = Layout(
        (
            VolumeShare(31 * 10**9, 40, "payload/m/x.slice-0000", "payload/m/x.slice-0039"),
            VolumeShare(5, 1, "payload/m/y", "payload/m/y"),
        )
    )
    assert layout.describe([2, 1]) == (
        "volume 1: payload/m/x.slice-0000 to payload/m/x.slice-0039 (40 files), 31.0 GB; "
        "volume 2: payload/m/y, 5 bytes"
    )
    assert layout.volumes_of(["payload/m/y", "payload/m/x.slice-0002"]) == {
        1: ["payload/m/x.slice-0002"],
        2: ["payload/m/y"],
    }
