"""Mending what lies in ``trust/``: signatures of both kinds, and the roots that lead to the bundle's."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.check import check_media
from appliance.bundle.media.join import join_volumes
from appliance.bundle.parity.repair import repair_bundle
from appliance.bundle.paths import post_quantum_path, root_path, signature_path
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    BundleUntrusted,
    DamageTooGreat,
    RootInvalid,
    SignatureInvalid,
    SignerUnknown,
    ThresholdNotMet,
)
from appliance.progress import Silent
from appliance.trust.documents import signature_name
from appliance.trust.founding import compose
from appliance.trust.revocation import Revocation, revocation_bytes
from appliance.trust.root import Policy, Root, root_bytes
from tests.unit.bundle.parity.conftest import overwrite, same
from tests.unit.trust.people import Person, signed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from appliance.bundle.parity.repaired import Repaired
    from tests.conftest import BundleMaker

    Volumes = Callable[..., list[Path]]

ALICE, BOB, CAROL, DORA = map(Person, ("alice", "bob", "carol", "dora"))
SECOND_OF_BOB = post_quantum_path("bob")


def root_of(version: int, *people: Person, pq: str = "off") -> Root:
    enrolments = [
        each
        for person in people
        for each in person.enrolled("root", "release", "revoke", second=pq != "off")
    ]
    return compose(enrolments, version=version, policy=Policy(pq))


ONE, TWO, THREE = root_of(1, ALICE, BOB), root_of(2, ALICE, BOB, CAROL), root_of(3, BOB, CAROL, DORA)
BOTH = root_of(1, ALICE, BOB, pq="require")


def document(path: str, data: bytes, role: str, *people: Person) -> dict[str, bytes]:
    """A document and its signatures, by path."""
    files = {path: data}
    for person in people:
        [one] = signed(data, role, person).ssh.values()
        files[signature_name(path, person.name, person.key.keyid)] = one
    return files


def chain() -> dict[str, bytes]:
    """The roots 1, 2 and 3, each signed by those before."""
    files = document(root_path(1), root_bytes(ONE), "root", ALICE, BOB)
    files |= document(root_path(2), root_bytes(TWO), "root", ALICE, BOB)
    return files | document(root_path(3), root_bytes(THREE), "root", BOB, CAROL)


def make(
    maker: BundleMaker,
    root: Root,
    *people: Person,
    carried: Mapping[str, bytes] | None = None,
    second: bool = False,
) -> Path:
    """A bundle for a root, signed by people, in one key or in both."""
    documents = {path: data for path, data in (carried or {}).items() if path != root_path(root.version)}
    bundle = maker.write("bundle", root, documents=documents)  # type: ignore[arg-type] # by name
    listing = (bundle / "trust/SHA256SUMS").read_bytes()
    for person in people:
        (bundle / signature_path(person.name)).write_bytes(person.sign(listing))
        if second:
            (bundle / post_quantum_path(person.name)).write_bytes(person.sign_second(listing))
    return bundle


@pytest.fixture
def two_kinds(maker: BundleMaker) -> Path:
    """A bundle signed by alice and bob with both of their keys, as its root requires."""
    return make(maker, BOTH, ALICE, BOB, second=True)


@pytest.fixture
def chained(maker: BundleMaker) -> Path:
    """A bundle for root 3 that brings 1 and 2 along."""
    return make(maker, THREE, BOB, DORA, carried=chain())


@pytest.fixture
def mend(tmp_path: Path) -> Callable[..., Repaired]:
    def run(root: Root | None, *given: Path) -> Repaired:
        trusted = root_bytes(root) if root else None
        return repair_bundle(given, root=trusted, out=None, work=tmp_path / "work", progress=Silent())

    return run


Mend = "Callable[..., Repaired]"


@pytest.mark.parametrize("trusted", [BOTH, None])
@pytest.mark.parametrize("damage", ["flipped", "cut", "overlong", "lost"])
def test_an_ml_dsa_signature_comes_back_from_another_volume(
    damage: str, trusted: Root | None, two_kinds: Path, volumes: Volumes, mend: Mend
) -> None:
    first, second = volumes(two_kinds, 2)
    right = (first / SECOND_OF_BOB).read_bytes()
    for path in (first / SECOND_OF_BOB, first / "spare" / SECOND_OF_BOB):
        match damage:
            case "flipped":
                overwrite(path, 100, bytes([right[100] ^ 1]))
            case "cut":
                path.write_bytes(right[:1000])
            case "overlong":
                path.write_bytes(right + b"x")
            case "lost":
                path.unlink()
    result = mend(trusted, first, second)
    assert sorted(each.path for each in result.mended) == ["spare/" + SECOND_OF_BOB, SECOND_OF_BOB]
    assert (first / SECOND_OF_BOB).read_bytes() == right
    assert result.left == ()
    verify_bundle([first, second], root_bytes(BOTH), progress=Silent())


def test_the_second_copy_under_spare_mends_it_too(two_kinds: Path, volumes: Volumes, mend: Mend) -> None:
    first, second = volumes(two_kinds, 2)
    for volume in (first, second):
        overwrite(volume / SECOND_OF_BOB, 0, b"rot")
    assert len(mend(BOTH, first, second).mended) == 2
    verify_bundle([first, second], root_bytes(BOTH), progress=Silent())


def test_an_ml_dsa_signature_that_is_required_and_lost_everywhere(
    two_kinds: Path, volumes: Volumes, mend: Mend
) -> None:
    """Bob's SSH signature does not count without it, so nobody says that the list is right."""
    first, second = volumes(two_kinds, 2, spare=False)
    for volume in (first, second):
        (volume / SECOND_OF_BOB).unlink()
    with pytest.raises(ThresholdNotMet) as caught:
        mend(BOTH, first, second)
    assert caught.value.found == "1: alice; without the ML-DSA signature: bob"


