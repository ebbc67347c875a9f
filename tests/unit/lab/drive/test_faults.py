"""Faults to order: what a drive does wrong, and that nothing is lost by it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import LabFailed, Usage
from appliance.lab.drive import control
from appliance.lab.drive.media import AccessDenied
from appliance.lab.drive.orders import PowerLost
from appliance.lab.drive.profile import MIB, Profile
from appliance.lab.drive.simulated import SimulatedDrive
from tests.unit.lab.drive.conftest import PIN
from tests.unit.lab.drive.host import (
    ADMIN_SP,
    INVALID_PARAMETER,
    LOCKED_OUT,
    LOCKING_SP,
    NOT_AUTHORIZED,
    OK,
    PSID,
    SID,
    SP_BUSY,
    Host,
    admin,
    locking,
    user,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.lab.drive.conftest import Bench, NewBench


def enrol(host: Host) -> None:
    """What cryptsetup has a kernel do, from a new drive to a locked range."""
    assert host.take_ownership(PIN) == OK
    assert host.activate(PIN) == OK
    host.as_admin(PIN).set(user(1), c5=1)
    host.end()
    host.give_range_to(PIN, 1, user(1))
    assert host.set_up_range(PIN, 1, 80, 80) == OK
    assert host.lock(PIN, 1, read=1, write=1) == OK


def count_methods(bench: Bench) -> int:
    bench.tper.orders.cut_after = 10_000
    enrol(bench.host)
    left = bench.tper.orders.cut_after
    assert left is not None
    return 10_000 - left


def test_enrolment_takes_so_many_methods(bench: Bench) -> None:
    """So that the tests below cut power between each two, and not beside them."""
    assert count_methods(bench) == 23


@pytest.mark.parametrize("answered", [False, True], ids=["answer lost", "between methods"])
@pytest.mark.parametrize("after", range(1, 23))
def test_power_fails_between_any_two_methods(bench: Bench, after: int, answered: bool) -> None:
    """Either the drive is as new, or its owner's PIN opens it; and data outside of the range is there."""
    data = bench.pattern(0, 80)
    if answered:
        bench.tper.orders.cut_before = after
    else:
        bench.tper.orders.cut_after = after
    with pytest.raises(PowerLost):
        enrol(bench.host)
    bench.lose_power()
    host = bench.host
    assert host.start(ADMIN_SP, SID, bench.profile.msid) in {OK, NOT_AUTHORIZED}
    if bench.tper.session is None:
        assert host.start(ADMIN_SP, SID, PIN) == OK
        host.end()
        assert host.activate(PIN) == OK
        assert host.lock(PIN, 1, read=0, write=0) == OK
    else:
        host.end()
        assert not bench.tper.active
        assert host.take_ownership(PIN) == OK
    assert bench.media.read(0, 80) == data
    assert host.revert(PSID, bench.profile.psid) == OK
    enrol(host)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[SimulatedDrive]:
    made = SimulatedDrive(tmp_path / "sed.img", lambda: Profile(size=16 * MIB))
    host = Host(made.security)
    host.take_ownership(PIN)
    host.activate(PIN)
    host.set_up_range(PIN, 1, 80, 80)
    yield made
    made.close()


def order(drive: SimulatedDrive, what: str, **arguments: Any) -> dict[str, Any]:
    return control.carry_out([drive], {"order": what, **arguments})


def test_status_tells_how_a_drive_stands(drive: SimulatedDrive) -> None:
    told = order(drive, "status")
    assert (told["owned"], told["active"], told["powered"], told["session"]) == (True, True, True, None)
    assert told["ranges"][1] == {
        "range_start": 80,
        "range_length": 80,
        "read_lock_enabled": 1,
        "write_lock_enabled": 1,
        "read_locked": 0,
        "write_locked": 0,
    }
    assert PIN not in json.dumps(told)


def test_the_plug(drive: SimulatedDrive) -> None:
    lost = []
    drive.on_power_loss = lambda: lost.append(drive.powered)
    assert order(drive, "power-off")["powered"] is False
    assert order(drive, "power-on")["ranges"][1]["read_locked"] == 1
    with pytest.raises(AccessDenied):
        drive.media.read(80, 1)
    Host(drive.security).lock(PIN, 1, read=0, write=0)
    assert order(drive, "power-cycle")["ranges"][1]["read_locked"] == 1
    assert lost == [False, False]


def test_a_warm_reset_ends_connections_and_locks_nothing(drive: SimulatedDrive) -> None:
    lost = []
    drive.on_power_loss = lambda: lost.append(True)
    assert order(drive, "warm-reset")["ranges"][1]["read_locked"] == 0
    assert lost == [True]


def test_sid_blocked(drive: SimulatedDrive) -> None:
    order(drive, "block-sid")
    host = Host(drive.security)
    assert host.start(ADMIN_SP, SID, PIN) == NOT_AUTHORIZED
    assert drive.security.receive(1, 1, 2048).hex().find("0402100c03") > 0
    order(drive, "power-cycle")
    assert host.start(ADMIN_SP, SID, PIN) == OK


