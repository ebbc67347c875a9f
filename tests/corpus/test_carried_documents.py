"""Bundles that carry roots and a revocation, or are judged by one brought with them, as whole folders.

What follows what, and who counts, is tried by itself in test_versions and test_thresholds; here it lies in
a bundle that is right in everything else, and both verifiers see all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.paths import post_quantum_path, signature_path
from appliance.errors import (
    BundleMalformed,
    BundleRevoked,
    BundleUntrusted,
    FileUnexpected,
    KeyRevoked,
    RevocationInvalid,
    RootInvalid,
    SignatureInvalid,
    SignerUnknown,
    ThresholdNotMet,
)
from appliance.progress import Silent
from appliance.trust.founding import Enrolment, compose
from appliance.trust.root import Root, root_bytes
from tests.corpus.groups import cases
from tests.corpus.test_paths import listed
from tests.independent.agreement import parse_listing, verify_bundle
from tests.unit.bundle.test_chains import (
    ALICE,
    BOB,
    CAROL,
    DORA,
    ONE,
    THREE,
    TWO,
    Case,
    chain_files,
    files_of,
    revocation,
    root_of,
)
from tests.unit.trust.people import Person, signed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import BundleMaker

pytestmark = pytest.mark.group(10)

MALLORY = Person("mallory")
STRICT = root_of(1, ALICE, BOB, pq="require")
WARNS = root_of(1, ALICE, BOB, pq="warn")
TAKEN = revocation(4, ALICE, BOB, keys=(CAROL.key.keyid,))
CARRIED = files_of("revoked.4.json", TAKEN.data, TAKEN.signatures)


def judge(bundle: Path, root: Root, *revocations: Any) -> Any:
    return verify_bundle(bundle, root_bytes(root), progress=Silent(), revocations=revocations)


@pytest.fixture
def case(maker: BundleMaker) -> Case:
    return Case(maker)


def _without(files: dict[str, bytes], part: str) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if part not in name}


def _second_root(root: Root, *people: Person, pq: bool = False) -> dict[str, bytes]:
    data = root_bytes(root)
    return files_of(f"root.{root.version}.json", data, signed(data, "root", *people, second=pq))


def _exchanged(files: dict[str, bytes], one: str, other: str) -> dict[str, bytes]:
    """The bytes of the files whose names begin so, each in the other's place."""
    names = [next(name for name in files if name.startswith(each)) for each in (one, other)]
    return {**files, names[0]: files[names[1]], names[1]: files[names[0]]}


def _named_for(files: dict[str, bytes], before: str, after: str) -> dict[str, bytes]:
    return {name.replace(before, after): data for name, data in files.items()}


