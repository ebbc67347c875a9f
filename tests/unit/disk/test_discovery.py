"""Level 0 Discovery: what the simulated drive and real ones say, and answers that are none."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.disk.discovery import HEADER, parse_discovery
from appliance.errors import DriveUnreadable
from tests.unit.disk.drives import level_0, simulated
from tests.unit.lab.drive.host import OK, Host

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> bytes:
    return bytes.fromhex((RECORDED / f"{name}.hex").read_text())


def answer(*descriptors: bytes) -> bytes:
    """A header, and descriptors."""
    body = b"".join(descriptors)
    return struct.pack(">IHH40x", HEADER - 4 + len(body), 0, 1) + body


def descriptor(code: int, body: bytes) -> bytes:
    return struct.pack(">HBB", code, 0x10, len(body)) + body


def test_a_new_opal_drive() -> None:
    found = parse_discovery(level_0(simulated()))
    assert (found.ssc, found.sscs) == ("opal-2", ("opal-2",))
    assert (found.locking_supported, found.locking_enabled, found.locked, found.encrypts) == (
        *(True, False, False, True),
    )
    assert (found.shadow_supported, found.shadow_enabled, found.shadow_done) == (True, False, False)
    assert (found.block_size, found.granularity, found.lowest_aligned) == (512, 8, 0)
    assert (found.sid_changed, found.sid_blocked) == (False, False)
    assert (found.admins, found.users, found.crossing_fails) == (4, 9, False)
    assert (found.first_comid, found.comids) == (0x1000, 1)
    assert (found.data_stores, found.data_store_size) == (1, 10 << 20)
    assert (found.single_user, found.ranges_per_namespace) == (False, None)
    assert found.others == (0x0404,)


@pytest.mark.parametrize(
    ("fields", "attribute", "value"),
    [
        ({"kind": "pyrite"}, "ssc", "pyrite-2"),
        ({"kind": "pyrite"}, "encrypts", False),
        ({"kind": "pyrite"}, "users", None),
        ({"kind": "ruby"}, "ssc", "ruby"),
        ({"kind": "ruby"}, "users", 9),
        ({"shadow": False}, "shadow_supported", False),
        ({"owner_pin": "somebody's"}, "sid_changed", True),
        ({"opal_block_size": 4096}, "block_size", 4096),
        ({"granularity": 32, "lowest_aligned": 7}, "granularity", 32),
        ({"granularity": 32, "lowest_aligned": 7}, "lowest_aligned", 7),
        ({"range_crossing": False}, "crossing_fails", True),
    ],
)
def test_every_make_of_drive_is_told_apart(
    fields: dict[str, object], attribute: str, value: object
) -> None:
    assert getattr(parse_discovery(level_0(simulated(**fields))), attribute) == value


def test_what_becomes_of_a_drive_shows() -> None:
    drive = simulated()
    host = Host(drive)
    assert host.take_ownership("pin") == OK
    assert parse_discovery(level_0(drive)).sid_changed is True
    assert parse_discovery(level_0(drive)).locking_enabled is False
    assert host.activate("pin") == OK
    assert parse_discovery(level_0(drive)).locking_enabled is True
    assert host.set_up_range("pin", 1, 80, 80) == OK
    assert parse_discovery(level_0(drive)).locked is False
    assert host.lock("pin", 1, read=1, write=1) == OK
    assert parse_discovery(level_0(drive)).locked is True
    drive.send(2, 5, b"\0" * 512)
    assert parse_discovery(level_0(drive)).sid_blocked is True


def test_a_crucial_mx500_that_somebody_owns() -> None:
    found = parse_discovery(recorded("crucial-mx500"))
    assert (found.ssc, found.locking_enabled, found.sid_changed) == ("opal-2", True, True)
    assert (found.block_size, found.granularity, found.admins, found.users) == (512, 1, 4, 9)
    assert (found.first_comid, found.data_stores, found.single_user) == (0x0888, 10, True)
    assert found.others == ()


def test_a_kioxia_cm6_with_two_classes() -> None:
    found = parse_discovery(recorded("kioxia-cm6"))
    assert (found.ssc, found.sscs) == ("opal-2", ("opal-2", "ruby"))
    assert (found.locking_enabled, found.encrypts, found.shadow_supported) == (False, True, False)
    assert (found.block_size, found.granularity, found.users) == (520, 8, 192)
    assert (found.comids, found.sid_changed) == (2, False)
    assert found.ranges_per_namespace == 0


@pytest.mark.parametrize(
    ("code", "ssc"),
    [
        (0x0100, "enterprise"),
        (0x0200, "opal-1"),
        (0x0301, "opalite"),
        (0x0302, "pyrite-1"),
        (0x0303, "pyrite-2"),
    ],
)
def test_classes_that_the_simulated_drive_does_not_have(code: int, ssc: str) -> None:
    found = parse_discovery(answer(descriptor(code, bytes([0x07, 0xFE, 0, 1]) + bytes(12))))
    assert (found.ssc, found.first_comid, found.comids) == (ssc, 0x07FE, 1)


def test_a_drive_of_opal_and_enterprise_counts_as_opal() -> None:
    both = answer(descriptor(0x0100, bytes(16)), descriptor(0x0203, bytes(16)))
    assert parse_discovery(both).sscs == ("opal-2", "enterprise")


def test_what_a_drive_does_not_say_is_unknown_and_not_no() -> None:
    found = parse_discovery(answer())
    assert (found.ssc, found.sscs, found.first_comid) == (None, (), None)
    assert {found.locking_enabled, found.encrypts, found.sid_changed, found.shadow_supported} == {None}


def test_of_a_descriptor_that_comes_twice_the_first_counts() -> None:
    twice = answer(descriptor(0x0402, b"\1" + bytes(11)), descriptor(0x0402, bytes(12)))
    assert parse_discovery(twice).sid_changed is True


GOOD = level_0(simulated())
LENGTH = int.from_bytes(GOOD[:4], "big") + 4


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "0 bytes"),
        (GOOD[: HEADER - 1], "47 bytes"),
        (bytes(HEADER), "a length of 4 bytes"),
        (GOOD[: LENGTH - 1], f"a length of {LENGTH} bytes in an answer of {LENGTH - 1}"),
        (b"\xff" * 2048, "a length of 4294967299 bytes"),
        (answer(b"\0\1"), "2 bytes after the last descriptor"),
        (answer(struct.pack(">HBB", 1, 0x10, 12) + bytes(11)), "descriptor 0001h of 12 bytes that has 11"),
        (answer(descriptor(0x0002, b"")), "0 bytes for feature 0002h"),
        (answer(descriptor(0x0003, bytes(27))), "27 bytes for feature 0003h"),
        (answer(descriptor(0x0202, bytes(11))), "11 bytes for feature 0202h"),
        (answer(descriptor(0x0402, b"\1")), "1 bytes for feature 0402h"),
        (answer(descriptor(0x0403, bytes(15))), "15 bytes for feature 0403h"),
        (answer(descriptor(0x0203, bytes(3))), "3 bytes for opal-2"),
    ],
)
def test_an_answer_that_is_none(data: bytes, found: str) -> None:
    with pytest.raises(DriveUnreadable) as raised:
        parse_discovery(data)
    assert found in str(raised.value.found)
    assert raised.value.exit_code == 5


@given(st.integers(0, LENGTH - 1), st.integers(0, 255))
def test_whatever_a_drive_answers_is_read_or_refused(at: int, value: int) -> None:
    changed = bytearray(GOOD)
    changed[at] = value
    with suppress(DriveUnreadable):
        parse_discovery(bytes(changed))