@pytest.mark.parametrize(
    ("authority", "sp", "who", "pin"),
    [("SID", ADMIN_SP, SID, PIN), ("Admin1", LOCKING_SP, admin(1), PIN), ("PSID", ADMIN_SP, PSID, None)],
)
def test_locked_out(drive: SimulatedDrive, authority: str, sp: bytes, who: bytes, pin: str | None) -> None:
    order(drive, "lock-out", authority=authority)
    host = Host(drive.security)
    assert host.start(sp, who, pin or drive.profile.psid) == LOCKED_OUT
    order(drive, "power-cycle")
    assert host.start(sp, who, pin or drive.profile.psid) == OK


def test_a_drive_that_locks_nobody_out(tmp_path: Path) -> None:
    made = SimulatedDrive(tmp_path / "endless.img", lambda: Profile(size=16 * MIB, try_limit=0))
    with pytest.raises(Usage, match="locks nobody out"):
        order(made, "lock-out", authority="SID")
    made.close()


def test_a_stale_session(drive: SimulatedDrive) -> None:
    order(drive, "stale-session", sp="Locking")
    host = Host(drive.security)
    assert host.start(LOCKING_SP) == SP_BUSY
    order(drive, "power-cycle")
    assert host.start(LOCKING_SP) == OK


def test_misaligned_and_overlapping_ranges(drive: SimulatedDrive) -> None:
    order(drive, "place-range", which=2, start=83, length=200)
    host = Host(drive.security)
    host.as_admin(PIN)
    assert host.get(locking(2), 3, 4).columns == {3: 83, 4: 200}
    assert host.set(locking(2), c3=83, c4=200) == INVALID_PARAMETER
    drive.media.read(79, 300)  # one range after the other, and each block in one of them


def test_slow(drive: SimulatedDrive) -> None:
    order(drive, "slow", seconds=0.5)
    assert drive.tper.orders.delay == 0.5


def test_power_to_fail(drive: SimulatedDrive) -> None:
    order(drive, "cut-power", after=1)
    with pytest.raises(PowerLost):
        Host(drive.security).start(ADMIN_SP)
    drive.power_off()
    order(drive, "cut-power", before=1)
    host = Host(drive.security)
    with pytest.raises(PowerLost):
        host.msid()


def test_which_kinds_there_are(new_bench: NewBench) -> None:
    for kind in ("opal", "pyrite", "ruby"):
        enrol(new_bench(kind=kind).host)


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"order": "explode"},
        {"order": "status", "drive": "SIMOTHER"},
        {"order": "status", "more": 1},
        {"order": "cut-power"},
        {"order": "cut-power", "before": 1, "after": 1},
        {"order": "cut-power", "after": 0},
        {"order": "cut-power", "before": -1},
        {"order": "slow", "seconds": 100},
        {"order": "slow", "seconds": "long"},
        {"order": "lock-out"},
        {"order": "lock-out", "authority": "Anybody"},
        {"order": "lock-out", "authority": "User99"},
        {"order": "stale-session", "sp": "Makers"},
        {"order": "place-range", "which": 0, "start": 0, "length": 8},
        {"order": "place-range", "which": 9, "start": 0, "length": 8},
        {"order": "place-range", "which": 1, "start": 0, "length": 1 << 40},
    ],
)
def test_orders_that_are_none(drive: SimulatedDrive, question: dict[str, Any]) -> None:
    before = control.state(drive)
    with pytest.raises(Usage):
        control.carry_out([drive], question)
    assert control.state(drive) == before


def test_of_several_drives_one_is_named(drive: SimulatedDrive, tmp_path: Path) -> None:
    other = SimulatedDrive(tmp_path / "other.img", lambda: Profile(size=16 * MIB))
    with pytest.raises(Usage, match="which drive"):
        control.carry_out([drive, other], {"order": "power-off"})
    told = control.carry_out([drive, other], {"order": "power-off", "drive": other.profile.serial})
    assert (told["serial"], drive.powered, other.powered) == (other.profile.serial, True, False)
    other.close()


def test_orders_come_by_a_socket_of_the_owners(drive: SimulatedDrive, tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def talk() -> list[Any]:
        server = await control.serve_control(path, [drive])
        async with server:
            ask = asyncio.get_running_loop().run_in_executor
            found: list[Any] = [await ask(None, control.send_order, path, {"order": "power-off"})]
            try:
                await ask(None, control.send_order, path, {"order": "explode"})
            except Usage as error:
                found.append(error)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"nonsense\n")
            found.append(json.loads(await reader.readline()))
            writer.close()
            return found

    told, refused, nonsense = asyncio.run(talk())
    assert told["powered"] is False
    assert refused.found == "explode"
    assert nonsense["error"] == "Usage"
    assert path.stat().st_mode & 0o777 == 0o600


def test_nobody_takes_orders(tmp_path: Path) -> None:
    with pytest.raises(LabFailed, match="no drive takes orders"):
        control.send_order(tmp_path / "none", {"order": "status"})
