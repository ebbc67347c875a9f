"""Writing volumes: all of the bundle, nothing else, proved, resumed, the bundle untouched."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.copying import FileCopier
from appliance.bundle.media.label import parse_label
from appliance.bundle.media.write import write_media
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    DigestMismatch,
    InProgress,
    MediumFailed,
    ThresholdNotMet,
)
from appliance.progress import Silent
from appliance.trust.root import Root, root_bytes

from .conftest import MIB, ONE_SLICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.bundle.media.write import WrittenMedia
    from tests.conftest import BundleMaker

SLICE = "payload/model/tiny.gguf.slice-{:04d}"
WHEEL = "payload/engine/engine-1.0-py3-none-any.whl"


def write(bundle: Path, *targets: Path, **options: object) -> WrittenMedia:
    return write_media(bundle, targets, **{"progress": Silent(), "sizes": [ONE_SLICE], **options})


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def only_folder(place: Path) -> Path:
    (folder,) = place.iterdir()
    return folder


class Interrupting(Silent):
    """Presses Ctrl-C when ``count`` bytes were reported."""

    def __init__(self, count: int) -> None:
        self._left = count

    def advance(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise KeyboardInterrupt


def test_the_volumes_together_are_the_bundle(cut_bundle: Path, places: list[Path]) -> None:
    written = write(cut_bundle, *places)
    whole = tree(cut_bundle)
    root = {path: data for path, data in whole.items() if not path.startswith("payload/")}
    found: dict[str, bytes] = {}
    for number, volume in enumerate(written.volumes, 1):
        files = tree(volume.folder)
        label = parse_label(files.pop("volume.json"))
        assert (label.number, len(label.volumes)) == (number, 3)
        assert {path: files.pop(path) for path in root} == root
        spare = {
            path.removeprefix("spare/"): files.pop(path) for path in [*files] if path.startswith("spare/")
        }
        assert spare == {
            path: data for path, data in root.items() if path.startswith(("trust/", "manifest."))
        }
        assert list(files)
        assert not found.keys() & files.keys()
        assert (label.share.files, label.share.size) == (len(files), sum(map(len, files.values())))
        found |= files
    assert {**root, **found} == whole
    assert {SLICE.format(1)} == {
        path for path in tree(written.volumes[1].folder) if path.startswith("payload")
    }


def test_the_volumes_verify_as_the_bundle(cut_bundle: Path, places: list[Path], two_of_three: Root) -> None:
    written = write(cut_bundle, *places, root=root_bytes(two_of_three))
    assert written.cargo.trusted
    bundle = verify_bundle(places, root_bytes(two_of_three), progress=Silent())
    assert bundle.digest == written.cargo.digest


def test_the_bundle_is_not_changed(
    cut_bundle: Path, places: list[Path], snapshot: Callable[[Path], object]
) -> None:
    before = snapshot(cut_bundle)
    write(cut_bundle, *places)
    assert snapshot(cut_bundle) == before


def test_the_bundle_is_read_once(
    cut_bundle: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: dict[str, int] = {}
    preadv = os.preadv

    def counting(fd: int, buffers: list[memoryview], offset: int) -> int:
        count = preadv(fd, buffers, offset)
        name = str(Path(f"/proc/self/fd/{fd}").readlink())
        counts[name] = counts.get(name, 0) + count
        return count

    monkeypatch.setattr(os, "preadv", counting)
    write(cut_bundle, *places)
    payload = {
        str(path): path.stat().st_size for path in (cut_bundle / "payload").rglob("*") if path.is_file()
    }
    assert {name: count for name, count in counts.items() if name in payload and count} == {
        name: size for name, size in payload.items() if size
    }


def test_what_was_written_is_read_back_past_the_page_cache(
    cut_bundle: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    direct: dict[str, bool] = {}
    preadv = os.preadv

    def noting(fd: int, buffers: list[memoryview], offset: int) -> int:
        name = Path(f"/proc/self/fd/{fd}").readlink()
        if name.suffix == ".part":
            direct[name.name] = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", noting)
    write(cut_bundle, places[0], sizes=[64 * MIB])
    assert len(direct) > 15
    assert all(direct.values())


def test_long_files_of_the_bundle_are_read_past_the_page_cache(
    cut_bundle: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    direct: dict[str, bool] = {}
    preadv = os.preadv

    def noting(fd: int, buffers: list[memoryview], offset: int) -> int:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_relative_to(cut_bundle / "payload"):
            direct[str(path)] = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", noting)
    write(cut_bundle, *places)
    assert direct == {path: Path(path).stat().st_size >= 4 * MIB for path in direct}
    assert {True, False} == set(direct.values())


def test_a_bundle_that_cannot_be_read_past_the_page_cache(
    cut_bundle: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refusing(path: str, flags: int, *rest: int, **options: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "refused")
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refusing)
    folder = write(cut_bundle, places[0], sizes=[64 * MIB]).volumes[0].folder
    assert (folder / SLICE.format(0)).read_bytes() == (cut_bundle / SLICE.format(0)).read_bytes()


def test_a_file_system_that_refuses_direct_reads(
    cut_bundle: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some take the flag and refuse the reads: then the cached pages are dropped before."""
    dropped: list[str] = []
    preadv, fadvise = os.preadv, os.posix_fadvise

    def refusing(fd: int, buffers: list[memoryview], offset: int) -> int:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "refused")
        return preadv(fd, buffers, offset)

    def noting(fd: int, offset: int, length: int, advice: int) -> None:
        if advice == os.POSIX_FADV_DONTNEED:
            dropped.append(Path(f"/proc/self/fd/{fd}").readlink().suffix)
        fadvise(fd, offset, length, advice)

    monkeypatch.setattr(os, "preadv", refusing)
    monkeypatch.setattr(os, "posix_fadvise", noting)
    folder = write(cut_bundle, places[0], sizes=[64 * MIB]).volumes[0].folder
    assert (folder / SLICE.format(2)).read_bytes() == (cut_bundle / SLICE.format(2)).read_bytes()
    assert dropped.count(".part") > 15


