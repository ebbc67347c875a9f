"""Journal and counter of a TPM, value by value."""

from __future__ import annotations

import pytest

from appliance.errors import JournalRolledBack
from appliance.trust.counter import Counter, judge_counter, next_value
from appliance.trust.journal import Journal, KnownRoot


def journal(value: int | None) -> Journal:
    return Journal("5" * 32, KnownRoot(1, "a" * 64), tpm=value)


BELIEVED = {
    "no TPM at all": (None, None, False),
    "a TPM without a counter": (None, Counter(None, kept=False), False),
    "a counter that no journal relies on": (None, Counter(8, kept=False), False),
    "the newest state": (8, Counter(8, kept=True), False),
    "cut off before the counter went up": (9, Counter(8, kept=True), True),
    "cut off before the counter is relied on": (8, Counter(8, kept=False), True),
}
REFUSED = {
    "from before the counter": (None, Counter(8, kept=True), "older"),
    "one state old": (7, Counter(8, kept=True), "older"),
    "old, and the counter not relied on": (7, Counter(8, kept=False), "older"),
    "of a value the counter will have later": (10, Counter(8, kept=True), "does not belong"),
    "without its TPM": (8, None, "gone"),
    "with a TPM that was cleared": (8, Counter(None, kept=False), "gone"),
    "with a counter that cannot be read": (8, Counter(None, kept=True), "gone"),
}


@pytest.mark.parametrize("case", BELIEVED)
def test_a_journal_that_is_the_newest(case: str) -> None:
    value, counter, unfinished = BELIEVED[case]
    assert judge_counter(journal(value), counter) is unfinished


@pytest.mark.parametrize("case", REFUSED)
def test_a_journal_that_is_not(case: str) -> None:
    value, counter, words = REFUSED[case]
    with pytest.raises(JournalRolledBack, match=words):
        judge_counter(journal(value), counter)


@pytest.mark.parametrize(
    ("counter", "value"),
    [
        (None, None),
        (Counter(None, kept=False), None),
        (Counter(8, kept=False), 8),
        (Counter(8, kept=True), 9),
    ],
)
def test_the_value_of_the_next_state(counter: Counter | None, value: int | None) -> None:
    assert next_value(counter) == value
