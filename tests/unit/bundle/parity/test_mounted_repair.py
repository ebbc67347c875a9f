"""Repair of media as they really are: with a bad sector, write-protected, full, pulled out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.parity import mending
from appliance.bundle.parity.repair import repair_bundle
from appliance.bundle.verify import verify_bundle
from appliance.errors import MediumFailed, MediumUnsuitable, ParityFailed, SpaceExhausted
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.unit.bundle.parity.conftest import SLICE, overwrite, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.bundle.parity.repaired import Repaired
    from appliance.trust.root import Root

    Repair = Callable[..., Repaired]

pytestmark = pytest.mark.node  # mounting needs root

BAD_SECTOR = Path(__file__).with_name("bad_sector.py")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount something on a folder of this test; it is gone afterwards."""
    with ExitStack() as stack:

        def mount(name: str, *arguments: str) -> Path:
            place = tmp_path / name
            place.mkdir()
            subprocess.run(["mount", *arguments, str(place)], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", str(place)], check=True)
            return place

        yield mount


@pytest.fixture
def flawed(sick: Path, tmp_path: Path) -> Iterator[Path]:
    """The bundle on a medium that cannot read one sector of a slice."""
    place = tmp_path / "flawed"
    place.mkdir()
    command = [sys.executable, str(BAD_SECTOR), str(sick), str(place), Path(SLICE).name]
    with subprocess.Popen(command) as served:
        while not place.is_mount():
            assert served.poll() is None
            time.sleep(0.02)
        yield place
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_bad_sector_is_mended_elsewhere(
    flawed: Path, pristine_parity: Path, tmp_path: Path, repair: Repair
) -> None:
    with pytest.raises(OSError, match="Input/output"):
        (flawed / SLICE).read_bytes()
    (mended,) = repair(flawed, out=tmp_path / "out").mended
    assert mended.state == "damaged"
    assert (tmp_path / "out" / SLICE).read_bytes() == (pristine_parity / SLICE).read_bytes()


def test_a_bad_sector_on_a_write_protected_medium(flawed: Path, repair: Repair) -> None:
    with pytest.raises(MediumUnsuitable, match="cannot be written to") as caught:
        repair(flawed)
    assert "--out" in str(caught.value.hint)


class Stick:
    """A medium with ext4 in a file: its bytes can be changed behind the system's back, or taken away."""

    def __init__(self, image: Path, place: Path, device: str) -> None:
        self.image, self.place, self._device = image, place, device

    def decay(self, data: bytes, other: bytes) -> None:
        """Change the one place where these bytes lie."""
        whole = self.image.read_bytes()
        assert whole.count(data) == 1
        overwrite(self.image, whole.index(data), other)

    def pull(self) -> None:
        os.truncate(self.image, 0)
        subprocess.run(["losetup", "--set-capacity", self._device], check=True)


@pytest.fixture
def stick(sick: Path, tmp_path: Path, mounted: Callable[..., Path]) -> Iterator[Stick]:
    """The bundle on such a medium; everything of it was read and is remembered."""
    image = tmp_path / "stick.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    command = ["losetup", "--find", "--show", str(image)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        place = mounted("stick", device)
        shutil.copytree(sick, place / "bundle")
        subprocess.run(["sync", "-f", place], check=True)
        assert same(sick, place / "bundle")
        yield Stick(image, place / "bundle", device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


class Pulling(Silent):
    """Pulls the medium once something of a phase is done."""

    def __init__(self, phase: str, pull: Callable[[], object]) -> None:
        self._phase, self._pull, self._now = phase, pull, ""

    def begin(self, phase: str, items: int, size: int | None = None) -> None:
        self._now = phase
        if phase == self._phase == "mend":
            self._pull()

    def item(self, name: str, count: int = 1) -> None:
        if self._now == self._phase == "read":
            self._phase = ""
            self._pull()


def test_what_decayed_on_the_medium_is_found_though_it_is_remembered(
    stick: Stick, pristine_parity: Path, repair: Repair
) -> None:
    right = (pristine_parity / SLICE).read_bytes()
    stick.decay(right[4096:8192], b"rot")
    assert (stick.place / SLICE).read_bytes() == right  # from memory
    assert [each.path for each in repair(stick.place).mended] == [SLICE]
    assert right[4096:8192] in stick.image.read_bytes()


def fill(stick: Stick) -> None:
    with suppress(OSError), (stick.place.parent / "ballast").open("wb", buffering=0) as file:
        while file.write(bytes(1 << 20)):
            pass


def test_a_full_stick_is_mended_in_place(stick: Stick, pristine_parity: Path, repair: Repair) -> None:
    overwrite(stick.place / SLICE, 12345, b"rot")
    fill(stick)
    repair(stick.place)
    assert same(stick.place, pristine_parity)


def test_a_file_cut_short_on_a_full_stick_is_gone_on_with(
    stick: Stick, pristine_parity: Path, repair: Repair
) -> None:
    """There is room for what it lost, and no byte more."""
    fill(stick)
    os.truncate(stick.place / SLICE, (4 << 20) - 300_000)
    assert [each.path for each in repair(stick.place).mended] == [SLICE]
    assert same(stick.place, pristine_parity)


@pytest.mark.parametrize("phase", ["read", "mend"])
def test_a_stick_that_is_pulled(phase: str, stick: Stick, tmp_path: Path, two_of_three: Root) -> None:
    overwrite(stick.place / SLICE, 0, b"rot")
    with pytest.raises(MediumFailed, match=f"the medium at {stick.place} cannot be read any more"):
        repair_bundle(
            [stick.place],
            root=root_bytes(two_of_three),
            out=None,
            work=tmp_path / "work",
            progress=Pulling(phase, stick.pull),
        )
    assert list((tmp_path / "work").glob("*")) == []


@pytest.mark.parametrize("phase", ["read", "mend"])
def test_a_driver_that_ends(phase: str, sick: Path, tmp_path: Path, two_of_three: Root) -> None:
    """As a stick over FUSE is pulled: nothing at all can be asked of it any more."""
    overwrite(sick / SLICE, 0, b"rot")
    place = tmp_path / "stick"
    place.mkdir()
    command = [sys.executable, str(BAD_SECTOR), str(sick), str(place), "no such file"]
    with subprocess.Popen(command) as served:
        while not place.is_mount():
            assert served.poll() is None
            time.sleep(0.02)

        def pull() -> None:
            served.kill()
            served.wait()

        with pytest.raises(MediumFailed, match=f"the medium at {place} cannot be read any more"):
            repair_bundle(
                [place],
                root=root_bytes(two_of_three),
                out=tmp_path / "out",
                work=tmp_path / "work",
                progress=Pulling(phase, pull),
            )
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_stick_that_is_pulled_while_it_is_verified(stick: Stick, two_of_three: Root) -> None:
    class Pull(Silent):
        def begin(self, phase: str, items: int, size: int | None = None) -> None:
            stick.pull()
            for path in stick.place.rglob("*"):  # what is remembered would do
                if path.is_file():
                    fd = os.open(path, os.O_RDONLY)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    os.close(fd)

    with pytest.raises(MediumFailed, match=f"the medium at {stick.place} cannot be read any more"):
        verify_bundle(stick.place, root_bytes(two_of_three), progress=Pull())


@pytest.mark.parametrize("megabytes", [2, 3])
def test_a_work_folder_that_fills_up_changes_nothing(
    megabytes: int,
    sick: Path,
    mounted: Callable[..., Path],
    two_of_three: Root,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Said before, by counting; and, should somebody else fill it meanwhile, when par2 meets it."""
    overwrite(sick / SLICE, 0, b"rot")
    small = mounted("small", "-t", "tmpfs", "-o", f"size={megabytes}M", "tmpfs")
    if megabytes == 3:
        monkeypatch.setattr(mending, "free_bytes", lambda _: 1 << 40)
    with pytest.raises((SpaceExhausted, ParityFailed)):
        repair_bundle([sick], root=root_bytes(two_of_three), out=None, work=small, progress=Silent())
    assert (sick / SLICE).read_bytes()[:3] == b"rot"
    assert list(small.iterdir()) == []
