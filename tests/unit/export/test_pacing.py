"""When what may leave: never more than the line takes, new blocks first, every block in every pass."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.export import pacing
from appliance.export.pacing import Passes, TokenBucket, line_bucket


@given(st.lists(st.tuples(st.integers(1, 1500), st.floats(0, 0.1)), min_size=1, max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_more_leaves_than_the_rate_and_one_burst(asked: list[tuple[int, float]]) -> None:
    bucket = TokenBucket(10_000, 5000)
    now, sent = 0.0, 0
    for size, pause in asked:
        now += pause
        sent += size if bucket.take(size, now) else 0
    assert sent <= 5000 + 10_000 * now + 1500


def test_after_waiting_as_long_as_is_said_something_may_leave() -> None:
    bucket = TokenBucket(1000, 1000)
    assert bucket.take(2500, 0.0)
    assert not bucket.take(1, 0.0)
    assert bucket.wait(0.0) == pytest.approx(1.5, abs=0.01)
    assert not bucket.take(1, 1.4)
    assert bucket.take(1, 1.4 + bucket.wait(1.4))


@given(st.lists(st.tuples(st.integers(1, 1500), st.floats(0, 0.5)), min_size=1, max_size=50))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_so_many_fit_as_could_be_taken_one_by_one(asked: list[tuple[int, float]]) -> None:
    bucket, now = TokenBucket(10_000, 5000, step=2000), 0.0
    for size, pause in asked:
        now += pause
        fits, taken = bucket.fits(size, now), 0
        while bucket.take(size, now):
            taken += 1
        assert taken == fits


def test_a_line_that_is_in_debt_gathers_a_step_before_more_leaves() -> None:
    bucket = TokenBucket(1000, 1000, step=100)
    assert bucket.take(1000, 0.0)
    assert bucket.wait(0.0) == pytest.approx(0.1, abs=0.001)
    assert not bucket.take(1, 0.09)
    assert bucket.take(60, 0.101)
    assert bucket.take(1, 0.101), "there is some left, and no debt"


@pytest.mark.parametrize("rate", [1e3, 1.25e7, 1.25e9])
def test_steps_are_as_long_as_a_switch_takes_and_never_longer_than_a_moment(rate: float) -> None:
    bucket = line_bucket(rate, constant=False)
    while bucket.take(1456, 0.0):
        pass
    assert bucket.wait(0.0) <= 0.001 + 1456 / rate + 1e-5
    assert bucket.fits(1456, bucket.wait(0.0)) <= 64_000 / 1456 + 2


@pytest.mark.parametrize(("constant", "seconds"), [(True, 1.0), (False, 0.8)])
def test_a_constant_line_makes_good_what_a_wait_for_the_disk_cost(constant: bool, seconds: float) -> None:
    """100 Mb/s, which sends nothing for 0.2 s: as much has left after the second as ever, or less."""
    rate, size, left = 12_500_000.0, 1456, 0
    bucket = line_bucket(rate, constant=constant)
    assert [bucket.take(size, 0.0) for _ in range(50)].count(True) == 44, "no more than ever at the start"
    for step in range(1, 1001):
        if step < 400 or step >= 600:
            while bucket.take(size, step / 1000):
                left += size
    assert left == pytest.approx(seconds * rate, rel=0.01)


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = TokenBucket(1000, 1000)
    bucket.take(1000, 100.0)
    assert not bucket.take(1, 50.0)
    assert not bucket.take(1, 100.0)
    assert bucket.take(1, 100.1)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1)])
def test_a_bucket_without_bottom_is_a_mistake_of_ours(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        TokenBucket(rate, burst)


def drained(passes: Passes, now: float) -> list[tuple[int, int]]:
    """Everything that is due now: pass and block."""
    found = []
    while (number := passes.due(now)) is not None:
        found.append((number, passes.next[number]))
        passes.sent(number, passes.next[number] + 1)
    return found


def test_each_block_is_due_at_once_after_30_seconds_and_after_ten_minutes() -> None:
    passes = Passes([0, 0, 0], 0)
    passes.made(2, 0.0)
    assert drained(passes, 0.0) == [(0, 0), (0, 1)]
    assert passes.wait(0.0) == 30.0
    assert drained(passes, 29.9) == []
    assert drained(passes, 30.0) == [(1, 0), (1, 1)]
    assert drained(passes, 599.9) == []
    assert drained(passes, 600.0) == [(2, 0), (2, 1)]
    assert passes.wait(600.0) is None


def test_new_blocks_go_before_old_ones() -> None:
    passes = Passes([0, 0, 0], 0)
    passes.made(1, 0.0)
    drained(passes, 0.0)
    passes.made(2, 40.0)
    assert drained(passes, 40.0) == [(0, 1), (1, 0)]


def test_the_last_block_of_a_busy_second_is_due_as_well() -> None:
    passes = Passes([0, 0, 0], 0)
    for number in range(10):
        passes.made(number + 1, number / 10)
    drained(passes, 1.0)
    assert drained(passes, 30.85) == []
    assert [block for _, block in drained(passes, 30.91)] == list(range(10))


def test_a_later_pass_never_overtakes_the_first() -> None:
    passes = Passes([0, 0, 0], 0)
    passes.made(5, 0.0)
    passes.sent(0, 2)
    assert passes.due(1000.0) == 0
    passes.next[0] = 2
    passes.end = 2
    assert [block for number, block in drained(passes, 1000.0) if number == 1] == [0, 1]


def test_what_a_restart_finds_goes_on_in_every_pass() -> None:
    passes = Passes([7, 3, 0], 9)
    passes.made(10, 0.0)
    assert drained(passes, 0.0) == [(0, 7), (0, 8), (0, 9)]
    assert [block for _, block in drained(passes, 30.0)] == list(range(3, 10))
    assert [block for _, block in drained(passes, 600.0)] == list(range(10))


def test_a_line_that_is_too_slow_for_long_needs_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_MAX_MARKS", 10)
    passes = Passes([0, 0, 0], 0)
    for number in range(1000):
        passes.made(number + 1, number * 2.0)
    assert len(passes._marks) == 10
    assert len(drained(passes, 10_000.0)) == 3000
