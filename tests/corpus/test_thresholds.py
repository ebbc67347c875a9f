"""Roots in which too few could decide, and signatures that are too few, however many files there are."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import (
    BundleUntrusted,
    KeyRefused,
    KeyRevoked,
    RootInvalid,
    SignatureInvalid,
    SignerUnknown,
    ThresholdNotMet,
)
from appliance.trust.canonical import canonical_bytes
from appliance.trust.founding import Enrolment, compose
from appliance.trust.keys import encode_blob
from appliance.trust.root import Policy, Root, root_bytes
from tests.corpus.groups import cases
from tests.independent.agreement import decide, parse_public, parse_root
from tests.unit.trust.people import Person

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.group(9)

LIST = b"the list\n"
ALICE, BOB, CAROL, DORA, MALLORY = map(Person, ("alice", "bob", "carol", "dora", "mallory"))
#: Alice's second key: the same person, another key.
ALICE_TOO = Person("alice", p384=True)


def enrolled(second: bool = False) -> list[Enrolment]:
    everybody = [each for person in (ALICE, BOB, CAROL) for each in person.enrolled(second=second)]
    return [*everybody, *DORA.enrolled("patch"), *MALLORY.enrolled("patch")]


@cache
def root(pq: str = "off") -> Root:
    if pq == "require":
        people = [each for person in (ALICE, BOB, CAROL) for each in person.enrolled(second=True)]
        return compose(people, policy=Policy(pq))
    return compose(enrolled(second=True))


Values = dict[str, Any]


def _role(role: str, **values: object) -> Callable[[Values], object]:
    return lambda root: root["roles"][role].update(values)


def _keyid(person: Person) -> str:
    return person.key.keyid


def _add_key(root: Values, keyid: str, holder: str, public: str, role: str = "release") -> None:
    root["keys"][keyid] = {"holder": holder, "public": public}
    root["roles"][role]["keys"] = sorted([*root["roles"][role]["keys"], keyid])


def _under_two_identities(root: Values) -> None:
    _add_key(root, "0" * 64, "zoe", ALICE.key.text)


def _on_a_token_too(root: Values) -> None:
    point = ALICE.key.blob[-32:]
    token = base64.b64encode(encode_blob("sk-ssh-ed25519@openssh.com", point, b"ssh:")).decode()
    _add_key(root, "1" * 64, "zoe", f"sk-ssh-ed25519@openssh.com {token}")


def _public(change: Callable[[str], str]) -> Callable[[Values], None]:
    def spoil(root: Values) -> None:
        entry = root["keys"][_keyid(ALICE)]
        entry["public"] = change(entry["public"])

    return spoil


def _one_person_twice(root: Values) -> None:
    """Three keys for release, and all of them are said to be alice's."""
    second = {each.second_key.keyid for each in (ALICE, BOB, CAROL)}
    root["keys"] = {keyid: entry for keyid, entry in root["keys"].items() if keyid not in second}
    for role in root["roles"].values():
        role["keys"] = [keyid for keyid in role["keys"] if keyid not in second]
    for keyid in root["roles"]["release"]["keys"]:
        root["keys"][keyid]["holder"] = "alice"


def _ssh_key_taken_away(root: Values) -> None:
    del root["keys"][_keyid(ALICE)]
    for role in root["roles"].values():
        role["keys"] = [keyid for keyid in role["keys"] if keyid != _keyid(ALICE)]


def _several_ml_dsa(root: Values) -> None:
    key = ALICE_TOO.second_key
    _add_key(root, key.keyid, "alice", key.text)


def _shared_with_patch(root: Values) -> None:
    root["roles"]["patch"]["keys"] = sorted([*root["roles"]["patch"]["keys"], _keyid(ALICE)])


def _pop(*path: str) -> Callable[[Values], None]:
    def spoil(root: Values) -> None:
        place = root
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return spoil


def _unused_key(root: Values) -> None:
    root["keys"][ALICE_TOO.key.keyid] = {"holder": "alice", "public": ALICE_TOO.key.text}