#: Trusted root, the bundle's, what it carries, who signed it.
Made = tuple[Root, Root, dict[str, bytes], tuple[Person, ...]]
ALL = chain_files(ONE, TWO, THREE)
WRONG: dict[str, tuple[Made, type[BundleUntrusted]]] = {
    "by who left": ((ONE, THREE, ALL, (ALICE, BOB)), SignerUnknown),
    "by one who came and one who left": ((ONE, THREE, ALL, (ALICE, DORA)), SignerUnknown),
    "by too few of the last root": ((ONE, THREE, ALL, (DORA,)), ThresholdNotMet),
    "two roots between are missing": ((ONE, THREE, chain_files(THREE), (BOB, DORA)), RootInvalid),
    "signatures of a root between": (
        (ONE, THREE, _without(ALL, "root.2.alice"), (BOB, DORA)),
        ThresholdNotMet,
    ),
    "signatures of two roots exchanged": (
        (ONE, THREE, _exchanged(ALL, "root.2.bob", "root.3.bob"), (BOB, DORA)),
        SignatureInvalid,
    ),
    "a signature under another's name": (
        (ONE, TWO, _named_for(chain_files(ONE, TWO), "root.2.alice", "root.2.carol"), (ALICE, BOB)),
        BundleUntrusted,
    ),
    "a signature under another key's digits": (
        (
            ONE,
            TWO,
            _named_for(chain_files(ONE, TWO), f"root.2.bob.{BOB.key.keyid[:8]}", "root.2.bob.00000000"),
            (ALICE, BOB),
        ),
        BundleUntrusted,
    ),
    "an attacker's root": (
        (
            ONE,
            root_of(2, MALLORY, DORA),
            chain_files(ONE) | _second_root(root_of(2, MALLORY, DORA), MALLORY, DORA),
            (MALLORY, DORA),
        ),
        BundleUntrusted,
    ),
    "signed as a release": (
        (
            ONE,
            TWO,
            chain_files(ONE)
            | files_of("root.2.json", root_bytes(TWO), signed(root_bytes(TWO), "release", ALICE, BOB)),
            (ALICE, BOB),
        ),
        SignatureInvalid,
    ),
    "a policy taken back": (
        (
            STRICT,
            root_of(2, ALICE, BOB, pq="warn"),
            _second_root(root_of(2, ALICE, BOB, pq="warn"), ALICE, BOB, pq=True),
            (ALICE, BOB),
        ),
        RootInvalid,
    ),
    "a root without the ML-DSA signatures that are required": (
        (
            STRICT,
            root_of(2, ALICE, BOB, pq="require"),
            _second_root(root_of(2, ALICE, BOB, pq="require"), ALICE, BOB),
            (ALICE, BOB),
        ),
        ThresholdNotMet,
    ),
    "a revocation by the key it revokes, and too few": (
        (
            TWO,
            TWO,
            files_of("revoked.4.json", TAKEN.data, signed(TAKEN.data, "revoke", ALICE)),
            (ALICE, BOB),
        ),
        ThresholdNotMet,
    ),
    "a revocation signed for a release": (
        (
            TWO,
            TWO,
            files_of("revoked.4.json", TAKEN.data, signed(TAKEN.data, "release", ALICE, BOB)),
            (ALICE, BOB),
        ),
        SignatureInvalid,
    ),
    "a revocation under another serial": (
        (TWO, TWO, _named_for(CARRIED, "revoked.4", "revoked.5"), (ALICE, BOB)),
        RevocationInvalid,
    ),
    "a revoked key of the revocation carried": ((TWO, TWO, CARRIED, (ALICE, CAROL)), KeyRevoked),
    "a revoked key beside enough": ((TWO, TWO, CARRIED, (ALICE, BOB, CAROL)), KeyRevoked),
}


@pytest.mark.parametrize(("made", "expected"), cases(10, WRONG))
def test_a_bundle_that_carries_what_does_not_count(
    made: Made, expected: type[BundleUntrusted], case: Case
) -> None:
    trusted, root, files, people = made
    bundle = case.bundle(root, files, *people)
    with pytest.raises(expected):
        judge(bundle, trusted)


@pytest.mark.group(4)
@pytest.mark.parametrize(
    "name", ["alice.sig", "payload/alice.sig", "trust/alice.sig", "SHA256SUMS.alice.sig"]
)
def test_a_file_called_like_the_end_of_a_signature(case: Case, name: str) -> None:
    bundle = case.bundle(ONE, chain_files(ONE), ALICE, BOB)
    (bundle / name).write_bytes(b"")
    with pytest.raises(FileUnexpected):
        judge(bundle, ONE)


LISTS = {
    "a root left out": ("trust/root.1.json", "trust/root.3.json"),
    "two revocations": ("trust/revoked.4.json", "trust/revoked.5.json"),
    "a signature of no root": ("trust/root.1.json", "trust/root.2.alice.3f1c9a2b.sig"),
    "a signature of no revocation": ("trust/revoked.4.bob.3f1c9a2b.mldsa87", "trust/root.1.json"),
    "a signature of another revocation": ("trust/revoked.4.bob.3f1c9a2b.sig", "trust/revoked.5.json"),
    "a signature without digits": ("trust/root.1.alice.sig", "trust/root.1.json"),
    "a signature of the list": ("trust/SHA256SUMS.alice.mldsa87", "trust/root.1.json"),
    "root 0": ("trust/root.0.json", "trust/root.1.json"),
    "a root's number with zeros": ("trust/root.01.json", "trust/root.1.json"),
    "serial 0": ("trust/revoked.0.json", "trust/root.1.json"),
    "a statement to a node": ("trust/admission.3f1c9a2b3f1c9a2b.json", "trust/root.1.json"),
}


