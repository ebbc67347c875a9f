"""Mending: what can be mended is, byte for byte; what cannot is refused, and nothing is changed."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.parity import mending, reading, survey
from appliance.bundle.parity.places import locked
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    DamageTooGreat,
    FileMissing,
    FileUnexpected,
    InProgress,
    ThresholdNotMet,
    Usage,
    VolumesMixed,
)
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.unit.bundle.parity.conftest import LAST, NOTICE, SET, SLICE, overwrite, same, write_with_parity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.parity.repaired import Repaired
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

    Repair = Callable[..., Repaired]

DAMAGE: dict[str, Callable[[Path], object]] = {
    "bit rot": lambda b: overwrite(b / SLICE, 12345, b"x"),
    "zeroed sectors": lambda b: overwrite(b / SLICE, 8192, bytes(65536)),
    "a lost slice": lambda b: (b / SLICE).unlink(),
    "a lost last slice": lambda b: (b / LAST).unlink(),
    "a lost small file and its folder": lambda b: shutil.rmtree(b / "payload/extras/site"),
    "truncated": lambda b: (b / SLICE).write_bytes((b / SLICE).read_bytes()[:4_000_000]),
    "overlong": lambda b: (b / SLICE).write_bytes((b / SLICE).read_bytes() + b"more"),
    "an inserted byte": lambda b: (b / SLICE).write_bytes(b"!" + (b / SLICE).read_bytes()),
    "a small file emptied": lambda b: (b / NOTICE).write_bytes(b""),
    "an empty file lost": lambda b: (b / "payload/extras/empty").unlink(),
    "an empty file filled": lambda b: (b / "payload/extras/empty").write_bytes(b"x"),
    "blocks.bin": lambda b: overwrite(b / "blocks.bin", 3, b"xx"),
    "VERIFY.txt": lambda b: (b / "VERIFY.txt").unlink(),
    "the trusted root's copy": lambda b: (b / "trust/root.1.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_mended_in_place(
    damage: str, sick: Path, pristine_parity: Path, repair: Repair, two_of_three: Root
) -> None:
    DAMAGE[damage](sick)
    result = repair(sick)
    assert result.mended
    assert same(sick, pristine_parity)
    verify_bundle(sick, root_bytes(two_of_three), progress=Silent())
    assert not (sick.parent / "work" / f"appliance-repair-{result.digest[:12]}").exists()
    assert repair(sick).mended == ()


def test_what_a_set_brings_back_beside_others_is_put_in_its_place_once(sick: Path, repair: Repair) -> None:
    """The review page needs no parity, but a set that is mended for another file gives it back too."""
    overwrite(sick / SLICE, 12345, b"rot")
    (sick / "VERIFY.txt").unlink()
    assert sorted(each.path for each in repair(sick).mended) == ["VERIFY.txt", SLICE]


def test_many_scattered_faults_within_the_parity_are_mended(
    sick: Path, pristine_parity: Path, repair: Repair
) -> None:
    for start in range(0, 4 << 20, 64 << 10):
        overwrite(sick / SLICE, start, b"\0\1\2\3")
    assert [each.path for each in repair(sick).mended] == [SLICE]
    assert same(sick, pristine_parity)


def test_above_the_parity_nothing_is_changed_and_the_lack_is_counted(
    sick: Path, repair: Repair, snapshot: Callable[[Path], object]
) -> None:
    """4 KiB blocks: a slice has 1,024 of them, and so has the set's parity."""
    (sick / SLICE).unlink()
    overwrite(sick / LAST, 0, b"rot")
    before = snapshot(sick)
    with pytest.raises(DamageTooGreat, match="greater than the parity") as caught:
        repair(sick)
    assert caught.value.found == "set 0 lacks 1,025 blocks of 4 KiB in 2 files and has 1,024: 1 too few"
    assert snapshot(sick) == before


def test_one_block_more_than_the_parity_is_too_many(
    sick: Path, pristine_parity: Path, repair: Repair
) -> None:
    for block in range(1024):
        overwrite(sick / SLICE, block * 4096 + 7, b"rot!")
    overwrite(sick / LAST, 7, b"rot!")
    with pytest.raises(DamageTooGreat) as caught:
        repair(sick)
    assert "has 1,024: 1 too few" in str(caught.value.found)
    shutil.copy(pristine_parity / LAST, sick / LAST)
    repair(sick)
    assert same(sick, pristine_parity)


def test_damaged_parity_still_mends_and_is_made_again(
    sick: Path, pristine_parity: Path, repair: Repair
) -> None:
    overwrite(sick / SLICE, 0, bytes(5000))
    overwrite(sick / SET, 0, bytes(200_000))
    assert {each.path for each in repair(sick).mended} == {SLICE, SET}
    assert same(sick, pristine_parity)


def test_lost_parity_is_made_again(sick: Path, pristine_parity: Path, repair: Repair) -> None:
    (sick / SET).unlink()
    assert [each.path for each in repair(sick).mended] == [SET]
    assert same(sick, pristine_parity)