def test_modes_do_not_depend_on_the_umask(cut_bundle: Path, places: list[Path]) -> None:
    before = os.umask(0o077)
    try:
        write(cut_bundle, *places)
    finally:
        os.umask(before)
    for path in places[0].rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)


def test_a_whole_bundle_fits_one_medium(cut_bundle: Path, places: list[Path]) -> None:
    written = write(cut_bundle, *places, sizes=[64 * MIB])
    assert len(written.volumes) == 1
    assert not any(places[1].iterdir())


def test_a_second_run_writes_nothing(
    cut_bundle: Path, places: list[Path], snapshot: Callable[[Path], object]
) -> None:
    write(cut_bundle, *places)
    before = [snapshot(place) for place in places]
    again = write(cut_bundle, *places)
    assert [volume.written for volume in again.volumes] == [0, 0, 0]
    assert [snapshot(place) for place in places] == before


def test_the_label_gets_its_name_last(cut_bundle: Path, places: list[Path]) -> None:
    seen: list[bool] = []

    class Looking(Silent):
        def item(self, name: str) -> None:
            seen.append((only_folder(places[0]) / "volume.json").exists())

    write(cut_bundle, places[0], sizes=[64 * MIB], progress=Looking())
    assert len(seen) > 10
    assert not any(seen)
    assert (only_folder(places[0]) / "volume.json").exists()
    assert not list(places[0].rglob("*.part*"))


