"""Checking media: every byte of what is given, all damage said at once, down to the block."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.manifest import ListedFile
from appliance.bundle.media import readback
from appliance.bundle.media.check import check_media
from appliance.bundle.media.checked import BadBlocks
from appliance.errors import (
    BundleUntrusted,
    DamageTooGreat,
    FileMissing,
    ThresholdNotMet,
    Usage,
    VolumesMixed,
)
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.conftest import CONTENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from appliance.bundle.media.checked import CheckedVolume, MediaCheck
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

    Check = Callable[..., MediaCheck]

BLOCK = 4 << 20
MODEL = "payload/model/tiny.gguf"
SLICE = f"{MODEL}.slice-0001"
SIZE = 9 * BLOCK + 100


@pytest.fixture(scope="module")
def large(
    tmp_path_factory: pytest.TempPathFactory,
    maker_in: Callable[[Path], BundleMaker],
    two_of_three: Root,
) -> Path:
    """A signed bundle whose model is three slices: of 4, 4 and 2 blocks, the last one short."""
    maker = maker_in(tmp_path_factory.mktemp("large"))
    model = random.Random(5).randbytes(SIZE)  # noqa: S311 - the same bytes each time
    lock = maker.lock({**CONTENTS, "model": ("tiny-gguf", {"tiny.gguf": model})})
    return maker.sign(maker.write("bundle", two_of_three, lock, slice_size=4 * BLOCK), "alice", "bob")


@pytest.fixture
def three(large: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    """The small files with the first slice; the second slice; the third."""
    return volumes(large, 5, 6)


@pytest.fixture
def check(two_of_three: Root) -> Check:
    return lambda *folders, root=True: check_media(
        folders, root=root_bytes(two_of_three) if root else None, progress=Silent()
    )


def damage(volume: CheckedVolume) -> dict[str, str]:
    return {each.path: each.problem for each in volume.damaged}


def name_of(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def flip(path: Path, *offsets: int) -> None:
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            [byte] = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ 1]))


def test_all_volumes_in_any_order(
    three: list[Path], check: Check, snapshot: Callable[[Path], object]
) -> None:
    before = [snapshot(folder) for folder in three]
    for order in (three, three[::-1], [folder.parent for folder in three]):
        found = check(*order)
        assert (found.sound, found.complete) == (True, True)
        assert found.signers == found.holders == ("alice", "bob")
        assert sorted(volume.number or 0 for volume in found.volumes) == [1, 2, 3]
        assert found.notes == ()
        assert found.advice() == ["`appliance verify` and `appliance install` take all volumes at once"]
    assert [snapshot(folder) for folder in three] == before


def test_one_volume_alone(three: list[Path], check: Check) -> None:
    found = check(three[1])
    assert (found.sound, found.complete) == (True, False)
    assert found.absent.keys() == {1, 3}
    assert found.absent[3] == (f"{MODEL}.slice-0002",)
    assert [volume.name for volume in found.volumes] == [f"volume 2 of 3 ({three[1]})"]
    assert found.advice() == ["check the other volumes too, each alone or all at once"]


def test_a_plain_bundle(large: Path, tmp_path: Path, check: Check) -> None:
    assert check(large).complete
    copy = shutil.copytree(large, tmp_path / "copy")
    (copy / SLICE).unlink()
    found = check(copy)
    assert damage(found.volumes[0]) == {SLICE: "missing"}
    assert not found.absent
    assert found.notes == ()


def test_without_a_root_it_says_so(three: list[Path], check: Check) -> None:
    found = check(*three, root=False)
    assert found.sound
    assert found.signers == ()
    assert found.holders == ("alice", "bob")
    assert any("--trust ROOT" in step for step in found.advice())


def test_the_root_judges(three: list[Path], check: Check) -> None:
    for folder in three:
        for path in folder.rglob("*bob*"):
            path.unlink()
    with pytest.raises(ThresholdNotMet):
        check(*three)
    assert check(*three, root=False).sound


def test_damaged_blocks_are_named(three: list[Path], check: Check) -> None:
    flip(three[1] / SLICE, 5, BLOCK + 1, 3 * BLOCK, 4 * BLOCK - 1)
    found = check(*three)
    assert not found.sound
    assert found.complete
    [file] = found.volumes[1].damaged
    assert (file.path, file.problem) == (SLICE, "other bytes than were signed")
    assert file.bad == (BadBlocks(0, 1, readable=True), BadBlocks(3, 3, readable=True))
    assert [str(row) for row in file.bad] == [
        "blocks 0 to 1 wrong (from byte 0)",
        "block 3 wrong (from byte 12,582,912)",
    ]
    assert found.volumes[0].sound
    assert found.volumes[2].sound
    assert "media repair" in found.advice()[0]


@pytest.mark.parametrize(
    ("size", "problem", "bad"),
    [
        (0, "0 bytes instead of 16,777,216", (BadBlocks(0, 3, readable=True),)),
        (2 * BLOCK + 7, "8,388,615 bytes instead of 16,777,216", (BadBlocks(2, 3, readable=True),)),
        (4 * BLOCK + 7, "16,777,223 bytes instead of 16,777,216", ()),
    ],
)
def test_a_wrong_size(
    size: int, problem: str, bad: tuple[BadBlocks, ...], three: list[Path], check: Check
) -> None:
    os.truncate(three[1] / SLICE, size)
    [file] = check(three[1]).volumes[0].damaged
    assert (file.problem, file.bad) == (problem, bad)


def test_the_right_size_and_wrong_bytes(three: list[Path], check: Check) -> None:
    (three[1] / SLICE).write_bytes(bytes(4 * BLOCK))
    [file] = check(three[1]).volumes[0].damaged
    assert file.bad == (BadBlocks(0, 3, readable=True),)


def test_a_bad_sector_does_not_end_the_check(
    three: list[Path], check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO is damage; what can be read still is."""
    real = os.preadv

    def preadv(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        if "slice-0001" in name_of(fd) and 2 * BLOCK <= offset < 3 * BLOCK:
            raise OSError(5, "Input/output error")
        return real(fd, buffers, offset)

    flip(three[1] / SLICE, 1)
    flip(three[2] / f"{MODEL}.slice-0002", 1)
    monkeypatch.setattr(readback.os, "preadv", preadv)
    found = check(*three)
    [file] = found.volumes[1].damaged
    assert file.problem == "cannot be read: Input/output error"
    assert file.bad == (BadBlocks(0, 0, readable=True), BadBlocks(2, 2, readable=False))
    assert str(file.bad[1]) == "block 2 unreadable (from byte 8,388,608)"
    assert damage(found.volumes[2]) == {f"{MODEL}.slice-0002": "other bytes than were signed"}


def test_files_are_read_past_the_page_cache(
    three: list[Path], check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is still in memory may be right while the medium is not."""
    opened = []
    real = readback.uncached

    def note(fd: int) -> AbstractContextManager[int]:
        opened.append(name_of(fd))
        return real(fd)

    monkeypatch.setattr("appliance.bundle.media.examine.uncached", note)
    found = check(three[1])
    assert len(opened) == found.volumes[0].files
    assert str(three[1] / SLICE) in opened


def test_what_was_not_brought_to_the_medium_is_damage(
    three: list[Path], check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("appliance.bundle.media.readback.sync_file_system", fail)
    with pytest.raises(BundleUntrusted, match="could not be brought to the medium"):
        check(*three)


def test_a_lost_file_of_a_volume_that_is_there(three: list[Path], check: Check) -> None:
    (three[1] / SLICE).unlink()
    found = check(*three[:2])
    assert damage(found.volumes[1]) == {SLICE: "missing"}
    assert found.absent.keys() == {3}
    assert found.volumes[1].strange == ("payload/",)


@pytest.mark.parametrize("name", ["VERIFY.txt", "blocks.bin", "manifest.json", "trust/SHA256SUMS.bob.sig"])
def test_damaged_root_files_and_second_copies(name: str, three: list[Path], check: Check) -> None:
    flip(three[1] / name, 60)
    found = check(*three)
    assert damage(found.volumes[1]) == {name: "other bytes than were signed"}
    assert found.volumes[0].sound
    (three[1] / name).unlink()
    assert damage(check(*three).volumes[1]) == {name: "missing"}


def test_a_damaged_second_copy(three: list[Path], check: Check) -> None:
    flip(three[0] / "spare/manifest.json", 60)
    assert damage(check(*three).volumes[0]) == {"spare/manifest.json": "other bytes than were signed"}


def test_everything_of_one_kind_damaged_but_one_copy(three: list[Path], check: Check) -> None:
    """One sound copy anywhere is enough to judge all others."""
    for folder in three:
        for path in (folder / "trust/SHA256SUMS", folder / "manifest.json", folder / "spare/manifest.json"):
            flip(path, 70)
    shutil.copy(three[2] / "spare/manifest.json", three[1] / "manifest.json")
    flip(three[1] / "manifest.json", 70)
    found = check(*three)
    assert damage(found.volumes[0]).keys() == {"trust/SHA256SUMS", "manifest.json", "spare/manifest.json"}
    assert damage(found.volumes[1]).keys() == {"trust/SHA256SUMS", "spare/manifest.json"}


def test_no_sound_manifest_anywhere(three: list[Path], check: Check) -> None:
    flip(three[1] / "manifest.json", 70)
    flip(three[1] / "spare/manifest.json", 70)
    with pytest.raises(DamageTooGreat, match=r"manifest\.json"):
        check(three[1])
    assert not check(*three).sound


def test_a_signature_that_is_nowhere_right(three: list[Path], check: Check) -> None:
    for folder in three:
        shutil.copy(folder / "trust/SHA256SUMS.bob.sig", folder / "trust/SHA256SUMS.carol.sig")
    found = check(*three)
    assert damage(found.volumes[0]) == {"trust/SHA256SUMS.carol.sig": "no copy of it verifies"}
    assert any("carol" in note for note in found.notes)


def test_what_does_not_belong_there(three: list[Path], check: Check) -> None:
    (three[1] / "payload/model/evil\x1b[2J").write_bytes(b"x")
    (three[1] / "payload/later").mkdir()
    (three[1] / ".hidden").write_bytes(b"x")
    found = check(*three)
    assert found.volumes[1].strange == (".hidden", "payload/later", "payload/model/evil\x1b[2J")
    assert not found.sound
    assert "find out how other files came" in found.advice()[0]


@pytest.mark.parametrize("kind", ["link", "pipe", "second name"])
def test_what_is_no_plain_file(kind: str, three: list[Path], tmp_path: Path, check: Check) -> None:
    path = three[1] / SLICE
    if kind == "second name":
        (tmp_path / "second").hardlink_to(path)
    else:
        shutil.move(path, tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere") if kind == "link" else os.mkfifo(path)
    [file] = check(*three).volumes[1].damaged
    assert file.problem.startswith("not a plain file: ")


def test_an_unfinished_volume(three: list[Path], check: Check) -> None:
    (three[1] / "volume.json").rename(three[1] / "volume.json.partial")
    (three[1] / "incoming").mkdir()
    shutil.move(three[1] / SLICE, three[1] / "incoming/12.part")
    found = check(*three)
    assert found.volumes[1].unfinished
    assert not found.sound
    assert "media write" in found.advice()[0]


def test_labels_are_not_needed(three: list[Path], check: Check) -> None:
    (three[1] / "volume.json").write_bytes(b"\x1b[2J")
    found = check(*three)
    assert found.sound
    assert found.complete
    assert [volume.number for volume in found.volumes] == [1, 2, 3]
    assert found.notes[0].startswith(f"the label in {three[1]} is damaged: ")
    found = check(three[1])
    assert found.sound
    assert found.absent.keys() == {None}


def test_a_spare_medium_of_the_same_volume(three: list[Path], tmp_path: Path, check: Check) -> None:
    """Both are checked, and only the damaged one is named."""
    again = shutil.copytree(three[1], tmp_path / "again")
    flip(again / SLICE, 1)
    found = check(*three, again)
    assert [volume.sound for volume in found.volumes] == [True, True, True, False]
    with pytest.raises(Usage, match="twice"):
        check(*three, three[1])


def test_volumes_of_two_bundles(
    three: list[Path],
    maker: BundleMaker,
    two_of_three: Root,
    volumes: Callable[..., list[Path]],
    check: Check,
) -> None:
    other = volumes(maker.sign(maker.write("other", two_of_three), "alice", "bob"), 2, 3, medium="other")
    with pytest.raises(VolumesMixed) as caught:
        check(three[0], other[1])
    assert str(other[1]) in (caught.value.found or "")


def test_parity_is_said(
    maker: BundleMaker, two_of_three: Root, volumes: Callable[..., list[Path]], check: Check
) -> None:
    """Here the recovery sets are any bytes: checking does not compute with them."""

    def parity(folder: Path, *_: object) -> dict[str, ListedFile]:
        (folder / "parity").mkdir()
        made = {}
        for number in range(3):
            data = bytes([number]) * 1000
            (folder / f"parity/set-{number:04d}.par2").write_bytes(data)
            made[f"parity/set-{number:04d}.par2"] = ListedFile(hashlib.sha256(data).hexdigest(), 1000)
        return made

    bundle = maker.sign(maker.write("bundle", two_of_three, companions=[parity]), "alice", "bob")
    folders = volumes(bundle, 6, 7)
    assert set(check(*folders).parity.values()) == {"sound"}
    flip(folders[1] / "parity/set-0001.par2", 1)
    flip(folders[1] / "VERIFY.txt", 1)
    found = check(*folders[:2])
    assert dict(found.parity) == {
        "parity/set-0000.par2": "sound",
        "parity/set-0001.par2": "damaged",
        "parity/set-0002.par2": "absent",
    }
    assert "with all the volumes there are" in found.advice()[0]
    assert "none was given" in check(folders[1]).advice()[0]


def test_what_is_no_bundle(tmp_path: Path, check: Check) -> None:
    with pytest.raises(FileMissing):
        check(tmp_path)
    with pytest.raises(Usage):
        check(tmp_path / "nothing")
