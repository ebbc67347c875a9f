"""Roots, revocations, lists and volumes under the profile cnsa; bundles judged by a root that took it on.

Which hash an SSH signature may be over, and which list must be signed, is said by the root that judges: the
last of a chain, whatever the trusted one says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.bundle.list_kind import INDEX, SHA384
from appliance.bundle.listing import listing_bytes
from appliance.bundle.paths import post_quantum_path, signature_path
from appliance.errors import (
    BundleMalformed,
    BundleUntrusted,
    FileMissing,
    ProfileNotMet,
    RootInvalid,
    SignatureInvalid,
    ThresholdNotMet,
)
from appliance.progress import Silent
from appliance.trust.chain import Link
from appliance.trust.documents import SignedDocument
from appliance.trust.founding import compose
from appliance.trust.policy import KEY_DIGITS, Signatures
from appliance.trust.revocation import Revocation, revocation_bytes
from appliance.trust.root import Policy, root_bytes
from tests.corpus.groups import cases
from tests.independent.agreement import decide, follow, parse_listing, verify_bundle
from tests.unit.bundle.test_chains import files_of
from tests.unit.trust.people import Person, signed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from appliance.bundle.list_kind import ListKind
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

pytestmark = pytest.mark.group(10)

ALICE, BOB, ZOE = Person("alice", p384=True), Person("bob", p384=True), Person("zoe")


def root_of(version: int, profile: str, *people: Person) -> Root:
    roles = ("root", "release", "revoke")
    enrolments = [each for person in people for each in person.enrolled(*roles, second=True)]
    return compose(
        enrolments, {"root": 2, "release": 2}, version=version, policy=Policy("require", profile)
    )


ONE, TWO, THREE = (root_of(n, each, ALICE, BOB) for n, each in ((1, "standard"), (2, "cnsa"), (3, "cnsa")))
WITH_ZOE = root_of(1, "standard", ALICE, BOB, ZOE)
BACK = root_of(3, "standard", ALICE, BOB)
TAKEN = revocation_bytes(Revocation(1, ("a" * 64,)))


def hashed(message: bytes, role: str, *people: Person, sha256: tuple[Person, ...] = ()) -> Signatures:
    """Signatures of these people with both keys; of some, the first is over SHA-256."""
    weak = {f"{each.name}.{each.key.keyid[:KEY_DIGITS]}": each for each in sha256}
    found = signed(message, role, *people, second=True)
    return Signatures(
        {**found.ssh, **{name: each.sign(message, role, "sha256") for name, each in weak.items()}},
        found.post_quantum,
    )


def link(root: Root, *people: Person, sha256: tuple[Person, ...] = ()) -> Link:
    data = root_bytes(root)
    return Link(data, hashed(data, "root", *people, sha256=sha256))


def _arguments(signatures: Signatures) -> dict[str, Mapping[str, bytes]]:
    """As the arguments of ``decide``."""
    return {"signatures": signatures.ssh, "post_quantum": signatures.post_quantum}


CHAINS: dict[str, tuple[Root, dict[int, Link], type[BundleUntrusted]]] = {
    "SHA-256, by the first root of the profile": (
        ONE,
        {2: link(TWO, ALICE, BOB, sha256=(ALICE, BOB))},
        SignatureInvalid,
    ),
    "SHA-256 of one, by the first root of the profile": (
        ONE,
        {2: link(TWO, ALICE, BOB, sha256=(BOB,))},
        SignatureInvalid,
    ),
    "SHA-256 of one, by a later root": (
        TWO,
        {3: link(THREE, ALICE, BOB, sha256=(ALICE,))},
        SignatureInvalid,
    ),
    "SHA-256, two roots on": (
        ONE,
        {2: link(TWO, ALICE, BOB), 3: link(THREE, ALICE, BOB, sha256=(ALICE, BOB))},
        SignatureInvalid,
    ),
    "without the profile again": (TWO, {3: link(BACK, ALICE, BOB)}, RootInvalid),
    "without the profile again, two roots on": (
        ONE,
        {2: link(TWO, ALICE, BOB), 3: link(BACK, ALICE, BOB)},
        RootInvalid,
    ),
    "who leaves, and one who stays": (WITH_ZOE, {2: link(TWO, ALICE, ZOE)}, ThresholdNotMet),
}


@pytest.mark.parametrize(("trusted", "carried", "error"), cases(10, CHAINS))
def test_a_chain_that_does_not_hold(
    trusted: Root, carried: dict[int, Link], error: type[BundleUntrusted]
) -> None:
    with pytest.raises(error):
        follow(root_bytes(trusted), carried)


@pytest.mark.control
def test_what_follows() -> None:
    """A key that only the root before has is judged by that one's profile."""
    carried = {2: link(TWO, ALICE, BOB), 3: link(THREE, ALICE, BOB)}
    for trusted in (ONE, TWO, THREE):
        assert follow(root_bytes(trusted), carried).root == THREE
    leaving = {2: link(TWO, ALICE, BOB, ZOE, sha256=(ZOE,))}
    assert follow(root_bytes(WITH_ZOE), leaving).root == TWO