def test_an_ml_dsa_signature_nobody_has_sound_is_named_with_what_to_do(
    maker: BundleMaker, mend: Mend
) -> None:
    root = root_of(1, ALICE, BOB, CAROL, pq="warn")
    bundle = make(maker, root, ALICE, BOB, CAROL, second=True)
    (bundle / SECOND_OF_BOB).write_bytes(CAROL.sign_second(b"another list"))
    result = mend(root, bundle)
    assert [each.path for each in result.left] == [SECOND_OF_BOB]
    assert result.left[0].do.startswith("no copy of the ML-DSA signature of bob is good (")
    assert "ask bob to sign again; or remove it from every folder: enough others" in result.left[0].do
    (bundle / SECOND_OF_BOB).unlink()
    assert mend(root, bundle).left == ()
    verify_bundle(bundle, root_bytes(root), progress=Silent())


def test_ml_dsa_signatures_no_root_here_enrols_are_not_judged_without_one(
    maker: BundleMaker, mend: Mend
) -> None:
    bundle = make(maker, ONE, ALICE, BOB)
    listing = (bundle / "trust/SHA256SUMS").read_bytes()
    (bundle / SECOND_OF_BOB).write_bytes(BOB.sign_second(listing))
    result = mend(None, bundle)
    assert (result.left, result.mended) == ((), ())
    assert f"{SECOND_OF_BOB} was not looked at" in result.notes[0]


def test_a_check_compares_ml_dsa_signatures_on_every_volume(two_kinds: Path, volumes: Volumes) -> None:
    first, second = volumes(two_kinds, 2)
    check = lambda: check_media([first, second], root=root_bytes(BOTH), progress=Silent())  # noqa: E731
    assert all(not each.damaged and not each.strange for each in check().volumes)
    (second / SECOND_OF_BOB).unlink()
    assert [damage.path for each in check().volumes for damage in each.damaged] == [SECOND_OF_BOB]


def test_a_join_brings_ml_dsa_signatures_along(two_kinds: Path, volumes: Volumes, tmp_path: Path) -> None:
    given = volumes(two_kinds, 2)
    joined = join_volumes(given, tmp_path / "joined", root=root_bytes(BOTH), progress=Silent())
    assert same(joined.folder, two_kinds)


@pytest.mark.parametrize("trusted", [ONE, TWO, THREE])
def test_a_bundle_for_a_later_root_is_mended_by_every_root_that_leads_there(
    trusted: Root, chained: Path, volumes: Volumes, mend: Mend
) -> None:
    first, second = volumes(chained, 2)
    (first / "VERIFY.txt").unlink()
    result = mend(trusted, first, second)
    assert [each.path for each in result.mended] == ["VERIFY.txt"]
    assert result.signers == ("bob", "dora")
    verify_bundle([first, second], root_bytes(trusted), progress=Silent())