def test_two_damaged_copies_make_a_sound_one_without_parity(
    sick: Path, pristine_parity: Path, tmp_path: Path, repair: Repair
) -> None:
    other = shutil.copytree(sick, tmp_path / "copy")
    overwrite(sick / SLICE, 0, bytes(3 << 20))
    overwrite(other / SLICE, 3 << 20, bytes(1 << 20))
    (other / "manifest.json").write_bytes(b"{}")
    overwrite(sick / "trust/SHA256SUMS", 0, b"0000000000")
    overwrite(sick / "trust/SHA256SUMS.bob.sig", 100, b"AAAA")
    repair(sick, other)
    assert same(sick, pristine_parity)
    assert same(other, pristine_parity)


def test_mended_files_go_elsewhere_and_nothing_given_is_touched(
    sick: Path, pristine_parity: Path, tmp_path: Path, repair: Repair, snapshot: Callable[[Path], object]
) -> None:
    overwrite(sick / SLICE, 0, b"rot")
    (sick / NOTICE).unlink()
    before = snapshot(sick)
    out = tmp_path / "out"
    assert {each.path for each in repair(sick, out=out).mended} == {SLICE, NOTICE}
    assert snapshot(sick) == before
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        NOTICE,
        SLICE,
    ]
    assert (out / SLICE).read_bytes() == (pristine_parity / SLICE).read_bytes()
    (out / NOTICE).unlink()
    assert {each.path for each in repair(sick, out=out).mended} == {NOTICE}


def test_a_lost_slice_comes_back_from_other_volumes(
    sick: Path,
    volumes: Callable[..., list[Path]],
    repair: Repair,
    two_of_three: Root,
) -> None:
    """The slice lay on volume 2, parity lies on volume 3; labels, lists and second copies are hurt too."""
    first, second, third = volumes(sick, 4, 6)
    pristine = [shutil.copytree(each, each.parent / "kept") for each in (first, second, third)]
    (third / LAST).unlink()
    overwrite(second / "volume.json", 5, b"rot")
    (first / "manifest.json").unlink()
    overwrite(first / "spare/manifest.json", 5, b"rot")
    overwrite(second / "trust/SHA256SUMS", 5, b"rot")
    overwrite(third / "blocks.bin", 5, b"rot")
    shutil.rmtree(third / "spare")
    repair(third, first, second)
    for volume, kept in zip((first, second, third), pristine, strict=True):
        assert same(volume, kept)
        shutil.rmtree(kept)
    verify_bundle([first, second, third], root_bytes(two_of_three), progress=Silent())


def test_volumes_that_are_not_here_are_asked_for(
    sick: Path, volumes: Callable[..., list[Path]], repair: Repair
) -> None:
    first, second, third = volumes(sick, 4, 6)
    overwrite(third / LAST, 0, b"rot")
    with pytest.raises(DamageTooGreat) as caught:
        repair(third)
    assert "name volumes 1, 2 of 3 too" in str(caught.value.hint)
    assert repair(third, second, first).absent == ()


def test_a_volume_alone_is_mended_as_far_as_its_copies_go(
    sick: Path, volumes: Callable[..., list[Path]], repair: Repair
) -> None:
    _, second, _ = volumes(sick, 4, 6)
    (second / "manifest.json").unlink()
    result = repair(second)
    assert result.absent == (1, 3)
    assert [each.path for each in result.mended] == ["manifest.json"]


def test_parity_that_cannot_be_made_again_is_left_and_said(
    sick: Path, volumes: Callable[..., list[Path]], repair: Repair
) -> None:
    _, _, third = volumes(sick, 4, 6)
    overwrite(third / SET, 0, b"rot")
    (third / "manifest.json").unlink()
    result = repair(third)
    assert [each.path for each in result.left] == [SET]
    assert [each.path for each in result.mended] == ["manifest.json"]


def test_a_file_that_moved_to_another_volume_is_left_there(
    sick: Path, volumes: Callable[..., list[Path]], repair: Repair
) -> None:
    first, second, third = volumes(sick, 4, 6)
    (first / LAST).parent.mkdir(parents=True, exist_ok=True)
    (third / LAST).rename(first / LAST)
    assert repair(first, second, third).mended == ()
    overwrite(first / LAST, 3, b"rot")
    (mended,) = repair(first, second, third).mended
    assert (mended.folder, mended.path) == (first, LAST)


