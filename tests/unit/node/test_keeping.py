"""What a node keeps of an installation, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import RollbackRefused
from appliance.node.asking import Answer
from appliance.node.keeping import keep_afterwards, keep_now
from appliance.trust.installation import Decision
from appliance.trust.statements import Release
from tests.unit.node.machine import STATES, Machine, after, again, commit, connection, read, said, steps_of
from tests.unit.node.power import Power, PowerCut

if TYPE_CHECKING:
    from appliance.node.journal import Kept
    from appliance.trust.journal import Journal

INSTALLED = {"demo": Release(8, "c" * 64)}


def answer(kept: Kept, now: Journal, afterwards: Journal) -> Answer:
    return Answer("gpu-01", (), (), kept, Decision((), (), now, afterwards), kept.journal)


def journal_of(machine: Machine) -> Journal:
    kept = read(machine)
    assert kept.journal
    return kept.journal


@pytest.mark.parametrize("tpm", [False, True])
def test_what_was_learnt_is_kept_first_and_what_was_installed_afterwards(tpm: bool) -> None:
    node = after(2, tpm=tpm)
    kept = read(node)
    now = journal_of(node).following(floor=STATES[3].floor)
    afterwards = now.following(products=INSTALLED)
    agreed = answer(kept, now, afterwards)
    learnt = keep_now(connection(node), agreed)
    assert (said(read(node)), journal_of(node).products, learnt.last) == (STATES[3].floor, {}, 3)
    installed = keep_afterwards(connection(node), agreed, learnt)
    assert (said(read(node)), journal_of(node).products, installed.last) == (STATES[3].floor, INSTALLED, 4)
    assert journal_of(node).tpm == (44 if tpm else None), "41 is the first this TPM gives"


def test_where_nothing_is_new_nothing_is_written() -> None:
    node = after(2, tpm=True)
    kept = read(node)
    same = answer(kept, journal_of(node), journal_of(node))
    node.disk.power = Power(goes_at=1)
    assert keep_now(connection(node), same) is kept
    assert keep_afterwards(connection(node), same, kept) is kept


def test_where_nothing_is_new_a_commit_that_was_cut_off_is_still_completed() -> None:
    before = after(2, tpm=True)
    node = again(before, Power(steps_of(before, STATES[2])))
    with pytest.raises(PowerCut):
        commit(node, STATES[2])
    node = again(node, Power())
    kept = read(node)
    assert kept.unfinished
    same = answer(kept, journal_of(node), journal_of(node))
    assert not keep_now(connection(node), same).unfinished
    assert not read(node).unfinished


def test_a_journal_that_begins_anew_is_the_newer_one_beside_what_is_there() -> None:
    """After an enrolment; the counts of a node never go back, though the new journal says one."""
    node = after(3, tpm=False)
    begun = replace(STATES[4], identity="6" * 32)
    agreed = Answer("gpu-01", (), (), read(node), Decision((), (), begun, begun), begun)
    assert agreed.begins
    keep_now(connection(node), agreed)
    assert (journal_of(node).identity, journal_of(node).count) == ("6" * 32, 4)


def test_a_node_that_did_not_agree_keeps_nothing() -> None:
    node = after(1, tpm=False)
    agreed = answer(read(node), STATES[2], STATES[3])
    for refused in (replace(agreed, refusals=(RollbackRefused("no"),)), replace(agreed, decision=None)):
        with pytest.raises(ValueError, match="did not agree"):
            keep_now(connection(node), refused)
        with pytest.raises(ValueError, match="did not agree"):
            keep_afterwards(connection(node), refused, read(node))
    assert said(read(node)) == STATES[0].floor