@pytest.mark.parametrize("name", LISTS)
def test_documents_that_no_bundle_lists(name: str) -> None:
    parse_listing(listed("payload/a/b", "trust/revoked.4.json", "trust/root.1.json", "trust/root.2.json"))
    with pytest.raises(BundleMalformed):
        parse_listing(listed("payload/a/b", *LISTS[name]))


@pytest.mark.parametrize("name", ["root.2.json", "root.3.bob.00000000.sig", "revoked.5.json"])
def test_a_document_that_is_not_listed(case: Case, name: str) -> None:
    bundle = case.bundle(ONE, chain_files(ONE), ALICE, BOB)
    (bundle / "trust" / name).write_bytes(root_bytes(TWO))
    with pytest.raises(BundleUntrusted):
        judge(bundle, ONE)


SECOND: dict[str, tuple[tuple[Person, ...], dict[str, Callable[[bytes], bytes]], type[BundleUntrusted]]] = {
    "stripped": ((), {}, ThresholdNotMet),
    "stripped of one": ((ALICE,), {}, ThresholdNotMet),
    "of another list": ((ALICE,), {"bob": lambda _: BOB.sign_second(b"x")}, SignatureInvalid),
    "of another role": ((ALICE,), {"bob": lambda data: BOB.sign_second(data, "root")}, SignatureInvalid),
    "of another holder": ((ALICE,), {"bob": ALICE.sign_second}, SignatureInvalid),
    "of a stranger": ((ALICE, BOB), {"mallory": MALLORY.sign_second}, SignerUnknown),
    "an SSH signature": ((ALICE,), {"bob": BOB.sign}, SignatureInvalid),
    "a byte short": ((ALICE,), {"bob": lambda data: BOB.sign_second(data)[:-1]}, SignatureInvalid),
    "empty": ((ALICE,), {"bob": lambda _: b""}, SignatureInvalid),
}  # fmt: skip


@pytest.mark.parametrize("name", SECOND)
@pytest.mark.group(9)
def test_ml_dsa_signatures_that_are_required(name: str, case: Case) -> None:
    people, more, expected = SECOND[name]
    bundle = case.bundle(STRICT, {}, ALICE, BOB, second=people)
    listing = (bundle / "trust/SHA256SUMS").read_bytes()
    for holder, make in more.items():
        (bundle / post_quantum_path(holder)).write_bytes(make(listing))
    with pytest.raises(expected):
        judge(bundle, STRICT)


@pytest.mark.group(9)
def test_a_bad_ml_dsa_signature_where_none_is_required(case: Case) -> None:
    bundle = case.bundle(WARNS, {}, ALICE, BOB)
    (bundle / post_quantum_path("bob")).write_bytes(BOB.sign_second(b"x"))
    with pytest.raises(SignatureInvalid):
        judge(bundle, WARNS)