@pytest.mark.parametrize("fault", [errno.EIO])
def test_unreadable_sectors_are_damage(
    fault: int, sick: Path, pristine_parity: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk does it: whoever reads across the bad sector gets an error instead of bytes."""
    start, end = 40_960, 45_056
    medium = os.path.realpath(sick / SLICE)
    pread, readv = os.pread, os.readv

    def hurt(fd: int) -> bool:
        return os.path.realpath(f"/proc/self/fd/{fd}") == medium

    def failing_pread(fd: int, size: int, offset: int) -> bytes:
        if hurt(fd) and offset < end and offset + size > start:
            raise OSError(fault, os.strerror(fault))
        return pread(fd, size, offset)

    def failing_readv(fd: int, buffers: list[memoryview]) -> int:
        if hurt(fd):
            raise OSError(fault, os.strerror(fault))
        return readv(fd, buffers)

    monkeypatch.setattr(reading.os, "pread", failing_pread)
    monkeypatch.setattr(survey.os, "readv", failing_readv)
    (mended,) = repair(sick).mended
    assert mended.path == SLICE
    monkeypatch.undo()
    assert same(sick, pristine_parity)


def test_a_link_in_a_file_s_place_is_refused(sick: Path, repair: Repair) -> None:
    (sick / NOTICE).unlink()
    (sick / NOTICE).symlink_to("/etc/passwd")
    with pytest.raises(FileUnexpected, match="notice"):
        repair(sick)


def test_without_a_root_the_signatures_speak_for_themselves(
    sick: Path, pristine_parity: Path, repair: Repair
) -> None:
    overwrite(sick / SLICE, 0, b"rot")
    assert repair(sick, trusted=False).signers == ()
    assert same(sick, pristine_parity)


def test_with_a_root_too_few_good_signatures_are_refused(sick: Path, repair: Repair) -> None:
    overwrite(sick / SLICE, 0, b"rot")
    overwrite(sick / "trust/SHA256SUMS.bob.sig", 100, b"AAAA")
    with pytest.raises(ThresholdNotMet, match="too few"):
        repair(sick)


def test_a_signature_that_nobody_has_sound_is_said(sick: Path, repair: Repair, maker: BundleMaker) -> None:
    maker.sign(sick, "carol")
    overwrite(sick / "trust/SHA256SUMS.carol.sig", 100, b"AAAA")
    result = repair(sick)
    assert [each.path for each in result.left] == [
        "trust/SHA256SUMS.carol.sig",
        "trust/provenance.carol.dsse.json",  # which no key of hers is known to have signed
    ]
    assert "ask carol to sign again; or remove it" in result.left[0].do
    assert not result.complete


@pytest.mark.parametrize("trusted", [True, False])
def test_folders_of_two_bundles_are_refused(
    trusted: bool, sick: Path, maker: BundleMaker, two_of_three: Root, repair: Repair
) -> None:
    other = maker.sign(write_with_parity(maker, "other", two_of_three, seed=2), "alice", "bob")
    with pytest.raises(VolumesMixed, match="several bundles") as caught:
        repair(sick, other, trusted=trusted)
    assert str(other) in str(caught.value.found)


def test_parity_of_another_bundle_is_not_used(
    sick: Path, maker: BundleMaker, two_of_three: Root, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its names and sizes are the same, its bytes are not."""
    other = write_with_parity(maker, "other", two_of_three, seed=2)
    shutil.copy(other / SET, sick / SET)
    overwrite(sick / SLICE, 0, b"rot")
    monkeypatch.setattr(mending, "repair_files", lambda *_, **__: pytest.fail("par2 was started"))
    with pytest.raises(DamageTooGreat) as caught:
        repair(sick)
    assert caught.value.found == "no usable parity for them is at hand"


def test_no_list_at_all(sick: Path, repair: Repair) -> None:
    shutil.rmtree(sick / "trust")
    with pytest.raises(FileMissing, match="no copy of trust/SHA256SUMS"):
        repair(sick)


def test_a_manifest_lost_everywhere(sick: Path, repair: Repair) -> None:
    (sick / "manifest.json").unlink()
    with pytest.raises(DamageTooGreat, match=r"manifest\.json is damaged in every copy"):
        repair(sick)


def test_a_bundle_without_parity_says_so(maker: BundleMaker, two_of_three: Root, repair: Repair) -> None:
    bundle = maker.sign(write_with_parity(maker, "plain", two_of_three, percent=0), "alice", "bob")
    overwrite(bundle / SLICE, 0, b"rot")
    with pytest.raises(DamageTooGreat) as caught:
        repair(bundle)
    assert caught.value.found == "the bundle was built without parity"


def test_two_repairs_at_once(sick: Path, repair: Repair) -> None:
    overwrite(sick / SLICE, 0, b"rot")
    with locked(sick), pytest.raises(InProgress, match="another repair"):
        repair(sick)
    repair(sick)


def test_a_folder_named_twice(sick: Path, repair: Repair) -> None:
    with pytest.raises(Usage, match="named twice"):
        repair(sick, sick.parent / "." / sick.name)


def test_a_folder_with_nothing_in_it(sick: Path, repair: Repair, tmp_path: Path) -> None:
    """Such as the medium of the wrong stick: it is not a bundle that has lost everything."""
    strange = tmp_path / "holiday"
    strange.mkdir()
    (strange / "photo.jpg").write_bytes(b"x")
    with pytest.raises(Usage, match="holiday holds nothing of a bundle"):
        repair(sick, strange)
    assert [path.name for path in strange.iterdir()] == ["photo.jpg"]