ROOTS: dict[str, Any] = {
    "threshold 0": _role("release", threshold=0),
    "threshold -1": _role("release", threshold=-1),
    "threshold above its holders": _role("release", threshold=4),
    "threshold 2^53": _role("release", threshold=2**53 - 1),
    "threshold true": _role("release", threshold=True),
    "threshold as text": _role("release", threshold="2"),
    "threshold null": _role("release", threshold=None),
    "threshold a list": _role("release", threshold=[2]),
    "no keys": _role("release", keys=[]),
    "a key twice": lambda root: root["roles"]["release"]["keys"].append(
        root["roles"]["release"]["keys"][-1]
    ),
    "keys out of order": lambda root: root["roles"]["release"]["keys"].reverse(),
    "a key nobody enrolled": lambda root: root["roles"]["release"]["keys"].append("f" * 64),
    "one key under two identities": _under_two_identities,
    "one key on and off a token": _on_a_token_too,
    "two of one person are not two": _one_person_twice,
    "ML-DSA alone": _ssh_key_taken_away,
    "two ML-DSA keys of one holder": _several_ml_dsa,
    "a key for release and patch": _shared_with_patch,
    "a key that serves nothing": _unused_key,
    "no release": _pop("roles", "release"),
    "no root": _pop("roles", "root"),
    "an unknown role": lambda root: root["roles"].update(admin=root["roles"]["release"]),
    "a role's name in capitals": lambda root: root["roles"].update(Release=root["roles"]["release"]),
    "solo, and it is not": lambda root: root.update(solo=True),
    "not solo, and it is": _role("release", threshold=1),
    "no solo": _pop("solo"),
    "no policy": _pop("policy"),
    "policy off, written out": lambda root: root["policy"].update(pq="off"),
    "policy unknown": lambda root: root["policy"].update(pq="maybe"),
    "policy with a key more": lambda root: root["policy"].update(threshold=1),
    "policy require, without keys": lambda root: root["policy"].update(pq="require"),
    "profile cnsa with Ed25519": lambda root: root["policy"].update(pq="require", profile="cnsa"),
    "profile unknown": lambda root: root["policy"].update(profile="fips"),
    "a holder's name with a line feed": lambda root: root["keys"][_keyid(ALICE)].update(holder="a\nb"),
    "a holder's name with a dot": lambda root: root["keys"][_keyid(ALICE)].update(holder="alice.b"),
    "a holder's name with a slash": lambda root: root["keys"][_keyid(ALICE)].update(holder="../alice"),
    "a holder's name, zero width": lambda root: root["keys"][_keyid(ALICE)].update(holder="al\u200bice"),
    "a holder without a name": lambda root: root["keys"][_keyid(ALICE)].update(holder=""),
    "another's key in one's place": lambda root: root["keys"][_keyid(ALICE)].update(
        public=MALLORY.key.text
    ),
    "sixty-five keys": lambda root: [
        _add_key(root, f"{number:064x}", f"h{number}", ALICE.key.text) for number in range(65)
    ],
    "no keys at all": lambda root: root.update(keys={}),
}
MISSPELLED: dict[str, Any] = {
    "a comment": _public(lambda text: text + " alice@example"),
    "two spaces": _public(lambda text: text.replace(" ", "  ")),
    "a line feed": _public(lambda text: text + "\n"),
    "padding dropped": _public(lambda text: text.rstrip("=") + "=" * 3),
    "options before it": _public(lambda text: "cert-authority " + text),
    "the kind in capitals": _public(str.upper),
    "another kind's name": _public(lambda text: text.replace("ssh-ed25519", "ssh-rsa")),
}  # fmt: skip


def refused_root(spoil: Callable[[Values], object], expected: type[BundleUntrusted]) -> None:
    values = json.loads(root_bytes(root()))
    spoil(values)
    with pytest.raises(expected) as caught:
        parse_root(canonical_bytes(values))
    for text in (caught.value.message, caught.value.found, caught.value.wanted):
        assert text is None or text.isprintable()


