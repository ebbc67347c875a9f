"""Ranges, locks, keys and the shadow: what becomes of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.lab.drive.media import AccessDenied, OutOfRange, RangesCrossed
from tests.unit.lab.drive.conftest import PIN
from tests.unit.lab.drive.host import (
    ADMIN_SP,
    GEN_KEY,
    INVALID_PARAMETER,
    MBR,
    MBR_CONTROL,
    OK,
    SET,
    SID,
    atom,
    locking,
    name,
)

if TYPE_CHECKING:
    from tests.unit.lab.drive.conftest import Bench, NewBench

BLOCKS = (16 << 20) // 512
KEY_OF_1 = bytes.fromhex("0000080600030001")
TPER_INFO = bytes.fromhex("0000020100030001")


def test_a_new_drive_reads_as_zeros_and_keeps_what_is_written(bench: Bench) -> None:
    assert bench.media.read(0, 16) == bytes(16 * 512)
    data = bench.pattern(3, 9)
    assert bench.media.read(3, 9) == data
    assert bench.media.read(2, 11) == bytes(512) + data + bytes(512)
    with pytest.raises(OutOfRange):
        bench.media.read(BLOCKS - 1, 2)
    with pytest.raises(OutOfRange):
        bench.media.write(BLOCKS, bytes(512))


def test_nothing_lies_in_clear_nor_the_same_twice(bench: Bench) -> None:
    block = b"plain text" * 51 + b"xx"
    bench.media.write(10, block * 2)
    lying = bench.blocks.read(10 * 512, 1024)
    assert b"plain" not in lying
    assert lying[:512] != lying[512:]


def test_pyrite_encrypts_nothing_and_locks_all_the_same(new_bench: NewBench) -> None:
    bench = new_bench(kind="pyrite").own()
    data = bench.pattern(8, 8)
    assert bench.blocks.read(8 * 512, 8 * 512) == data
    bench.host.set_up_range(PIN, 1, 8, 8)
    bench.host.lock(PIN, 1, read=1, write=1)
    with pytest.raises(AccessDenied):
        bench.media.read(8, 1)
    bench.host.as_admin(PIN)
    assert bench.host.call(KEY_OF_1, GEN_KEY).status != OK


@pytest.mark.parametrize(("read", "write"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_locks_hold_for_reading_and_for_writing(owned: Bench, read: int, write: int) -> None:
    host, media = owned.host, owned.media
    host.set_up_range(PIN, 1, 80, 80)
    data = owned.pattern(72, 96)
    assert host.lock(PIN, 1, read=read, write=write) == OK
    for first, count, touched in (
        (72, 8, False),
        (79, 2, True),
        (80, 80, True),
        (159, 2, True),
        (160, 8, False),
    ):
        piece = data[(first - 72) * 512 : (first - 72 + count) * 512]
        if read and touched:
            with pytest.raises(AccessDenied):
                media.read(first, count)
        else:
            assert media.read(first, count) == piece
        if write and touched:
            with pytest.raises(AccessDenied):
                media.write(first, piece)
            with pytest.raises(AccessDenied):
                media.deallocate(first, count)
        else:
            media.write(first, piece)
    assert host.lock(PIN, 1, read=0, write=0) == OK
    assert media.read(72, 96) == data


def test_the_global_range_is_all_that_others_leave(owned: Bench) -> None:
    host = owned.host
    host.set_up_range(PIN, 1, 80, 80)
    data = owned.pattern(0, 240)
    host.as_admin(PIN).set(locking(0), c5=1, c6=1, c7=1, c8=1)
    host.end()
    assert owned.media.read(80, 80) == data[80 * 512 : 160 * 512]
    for first in (0, 79, 160, BLOCKS - 1):
        with pytest.raises(AccessDenied):
            owned.media.read(first, 1)


def test_a_drive_may_refuse_to_cross_ranges(new_bench: NewBench) -> None:
    bench = new_bench(range_crossing=False).own()
    bench.host.set_up_range(PIN, 1, 80, 80)
    bench.pattern(80, 80)
    bench.media.read(80, 80)
    for first in (79, 159):
        with pytest.raises(RangesCrossed):
            bench.media.read(first, 2)
        with pytest.raises(RangesCrossed):
            bench.media.write(first, bytes(1024))


def test_a_range_has_a_key_of_its_own(owned: Bench) -> None:
    """What was written before a range was laid over it cannot be read through it."""
    data = owned.pattern(80, 80)
    owned.host.set_up_range(PIN, 1, 80, 80)
    assert owned.media.read(80, 80) != data
    owned.host.set_up_range(PIN, 1, 0, 0)
    assert owned.media.read(80, 80) == data


def test_a_new_key_turns_into_noise_what_the_range_held_and_nothing_else(owned: Bench) -> None:
    host = owned.host
    host.set_up_range(PIN, 1, 80, 80)
    before = owned.pattern(72, 96)
    owned.media.deallocate(100, 1)
    host.as_admin(PIN)
    assert host.call(KEY_OF_1, GEN_KEY).status == OK
    after = owned.media.read(72, 96)
    assert after[: 8 * 512] == before[: 8 * 512]
    assert after[88 * 512 :] == before[88 * 512 :]
    for block in range(8, 88):
        found = after[block * 512 : (block + 1) * 512]
        assert found != before[block * 512 : (block + 1) * 512]
        assert (found == bytes(512)) is (block == 28)


@pytest.mark.parametrize(
    ("start", "length"),
    [
        (3, 80),  # not aligned
        (80, 3),
        (80, BLOCKS),  # beyond the drive
        (BLOCKS + 8, 8),
        (96, 8),  # inside range 1
        (72, 16),  # over its beginning
        (152, 16),  # over its end
        (0, 1600),  # around it
        (1 << 64, 8),
    ],
)
def test_a_range_that_cannot_be_is_refused(owned: Bench, start: int, length: int) -> None:
    host = owned.host
    assert host.set_up_range(PIN, 1, 80, 80) == OK
    assert host.set_up_range(PIN, 2, start, length) == INVALID_PARAMETER
    host.as_admin(PIN)
    assert host.get(locking(2), 3, 6).columns == {3: 0, 4: 0, 5: 0, 6: 0}


def test_ranges_may_touch_move_and_take_the_whole_drive(owned: Bench) -> None:
    host = owned.host
    assert host.set_up_range(PIN, 1, 80, 80) == OK
    assert host.set_up_range(PIN, 2, 160, 8) == OK
    assert host.set_up_range(PIN, 3, 72, 8) == OK
    assert host.set_up_range(PIN, 1, 80, 72) == OK  # not in its own way
    for which in (1, 2, 3):
        assert host.set_up_range(PIN, which, 0, 0) == OK
    assert host.set_up_range(PIN, 1, 0, BLOCKS) == OK


def test_alignment_counts_from_the_lowest_aligned_block(new_bench: NewBench) -> None:
    bench = new_bench(granularity=8, lowest_aligned=3).own()
    assert bench.host.set_up_range(PIN, 1, 80, 80) == INVALID_PARAMETER
    assert bench.host.set_up_range(PIN, 1, 83, 80) == OK
    assert bench.host.set_up_range(PIN, 2, 0, 8) == INVALID_PARAMETER  # from 0 it ends where a group does
    assert bench.host.set_up_range(PIN, 2, 0, 11) == OK
    free = new_bench(granularity=1).own()
    assert free.host.set_up_range(PIN, 1, 3, 5) == OK


def test_power_failure_locks_what_is_to_be_locked(owned: Bench) -> None:
    host = owned.host
    host.set_up_range(PIN, 1, 80, 80)
    data = owned.pattern(80, 80)
    host.as_admin(PIN)
    assert host.set(locking(2), c3=800, c4=80) == OK  # without locks
    host.end()
    owned.lose_power()
    with pytest.raises(AccessDenied):
        owned.media.read(80, 80)
    owned.media.read(800, 80)
    assert owned.host.lock(PIN, 1, read=0, write=0) == OK
    assert owned.media.read(80, 80) == data


def test_a_warm_reset_leaves_open_what_is_open(owned: Bench) -> None:
    """The reason why an audit asks for a power cycle: a reboot proves nothing."""
    host = owned.host
    host.set_up_range(PIN, 1, 80, 80)
    owned.tper.hardware_reset()
    owned.media.read(80, 80)
    host.as_admin(PIN)
    assert host.set(locking(1), r9=b"\xf0\x00\x01\xf1") == OK
    owned.tper.hardware_reset()
    with pytest.raises(AccessDenied):
        owned.media.read(80, 80)


def test_a_programmatic_reset_must_be_allowed_first(owned: Bench) -> None:
    host = owned.host
    host.set_up_range(PIN, 1, 80, 80)
    host.as_admin(PIN).set(locking(1), r9=b"\xf0\x00\x03\xf1")
    host.end()
    host.start(ADMIN_SP, SID, PIN)
    assert host.set(TPER_INFO, c8=1) == OK
    owned.media.read(80, 80)
    owned.security.send(2, 4, bytes(512))
    assert owned.tper.session is None
    with pytest.raises(AccessDenied):
        owned.media.read(80, 80)


def shadow(bench: Bench) -> None:
    host = bench.host.as_admin(PIN)
    assert host.call(MBR, SET, name(0, atom(0)) + name(1, atom(b"boot from here".ljust(1000)))).status == OK
    assert host.set(MBR_CONTROL, c1=1) == OK
    host.end()


def test_the_shadow_hides_blocks_until_it_is_done(owned: Bench) -> None:
    data = owned.pattern(0, 8)
    owned.host.set_up_range(PIN, 1, 0, 80)
    owned.host.lock(PIN, 1, read=1, write=1)
    shadow(owned)
    assert owned.media.read(0, 2)[:1000] == b"boot from here".ljust(1000)
    for first in (0, 100, BLOCKS - 1):
        with pytest.raises(AccessDenied):
            owned.media.write(first, bytes(512))
    owned.host.as_admin(PIN).set(MBR_CONTROL, c2=1)
    owned.host.end()
    with pytest.raises(AccessDenied):
        owned.media.read(0, 1)
    owned.host.set_up_range(PIN, 1, 0, 0)
    assert owned.media.read(0, 8) == data


def test_the_shadow_is_back_after_power_failure(owned: Bench) -> None:
    data = owned.pattern(0, 8)
    shadow(owned)
    owned.host.as_admin(PIN).set(MBR_CONTROL, c2=1)
    owned.host.end()
    assert owned.media.read(0, 8) == data
    owned.lose_power()
    assert owned.media.read(0, 1).startswith(b"boot from here")


def test_behind_the_shadow_are_zeros_or_a_lock(new_bench: NewBench) -> None:
    bench = new_bench(size=130 << 20).own()
    behind = (128 << 20) // 512
    bench.pattern(behind, 8)
    bench.host.set_up_range(PIN, 1, behind + 8, 8)
    bench.host.lock(PIN, 1, read=1, write=1)
    shadow(bench)
    assert bench.media.read(behind, 8) == bytes(8 * 512)
    assert bench.media.read(behind - 1, 2) == bytes(1024)
    with pytest.raises(AccessDenied):
        bench.media.read(behind + 8, 1)


def test_a_drive_may_have_no_shadow(new_bench: NewBench) -> None:
    bench = new_bench(shadow=False).own()
    host = bench.host.as_admin(PIN)
    assert host.set(MBR_CONTROL, c1=1) != OK
    assert host.call(MBR, SET, name(1, atom(b"boot"))).status != OK
    assert host.get(bytes.fromhex("0000000100000804")).status != OK


def test_a_lying_drive_counts_ranges_in_its_real_blocks(new_bench: NewBench) -> None:
    """What a host takes for 80 blocks of 512 bytes from 80 are 80 of 4096 from 80: elsewhere, and more."""
    bench = new_bench(block_size=4096, opal_block_size=512).own()
    bench.host.set_up_range(PIN, 1, 80, 80)
    bench.host.lock(PIN, 1, read=1, write=1)
    bench.media.read(10, 10)  # where the host thinks the range is: in clear
    with pytest.raises(AccessDenied):
        bench.media.read(80, 1)
