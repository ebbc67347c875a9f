"""What outlasts power, and what a state file tells."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import InProgress, LabFailed, Usage
from appliance.lab.drive import keeping
from appliance.lab.drive.media import AccessDenied
from appliance.lab.drive.profile import MIB, Profile
from appliance.lab.drive.simulated import SimulatedDrive
from appliance.lab.drive.space import FileSpace, MemorySpace
from tests.unit.lab.drive.conftest import PIN
from tests.unit.lab.drive.host import ADMIN_SP, SID, Host, locking, pin_of, user

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.lab.drive.space import Space
    from tests.unit.lab.drive.conftest import Bench


def make() -> Profile:
    return Profile(size=16 * MIB)


def never() -> Profile:
    raise AssertionError("the drive was there already")


def test_a_drive_is_the_same_when_it_is_plugged_in_again(tmp_path: Path) -> None:
    image = tmp_path / "sed.img"
    drive = SimulatedDrive(image, make)
    host = Host(drive.security)
    host.take_ownership(PIN)
    host.activate(PIN)
    host.set_up_range(PIN, 1, 80, 80)
    host.give_range_to(PIN, 1, user(1))
    drive.power_off()
    drive.close()
    again = SimulatedDrive(image, never)
    assert again.profile == drive.profile
    assert again.tper.admin.rows == drive.tper.admin.rows
    assert again.tper.locking.rows == drive.tper.locking.rows
    again.close()


def test_what_was_unlocked_when_its_program_ended_is_locked_when_it_is_plugged_in_again(
    tmp_path: Path,
) -> None:
    """However it ended: a drive has power as long as somebody serves it."""
    image = tmp_path / "sed.img"
    drive = SimulatedDrive(image, make)
    host = Host(drive.security)
    host.take_ownership(PIN)
    host.activate(PIN)
    host.set_up_range(PIN, 1, 80, 80)
    drive.media.write(80, b"x" * 512)
    drive.close()
    again = SimulatedDrive(image, never)
    with pytest.raises(AccessDenied):
        again.media.read(80, 1)
    host = Host(again.security)
    host.lock(PIN, 1, read=0, write=0)
    assert again.media.read(80, 1) == b"x" * 512
    again.close()


def test_the_image_is_sparse_and_for_its_owner_alone(tmp_path: Path) -> None:
    drive = SimulatedDrive(tmp_path / "sed.img", make)
    drive.close()
    for path in (drive.image, drive.state):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert drive.image.stat().st_size == (16 + 128 + 10) * MIB
    assert drive.image.stat().st_blocks * 512 < MIB


def test_no_pin_that_was_set_is_in_the_state(owned: Bench) -> None:
    owned.host.as_admin(PIN).set(pin_of(user(1)), c3=b"the user's own")
    for pin in (PIN, "the user's own"):
        assert pin not in owned.kept
        assert pin.encode().hex() not in owned.kept


def test_every_change_is_kept_before_it_is_answered(owned: Bench) -> None:
    host = owned.host.as_admin(PIN)
    for columns in ({"c3": 80, "c4": 80}, {"c5": 1}, {"c7": 1}):
        keeps = owned.keeps
        assert host.set(locking(1), **columns) == 0
        assert owned.keeps == keeps + 1
    keeps = owned.keeps
    host.get(locking(1))
    assert owned.keeps == keeps


def test_a_wrong_pin_is_kept_too(owned: Bench) -> None:
    """Else a drive could be asked for ever by a host that pulls its plug in between."""
    keeps = owned.keeps
    owned.host.start(ADMIN_SP, SID, "wrong")
    assert owned.keeps == keeps + 1


def test_the_state_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    keeping.write_state(path, {"format": 1})

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("appliance.lab.drive.keeping.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        keeping.write_state(path, {"format": 2})
    assert json.loads(path.read_text()) == {"format": 1}


def test_a_drive_is_plugged_in_once(tmp_path: Path) -> None:
    drive = SimulatedDrive(tmp_path / "sed.img", make)
    with pytest.raises(InProgress):
        SimulatedDrive(tmp_path / "sed.img", make)
    drive.close()
    SimulatedDrive(tmp_path / "sed.img", never).close()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"format": 2}', '{"format": 1}', '{"format": 1, "profile": {}}', "\u00e9"],
)
def test_a_state_that_is_none_is_named_and_left_alone(tmp_path: Path, text: str) -> None:
    state = tmp_path / "sed.img.state"
    state.write_text(text)
    with pytest.raises(LabFailed):
        SimulatedDrive(tmp_path / "sed.img", make)
    assert state.read_text() == text
    assert list(tmp_path.iterdir()) == [state]


def test_an_image_where_none_can_be(tmp_path: Path) -> None:
    with pytest.raises(LabFailed, match="cannot be opened"):
        SimulatedDrive(tmp_path / "no folder" / "sed.img", make)
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_file_is_no_image(tmp_path: Path) -> None:
    image = tmp_path / "photo"
    image.write_bytes(b"not a drive")
    with pytest.raises(LabFailed, match="no simulated drive's image"):
        SimulatedDrive(image, make)
    assert image.read_bytes() == b"not a drive"
    assert list(tmp_path.iterdir()) == [image]


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 0},
        {"size": 1000},
        {"size": 4096 + 512, "block_size": 4096},
        {"block_size": 1024},
        {"kind": "enterprise"},
        {"granularity": 0},
        {"granularity": 8, "lowest_aligned": 8},
        {"lowest_aligned": -1},
    ],
)
def test_drives_that_cannot_be(fields: dict[str, Any]) -> None:
    with pytest.raises(Usage):
        Profile(**{"size": MIB, **fields})


def _file(path: Path) -> Space:
    return FileSpace(path / "file", 8192, 65536)


def _memory(_path: Path) -> Space:
    return MemorySpace(65536)


@pytest.mark.parametrize("space", [_file, _memory])
def test_spaces_hold_bytes_and_forget_them(tmp_path: Path, space: Callable[[Path], Space]) -> None:
    place = space(tmp_path)
    assert place.read(0, 65536) == bytes(65536)
    place.write(4000, b"a" * 9000)
    place.write(4096, b"b")
    assert place.read(3999, 9002) == b"\0" + b"a" * 96 + b"b" + b"a" * 8903 + b"\0"
    place.clear(4001, 8998)
    place.sync()
    assert place.read(4000, 9000) == b"a" + bytes(8998) + b"a"