@pytest.mark.control
def test_good_roots() -> None:
    for pq in ("off", "require"):
        assert parse_root(root_bytes(root(pq))) == root(pq)


@pytest.mark.parametrize("spoil", cases(9, ROOTS))
def test_a_root_in_which_too_few_could_decide(spoil: Callable[[Values], object]) -> None:
    refused_root(spoil, RootInvalid)


@pytest.mark.parametrize("spoil", cases(8, MISSPELLED))
def test_a_root_with_a_key_in_another_spelling(spoil: Callable[[Values], object]) -> None:
    """Else one key could be two."""
    refused_root(spoil, BundleUntrusted)


def _files(*people: Person, message: bytes = LIST, role: str = "release") -> dict[str, bytes]:
    return {person.name: person.sign(message, role) for person in people}


def _second(*people: Person, message: bytes = LIST, role: str = "release") -> dict[str, bytes]:
    return {person.name: person.sign_second(message, role) for person in people}


Made = tuple[dict[str, bytes], dict[str, bytes], str, frozenset[str]]


def _made(
    ssh: dict[str, bytes],
    second: dict[str, bytes] | None = None,
    pq: str = "off",
    *revoked: str,
) -> Made:
    return ssh, second or {}, pq, frozenset(revoked)


def _twice(name: str, person: Person) -> dict[str, bytes]:
    return {person.name: person.sign(LIST), name: person.sign(LIST)}


