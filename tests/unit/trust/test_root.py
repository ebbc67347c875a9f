"""A root in which anything is wrong is not a root."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BundleUntrusted, KeyRefused, RootInvalid, Usage
from appliance.trust.allowed_signers import allowed_signers
from appliance.trust.canonical import canonical_bytes
from appliance.trust.keys import encode_blob, parse_public_file
from appliance.trust.root import parse_root, root_bytes
from tests.roots import first_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import Holders


@pytest.fixture
def values(two_of_three: Root) -> dict[str, Any]:
    """A good root as JSON values, to be spoilt in one place."""
    return json.loads(root_bytes(two_of_three))


def test_a_root_is_read_back(two_of_three: Root) -> None:
    data = root_bytes(two_of_three)
    again = parse_root(data)
    assert again == two_of_three
    assert again.fingerprint == hashlib.sha256(data).hexdigest()
    assert again.holders("release") == ("alice", "bob", "carol")
    assert (again.version, again.solo, again.roles["release"].threshold) == (1, False, 2)


def _keyid(values: dict[str, Any], holder: str) -> str:
    return next(keyid for keyid, entry in values["keys"].items() if entry["holder"] == holder)


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def spoil(values: dict[str, Any]) -> None:
        place: Any = values
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return spoil


def _drop(*path: str) -> Callable[[dict[str, Any]], None]:
    def spoil(values: dict[str, Any]) -> None:
        place = values
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return spoil


def _key_under_another_identity(values: dict[str, Any]) -> None:
    values["keys"]["0" * 64] = values["keys"].pop(_keyid(values, "alice"))


def _identities_swapped(values: dict[str, Any]) -> None:
    keys, one, other = values["keys"], _keyid(values, "alice"), _keyid(values, "bob")
    keys[one], keys[other] = keys[other], keys[one]


def _unused_key(values: dict[str, Any]) -> None:
    keyid = _keyid(values, "carol")
    for role in values["roles"].values():
        role["keys"].remove(keyid)


def _key_twice_in_a_role(values: dict[str, Any]) -> None:
    values["roles"]["release"]["keys"].insert(0, values["roles"]["release"]["keys"][0])


def _keys_in_other_order(values: dict[str, Any]) -> None:
    values["roles"]["release"]["keys"].reverse()


def _one_holder_with_all_keys(values: dict[str, Any]) -> None:
    for entry in values["keys"].values():
        entry["holder"] = "alice"


def _threshold_above_holders(values: dict[str, Any]) -> None:
    """Three keys, but two people: three signatures of different holders can never be had."""
    values["keys"][_keyid(values, "carol")]["holder"] = "bob"
    values["roles"]["release"]["threshold"] = 3


def _patch_by_release_keys(values: dict[str, Any]) -> None:
    values["roles"]["patch"] = copy.deepcopy(values["roles"]["release"])


def _holder(name: object) -> Callable[[dict[str, Any]], None]:
    def spoil(values: dict[str, Any]) -> None:
        values["keys"][_keyid(values, "alice")]["holder"] = name

    return spoil


WRONG: dict[str, Callable[[dict[str, Any]], None]] = {
    "other format": _set("format", to=2),
    "format as text": _set("format", to="1"),
    "format as truth": _set("format", to=True),
    "other type": _set("type", to="bundle"),
    "version zero": _set("version", to=0),
    "version negative": _set("version", to=-1),
    "version huge": _set("version", to=2**53 - 1),
    "version as truth": _set("version", to=True),
    "unknown key": _set("comment", to="hello"),
    "unknown policy": _set("policy", to={"ml-dsa": "require"}),
    "policy as list": _set("policy", to=[]),
    "no policy": _drop("policy"),
    "no type": _drop("type"),
    "keys as list": _set("keys", to=[]),
    "no keys": _set("keys", to={}),
    "no role release": _drop("roles", "release"),
    "no role root": _drop("roles", "root"),
    "unknown role": _set("roles", "admin", to={"threshold": 1, "keys": []}),
    "role name with a path": _set("roles", "../release", to={"threshold": 1, "keys": []}),
    "threshold zero": _set("roles", "release", "threshold", to=0),
    "threshold negative": _set("roles", "release", "threshold", to=-2),
    "threshold as text": _set("roles", "release", "threshold", to="2"),
    "threshold as truth": _set("roles", "release", "threshold", to=True),
    "threshold one, not solo": _set("roles", "release", "threshold", to=1),
    "root threshold one, not solo": _set("roles", "root", "threshold", to=1),
    "threshold above keys": _set("roles", "release", "threshold", to=4),
    "threshold above holders": _threshold_above_holders,
    "one holder with all keys": _one_holder_with_all_keys,
    "solo without reason": _set("solo", to=True),
    "solo as number": _set("solo", to=0),
    "role without keys": _set("roles", "release", "keys", to=[]),
    "role with unknown key": _set("roles", "release", "keys", to=["0" * 64]),
    "role with a number": _set("roles", "release", "keys", to=[1]),
    "role with a list": _set("roles", "release", "keys", to=[[]]),
    "key twice in a role": _key_twice_in_a_role,
    "keys in other order": _keys_in_other_order,
    "key under another identity": _key_under_another_identity,
    "identities swapped": _identities_swapped,
    "unused key": _unused_key,
    "patch by release keys": _patch_by_release_keys,
    "holder empty": _holder(""),
    "holder with a space": _holder("alice smith"),
    "holder in capitals": _holder("Alice"),
    "holder with a pattern": _holder("*"),
    "holder with a path": _holder("../alice"),
    "holder with an option": _holder("-alice"),
    "holder with a line feed": _holder("alice\n"),
    "holder with a zero-width space": _holder("ali\u200bce"),
    "holder too long": _holder("a" * 64),
    "holder a number": _holder(7),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_one_thing_wrong_refuses_the_root(
    spoil: Callable[[dict[str, Any]], None], values: dict[str, Any]
) -> None:
    spoil(values)
    with pytest.raises(RootInvalid):
        parse_root(canonical_bytes(values))


def test_other_spellings_of_a_good_root_are_refused(values: dict[str, Any]) -> None:
    good = canonical_bytes(values)
    for data in (
        json.dumps(values).encode(),
        good + b"\n",
        b"\xef\xbb\xbf" + good,
        good.replace(b'"format":1', b'"format":1,"format":1'),
        good.replace(b'"format":1', b'"format":1.0'),
        good[:-1],
        b"",
        b"null",
        b"[]",
        good + b" " * (1 << 20),
    ):
        with pytest.raises(RootInvalid):
            parse_root(data)


@given(st.data())
def test_a_root_with_bytes_exchanged_is_refused_or_another_root(
    two_of_three: Root, data: st.DataObject
) -> None:
    """No crash, and never the same root under another fingerprint."""
    good = root_bytes(two_of_three)
    position = data.draw(st.integers(0, len(good) - 1))
    bad = good[:position] + bytes([data.draw(st.integers(0, 255))]) + good[position + 1 :]
    try:
        root = parse_root(bad)
    except BundleUntrusted:
        return
    assert (root == two_of_three) == (bad == good)


def test_a_weak_key_is_refused_whoever_holds_it(values: dict[str, Any]) -> None:
    import base64

    weak = encode_blob("ssh-ed25519", (1).to_bytes(32, "little"))
    values["keys"][_keyid(values, "alice")]["public"] = "ssh-ed25519 " + base64.b64encode(weak).decode()
    with pytest.raises(KeyRefused, match="weak"):
        parse_root(canonical_bytes(values))


def test_thresholds_are_more_than_half_unless_said(holders: Holders) -> None:
    assert holders.root("alice", "bob").roles["release"].threshold == 2
    assert holders.root("alice", "bob", "carol").roles["root"].threshold == 2
    three = holders.root("alice", "bob", "carol", release=3)
    assert (three.roles["release"].threshold, three.roles["root"].threshold) == (3, 2)


def test_one_person_alone_must_say_so(holders: Holders) -> None:
    assert holders.root("alice", solo=True).solo
    with pytest.raises(Usage, match="alone"):
        holders.root("alice")
    with pytest.raises(Usage, match="alone"):
        holders.root("alice", "bob", release=1)
    with pytest.raises(Usage, match="--solo"):
        holders.root("alice", "bob", solo=True, release=2, root=2)


def test_a_first_root_is_asked_for_sensibly(holders: Holders) -> None:
    alice = parse_public_file(holders.public("alice"))
    with pytest.raises(Usage, match="threshold"):
        holders.root("alice", "bob", release=3)
    with pytest.raises(Usage, match="threshold"):
        holders.root("alice", "bob", release=0)
    with pytest.raises(Usage, match="role"):
        holders.root("alice", "bob", admin=1)
    with pytest.raises(Usage, match="key of their own"):
        first_root({})
    with pytest.raises(Usage, match="key of their own"):
        first_root({"alice": alice, "alias": alice})
    with pytest.raises(Usage, match="misspelled"):
        first_root({"Alice": alice, "bob": parse_public_file(holders.public("bob"))})


def test_allowed_signers_are_what_ssh_keygen_reads(two_of_three: Root, tmp_path: Path) -> None:
    text = allowed_signers(two_of_three)
    assert [line.split()[0] for line in text.splitlines()] == ["alice", "bob", "carol"]
    assert text.count('namespaces="release@appliance,root@appliance"') == 3
    (tmp_path / "signers").write_text(text)
    # match-principals is OpenSSH's own reading of the file.
    command = ["ssh-keygen", "-Y", "match-principals", "-I", "bob", "-f", str(tmp_path / "signers")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["bob"]