@pytest.mark.parametrize("megabytes", [0, 3, 5, 13, 20])
def test_an_interrupted_volume_is_completed(cut_bundle: Path, places: list[Path], megabytes: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(cut_bundle, places[0], sizes=[64 * MIB], progress=Interrupting(megabytes * MIB // 2))
    folder = only_folder(places[0])
    assert not (folder / "volume.json").exists()
    written = write(cut_bundle, places[0], sizes=[64 * MIB]).volumes[0]
    files = tree(folder)
    assert {path: files[path] for path in tree(cut_bundle)} == tree(cut_bundle)
    assert (written.kept > 0) == (megabytes > 0)


def part_of_slice(folder: Path) -> Path:
    """What was written of the only file that has no name yet and is large."""
    return max((folder / "incoming").iterdir(), key=lambda path: path.stat().st_size)


@pytest.fixture
def begun(cut_bundle: Path, places: list[Path]) -> Iterator[Path]:
    """A volume of which both blocks of slice 0 lie in a part; its folder."""
    with pytest.raises(KeyboardInterrupt):
        write(cut_bundle, places[0], sizes=[64 * MIB], progress=Interrupting(3 * MIB))
    part = part_of_slice(only_folder(places[0]))
    shutil.copy(cut_bundle / SLICE.format(0), part)
    return only_folder(places[0])


@pytest.mark.usefixtures("begun")
def test_only_blocks_that_are_missing_are_written(cut_bundle: Path, places: list[Path]) -> None:
    whole = write(cut_bundle, places[1], sizes=[64 * MIB]).volumes[0]
    written = write(cut_bundle, places[0], sizes=[64 * MIB]).volumes[0]
    assert written.kept >= 8 * MIB
    assert written.written + written.kept == whole.written


def test_only_blocks_that_are_wrong_are_written(cut_bundle: Path, places: list[Path], begun: Path) -> None:
    right = write(cut_bundle, places[1], sizes=[64 * MIB]).volumes[0]
    part = part_of_slice(begun)
    with part.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"\0" * 10)
    written = write(cut_bundle, places[0], sizes=[64 * MIB]).volumes[0]
    assert 4 * MIB <= written.kept < 8 * MIB
    assert written.written + written.kept == right.written
    assert (begun / SLICE.format(0)).read_bytes() == (cut_bundle / SLICE.format(0)).read_bytes()


def test_a_part_that_is_too_long_is_written_anew(cut_bundle: Path, places: list[Path], begun: Path) -> None:
    with part_of_slice(begun).open("ab") as file:
        file.write(b"more")
    write(cut_bundle, places[0], sizes=[64 * MIB])
    assert (begun / SLICE.format(0)).read_bytes() == (cut_bundle / SLICE.format(0)).read_bytes()


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.fixture
def damaged(cut_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle in which one bit of slice 0 is wrong."""
    copy = shutil.copytree(cut_bundle, tmp_path / "damaged")
    flip(copy / SLICE.format(0), 5 * MIB)
    return copy


def test_what_is_wrong_in_the_bundle_gets_no_name(
    cut_bundle: Path, damaged: Path, places: list[Path]
) -> None:
    with pytest.raises(
        DigestMismatch, match=r"tiny\.gguf\.slice-0000 in the bundle is not what was signed"
    ):
        write(damaged, places[0], sizes=[64 * MIB])
    folder = only_folder(places[0])
    assert not (folder / SLICE.format(0)).exists()
    assert not (folder / "volume.json").exists()
    write(cut_bundle, places[0], sizes=[64 * MIB])  # mended: the same volume goes on
    assert (folder / SLICE.format(0)).read_bytes() == (cut_bundle / SLICE.format(0)).read_bytes()


def test_a_short_file_that_is_wrong_in_the_bundle(
    cut_bundle: Path, places: list[Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(cut_bundle, tmp_path / "damaged")
    flip(copy / WHEEL, 0)
    with pytest.raises(DigestMismatch, match=f"{WHEEL} in the bundle is not what was signed"):
        write(copy, places[0], sizes=[64 * MIB])
    assert not (only_folder(places[0]) / WHEEL).exists()


def test_what_is_wrong_in_the_bundle_is_found_when_going_on(
    damaged: Path, places: list[Path], begun: Path
) -> None:
    flip(part_of_slice(begun), 6 * MIB)
    with pytest.raises(DigestMismatch, match="slice-0000 in the bundle is not what was signed") as fault:
        write(damaged, places[0], sizes=[64 * MIB])
    assert fault.value.found == "another block at byte 4,194,304"
    assert not (begun / SLICE.format(0)).exists()


def test_a_medium_that_gives_back_something_else_is_found(
    cut_bundle: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prove = FileCopier.prove

    def decaying(self: FileCopier, part: object, path: Path) -> None:
        if path.stat().st_size == 8 * MIB:
            flip(path, 7 * MIB)
        prove(self, part, path)  # type: ignore[arg-type] # passed on as it came

    monkeypatch.setattr(FileCopier, "prove", decaying)
    with pytest.raises(MediumFailed, match="does not read back as it was written"):
        write(cut_bundle, places[0], sizes=[64 * MIB])
    monkeypatch.undo()
    folder = only_folder(places[0])
    assert not (folder / SLICE.format(0)).exists()
    assert not (folder / "volume.json").exists()
    write(cut_bundle, places[0], sizes=[64 * MIB])
    assert (folder / "volume.json").exists()


def test_a_driver_that_forbids_to_read_what_it_has_written(
    cut_bundle: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's permissions are at fault there."""
    preadv = os.preadv

    def refusing(fd: int, buffers: list[memoryview], offset: int) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink().suffix == ".part":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", refusing)
    with pytest.raises(MediumFailed, match="cannot be read back: ") as fault:
        write(cut_bundle, places[0], sizes=[64 * MIB])
    assert "permissions" not in str(fault.value.hint)
    assert "with another driver" in str(fault.value.hint)


def test_a_file_missing_from_a_complete_volume_is_written_again(
    cut_bundle: Path, places: list[Path]
) -> None:
    write(cut_bundle, *places)
    lost = only_folder(places[1]) / SLICE.format(1)
    lost.unlink()
    (only_folder(places[0]) / "VERIFY.txt").write_bytes(b"short")
    again = write(cut_bundle, *places)
    assert [volume.written for volume in again.volumes] == [
        (cut_bundle / "VERIFY.txt").stat().st_size,
        8 * MIB,
        0,
    ]
    assert lost.exists()


def test_signatures_are_judged_before_anything_is_written(
    maker: BundleMaker, two_of_three: Root, places: list[Path]
) -> None:
    bundle = maker.sign(maker.write("bundle", two_of_three), "alice")
    with pytest.raises(ThresholdNotMet):
        write(bundle, places[0], root=root_bytes(two_of_three))
    assert not any(places[0].iterdir())
    written = write(bundle, places[0])
    assert (written.cargo.holders, written.cargo.trusted) == (("alice",), False)


def test_a_truncated_bundle_is_refused_before_anything_is_written(bundle: Path, places: list[Path]) -> None:
    os.truncate(bundle / "payload/model/tiny.gguf", 3)
    with pytest.raises(DigestMismatch, match="another size than was signed"):
        write(bundle, places[0])
    assert not any(places[0].iterdir())


def test_two_runs_do_not_fill_one_volume(cut_bundle: Path, places: list[Path]) -> None:
    class Second(Silent):
        def item(self, name: str) -> None:
            write(cut_bundle, places[0], sizes=[64 * MIB])

    with pytest.raises(InProgress, match="another run is writing"):
        write(cut_bundle, places[0], sizes=[64 * MIB], progress=Second())
