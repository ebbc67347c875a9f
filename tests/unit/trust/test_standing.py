"""How far a document is: who signed, who is missing, by which root."""

from __future__ import annotations

import pytest

from appliance.errors import (
    BundleUntrusted,
    DocumentInvalid,
    KeyRevoked,
    SignatureInvalid,
    SignerUnknown,
    ThresholdNotMet,
    Usage,
)
from appliance.trust.documents import SignedDocument
from appliance.trust.founding import compose, next_root
from appliance.trust.kinds import document_bytes, document_name, document_type, parse_document, role_of
from appliance.trust.policy import Signatures
from appliance.trust.revocation import Revocation
from appliance.trust.root import Policy, root_bytes
from appliance.trust.standing import judge_document, roots_for
from appliance.trust.statements import Admission, DrivePermit, Enrolment, Permit, Release, Time, Waiver
from tests.unit.trust.people import Person, signed

ALICE, BOB, CAROL, DORA, MALLORY = map(Person, ("alice", "bob", "carol", "dora", "mallory"))
ROLES = ("root", "release", "revoke", "site", "time")
ROOT = compose([each for one in (ALICE, BOB, CAROL) for each in one.enrolled(*ROLES, second=True)])
NEXT = next_root(
    ROOT, [each for one in (ALICE, BOB, DORA) for each in one.enrolled(*ROLES, second=True)], {}
)
SMALL = compose([*ALICE.enrolled(), *BOB.enrolled()])
NONCE, JOURNAL = "ab" * 32, "cd" * 16
REVOCATION = Revocation(3, (MALLORY.key.keyid,))
DOCUMENTS = {
    "root.1.json": (ROOT, "root", "root"),
    "root.2.json": (NEXT, "root", "root"),
    "revoked.3.json": (REVOCATION, "revocation", "revoke"),
    f"admission.{'1' * 16}.json": (Admission("1" * 64, "demo", "1.0", 7, ("gpu-01",)), "admission", "site"),
    f"permit.{'ab' * 8}.json": (
        Permit("gpu-01", JOURNAL, NONCE, "demo", Release(8, "2" * 64), Release(7, "1" * 64), "x"),
        "permit",
        "release",
    ),
    f"waiver.{'ab' * 8}.json": (Waiver("gpu-01", JOURNAL, NONCE, "1" * 64, "x"), "waiver", "site"),
    f"time.{'ab' * 8}.json": (Time("gpu-01", JOURNAL, NONCE, "2026-01-31T12:00:00Z"), "time", "time"),
    f"drive-permit.{'ab' * 8}.json": (
        DrivePermit("gpu-01", "enroll", {"S1": "nothing"}, "2026-01-31T12:00:00Z", NONCE, "x"),
        "drive-permit",
        "site",
    ),
    f"enrolment.{'ab' * 8}.json": (Enrolment("gpu-01", NONCE, "x", {"demo": 7}), "enrolment", "site"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_document_is_known_by_what_it_says(name: str) -> None:
    document, kind, role = DOCUMENTS[name]
    assert parse_document(document_bytes(document)) == document
    assert (document_name(document), document_type(document)) == (name, kind)
    assert role_of(document, ROOT) == role


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"type":"letter"}', b'{"type":1}', b"\xff", b'{"type": "root"}']
)
def test_what_is_no_document(data: bytes) -> None:
    with pytest.raises(DocumentInvalid):
        parse_document(data)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_enough_people_signed(name: str) -> None:
    document, _, role = DOCUMENTS[name]
    data = document_bytes(document)
    root = None if document is ROOT else ROOT
    standing = judge_document(SignedDocument(data, signed(data, role, ALICE, BOB)), root)
    assert standing.accepted
    standing.require(name)
    nobody = judge_document(SignedDocument(data, Signatures()), root)
    assert not nobody.accepted
    with pytest.raises(ThresholdNotMet, match=name):
        nobody.require(name)


def test_who_is_missing_is_said_for_both_roots() -> None:
    data = root_bytes(NEXT)
    standing = judge_document(SignedDocument(data, signed(data, "root", ALICE)), ROOT)
    assert [(count.version, count.signed, count.missing) for count in standing.counts] == [
        (1, ("alice",), ("bob", "carol")),
        (2, ("alice",), ("bob", "dora")),
    ]
    with pytest.raises(ThresholdNotMet) as caught:
        standing.require("root.2.json")
    assert caught.value.hint == (
        "have 1 of these sign for root 1: bob, carol; have 1 of these sign for root 2: bob, dora"
    )


def test_whose_ml_dsa_signature_lacks_is_said() -> None:
    strict = next_root(
        ROOT,
        [each for one in (ALICE, BOB) for each in one.enrolled(*ROLES, second=True)],
        {},
        policy=Policy("require"),
    )
    data = document_bytes(REVOCATION)
    standing = judge_document(SignedDocument(data, signed(data, "revoke", ALICE, BOB)), strict)
    assert standing.counts[0].half == ("alice", "bob")
    assert not standing.accepted
    with pytest.raises(ThresholdNotMet) as caught:
        standing.require("it")
    assert "without the ML-DSA signature: alice, bob" in (caught.value.found or "")
    both = signed(data, "revoke", ALICE, BOB, second=True)
    assert judge_document(SignedDocument(data, both), strict).accepted


WRONG: dict[str, tuple[Signatures, type[BundleUntrusted]]] = {
    "a stranger too": (signed(document_bytes(REVOCATION), "revoke", ALICE, BOB, MALLORY), SignerUnknown),
    "for another role": (signed(document_bytes(REVOCATION), "release", ALICE, BOB), SignatureInvalid),
    "over another document": (signed(b"x", "revoke", ALICE, BOB), SignatureInvalid),
}


@pytest.mark.parametrize(("given", "wanted"), WRONG.values(), ids=WRONG)
def test_one_bad_signature_refuses(given: Signatures, wanted: type[BundleUntrusted]) -> None:
    standing = judge_document(SignedDocument(document_bytes(REVOCATION), given), ROOT)
    with pytest.raises(wanted) as caught:
        standing.require("revoked.3.json")
    assert caught.value.message.startswith("revoked.3.json: signature of ")


def test_a_revoked_key_signs_no_statement() -> None:
    data = document_bytes(DOCUMENTS[f"permit.{'ab' * 8}.json"][0])
    given = SignedDocument(data, signed(data, "release", ALICE, BOB))
    with pytest.raises(KeyRevoked):
        judge_document(given, ROOT, revoked={BOB.key.keyid}).require("it")


def test_the_root_that_counts_must_be_given() -> None:
    for document, root in ((REVOCATION, None), (NEXT, None), (NEXT, NEXT)):
        data = document_bytes(document)
        with pytest.raises(Usage):
            judge_document(SignedDocument(data, Signatures()), root)
        with pytest.raises(Usage):
            roots_for(document, root)


def test_a_role_that_nobody_has() -> None:
    data = document_bytes(REVOCATION)
    with pytest.raises(SignerUnknown):
        judge_document(SignedDocument(data, Signatures()), SMALL).require("it")
    with pytest.raises(SignerUnknown):
        roots_for(REVOCATION, SMALL)


def test_waivers_fall_to_release_where_there_is_no_site() -> None:
    waiver = DOCUMENTS[f"waiver.{'ab' * 8}.json"][0]
    data = document_bytes(waiver)
    assert role_of(waiver, SMALL) == "release"
    assert judge_document(SignedDocument(data, signed(data, "release", ALICE, BOB)), SMALL).accepted
