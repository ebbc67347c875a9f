"""Which files share recovery data: from paths and sizes alone."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.bundle.parity.sets import (
    MAX_BLOCK,
    MAX_BLOCKS,
    MAX_FILES,
    MIN_BLOCK,
    Member,
    choose_block_size,
    divide,
)

GIB = 1 << 30
TWO_GB = 2_000_000_000


def slices(count: int) -> list[Member]:
    return [Member(f"payload/model/w.slice-{number:04d}", GIB) for number in range(count)]


def small(count: int, size: int) -> list[Member]:
    return [Member(f"payload/files/{number:06d}", size) for number in range(count)]


def test_no_parity_is_no_set() -> None:
    assert divide(slices(3), 0) == ()
    assert divide([], 5) == ()


@pytest.mark.parametrize("percent", range(1, 11))
@pytest.mark.parametrize("members", [slices(31), slices(32), slices(33), slices(1000), small(40_000, 3000)])
def test_every_set_keeps_the_limits(members: list[Member], percent: int) -> None:
    sets = divide(members, percent)
    assert list(chain.from_iterable(each.members for each in sets)) == members
    assert [each.number for each in sets] == list(range(len(sets)))
    for each in sets:
        blocks = sum(member.blocks(each.block_size) for member in each.members)
        assert blocks <= MAX_BLOCKS
        assert len(each.members) <= MAX_FILES
        assert each.size <= 32 * GIB
        assert each.parity_size < TWO_GB
        assert each.recovery * 100 >= blocks * percent


@pytest.mark.parametrize("percent", [1, 5, 10])
@pytest.mark.parametrize("count", [2, 10, 33, 64, 930])
def test_any_slice_may_be_lost(count: int, percent: int) -> None:
    for each in divide(slices(count), percent):
        assert each.recovery * each.block_size >= GIB


@pytest.mark.parametrize("count", [31, 32])
def test_any_file_of_a_bundle_of_several_sets_may_be_lost(count: int) -> None:
    """Below, files that are not cut have the percentage and no more."""
    members = [Member(f"payload/files/{number}", GIB) for number in range(count)]
    for each in divide(members, 1):
        assert (each.recovery * each.block_size >= GIB) == (count == 32)


def test_a_bundle_without_slices_has_the_percentage_and_no_more() -> None:
    (only,) = divide(small(10, GIB), 5)
    assert (only.block_size, only.recovery) == (4 << 20, 128)


def test_sets_of_a_bundle_that_hold_no_slice_have_the_percentage() -> None:
    """Where there are so many files that they need a second set."""
    cut, rest = divide([*slices(2), *small(20_000, 100)], 5)
    assert cut.recovery * cut.block_size >= GIB
    assert rest.recovery * 100 <= 5 * len(rest.members) + 100


def test_long_paths_fit_the_arguments_of_a_program() -> None:
    members = [Member(f"payload/{'x' * 480}/{number:06d}", 1) for number in range(16_000)]
    sets = divide(members, 5)
    assert max(sum(len(member.path) + 1 for member in each.members) for each in sets) <= 1 << 20


def test_blocks_are_few_for_one_file_and_small_for_many() -> None:
    assert choose_block_size(slices(1)) == 256 << 10
    assert choose_block_size(slices(32)) == MAX_BLOCK
    assert choose_block_size(small(16_000, 100)) == MIN_BLOCK
    assert choose_block_size(small(16_000, 10_000)) == 8 << 10


def test_padding_of_small_files_stays_below_their_size() -> None:
    (only,) = divide(small(10_000, 10_000), 5)
    assert only.parity_size <= 0.15 * only.size


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, GIB), min_size=1, max_size=80), st.integers(1, 10))
def test_nothing_is_left_out_whatever_the_sizes(sizes: list[int], percent: int) -> None:
    members = [Member(f"payload/c/{number}", size) for number, size in enumerate(sizes)]
    sets = divide(members, percent)
    assert list(chain.from_iterable(each.members for each in sets)) == members
    assert all(each.size <= 32 * GIB and each.parity_size < TWO_GB for each in sets)