SIGNED: dict[str, Callable[[], tuple[Made, type[BundleUntrusted]]]] = {
    "nobody": lambda: (_made({}), ThresholdNotMet),
    "one of two": lambda: (_made(_files(ALICE)), ThresholdNotMet),
    "one, and their ML-DSA": lambda: (_made(_files(ALICE), _second(ALICE)), ThresholdNotMet),
    "ML-DSA only": lambda: (_made({}, _second(ALICE, BOB, CAROL)), ThresholdNotMet),
    "one, and another's ML-DSA": lambda: (_made(_files(ALICE), _second(BOB)), ThresholdNotMet),
    "the same twice, named for holder and key": lambda: (
        _made(_twice(f"alice.{_keyid(ALICE)[:8]}", ALICE)),
        ThresholdNotMet,
    ),
    "the same under another holder's name": lambda: (_made(_twice("bob", ALICE)), SignatureInvalid),
    "the same under a stranger's name": lambda: (_made(_twice("zoe", ALICE)), SignatureInvalid),
    "the same under another key's digits": lambda: (
        _made(_twice("alice.00000000", ALICE)),
        SignatureInvalid,
    ),
    "the same under more digits": lambda: (
        _made(_twice(f"alice.{_keyid(ALICE)[:9]}", ALICE)),
        SignatureInvalid,
    ),
    "the same under no digits": lambda: (_made(_twice("alice.", ALICE)), SignatureInvalid),
    "a stranger for the second": lambda: (_made(_files(ALICE, MALLORY)), SignerUnknown),
    "a stranger beside enough": lambda: (_made(_files(ALICE, BOB, MALLORY)), SignerUnknown),
    "a holder of another role": lambda: (_made(_files(ALICE, DORA)), SignerUnknown),
    "in another role": lambda: (
        _made({**_files(ALICE), **_files(BOB, role="root")}),
        SignatureInvalid,
    ),
    "all in another role": lambda: (_made(_files(ALICE, BOB, role="patch")), SignatureInvalid),
    "of another list": lambda: (
        _made({**_files(ALICE), **_files(BOB, message=b"x")}),
        SignatureInvalid,
    ),
    "an empty one beside enough": lambda: (_made({**_files(ALICE, BOB), "carol": b""}), SignatureInvalid),
    "by a second key nobody enrolled": lambda: (
        _made({**_files(ALICE), "bob": ALICE_TOO.sign(LIST)}),
        SignerUnknown,
    ),
    "revoked, among two": lambda: (_made(_files(ALICE, BOB), {}, "off", _keyid(BOB)), KeyRevoked),
    "revoked, beside enough": lambda: (
        _made(_files(ALICE, BOB, CAROL), {}, "off", _keyid(BOB)),
        KeyRevoked,
    ),
    "its ML-DSA key revoked": lambda: (
        _made(_files(ALICE, BOB), _second(BOB), "off", BOB.second_key.keyid),
        KeyRevoked,
    ),
    "require: ML-DSA stripped": lambda: (_made(_files(ALICE, BOB, CAROL), {}, "require"), ThresholdNotMet),
    "require: stripped of one": lambda: (
        _made(_files(ALICE, BOB), _second(ALICE), "require"),
        ThresholdNotMet,
    ),
    "require: of another holder": lambda: (
        _made(_files(ALICE, BOB), _second(ALICE, CAROL), "require"),
        ThresholdNotMet,
    ),
    "require: another's under one's name": lambda: (
        _made(_files(ALICE, BOB), {**_second(ALICE), "bob": ALICE.sign_second(LIST)}, "require"),
        SignatureInvalid,
    ),
    "require: the SSH one in its place": lambda: (
        _made(_files(ALICE, BOB), {**_second(ALICE), "bob": BOB.sign(LIST)}, "require"),
        SignatureInvalid,
    ),
    "require: for another role": lambda: (
        _made(_files(ALICE, BOB), {**_second(ALICE), **_second(BOB, role="root")}, "require"),
        SignatureInvalid,
    ),
    "require: by a stranger's key": lambda: (
        _made(_files(ALICE, BOB), _second(ALICE, BOB, MALLORY), "require"),
        SignerUnknown,
    ),
    "require: ML-DSA by a key of digits that fit none": lambda: (
        _made(_files(ALICE, BOB), {**_second(ALICE), "bob.00000000": BOB.sign_second(LIST)}, "require"),
        SignerUnknown,
    ),
    "off: a bad ML-DSA beside enough": lambda: (
        _made(_files(ALICE, BOB), {"carol": bytes(4627)}),
        SignatureInvalid,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", cases(9, SIGNED))
def test_signatures_that_are_too_few_or_spoilt(
    case: Callable[[], tuple[Made, type[BundleUntrusted]]],
) -> None:
    (ssh, second, pq, revoked), expected = case()
    verdict = decide(LIST, ssh, root(pq), "release", post_quantum=second, revoked=revoked)
    with pytest.raises(expected):
        verdict.require()


@pytest.mark.control
def test_enough_of_each() -> None:
    decide(LIST, _files(ALICE, BOB), root(), "release").require()
    both = _second(ALICE, BOB)
    decide(LIST, _files(ALICE, BOB), root("require"), "release", post_quantum=both).require()


def test_one_holder_s_two_keys_are_one_person() -> None:
    two = compose([*ALICE.enrolled(), *ALICE_TOO.enrolled(), *BOB.enrolled()])
    files = {f"alice.{each.key.keyid[:8]}": each.sign(LIST) for each in (ALICE, ALICE_TOO)}
    with pytest.raises(ThresholdNotMet):
        decide(LIST, files, two, "release").require()


def test_weak_keys_cannot_be_enrolled() -> None:
    values = json.loads(root_bytes(root()))
    weak = base64.b64encode(encode_blob("ssh-ed25519", (1).to_bytes(32, "little"))).decode()
    values["keys"][_keyid(ALICE)]["public"] = f"ssh-ed25519 {weak}"
    with pytest.raises(KeyRefused):
        parse_root(canonical_bytes(values))


@pytest.mark.group(8)
def test_a_key_whose_base64_has_loose_bits() -> None:
    """The last letter holds bits that no byte needs: another spelling of one key."""
    text = ALICE_TOO.key.text
    assert text.endswith("==")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = f"{text[:-3]}{letters[letters.index(text[-3]) + 1]}=="
    assert base64.b64decode(other.split()[1]) == ALICE_TOO.key.blob
    with pytest.raises(KeyRefused):
        parse_public(other)
