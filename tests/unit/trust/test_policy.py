"""Who counts, how often, and that one bad signature spoils all."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import BundleUntrusted, KeyRefused, SignatureInvalid, SignerUnknown, ThresholdNotMet
from appliance.trust import policy
from appliance.trust.keys import encode_blob, parse_blob, parse_public_file
from appliance.trust.policy import Signer, decide
from appliance.trust.root import Enrolled, Rule, parse_root, root_bytes
from appliance.trust.sshsig import armour, parse_signature, verify_signature
from appliance.trust.wire import string
from tests.roots import first_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.trust.root import Root
    from tests.conftest import Holders

LIST = b"the list\n"


def test_enough_holders_are_accepted(two_of_three: Root, ssh_sign: Callable[..., bytes]) -> None:
    verdict = decide(LIST, {"bob": ssh_sign("bob"), "alice": ssh_sign("alice")}, two_of_three, "release")
    assert verdict.accepted
    assert [signer.holder for signer in verdict.signers] == ["alice", "bob"]
    assert verdict.threshold == 2
    verdict.require()


def refused(root: Root, role: str = "release", **signatures: bytes) -> list[type[BundleUntrusted]]:
    verdict = decide(LIST, signatures, root, role)
    assert not verdict.accepted
    with pytest.raises(type(verdict.refusals[0])):
        verdict.require()
    return [type(refusal) for refusal in verdict.refusals]


def test_too_few_holders(two_of_three: Root, ssh_sign: Callable[..., bytes]) -> None:
    assert refused(two_of_three) == [ThresholdNotMet]
    assert refused(two_of_three, carol=ssh_sign("carol")) == [ThresholdNotMet]


def test_one_signature_under_two_names_counts_once(
    two_of_three: Root, ssh_sign: Callable[..., bytes]
) -> None:
    signature = ssh_sign("alice")
    assert SignatureInvalid in refused(two_of_three, alice=signature, bob=signature)


def test_a_signature_under_another_holder_s_name(
    two_of_three: Root, ssh_sign: Callable[..., bytes]
) -> None:
    found = refused(two_of_three, alice=ssh_sign("alice"), bob=ssh_sign("bob"), carol=ssh_sign("alice"))
    assert found == [SignatureInvalid]


def test_a_stranger_spoils_a_signed_bundle(two_of_three: Root, ssh_sign: Callable[..., bytes]) -> None:
    found = refused(two_of_three, alice=ssh_sign("alice"), bob=ssh_sign("bob"), mallory=ssh_sign("mallory"))
    assert found == [SignerUnknown]


def test_a_bad_signature_spoils_a_signed_bundle(two_of_three: Root, ssh_sign: Callable[..., bytes]) -> None:
    other = ssh_sign("carol", b"another list\n")
    assert refused(two_of_three, alice=ssh_sign("alice"), bob=ssh_sign("bob"), carol=other) == [
        SignatureInvalid
    ]


def test_a_signature_for_another_role(two_of_three: Root, ssh_sign: Callable[..., bytes]) -> None:
    other = ssh_sign("bob", space="root@appliance")
    assert refused(two_of_three, alice=ssh_sign("alice"), bob=other) == [SignatureInvalid, ThresholdNotMet]


def test_a_role_the_root_does_not_have(two_of_three: Root, ssh_sign: Callable[..., bytes]) -> None:
    found = refused(two_of_three, "patch", alice=ssh_sign("alice"), bob=ssh_sign("bob"))
    assert found == [SignerUnknown]


def test_a_key_enrolled_for_another_role_only(two_of_three: Root, ssh_sign: Callable[..., bytes]) -> None:
    carol = next(keyid for keyid, entry in two_of_three.keys.items() if entry.holder == "carol")
    release = tuple(keyid for keyid in two_of_three.roles["release"].keys if keyid != carol)
    root = replace(two_of_three, roles={**two_of_three.roles, "release": Rule(2, release)})
    root = parse_root(root_bytes(root))
    assert refused(root, alice=ssh_sign("alice"), carol=ssh_sign("carol")) == [
        SignerUnknown,
        ThresholdNotMet,
    ]


def test_one_holder_with_two_keys_counts_once(holders: Holders, ssh_sign: Callable[..., bytes]) -> None:
    """Alice enrolled carol's key as a second one of hers; together they are one person."""
    root = holders.root("alice", "bob", "carol")
    keys = {
        keyid: Enrolled("alice" if entry.holder == "carol" else entry.holder, entry.key)
        for keyid, entry in root.keys.items()
    }
    root = parse_root(root_bytes(replace(root, keys=keys)))
    assert root.holders("release") == ("alice", "bob")
    assert refused(root, alice=ssh_sign("alice")) == [ThresholdNotMet]
    assert refused(root, alice=ssh_sign("carol")) == [ThresholdNotMet]
    assert decide(LIST, {"alice": ssh_sign("carol"), "bob": ssh_sign("bob")}, root, "release").accepted


def test_a_weak_key_with_a_forged_signature(two_of_three: Root, ssh_sign: Callable[..., bytes]) -> None:
    identity = (1).to_bytes(32, "little")
    fields = (
        encode_blob("ssh-ed25519", identity),
        b"release@appliance",
        b"",
        b"sha512",
        encode_blob("ssh-ed25519", identity + bytes(32)),
    )
    forged = armour(b"SSHSIG\0\0\0\1" + b"".join(map(string, fields)))
    assert refused(two_of_three, alice=ssh_sign("alice"), bob=forged) == [KeyRefused, ThresholdNotMet]


def test_the_reasons_say_what_to_do(two_of_three: Root, ssh_sign: Callable[..., bytes]) -> None:
    verdict = decide(LIST, {"alice": ssh_sign("alice")}, two_of_three, "release")
    reason = verdict.refusals[0]
    assert (reason.found, reason.wanted) == ("1: alice", "2 of alice, bob, carol")
    assert reason.hint == "have one of these sign: bob, carol"


def test_distinct_keys_are_counted_whatever_the_names_say(
    two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second line of defence: even if one key passed for two holders, it would count once."""
    key = two_of_three.roles["release"].keys[0]
    monkeypatch.setattr(policy, "judge_signature", lambda _, holder, *__, **___: Signer(holder, key, ""))
    assert refused(two_of_three, alice=b"", bob=b"") == [ThresholdNotMet]


def test_a_key_off_its_token_does_not_sign_for_the_token(
    holders: Holders, ssh_sign: Callable[..., bytes]
) -> None:
    """The root enrols a key on a token; who has a copy of the bare key has not touched that token."""
    bare = Ed25519PrivateKey.generate()
    point = bare.public_key().public_bytes_raw()
    token = parse_blob(encode_blob("sk-ssh-ed25519@openssh.com", point, b"ssh:"))
    root = first_root({"alice": parse_public_file(holders.public("alice")), "bob": token})
    fields = (b"release@appliance", b"", b"sha512", hashlib.sha512(LIST).digest())
    value = encode_blob("ssh-ed25519", bare.sign(b"SSHSIG" + b"".join(map(string, fields))))
    blob = b"".join(map(string, (encode_blob("ssh-ed25519", point), *fields[:3], value)))
    forged = armour(b"SSHSIG\0\0\0\1" + blob)
    verify_signature(parse_signature(forged), LIST, "release@appliance")  # a good signature, by itself
    assert refused(root, alice=ssh_sign("alice"), bob=forged) == [SignerUnknown, ThresholdNotMet]
