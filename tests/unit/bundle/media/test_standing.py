"""What lies on a medium already is read again by each run, and written again where it is wrong."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media import fill
from appliance.bundle.media.check import check_media
from appliance.bundle.media.write import write_media
from appliance.errors import MediumFailed, MediumOccupied, MediumUnsuitable
from appliance.progress import Silent

from .conftest import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.bundle.media.write import WrittenVolume

SLICE = "payload/model/tiny.gguf.slice-0000"


def write(bundle: Path, place: Path, **options: object) -> WrittenVolume:
    settings = {"progress": Silent(), "sizes": [64 * MIB], **options}
    (volume,) = write_media(bundle, [place], **settings).volumes
    return volume


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def is_sound(volume: Path) -> bool:
    return check_media([volume], root=None, progress=Silent()).sound


@pytest.fixture
def volume(cut_bundle: Path, places: list[Path]) -> Path:
    """All of the bundle on one medium."""
    return write(cut_bundle, places[0]).folder


class Phases(Silent):
    """Remembers the phases, and the bytes that were reported in each."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = {}

    def begin(self, phase: str, items: int, size: int | None = None) -> None:
        self.seen[phase] = [items, size or 0, 0]
        self._phase = phase

    def advance(self, count: int) -> None:
        self.seen[self._phase][2] += count


def test_a_second_run_reads_everything_past_the_page_cache(
    cut_bundle: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct: dict[str, bool] = {}
    preadv = os.preadv

    def noting(fd: int, buffers: list[memoryview], offset: int) -> int:
        name = Path(f"/proc/self/fd/{fd}").readlink()
        if name.is_relative_to(volume):
            direct[str(name.relative_to(volume))] = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", noting)
    progress = Phases()
    again = write(cut_bundle, volume.parent, progress=progress)
    files = {str(path.relative_to(volume)): path for path in volume.rglob("*") if path.is_file()}
    assert direct == {path: True for path, file in files.items() if file.stat().st_size}
    size = sum(file.stat().st_size for path, file in files.items() if path != "volume.json")
    assert (again.written, again.kept, again.mended) == (0, size, ())
    assert progress.seen == {"volume 1 of 1: what is there": [len(files) - 1, size, size]}


def test_what_was_just_changed_is_brought_to_the_medium_first(
    cut_bundle: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that were not written yet cannot be dropped."""
    seen: list[int] = []
    monkeypatch.setattr("appliance.bundle.media.readback.sync_file_system", seen.append)
    write(cut_bundle, volume.parent)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("path", "offset", "written"),
    [
        (SLICE, 5 * MIB, 4 * MIB),
        ("payload/extras/site/Notice.TXT", 3, 7),
        ("spare/manifest.json", 60, None),
        ("trust/SHA256SUMS.bob.sig", 60, None),
    ],
)
def test_a_file_with_other_bytes_is_written_again(
    cut_bundle: Path, volume: Path, path: str, offset: int, written: int | None
) -> None:
    """As far as it is wrong: of a file with an index, by its blocks."""
    flip(volume / path, offset)
    assert not is_sound(volume)
    again = write(cut_bundle, volume.parent)
    assert again.mended == (path,)
    assert again.written == (written or (volume / path).stat().st_size)
    assert is_sound(volume)


@pytest.mark.parametrize("size", [0, 7 * MIB, 9 * MIB])
def test_a_file_of_another_size_is_written_again(cut_bundle: Path, volume: Path, size: int) -> None:
    os.truncate(volume / SLICE, size)
    assert write(cut_bundle, volume.parent).mended == (SLICE,)
    assert is_sound(volume)


def test_a_file_that_cannot_be_read_is_written_again(
    cut_bundle: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector: the file is made anew elsewhere on the medium."""
    bad = (volume / SLICE).stat().st_ino
    real = os.preadv

    def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        if os.fstat(fd).st_ino == bad and offset == 4 * MIB:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    with (volume / SLICE).open("rb"):  # so that the number of its inode is not used again
        again = write(cut_bundle, volume.parent)
    assert (again.mended, again.written) == ((SLICE,), 8 * MIB)
    assert (volume / SLICE).stat().st_ino != bad
    assert is_sound(volume)


def test_a_volume_is_incomplete_while_it_is_mended(cut_bundle: Path, volume: Path) -> None:
    flip(volume / SLICE, 1)

    class Interrupting(Phases):
        def advance(self, count: int) -> None:
            if not self._phase.endswith("what is there"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(cut_bundle, volume.parent, progress=Interrupting())
    assert not (volume / "volume.json").exists()
    assert not (volume / SLICE).exists()
    assert write(cut_bundle, volume.parent).written <= 4 * MIB
    assert is_sound(volume)


def test_what_is_wrong_on_a_write_protected_medium_is_named(
    cut_bundle: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Protected:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(fill.os, "statvfs", lambda _: Protected)
    flip(volume / SLICE, 1)
    with pytest.raises(MediumUnsuitable, match="the medium is write-protected") as fault:
        write(cut_bundle, volume.parent)
    assert fault.value.found == f"missing or wrong: {SLICE}"
    assert (volume / "volume.json").exists()


def test_a_file_under_two_names_is_not_written_to(cut_bundle: Path, volume: Path) -> None:
    """Blocks written into it would change what is not of the volume."""
    (volume.parent / "mine").hardlink_to(volume / SLICE)
    flip(volume / SLICE, 1)
    before = (volume.parent / "mine").read_bytes()
    with pytest.raises(MediumOccupied) as fault:
        write(cut_bundle, volume.parent)
    assert fault.value.found == SLICE
    assert (volume.parent / "mine").read_bytes() == before


def test_a_part_of_a_file_that_was_mended_meanwhile_is_removed(cut_bundle: Path, volume: Path) -> None:
    (volume / "incoming").mkdir()
    (volume / "incoming/3.part").write_bytes(b"begun")
    assert write(cut_bundle, volume.parent).written == 0
    assert is_sound(volume)


def test_a_label_is_read_back_too(
    cut_bundle: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill, "label_bytes", lambda _: b"forgotten by the medium")
    with pytest.raises(MediumFailed, match=r"volume\.json\.partial does not read back"):
        write(cut_bundle, places[0])


STRANGE: dict[str, Callable[[Path], object]] = {
    "a file": lambda folder: (folder / "payload/more").write_text("x"),
    "a folder": lambda folder: (folder / "more").mkdir(),
    "a link in place of a file": lambda folder: (
        (folder / "VERIFY.txt").unlink(),
        (folder / "VERIFY.txt").symlink_to("/etc/hostname"),
    ),
    "a link in place of a folder": lambda folder: (
        shutil.rmtree(folder / "spare"),
        (folder / "spare").symlink_to("/tmp"),
    ),
    "a foreign part": lambda folder: (
        (folder / "incoming").mkdir(),
        (folder / "incoming/x.part").write_text(""),
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_not_of_the_volume_is_named_and_left(
    cut_bundle: Path, volume: Path, name: str, snapshot: Callable[[Path], object]
) -> None:
    STRANGE[name](volume)
    before = snapshot(volume)
    with pytest.raises(MediumOccupied, match="holds what is not of this volume"):
        write(cut_bundle, volume.parent)
    assert snapshot(volume) == before
