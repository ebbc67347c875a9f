"""What a node remembers, lost or spoilt; and times that are none, or beyond every calendar."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import (
    ApplianceError,
    BundleMalformed,
    BundleStale,
    JournalLost,
    RollbackRefused,
    StatementInvalid,
)
from appliance.trust.canonical import canonical_bytes
from appliance.trust.installation import begin_journal
from appliance.trust.journal import EPOCH, MAX_NONCES, parse_journal
from appliance.trust.node_rules import Attested, Statements
from appliance.trust.statements import LATEST, Enrolment
from tests.corpus.groups import cases
from tests.corpus.parsers import json_parsers
from tests.unit.trust import test_node_rules as node

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.group(11)

Values = dict[str, Any]
NONCES = [f"{number:064x}" for number in range(MAX_NONCES + 1)]
JOURNALS: dict[str, Callable[[Values], object]] = {
    "no identity": lambda journal: journal.pop("journal"),
    "a short identity": lambda journal: journal.update(journal="5" * 31),
    "count 0": lambda journal: journal.update(count=0),
    "count below 0": lambda journal: journal.update(count=-1),
    "root 0": lambda journal: journal["root"].update(version=0),
    "no root": lambda journal: journal.pop("root"),
    "a root without its digest": lambda journal: journal["root"].pop("sha256"),
    "a product's name in capitals": lambda journal: journal["products"].update(
        Demo=journal["products"]["demo"]
    ),
    "a product's name a path": lambda journal: journal["products"].update(
        {"../demo": journal["products"]["demo"]}
    ),
    "a sequence below 0": lambda journal: journal["products"]["demo"].update(sequence=-1),
    "a digest cut": lambda journal: journal["products"]["demo"].update(digest="a" * 63),
    "nonces out of order": lambda journal: journal.update(nonces=[NONCES[1], NONCES[0]]),
    "a nonce twice": lambda journal: journal.update(nonces=[NONCES[1], NONCES[1]]),
    "a nonce cut": lambda journal: journal.update(nonces=["1" * 63]),
    "a nonce that is a number": lambda journal: journal.update(nonces=[1]),
    "too many nonces": lambda journal: journal.update(nonces=NONCES),
    "a floor that is no time": lambda journal: journal.update(floor="yesterday"),
    "a floor of the year 9999 alone": lambda journal: journal.update(floor="9999"),
    "a revocation that revokes nothing": lambda journal: journal["revocation"].update(keys=[]),
    "a revocation of serial 0": lambda journal: journal["revocation"].update(serial=0),
    "a TPM's counter below 0": lambda journal: journal.update(tpm=-1),
    "a TPM's counter as text": lambda journal: journal.update(tpm="1"),
    "a key more": lambda journal: journal.update(trusted=True),
}


@pytest.mark.parametrize("spoil", cases(11, JOURNALS))
def test_a_journal_that_is_none(spoil: Callable[[Values], object]) -> None:
    values = json.loads(json_parsers()["journal"].good)
    spoil(values)
    with pytest.raises(JournalLost):
        parse_journal(canonical_bytes(values))


ENROLMENTS: dict[str, Statements] = {
    "nothing at hand": Statements(),
    "another node's enrolment": Statements(enrolments=(Enrolment("gpu-02", node.NONCE, "x", {}),)),
    "a permit": Statements(permits=(node.PERMIT,)),
    "a waiver": Statements(waivers=(node.WAIVER,)),
    "an admission": Statements(admissions=(node.ADMISSION,)),
    "a time": Statements(times=(Attested(node.LATER, 2),)),
}


@pytest.mark.parametrize("given", cases(11, ENROLMENTS))
def test_a_lost_journal_and_no_word_of_it(given: Statements) -> None:
    """Who takes the journal away must not make the node take an old bundle."""
    with pytest.raises(JournalLost):
        begin_journal(node.IDENTITY, node.NODE, node.AUTHORITY, given, was_installed=True)


def test_a_new_journal_does_not_make_an_old_bundle_new() -> None:
    given = Statements(enrolments=(Enrolment(node.NODE, node.NONCE, "new disk", {"demo": 8}),))
    journal = begin_journal(node.IDENTITY, node.NODE, node.AUTHORITY, given, was_installed=True)
    with pytest.raises(RollbackRefused):
        node.decide(journal=journal, bundle=replace(node.BUNDLE, sequence=7)).require()


#: Misspelled, or of no calendar.
TIMES = [
    "", "now", "1970-01-01", "1970-01-01T00:00:00", "1970-01-01 00:00:00Z", "1970-01-01t00:00:00z",
    "1970-01-01T00:00:00+00:00", "1970-01-01T00:00:00.0Z", "1970-01-01T00:00Z", "1970-1-1T0:0:0Z",
    "2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z",
    "2026-01-00T00:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31T23:60:00Z", "2016-12-31T23:59:60Z",
    "0000-01-01T00:00:00Z", "-001-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "+2026-01-01T00:00:00Z",
    "\u0662\u0660\u0662\u0666-01-31T12:00:00Z", "2026-01-31T12:00:00Z\n", " 2026-01-31T12:00:00Z",
    "1769860800", "@1769860800", "9999", "2026-W05-6T12:00:00Z", "2026-031T12:00:00Z",
]  # fmt: skip


@pytest.mark.parametrize("text", TIMES)
@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("time", "time", StatementInvalid),
        ("manifest", "created", BundleMalformed),
        ("journal", "floor", JournalLost),
    ],
)
def test_a_time_that_is_none(name: str, key: str, expected: type[ApplianceError], text: str) -> None:
    values = json.loads(json_parsers()[name].good)
    values[key] = text
    with pytest.raises(expected):
        json_parsers()[name].parse(canonical_bytes(values))


#: A clock that was never set, one that ran over, and the last day there is.
CLOCKS = [EPOCH, "1969-12-31T23:59:59Z", "2038-01-19T03:14:08Z", "2106-02-07T06:28:16Z", LATEST]


@pytest.mark.parametrize("issued", CLOCKS)
def test_a_bundle_s_date_neither_lowers_the_floor_nor_lifts_it_far(issued: str) -> None:
    """Stale stays stale whatever a builder's clock said, and one wrong date does not bar what follows."""
    stale = replace(node.STALE, issued=issued, expires="2026-01-31T11:59:59Z")
    decision = node.decide(bundle=stale)
    with pytest.raises(BundleStale):
        decision.require()
    assert node.JOURNAL.floor <= decision.now.floor <= "2027-03-08"


@pytest.mark.parametrize("time", ["2027-03-07T12:00:01Z", "2038-01-19T03:14:08Z", LATEST])
def test_one_holder_s_word_for_a_far_time(time: str) -> None:
    far = Attested(replace(node.LATER, time=time), 1)
    with pytest.raises(StatementInvalid):
        node.decide(given=replace(node.GIVEN, times=(far,))).require()
