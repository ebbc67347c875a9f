"""Level 0 Discovery, read as hosts do: descriptor after descriptor, by code and length."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.unit.lab.drive.conftest import PIN
from tests.unit.lab.drive.host import LOCKING_SP, MBR_CONTROL, locking

if TYPE_CHECKING:
    from tests.unit.lab.drive.conftest import Bench, NewBench

SUPPORTED, ENABLED, LOCKED, ENCRYPTS, SHADOW, SHADOW_DONE, NO_SHADOW = (1 << bit for bit in range(7))
OPAL, PYRITE, RUBY = 0x203, 0x303, 0x304


def features(bench: Bench) -> dict[int, bytes]:
    data = bench.security.receive(1, 1, 2048)
    (length, revision) = struct.unpack_from(">II", data)
    assert revision == 1
    found, at = {}, 48
    while at < 4 + length:
        code, _, size = struct.unpack_from(">HBB", data, at)
        assert code not in found
        found[code] = data[at + 4 : at + 4 + size]
        at += 4 + size
    assert at == 4 + length
    return found


def locking_flags(bench: Bench) -> int:
    return features(bench)[2][0]


def test_a_new_drive_says_what_it_can(bench: Bench) -> None:
    found = features(bench)
    assert set(found) == {1, 2, 3, OPAL, 0x202, 0x402, 0x404}
    assert found[1][0] == 0x11  # synchronous, streaming
    assert found[2][0] == SUPPORTED | ENCRYPTS
    assert struct.unpack(">B7xIQQ", found[3]) == (1, 512, 8, 0)
    assert struct.unpack(">HHBHHBB5x", found[OPAL]) == (0x1000, 1, 0, 4, 9, 0, 0)
    assert found[0x402][:2] == b"\0\0"  # SID's PIN is MSID's; not blocked
    assert found[0x404][2] == 4  # cryptographic erase


def test_flags_follow_the_drives_life(bench: Bench) -> None:
    host = bench.host
    host.take_ownership(PIN)
    assert features(bench)[0x402][0] == 1
    host.activate(PIN)
    assert locking_flags(bench) == SUPPORTED | ENABLED | ENCRYPTS
    host.set_up_range(PIN, 1, 8, 80)
    assert host.lock(PIN, 1, read=0, write=1) == 0
    assert locking_flags(bench) == SUPPORTED | ENABLED | LOCKED | ENCRYPTS
    host.as_admin(PIN).set(MBR_CONTROL, c1=1, c2=1)
    host.end()
    assert locking_flags(bench) == SUPPORTED | ENABLED | LOCKED | ENCRYPTS | SHADOW | SHADOW_DONE


def test_a_lock_that_is_not_enabled_locks_nothing(owned: Bench) -> None:
    owned.host.as_admin(PIN).set(locking(1), c7=1, c8=1)
    assert not locking_flags(owned) & LOCKED


@pytest.mark.parametrize(
    ("kind", "code", "encrypts"), [("opal", OPAL, True), ("pyrite", PYRITE, False), ("ruby", RUBY, True)]
)
def test_each_kind_has_its_own_descriptor(
    new_bench: NewBench, kind: str, code: int, encrypts: bool
) -> None:
    found = features(new_bench(kind=kind))
    assert {OPAL, PYRITE, RUBY} & set(found) == {code}
    assert bool(found[2][0] & ENCRYPTS) is encrypts
    assert bool(found[0x404][2]) is encrypts


def test_what_else_a_drive_is_by_its_make_is_told(new_bench: NewBench) -> None:
    assert locking_flags(new_bench(shadow=False)) & NO_SHADOW
    assert features(new_bench(range_crossing=False))[OPAL][4] == 1
    lying = features(new_bench(block_size=4096, opal_block_size=512, granularity=4, lowest_aligned=2))
    assert struct.unpack(">B7xIQQ", lying[3]) == (1, 512, 4, 2)
    assert struct.unpack(">B7xIQQ", features(new_bench(granularity=1))[3])[0] == 0
    preowned = features(new_bench(owner_pin="somebody's"))
    assert preowned[0x402][0] == 1


def test_discovery_is_cut_to_what_the_host_asks_for(bench: Bench) -> None:
    whole = bench.security.receive(1, 1, 2048)
    assert bench.security.receive(1, 1, 20) == whole[:20]


def test_the_protocols_are_told(bench: Bench) -> None:
    assert bench.security.receive(0, 0, 16) == bytes.fromhex("00000000000000030001020000000000")
    assert bench.security.receive(0, 1, 4) == bytes(4)


def test_the_locking_sp_has_no_session_until_it_is_active(bench: Bench) -> None:
    assert bench.host.start(LOCKING_SP) == 0x0C