@pytest.mark.parametrize("path", sorted(chain()))
def test_a_link_of_the_chain_is_mended_from_another_volume_and_followed(
    path: str, chained: Path, volumes: Volumes, mend: Mend
) -> None:
    first, second = volumes(chained, 2)
    overwrite(first / path, 20, b"rot")
    (first / "spare" / path).unlink()
    result = mend(ONE, first, second)
    assert sorted(each.path for each in result.mended) == sorted([path, f"spare/{path}"])
    verify_bundle([first, second], root_bytes(ONE), progress=Silent())


@pytest.mark.parametrize("path", sorted(chain()))
def test_a_link_that_is_broken_in_its_only_copy_is_named_with_what_to_do(
    path: str, chained: Path, mend: Mend, snapshot: Callable[[Path], object]
) -> None:
    right = (chained / path).read_bytes()
    overwrite(chained / path, 20, b"rot")
    before = snapshot(chained)
    if path == root_path(1):
        assert [each.path for each in mend(ONE, chained).mended] == [path], "the trusted root itself"
        return
    with pytest.raises(DamageTooGreat) as caught:
        mend(ONE, chained)
    assert snapshot(chained) == before
    assert path in caught.value.message
    assert f"ask who built it for {path.rpartition('/')[2]}" in str(caught.value.hint)
    assert f"put it at {chained / path}" in str(caught.value.hint)
    (chained / path).write_bytes(right)
    assert mend(ONE, chained).mended == ()


def test_an_older_root_that_nobody_needs_is_named_too(chained: Path, mend: Mend) -> None:
    """By root 3 the list is judged without root 1; but the file is listed, and verify asks for it."""
    (chained / root_path(1)).unlink()
    with pytest.raises(DamageTooGreat) as caught:
        mend(THREE, chained)
    assert root_path(1) in caught.value.message
    assert caught.value.found == "every copy damaged or lost, and no parity covers them"
    assert f"put it at {chained / root_path(1)}" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("carried", "error"),
    [
        ({root_path(2): root_bytes(TWO)}, ThresholdNotMet),
        (document(root_path(2), root_bytes(TWO), "root", ALICE), ThresholdNotMet),
        (
            document(root_path(2), root_bytes(TWO), "root", ALICE, BOB, Person("mallory")),
            SignerUnknown,
        ),
        (
            {
                **document(root_path(2), root_bytes(TWO), "root", ALICE, BOB),
                signature_name(root_path(2), "bob", BOB.key.keyid): BOB.sign(b"other", "root"),
            },
            SignatureInvalid,
        ),
    ],
    ids=["nobody signed", "one signed", "a stranger signed", "a signature over something else"],
)
def test_a_root_that_does_not_follow_judges_nothing(
    carried: dict[str, bytes], error: type[BundleUntrusted], maker: BundleMaker, mend: Mend
) -> None:
    bundle = make(maker, TWO, BOB, CAROL, carried=carried)
    with pytest.raises(error):
        mend(ONE, bundle)
    assert mend(TWO, bundle).signers == ("bob", "carol")


def test_who_left_no_longer_signs(maker: BundleMaker, mend: Mend) -> None:
    bundle = make(maker, THREE, ALICE, BOB, carried=chain())
    with pytest.raises(ThresholdNotMet):
        mend(ONE, bundle)


def test_another_root_of_the_trusted_version_is_refused(maker: BundleMaker, mend: Mend) -> None:
    bundle = make(maker, root_of(1, ALICE, BOB, CAROL), ALICE, BOB)
    with pytest.raises(RootInvalid, match="another root 1"):
        mend(ONE, bundle)


def test_a_revoked_key_signs_nothing(maker: BundleMaker, mend: Mend) -> None:
    revoked = revocation_bytes(Revocation(1, keys=(BOB.key.keyid,)))
    carried = document("trust/revoked.1.json", revoked, "revoke", ALICE, CAROL)
    bundle = make(maker, TWO, ALICE, BOB, CAROL, carried=carried)
    result = mend(TWO, bundle)
    assert result.signers == ("alice", "carol")
    assert [each.path for each in result.left] == [signature_path("bob")]
    assert "the key was revoked" in result.left[0].do
    shutil.rmtree(bundle)
    bundle = make(maker, TWO, ALICE, BOB, carried=carried)
    with pytest.raises(ThresholdNotMet):
        mend(TWO, bundle)
