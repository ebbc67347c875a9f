"""Bundles for later roots than the one that is trusted, and what was taken back since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.carried import carried_documents
from appliance.bundle.paths import post_quantum_path, root_path, signature_path
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    BundleRevoked,
    BundleUntrusted,
    KeyRevoked,
    RevocationInvalid,
    RootInvalid,
    SignatureInvalid,
    SignerUnknown,
    ThresholdNotMet,
    Usage,
)
from appliance.progress import Silent
from appliance.trust.documents import SignedDocument
from appliance.trust.founding import compose
from appliance.trust.revocation import Revocation, revocation_bytes
from appliance.trust.root import Policy, Root, root_bytes
from tests.unit.trust.people import Person, signed

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.trust.policy import Signatures
    from tests.conftest import BundleMaker

ALICE, BOB, CAROL, DORA = map(Person, ("alice", "bob", "carol", "dora"))


def root_of(version: int, *people: Person, pq: str = "off") -> Root:
    enrolments = [
        each
        for person in people
        for each in person.enrolled("root", "release", "revoke", second=pq != "off")
    ]
    return compose(enrolments, version=version, policy=Policy(pq))


ONE, TWO, THREE = root_of(1, ALICE, BOB), root_of(2, ALICE, BOB, CAROL), root_of(3, BOB, CAROL, DORA)
SIGNED_BY = {1: (ALICE, BOB), 2: (ALICE, BOB), 3: (BOB, CAROL)}


def files_of(name: str, data: bytes, signatures: Signatures) -> dict[str, bytes]:
    """A document and its signatures as they lie in a folder, by name."""
    stem = name.removesuffix(".json")
    files = {f"{stem}.{signer}.sig": each for signer, each in signatures.ssh.items()}
    files |= {f"{stem}.{signer}.mldsa87": each for signer, each in signatures.post_quantum.items()}
    return {name: data, **files}


def chain_files(*roots: Root) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for root in roots:
        data = root_bytes(root)
        files |= files_of(f"root.{root.version}.json", data, signed(data, "root", *SIGNED_BY[root.version]))
    return files


@dataclass(frozen=True)
class Case:
    """Makes bundles that carry documents and are signed by people."""

    maker: BundleMaker

    def bundle(
        self, root: Root, files: dict[str, bytes], *people: Person, second: tuple[Person, ...] = ()
    ) -> Path:
        carried = {f"trust/{name}": data for name, data in files.items()}
        carried.pop(root_path(root.version), None)
        bundle = self.maker.write("bundle", root, documents=carried)  # type: ignore[arg-type] # by name
        listing = (bundle / "trust/SHA256SUMS").read_bytes()
        for person in people:
            (bundle / signature_path(person.name)).write_bytes(person.sign(listing))
        for person in second:
            (bundle / post_quantum_path(person.name)).write_bytes(person.sign_second(listing))
        return bundle


@pytest.fixture
def case(maker: BundleMaker) -> Case:
    return Case(maker)


def verify(bundle: Path, root: Root, *revocations: SignedDocument) -> VerifiedBundle:
    return verify_bundle(bundle, root_bytes(root), progress=Silent(), revocations=revocations)


def refusal(bundle: Path, root: Root, *revocations: SignedDocument) -> BundleUntrusted:
    with pytest.raises(BundleUntrusted) as caught:
        verify(bundle, root, *revocations)
    return caught.value


def test_every_root_on_the_way_leads_to_the_last(case: Case) -> None:
    bundle = case.bundle(THREE, chain_files(ONE, TWO, THREE), BOB, DORA)
    for trusted, versions in ((ONE, [2, 3]), (TWO, [3]), (THREE, [])):
        found = verify(bundle, trusted)
        assert [judged.root.version for judged in found.followed] == versions
        assert (found.root, found.root_digest) == (THREE, THREE.fingerprint)
        assert [one.holder for one in found.signers] == ["bob", "dora"]


def test_who_left_no_longer_releases(case: Case) -> None:
    bundle = case.bundle(THREE, chain_files(ONE, TWO, THREE), ALICE, BOB)
    assert isinstance(refusal(bundle, ONE), SignerUnknown)


def test_a_later_root_that_nobody_signed(case: Case) -> None:
    files = chain_files(ONE) | {"root.2.json": root_bytes(TWO)}
    bundle = case.bundle(TWO, files, ALICE, BOB)
    assert isinstance(refusal(bundle, ONE), ThresholdNotMet)
    assert verify(bundle, TWO).root == TWO


def test_a_root_between_is_missing(case: Case) -> None:
    bundle = case.bundle(THREE, chain_files(THREE), BOB, DORA)
    error = refusal(bundle, ONE)
    assert isinstance(error, RootInvalid)
    assert error.found == "version 3"


def test_an_attacker_s_root_that_follows_in_number_only(case: Case) -> None:
    mallory, eve = Person("mallory"), Person("eve")
    theirs = root_of(2, mallory, eve)
    data = root_bytes(theirs)
    files = files_of("root.2.json", data, signed(data, "root", mallory, eve))
    bundle = case.bundle(theirs, files, mallory, eve)
    assert isinstance(refusal(bundle, ONE), ThresholdNotMet)


def test_a_signature_of_a_carried_root_that_was_changed(case: Case) -> None:
    bundle = case.bundle(TWO, chain_files(ONE, TWO), ALICE, BOB)
    path = next((bundle / "trust").glob("root.2.alice.*"))
    path.write_bytes(ALICE.sign(b"other", "root"))
    assert isinstance(refusal(bundle, ONE), SignatureInvalid)


def test_a_carried_root_s_signature_that_is_not_listed(case: Case) -> None:
    bundle = case.bundle(TWO, {}, ALICE, BOB)
    for name, data in chain_files(TWO).items():
        (bundle / "trust" / name).write_bytes(data)
    assert type(refusal(bundle, ONE)).__name__ == "FileUnexpected"


def revocation(serial: int, *people: Person, **what: tuple[str, ...]) -> SignedDocument:
    data = revocation_bytes(Revocation(serial, **what))
    return SignedDocument(data, signed(data, "revoke", *people))


def test_a_key_that_was_taken_back(case: Case) -> None:
    bundle = case.bundle(TWO, chain_files(ONE, TWO), ALICE, BOB)
    error = refusal(bundle, ONE, revocation(1, BOB, CAROL, keys=(ALICE.key.keyid,)))
    assert isinstance(error, KeyRevoked)
    assert verify(bundle, ONE, revocation(1, BOB, CAROL, keys=(CAROL.key.keyid,))).revocation.serial == 1


def test_a_bundle_that_was_taken_back(case: Case) -> None:
    bundle = case.bundle(ONE, chain_files(ONE), ALICE, BOB)
    digest = verify(bundle, ONE).digest
    assert isinstance(refusal(bundle, ONE, revocation(1, ALICE, BOB, bundles=(digest,))), BundleRevoked)


def test_a_revocation_that_too_few_signed(case: Case) -> None:
    bundle = case.bundle(ONE, chain_files(ONE), ALICE, BOB)
    wrong = revocation(1, ALICE, keys=(BOB.key.keyid,))
    assert isinstance(refusal(bundle, ONE, wrong), ThresholdNotMet)


def test_a_revocation_in_the_bundle(case: Case) -> None:
    taken = revocation(4, ALICE, BOB, keys=(CAROL.key.keyid,))
    files = chain_files(ONE, TWO) | files_of("revoked.4.json", taken.data, taken.signatures)
    assert verify(case.bundle(TWO, files, ALICE, BOB), ONE).revocation.serial == 4


def test_of_two_revocations_the_later_counts_and_gives_nothing_back(case: Case) -> None:
    taken = revocation(4, ALICE, BOB, keys=(CAROL.key.keyid,))
    files = chain_files(ONE, TWO) | files_of("revoked.4.json", taken.data, taken.signatures)
    bundle = case.bundle(TWO, files, ALICE, BOB)
    both = tuple(sorted((CAROL.key.keyid, ALICE.key.keyid)))
    assert isinstance(refusal(bundle, ONE, revocation(5, ALICE, BOB, keys=both)), KeyRevoked)
    for other in (revocation(5, ALICE, BOB, keys=(DORA.key.keyid,)), revocation(4, ALICE, BOB, keys=both)):
        assert isinstance(refusal(bundle, ONE, other), RevocationInvalid)


def test_both_signatures_where_the_root_requires_them(case: Case) -> None:
    strict = root_of(1, ALICE, BOB, pq="require")
    whole = case.bundle(strict, {}, ALICE, BOB, second=(ALICE, BOB))
    assert all(one.post_quantum for one in verify(whole, strict).signers)
    (whole / post_quantum_path("bob")).unlink()
    assert isinstance(refusal(whole, strict), ThresholdNotMet)
    (whole / post_quantum_path("bob")).write_bytes(BOB.sign_second(b"another list"))
    assert isinstance(refusal(whole, strict), SignatureInvalid)


def test_what_lacks_is_noted_where_the_root_warns(case: Case) -> None:
    strict = root_of(1, ALICE, BOB, pq="warn")
    bundle = case.bundle(strict, {}, ALICE, BOB, second=(ALICE,))
    assert "bob" in verify(bundle, strict).notes[0]


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    """The folder in which a ceremony left roots and signatures."""
    folder = tmp_path / "trust-folder"
    folder.mkdir()
    for name, data in chain_files(ONE, TWO, THREE).items():
        (folder / name).write_bytes(data)
    return folder


def test_a_build_takes_the_chain_that_lies_beside_its_root(trust: Path) -> None:
    wanted = {f"trust/{name}" for name in chain_files(ONE, TWO)}
    assert carried_documents(trust / "root.2.json").keys() == wanted - {"trust/root.2.json"}
    (trust / "root.1.json").unlink()
    assert "trust/root.2.json" in carried_documents(trust / "root.3.json")
    assert "trust/root.1.json" not in carried_documents(trust / "root.3.json")


def test_a_build_refuses_a_chain_nobody_could_follow(trust: Path) -> None:
    for path in trust.glob("root.3.bob.*"):
        path.unlink()
    with pytest.raises(ThresholdNotMet):
        carried_documents(trust / "root.3.json")
    (trust / "root.3.json").write_bytes(root_bytes(TWO))
    with pytest.raises(BundleUntrusted):
        carried_documents(trust / "root.3.json")


def test_a_build_takes_a_revocation_along(trust: Path) -> None:
    taken = revocation(4, ALICE, BOB, keys=(DORA.key.keyid,))
    for name, data in files_of("revoked.4.json", taken.data, taken.signatures).items():
        (trust / name).write_bytes(data)
    found = carried_documents(trust / "root.2.json", trust / "revoked.4.json")
    assert sum(path.startswith("trust/revoked.4.") for path in found) == 3
    with pytest.raises(SignerUnknown):
        carried_documents(trust / "root.3.json", trust / "revoked.4.json")


def test_a_root_that_lets_nobody_revoke(tmp_path: Path, trust: Path) -> None:
    plain = compose([*ALICE.enrolled(), *BOB.enrolled()])
    (tmp_path / "root.1.json").write_bytes(root_bytes(plain))
    taken = revocation(4, ALICE, BOB, keys=(DORA.key.keyid,))
    (trust / "revoked.4.json").write_bytes(taken.data)
    with pytest.raises(Usage, match="nobody who may revoke"):
        carried_documents(tmp_path / "root.1.json", trust / "revoked.4.json")