BROUGHT: dict[str, tuple[tuple[Any, ...], type[BundleUntrusted]]] = {
    "of one who signed": (
        (revocation(5, BOB, CAROL, keys=tuple(sorted((ALICE.key.keyid, CAROL.key.keyid)))),),
        KeyRevoked,
    ),
    "by one alone": ((revocation(5, BOB, keys=(ALICE.key.keyid,)),), ThresholdNotMet),
    "by a stranger too": ((revocation(5, BOB, CAROL, DORA, keys=(ALICE.key.keyid,)),), SignerUnknown),
    "that forgets": ((revocation(5, ALICE, BOB, keys=(DORA.key.keyid,)),), RevocationInvalid),
    "of the serial carried, and another": (
        (revocation(4, ALICE, BOB, keys=tuple(sorted((CAROL.key.keyid, DORA.key.keyid)))),),
        RevocationInvalid,
    ),
    "that takes keys for bundles": (
        (revocation(5, ALICE, BOB, bundles=(CAROL.key.keyid,)),),
        RevocationInvalid,
    ),
    "two that forget in turn": (
        (
            revocation(6, ALICE, BOB, keys=(CAROL.key.keyid,)),
            revocation(5, ALICE, BOB, keys=tuple(sorted((CAROL.key.keyid, DORA.key.keyid)))),
        ),
        RevocationInvalid,
    ),
}


@pytest.mark.parametrize(("revocations", "expected"), cases(10, BROUGHT))
def test_a_revocation_brought_with_the_bundle(
    revocations: tuple[Any, ...], expected: type[BundleUntrusted], case: Case
) -> None:
    bundle = case.bundle(TWO, chain_files(ONE, TWO) | CARRIED, ALICE, BOB)
    with pytest.raises(expected):
        judge(bundle, ONE, *revocations)


def test_a_bundle_that_was_taken_back(case: Case) -> None:
    bundle = case.bundle(ONE, chain_files(ONE), ALICE, BOB)
    digest = judge(bundle, ONE).digest
    with pytest.raises(BundleRevoked):
        judge(bundle, ONE, revocation(1, ALICE, BOB, bundles=(digest,)))


def test_a_root_that_lets_nobody_revoke(case: Case) -> None:
    plain = compose([*ALICE.enrolled(), *BOB.enrolled()])
    bundle = case.bundle(plain, {}, ALICE, BOB)
    with pytest.raises(SignerUnknown):
        judge(bundle, plain, revocation(1, ALICE, BOB, keys=(CAROL.key.keyid,)))


@pytest.mark.group(9)
def test_one_holder_s_two_keys_that_the_next_root_gives_two_names(case: Case) -> None:
    """By root 1 alice is one person, whatever she is called in the root that she made alone."""
    again = Person("alice")
    one = compose([*ALICE.enrolled(), *again.enrolled(), *BOB.enrolled()])
    two = compose(
        [*ALICE.enrolled(), *(Enrolment("zoe", each.key, each.roles) for each in again.enrolled())],
        version=2,
    )
    zoe = Person("zoe")
    object.__setattr__(zoe, "_first", again._first)
    bundle = case.bundle(two, _second_root(two, ALICE, zoe), ALICE, zoe)
    with pytest.raises(ThresholdNotMet):
        judge(bundle, one)


@pytest.mark.control
def test_what_is_accepted(case: Case) -> None:
    bundle = case.bundle(THREE, ALL, BOB, DORA)
    for trusted in (ONE, TWO, THREE):
        assert judge(bundle, trusted).root == THREE
    assert judge(bundle, THREE, revocation(1, BOB, CAROL, keys=(ALICE.key.keyid,))).revocation.serial == 1


@pytest.mark.control
@pytest.mark.parametrize("serials", [(), (4,), (5,), (4, 7)])
def test_revocations_that_leave_the_signers_alone(case: Case, serials: tuple[int, ...]) -> None:
    bundle = case.bundle(TWO, chain_files(ONE, TWO) | CARRIED, ALICE, BOB)
    brought = [revocation(serial, ALICE, BOB, keys=(CAROL.key.keyid,)) for serial in serials]
    assert judge(bundle, ONE, *brought).revocation.serial == max((4, *serials))


@pytest.mark.control
@pytest.mark.parametrize("root", [STRICT, WARNS], ids=["require", "warn"])
def test_both_kinds_of_signatures(root: Root, case: Case) -> None:
    bundle = case.bundle(root, {}, ALICE, BOB, second=(ALICE, BOB))
    assert all(one.post_quantum for one in judge(bundle, root).signers)
    assert (bundle / signature_path("alice")).exists()
