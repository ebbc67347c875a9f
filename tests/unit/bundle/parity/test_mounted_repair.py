"""Repair of media as they really are: with a bad sector, write-protected, full."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.parity import mending
from appliance.bundle.parity.repair import repair_bundle
from appliance.errors import MediumUnsuitable, ParityFailed, SpaceExhausted
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.unit.bundle.parity.conftest import SLICE, overwrite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.bundle.parity.repair import Repaired
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