@pytest.mark.parametrize(
    "weak",
    [(ALICE,), (ALICE, BOB), pytest.param((), marks=pytest.mark.control)],
    ids=["one", "both", "none"],
)
def test_a_revocation_with_sha_256(weak: tuple[Person, ...]) -> None:
    found = decide(
        TAKEN, trusted=TWO, role="revoke", **_arguments(hashed(TAKEN, "revoke", ALICE, BOB, sha256=weak))
    )
    assert {type(each) for each in found.refusals} <= {SignatureInvalid, ThresholdNotMet}
    assert found.accepted == (not weak)


@pytest.mark.control
def test_without_the_profile_either_hash_will_do() -> None:
    given = hashed(TAKEN, "revoke", ALICE, BOB, sha256=(ALICE, BOB))
    assert decide(TAKEN, trusted=ONE, role="revoke", **_arguments(given)).accepted


# --- whole bundles -----------------------------------------------------------------------------------


@pytest.fixture
def made(maker: BundleMaker) -> Path:
    """A bundle for root 2, which carries root 1 too; unsigned."""
    files: dict[str, bytes] = {}
    for root in (ONE, TWO):
        data = root_bytes(root)
        files |= files_of(f"root.{root.version}.json", data, signed(data, "root", ALICE, BOB, second=True))
    del files["root.2.json"]
    documents = {f"trust/{name}": data for name, data in files.items()}
    return maker.write("bundle", TWO, documents=documents)  # type: ignore[arg-type] # by name


def sign(bundle: Path, kind: ListKind) -> None:
    data = (bundle / kind.path).read_bytes()
    for each in (ALICE, BOB):
        (bundle / signature_path(each.name, kind)).write_bytes(each.sign(data))
        (bundle / post_quantum_path(each.name, kind)).write_bytes(each.sign_second(data))


@pytest.mark.control
@pytest.mark.parametrize("trusted", [ONE, TWO], ids=["root 1", "root 2"])
def test_the_last_root_says_which_list_is_signed(made: Path, trusted: Root) -> None:
    sign(made, SHA384)
    revocation = SignedDocument(TAKEN, hashed(TAKEN, "revoke", ALICE, BOB))
    found = verify_bundle(made, root_bytes(trusted), progress=Silent(), revocations=[revocation])
    assert (found.kind, found.root) == (SHA384, TWO)


def _nothing(_: Path) -> None:
    pass


def _without_list(bundle: Path) -> None:
    (bundle / SHA384.path).unlink()


def _without_root(bundle: Path) -> None:
    for path in (bundle / "trust").glob("root.2.*"):
        path.unlink()


JUDGED: dict[str, tuple[ListKind, Callable[[Path], None], type[BundleUntrusted]]] = {
    "the first list signed": (INDEX, _nothing, ThresholdNotMet),
    "the first list signed, the other gone": (INDEX, _without_list, ProfileNotMet),
    "the root with the profile gone": (SHA384, _without_root, ProfileNotMet),
    "the root with the profile gone, the first list signed": (INDEX, _without_root, ProfileNotMet),
}


@pytest.mark.parametrize(("kind", "touch", "error"), cases(10, JUDGED))
def test_trusting_the_root_before_the_profile(
    kind: ListKind, touch: Callable[[Path], None], error: type[BundleUntrusted], made: Path
) -> None:
    sign(made, kind)
    touch(made)
    with pytest.raises(error):
        verify_bundle(made, root_bytes(ONE), progress=Silent())


def test_root_and_list_of_the_profile_gone(made: Path) -> None:
    """What is left looks like a bundle for root 1; but its lists name root 2."""
    sign(made, INDEX)
    _without_list(made)
    _without_root(made)
    with pytest.raises(FileMissing):
        verify_bundle(made, root_bytes(ONE), progress=Silent())


