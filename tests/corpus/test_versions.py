"""Old things given for new ones, things of one bundle or node for another, and numbers that jump."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import (
    BundleRevoked,
    BundleStale,
    BundleUntrusted,
    NotAdmitted,
    RevocationInvalid,
    RollbackRefused,
    RootInvalid,
    SignatureInvalid,
    SignerUnknown,
    StatementInvalid,
    ThresholdNotMet,
)
from appliance.trust.canonical import canonical_bytes
from appliance.trust.chain import Link
from appliance.trust.founding import compose
from appliance.trust.journal import KnownRoot
from appliance.trust.node_rules import Attested, Statements
from appliance.trust.policy import Signatures
from appliance.trust.revocation import Revocation
from appliance.trust.root import MAX_VERSION, Policy, Root, root_bytes
from appliance.trust.statements import Release, parse_statement
from tests.corpus.groups import cases
from tests.corpus.parsers import json_parsers
from tests.independent.agreement import decide, follow, judge_link, parse_revocation, parse_root
from tests.unit.trust import test_node_rules as node
from tests.unit.trust.people import Person, signed

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.errors import ApplianceError

pytestmark = pytest.mark.group(10)

ALICE, BOB, CAROL, DORA, EMIL, MALLORY = map(Person, ("alice", "bob", "carol", "dora", "emil", "mallory"))


def root_of(*people: Person, **more: Any) -> Root:
    enrolments = [each for person in people for each in person.enrolled(second=True)]
    return compose(enrolments, **more)


def link(root: Root, *people: Person, role: str = "root", second: bool = False) -> Link:
    data = root_bytes(root)
    return Link(data, signed(data, role, *people, second=second))


ONE = root_of(ALICE, BOB, CAROL)
TWO = root_of(ALICE, BOB, DORA, version=2)
THREE = root_of(DORA, EMIL, BOB, version=3)
GOOD = {1: link(ONE, ALICE, BOB), 2: link(TWO, ALICE, BOB), 3: link(THREE, BOB, DORA)}
REQUIRE = root_of(ALICE, BOB, CAROL, policy=Policy("require"))
REQUIRE_TWO = root_of(ALICE, BOB, DORA, version=2, policy=Policy("require"))
WARN = root_of(ALICE, BOB, CAROL, policy=Policy("warn"))


def _version(root: Root, version: int) -> Root:
    return replace(root, version=version)


def _tampered(**changes: object) -> Link:
    """Root 2 with something else in it, and the signatures over what it said before."""
    values = {**json.loads(GOOD[2].data), **changes}
    return Link(canonical_bytes(values), GOOD[2].signatures)


Chain = dict[int, Link]
CHAINS: dict[str, tuple[Root, Chain, type[BundleUntrusted]]] = {
    "nobody signed": (ONE, {2: link(TWO)}, ThresholdNotMet),
    "one of the old holders": (ONE, {2: link(TWO, ALICE)}, ThresholdNotMet),
    "signed by old holders only": (ONE, {2: link(TWO, ALICE, CAROL)}, ThresholdNotMet),
    "signed by new holders only": (ONE, {2: link(TWO, ALICE, DORA)}, ThresholdNotMet),
    "one old and one new": (ONE, {2: link(TWO, CAROL, DORA)}, ThresholdNotMet),
    "new holders who were all strangers": (
        ONE,
        {2: link(root_of(DORA, EMIL, version=2), DORA, EMIL)},
        ThresholdNotMet,
    ),
    "a stranger beside enough": (ONE, {2: link(TWO, ALICE, BOB, MALLORY)}, SignerUnknown),
    "signed as release": (ONE, {2: link(TWO, ALICE, BOB, role="release")}, SignatureInvalid),
    "signatures of the next": (ONE, {2: Link(GOOD[2].data, GOOD[3].signatures)}, SignatureInvalid),
    "a root left out": (ONE, {3: GOOD[3]}, RootInvalid),
    "a root left out, and signed by both": (
        ONE,
        {3: link(root_of(ALICE, BOB, CAROL, version=3), ALICE, BOB)},
        RootInvalid,
    ),
    "a root under the next one's name": (ONE, {3: GOOD[2]}, RootInvalid),
    "the first root once more as the second": (ONE, {2: GOOD[1]}, RootInvalid),
    "the second root twice": (ONE, {2: GOOD[2], 3: GOOD[2]}, RootInvalid),
    "a jump to the highest version": (
        ONE,
        {MAX_VERSION: link(_version(TWO, MAX_VERSION), ALICE, BOB)},
        RootInvalid,
    ),
    "another root of the trusted version": (
        ONE,
        {1: link(root_of(ALICE, BOB, DORA), ALICE, BOB), 2: GOOD[2]},
        RootInvalid,
    ),
    "bytes that are no root": (ONE, {2: Link(b"{}", GOOD[2].signatures)}, RootInvalid),
    "changed after signing: version": (ONE, {2: _tampered(version=3)}, RootInvalid),
    "changed after signing: solo": (ONE, {2: _tampered(solo=True)}, RootInvalid),
    "changed after signing: policy": (ONE, {2: _tampered(policy={"pq": "warn"})}, SignatureInvalid),
    "policy from warn to off": (WARN, {2: link(TWO, ALICE, BOB)}, RootInvalid),
    "policy from require to off": (REQUIRE, {2: link(TWO, ALICE, BOB, second=True)}, RootInvalid),
    "policy from require to warn": (
        REQUIRE,
        {2: link(root_of(ALICE, BOB, DORA, version=2, policy=Policy("warn")), ALICE, BOB, second=True)},
        RootInvalid,
    ),
    "require, and ML-DSA stripped": (REQUIRE, {2: link(REQUIRE_TWO, ALICE, BOB)}, ThresholdNotMet),
    "require, and stripped of one": (
        REQUIRE,
        {
            2: Link(
                root_bytes(REQUIRE_TWO),
                Signatures(
                    signed(root_bytes(REQUIRE_TWO), "root", ALICE, BOB).ssh,
                    signed(root_bytes(REQUIRE_TWO), "root", ALICE, second=True).post_quantum,
                ),
            )
        },
        ThresholdNotMet,
    ),
    "who left signs the third": (ONE, {**GOOD, 3: link(THREE, CAROL, BOB, DORA)}, SignerUnknown),
    "the third by holders of the first": (ONE, {**GOOD, 3: link(THREE, ALICE, CAROL)}, BundleUntrusted),
    "a good link after a bad one": (ONE, {2: link(TWO, ALICE), 3: GOOD[3]}, ThresholdNotMet),
    "a bad link after a good one": (ONE, {2: GOOD[2], 3: link(THREE, BOB)}, ThresholdNotMet),
}


@pytest.mark.control
def test_a_good_chain() -> None:
    assert follow(root_bytes(ONE), GOOD).root == THREE
    assert judge_link(REQUIRE, link(REQUIRE_TWO, ALICE, BOB, second=True)).refusals == ()


@pytest.mark.parametrize(("trusted", "carried", "expected"), cases(10, CHAINS))
def test_a_chain_that_does_not_hold(trusted: Root, carried: Chain, expected: type[BundleUntrusted]) -> None:
    with pytest.raises(expected):
        follow(root_bytes(trusted), carried)


FIRST: dict[str, tuple[Link, type[BundleUntrusted]]] = {
    "by nobody": (link(ONE), ThresholdNotMet),
    "by one of two": (link(ONE, ALICE), ThresholdNotMet),
    "by a stranger too": (link(ONE, ALICE, BOB, MALLORY), SignerUnknown),
    "that is a second": (link(TWO, ALICE, BOB), RootInvalid),
}


@pytest.mark.parametrize(("wrong", "expected"), cases(10, FIRST))
def test_a_first_root(wrong: Link, expected: type[BundleUntrusted]) -> None:
    assert isinstance(judge_link(None, wrong).refusals[0], expected)


NUMBERS = [0, -1, 2**31, 2**53 - 1, 2**53, 2**63, 2**64 + 1, 10**30]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_root_s_version_that_is_none(number: int) -> None:
    data = root_bytes(ONE).replace(b'"version":1', b'"version":%d' % number)
    with pytest.raises(RootInvalid):
        parse_root(data)


@pytest.mark.parametrize("number", [each for each in NUMBERS if each not in {2**31, 2**53 - 1}])
@pytest.mark.parametrize("name", ["revocation", "journal", "admission", "permit", "manifest"])
def test_a_number_that_jumps_too_far(name: str, number: int) -> None:
    """Up to 2^53 - 1 is what every JSON reader holds exactly; more, and two of them would differ."""
    parser = json_parsers()[name]
    key = {"revocation": "serial", "journal": "count"}.get(name, "sequence")
    before, _, after = parser.good.partition(b'"%s":' % key.encode())
    digits = len(after) - len(after.lstrip(b"0123456789"))
    if (name, number) in {("admission", 0), ("permit", 0), ("manifest", 0)}:
        number = -2
    with pytest.raises(parser.errors):
        parser.parse(before + b'"%s":%d' % (key.encode(), number) + after[digits:])


@pytest.mark.parametrize("number", [b"0", b"2", b"1.0", b'"1"', b"true", b"null", b"[1]"])
@pytest.mark.parametrize("name", [name for name in json_parsers() if name != "canonical"])
def test_another_format(name: str, number: bytes) -> None:
    """An older format might allow more, a later one mean something else."""
    parser = json_parsers()[name]
    assert b'"format":1' in parser.good or name == "envelope"
    data = parser.good.replace(b'"format":1', b'"format":%s' % number)
    if name == "envelope":
        data = b'{"format":' + number + b"," + parser.good[1:]
    with pytest.raises(parser.errors):
        parser.parse(data)


REVOCATIONS: dict[str, tuple[bytes, type[BundleUntrusted]]] = {
    "nothing revoked": (
        b'{"bundles":[],"format":1,"keys":[],"serial":1,"type":"revocation"}',
        RevocationInvalid,
    ),
    "a key twice": (
        b'{"bundles":[],"format":1,"keys":["%s","%s"],"serial":1,"type":"revocation"}'
        % (b"a" * 64, b"a" * 64),
        RevocationInvalid,
    ),
    "keys out of order": (
        b'{"bundles":[],"format":1,"keys":["%s","%s"],"serial":1,"type":"revocation"}'
        % (b"b" * 64, b"a" * 64),
        RevocationInvalid,
    ),
    "in capitals": (
        b'{"bundles":["%s"],"format":1,"keys":[],"serial":1,"type":"revocation"}' % (b"A" * 64),
        RevocationInvalid,
    ),
    "serial 0": (
        b'{"bundles":["%s"],"format":1,"keys":[],"serial":0,"type":"revocation"}' % (b"a" * 64),
        RevocationInvalid,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), cases(10, REVOCATIONS))
def test_a_revocation_that_is_none(data: bytes, expected: type[BundleUntrusted]) -> None:
    with pytest.raises(expected):
        parse_revocation(data)


FOUR = root_of(ALICE, BOB, CAROL)


@pytest.mark.parametrize("role", ["revoke", "site", "time", "patch", "admin", "../release", ""])
def test_a_role_that_the_root_does_not_have(role: str) -> None:
    """Nobody can revoke, admit or attest by a root that gives nobody the role."""
    given = signed(b"x", "release", ALICE, BOB)
    with pytest.raises(SignerUnknown):
        decide(b"x", given.ssh, FOUR, role).require()


@pytest.mark.parametrize("said", ["root", "release", "patch", "revoke", "site", "time", "file", ""])
@pytest.mark.parametrize("asked", ["root", "release"])
def test_a_signature_made_in_one_role_for_another(said: str, asked: str) -> None:
    other = "release@appliance2" if said == asked else said
    given = signed(b"x", other, ALICE, BOB)
    with pytest.raises(SignatureInvalid):
        decide(b"x", given.ssh, FOUR, asked).require()


def _given(**changes: object) -> Statements:
    return replace(node.GIVEN, **changes)  # type: ignore[arg-type] # by name


def _back(permit: Any) -> dict[str, Any]:
    return {"bundle": node.BACK, "given": replace(node.BACK_GIVEN, permits=(permit,))}


def _stale(waiver: Any) -> dict[str, Any]:
    return {"bundle": node.STALE, "given": _given(waivers=(waiver,))}


def _time(holders: int = 1, **changes: str) -> dict[str, Any]:
    return {"given": _given(times=(Attested(replace(node.LATER, **changes), holders),))}


def _admitted(**changes: object) -> dict[str, Any]:
    return {"given": Statements(admissions=(replace(node.ADMISSION, **changes),))}  # type: ignore[arg-type]


OTHER_NODE, OTHER_JOURNAL, USED = "gpu-02", "6" * 32, "0" * 64
A, C, D = node.A, node.C, node.D
ASKED: dict[str, tuple[dict[str, Any], type[ApplianceError]]] = {
    "an older root": ({"authority": replace(node.AUTHORITY, root=KnownRoot(1, A))}, RollbackRefused),
    "another root of the version": (
        {"authority": replace(node.AUTHORITY, root=KnownRoot(2, D))},
        RollbackRefused,
    ),
    "a revocation that forgets a key": (
        {"authority": replace(node.AUTHORITY, revocation=Revocation(5, (A,)))},
        RevocationInvalid,
    ),
    "a revocation that forgets all keys": (
        {"authority": replace(node.AUTHORITY, revocation=Revocation(2**53 - 1, (), (A,)))},
        RevocationInvalid,
    ),
    "another revocation of the serial": (
        {"authority": replace(node.AUTHORITY, revocation=Revocation(4, (C,), (A,)))},
        RevocationInvalid,
    ),
    "a revoked bundle": (
        {"authority": replace(node.AUTHORITY, revocation=Revocation(5, (C,), (D,)))},
        BundleRevoked,
    ),
    "an older bundle": ({"bundle": node.BACK, "given": node.BACK_GIVEN}, RollbackRefused),
    "a bundle of sequence 0": ({"bundle": replace(node.BUNDLE, sequence=0)}, RollbackRefused),
    "another bundle of the sequence": ({"bundle": replace(node.BUNDLE, sequence=7)}, RollbackRefused),
    "a permit for another node": (_back(replace(node.PERMIT, node=OTHER_NODE)), RollbackRefused),
    "a permit for an earlier journal": (
        _back(replace(node.PERMIT, journal=OTHER_JOURNAL)),
        RollbackRefused,
    ),
    "a permit for another product": (_back(replace(node.PERMIT, product="other")), RollbackRefused),
    "a permit from another step": (
        _back(replace(node.PERMIT, before=Release(9, node.B))),
        RollbackRefused,
    ),
    "a permit to another step": (_back(replace(node.PERMIT, after=Release(5, A))), RollbackRefused),
    "a permit to another bundle": (_back(replace(node.PERMIT, after=Release(6, C))), RollbackRefused),
    "a permit once more": (_back(replace(node.PERMIT, nonce=USED)), RollbackRefused),
    "a permit for another bundle of the number": (
        {
            "bundle": replace(node.BUNDLE, sequence=7),
            "given": _given(permits=(replace(node.PERMIT, after=Release(6, D)),)),
        },
        RollbackRefused,
    ),
    "no admission": ({"given": Statements()}, NotAdmitted),
    "another node's admission": (_admitted(nodes=(OTHER_NODE,)), NotAdmitted),
    "another bundle's admission": (_admitted(bundle=A), NotAdmitted),
    "a longer name's admission": (_admitted(nodes=("gpu-011",)), NotAdmitted),
    "a name in capitals": (_admitted(nodes=("GPU-01",)), NotAdmitted),
    "every node, and one more": (_admitted(nodes=("*", "gpu-02")), NotAdmitted),
    "past its date": ({"bundle": node.STALE}, BundleStale),
    "a waiver for another node": (_stale(replace(node.WAIVER, node=OTHER_NODE)), BundleStale),
    "a waiver for an earlier journal": (
        _stale(replace(node.WAIVER, journal=OTHER_JOURNAL)),
        BundleStale,
    ),
    "a waiver for another bundle": (_stale(replace(node.WAIVER, bundle=A)), BundleStale),
    "a waiver once more": (_stale(replace(node.WAIVER, nonce=USED)), BundleStale),
    "a time for another node": (_time(node=OTHER_NODE), StatementInvalid),
    "a time for an earlier journal": (_time(journal=OTHER_JOURNAL), StatementInvalid),
    "a time once more": (_time(nonce=USED), StatementInvalid),
    "a time once more, by two": (_time(2, nonce=USED), StatementInvalid),
    "a leap by one holder": (_time(time="2029-01-01T00:00:00Z"), StatementInvalid),
    "a leap to the end by one holder": (_time(time="9999-12-31T23:59:59Z"), StatementInvalid),
}


@pytest.mark.parametrize(("change", "expected"), cases(10, ASKED))
def test_a_node_refuses(change: dict[str, Any], expected: type[ApplianceError]) -> None:
    decision = node.decide(**change)
    with pytest.raises(expected):
        decision.require()


def _keep(decision: Any) -> Any:
    """The node's state after an installation that went well, back at the product it had."""
    return replace(decision.afterwards, products=node.JOURNAL.products)


REPLAYED: dict[str, Callable[[], dict[str, Any]]] = {
    "a permit": lambda: _back(node.PERMIT),
    "a waiver": lambda: _stale(node.WAIVER),
    "a time": _time,
}


@pytest.mark.parametrize("name", REPLAYED)
def test_what_was_good_once(name: str) -> None:
    """The first time it helps; the second time, its nonce is known."""
    change = REPLAYED[name]()
    first = node.decide(**change)
    assert first.refusals == ()
    again = node.decide(journal=_keep(first), **change)
    with pytest.raises((RollbackRefused, BundleStale, StatementInvalid)):
        again.require()


def test_a_permit_forward() -> None:
    """It would let somebody go ahead without the others."""
    good = json_parsers()["permit"].good
    values = json.loads(good)
    values["from"], values["to"] = values["to"], values["from"]
    with pytest.raises(StatementInvalid):
        parse_statement(canonical_bytes(values))
