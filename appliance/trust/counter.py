"""How a journal and the counter of a TPM belong together: pure, and the one place that says so.

A commit writes the journal first, with the value that the counter is about to have, and raises the counter
then.  Of every journal that a node ever had, only the newest is not below the counter:

==========================  ============================================================
the journal's value         what it is
==========================  ============================================================
equal                       the newest state
one above                   the newest state; the counter is still to be raised
below, or none at all       an old state that was put back
further above, no counter   another TPM's, or the TPM was cleared
==========================  ============================================================

A counter on which no journal relies yet (``kept`` is false) says nothing about a journal without a value:
the node has just been given tpm2-tools, or a first commit with them was cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import JournalRolledBack

if TYPE_CHECKING:
    from appliance.trust.journal import Journal

_HINT = "find out who put it there; then: appliance trust enrol, signed by the site"


@dataclass(frozen=True, slots=True)
class Counter:
    """What a TPM says: the counter's value, None before it has one; whether a journal relies on it."""

    value: int | None
    kept: bool


def judge_counter(journal: Journal, counter: Counter | None) -> bool:
    """Whether the journal is the newest; returns whether its commit is still to be carried through.

    Args:
        journal: the newest state on the node's disk.
        counter: None on a node without a TPM, or with one that cannot be asked.

    Raises:
        JournalRolledBack: it is an old state, or the counter is not its own.
    """
    known = journal.tpm
    if known is None:
        if counter is not None and counter.kept:
            raise JournalRolledBack(
                "the node's journal is older than the counter of its TPM",
                found="a journal from before the counter",
                wanted=f"the one of counter {counter.value}",
                hint=_HINT,
            )
        return False
    if counter is None or counter.value is None:
        raise JournalRolledBack(
            "the counter that the node's journal belongs to is gone",
            found="no such counter in a TPM that can be asked",
            wanted=f"counter {known}",
            hint="if the TPM was cleared or replaced on purpose: appliance trust enrol, signed by the site",
        )
    if counter.value > known:
        raise JournalRolledBack(
            "the node's journal is older than the counter of its TPM",
            found=f"the state of counter {known}",
            wanted=f"that of counter {counter.value}",
            hint=_HINT,
        )
    if known > counter.value + 1:
        raise JournalRolledBack(
            "the node's journal does not belong to its TPM",
            found=f"the state of counter {known}",
            wanted=f"that of counter {counter.value}",
            hint=_HINT,
        )
    return known > counter.value or not counter.kept


def next_value(counter: Counter | None) -> int | None:
    """The value that the next state carries; of a TPM whose counter has none yet, None."""
    if counter is None or counter.value is None:
        return None
    return counter.value + 1 if counter.kept else counter.value