def test_a_revocation_with_sha_256_brought_along(made: Path) -> None:
    sign(made, SHA384)
    weak = SignedDocument(TAKEN, hashed(TAKEN, "revoke", ALICE, BOB, sha256=(BOB,)))
    with pytest.raises(SignatureInvalid):
        verify_bundle(made, root_bytes(ONE), progress=Silent(), revocations=[weak])


# --- lists -------------------------------------------------------------------------------------------

A, B = "a" * 64, "b" * 96
ALWAYS = ("VERIFY.txt", "blocks.bin", "manifest.json")
STRICT = listing_bytes(dict.fromkeys((*ALWAYS, INDEX.path, "trust/root.1.json"), B))
FIRST = listing_bytes(dict.fromkeys((*ALWAYS, "trust/root.1.json"), A))
SPELLED: dict[str, tuple[ListKind, bytes]] = {
    "the first list with digests of the other": (INDEX, FIRST.replace(A.encode(), B.encode())),
    "the first list with one such digest": (INDEX, FIRST.replace(A.encode(), B.encode(), 1)),
    "the first list with itself": (INDEX, STRICT.replace(B.encode(), A.encode())),
    "the first list with the other": (
        INDEX,
        STRICT.replace(B.encode(), A.encode()).replace(b"SHA256", b"SHA384"),
    ),
    "the other with digests of the first": (SHA384, STRICT.replace(B.encode(), A.encode())),
    "the other with one such digest": (SHA384, STRICT.replace(B.encode(), A.encode(), 1)),
    "the other without the first": (SHA384, FIRST.replace(A.encode(), B.encode())),
    "the other with itself": (
        SHA384,
        STRICT.replace(b"trust/root", b"trust/SHA384SUMS\n" + B.encode() + b"  trust/root"),
    ),
    "the other with itself instead": (SHA384, STRICT.replace(b"SHA256", b"SHA384")),
    "the other with the first behind a root": (
        SHA384,
        b"".join(line for line in STRICT.splitlines(keepends=True) if b"SHA256" not in line)
        + f"{B}  {INDEX.path}\n".encode(),
    ),
    "the other with a third": (SHA384, STRICT.replace(b"trust/root.1.json", b"trust/SHA512SUMS")),
}


@pytest.mark.parametrize(("kind", "data"), cases(7, SPELLED))
def test_a_list_by_itself(kind: ListKind, data: bytes) -> None:
    for each, good in ((INDEX, FIRST), (SHA384, STRICT)):
        assert parse_listing(good, each).data == good
    with pytest.raises(BundleMalformed):
        parse_listing(data, kind)


@pytest.mark.group(4)
def test_a_file_that_the_signed_list_alone_names(made: Path) -> None:
    """It lies there, and holders signed its digest; no manifest says what it is."""
    digests = dict(parse_listing((made / SHA384.path).read_bytes(), SHA384))
    (made / "payload/model/more").write_bytes(b"more")
    (made / SHA384.path).write_bytes(
        listing_bytes({**digests, "payload/model/more": SHA384.digest(b"more")})
    )
    sign(made, SHA384)
    with pytest.raises(BundleMalformed):
        verify_bundle(made, root_bytes(TWO), progress=Silent())


# --- volumes -----------------------------------------------------------------------------------------


def _spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


PLACES = [INDEX.path, SHA384.path, "trust/SHA384SUMS.bob.mldsa87"]
CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "spoilt": (_spoil, ""),
    "lost": (lambda path: path.unlink(), ""),
    "spoilt, the spare copy": (_spoil, "spare"),
}


@pytest.mark.group(4)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("path", PLACES)
def test_lists_on_the_second_volume(
    path: str, change: str, made: Path, volumes: Callable[..., list[Path]]
) -> None:
    sign(made, SHA384)
    two = volumes(made, 2)
    touch, place = CHANGES[change]
    touch(two[1] / place / path)
    with pytest.raises(BundleUntrusted):
        verify_bundle(two, root_bytes(ONE), progress=Silent())


@pytest.mark.group(4)
@pytest.mark.control
def test_volumes_with_and_without_spare_copies(made: Path, volumes: Callable[..., list[Path]]) -> None:
    sign(made, SHA384)
    two = volumes(made, 2)
    assert verify_bundle(two, root_bytes(ONE), progress=Silent()).kind is SHA384
    for path in PLACES:
        (two[1] / "spare" / path).unlink()
    assert verify_bundle(two, root_bytes(ONE), progress=Silent()).kind is SHA384
