"""Who signed something, and whether that is enough.

Used for a bundle's list, and for every document of ``appliance.trust``.  The rules:

1. What is signed are the bytes as they lie there, in the role's namespace.
2. Every signature that is present must be well-formed, by a key enrolled for the role, held by the
   holder its file is named for, and must verify.  One bad signature refuses what it signs, however many
   good ones there are: somebody tampered, and a person should find out who.
3. The threshold counts distinct holders and distinct keys (by SubjectPublicKeyInfo), whichever is
   fewer.  One holder with two keys counts once; one key under two names counts once.
4. An ML-DSA signature stands beside an SSH one and never counts alone.  Rule 2 holds of it too.  If the
   root's policy requires them, a holder counts only with both; if it warns, what lacks is noted.
5. A revoked key signs nothing any more: its signature refuses what it signs.
6. The root's profile says which hashes an SSH signature may use.
7. No clock is asked: nothing here expires.

A signature's file is named for its holder (``alice``) or, where one person may sign with an old and a new
key, for holder and key (``alice.3f1c9a2b``: the first 8 digits of the key's identity).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from appliance.errors import (
    BundleUntrusted,
    KeyRefused,
    KeyRevoked,
    SignatureInvalid,
    SignerUnknown,
    ThresholdNotMet,
)
from appliance.trust.mldsa import PostQuantumKey, verify_post_quantum
from appliance.trust.root import namespace
from appliance.trust.sshsig import parse_signature, verify_signature

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from appliance.trust.profiles import Profile
    from appliance.trust.root import Root

KEY_DIGITS: Final = 8
_NOBODY: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Signer:
    """A holder whose signature verified, and the key that made it.

    ``post_quantum`` are the identities of this holder's ML-DSA keys that signed the same.
    """

    holder: str
    keyid: str
    fingerprint: str
    post_quantum: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Signatures:
    """What lies beside something signed, by the name in the files: ``alice``, or ``alice.3f1c9a2b``.

    ``ssh`` are armoured SSHSIG signatures, ``post_quantum`` raw ones of ML-DSA-87.
    """

    ssh: Mapping[str, bytes] = field(default_factory=dict)
    post_quantum: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, with every reason against (none: accepted), and what else a person should know."""

    role: str
    threshold: int
    signers: tuple[Signer, ...]
    refusals: tuple[BundleUntrusted, ...]
    notes: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return not self.refusals

    def require(self) -> None:
        """Raise the first reason against, if there is one."""
        if self.refusals:
            raise self.refusals[0]


def decide(
    message: bytes,
    signatures: Mapping[str, bytes],
    root: Root,
    role: str,
    *,
    post_quantum: Mapping[str, bytes] | None = None,
    revoked: Collection[str] = _NOBODY,
) -> Verdict:
    """Judge the signatures over something.

    Args:
        message: the bytes that are signed: a bundle's list, a document.
        signatures: the bytes of each signature file, by the name in it.
        root: the trusted root.
        role: the role that must have signed.
        post_quantum: the bytes of each ML-DSA signature file, likewise.
        revoked: identities of keys that sign nothing any more.
    """
    if role not in root.roles:
        refusal = SignerUnknown(
            f"the root gives nobody the role {role}",
            found=", ".join(root.roles),
            hint="give it by the next root (trust propose); some commands take another with --role",
        )
        return Verdict(role, 0, (), (refusal,))
    given = Signatures(signatures, post_quantum or {})
    signers, refusals = judge_signers(message, given, (root,), role, revoked=revoked)
    if short := too_few(root, role, signers):
        refusals.append(short)
    return Verdict(role, root.roles[role].threshold, tuple(signers), tuple(refusals), _notes(root, signers))


def judge_signers(
    message: bytes,
    given: Signatures,
    roots: Sequence[Root],
    role: str,
    *,
    revoked: Collection[str] = _NOBODY,
) -> tuple[list[Signer], list[BundleUntrusted]]:
    """Judge every signature by itself: who signed, and what is wrong with the others.

    Args:
        message: the bytes that are signed.
        given: the signatures.
        roots: the keys of which count; of several where one root follows another, the later first.
        role: the role to have been signed in.
        revoked: identities of keys that sign nothing any more.
    """
    signers: list[Signer] = []
    refusals: list[BundleUntrusted] = []
    second: dict[str, tuple[str, ...]] = {}
    for name, raw in sorted(given.post_quantum.items()):
        try:
            holder, key = judge_post_quantum(message, name, raw, roots, role, revoked=revoked)
            second[holder] = (*second.get(holder, ()), key.keyid)
        except (SignatureInvalid, SignerUnknown, KeyRevoked) as refusal:
            refusal.message = f"ML-DSA signature of {name}: {refusal.message}"
            refusals.append(refusal)
    for name, armoured in sorted(given.ssh.items()):
        try:
            signer = judge_signature(message, name, armoured, roots, role, revoked=revoked)
        except (SignatureInvalid, SignerUnknown, KeyRefused, KeyRevoked) as refusal:
            refusal.message = f"signature of {name}: {refusal.message}"
            refusals.append(refusal)
        else:
            signers.append(replace(signer, post_quantum=second.get(signer.holder, ())))
    return signers, refusals


def judge_signature(
    message: bytes,
    name: str,
    armoured: bytes,
    roots: Sequence[Root],
    role: str,
    *,
    revoked: Collection[str] = _NOBODY,
) -> Signer:
    """Judge one SSH signature by the rules 1, 2, 5 and 6.

    Raises:
        SignatureInvalid: malformed, forged, for another role, or under another holder's name.
        SignerUnknown: by a key no root enrols for the role.
        KeyRefused: by a key that proves nothing.
        KeyRevoked: by one that was taken back.
    """
    signature = parse_signature(armoured)
    verify_signature(signature, message, namespace(role))
    key = signature.key
    judge = next((root for root in roots if key.keyid in root.roles[role].keys), None)
    # The blob is compared too: a token's key and the same key off the token are not interchangeable.
    if judge is None or judge.keys[key.keyid].key != key:
        known = next((root.keys[key.keyid].holder for root in roots if key.keyid in root.keys), None)
        raise _unknown(
            role, f"{key.algorithm} {key.fingerprint}" + (f" of {known}" if known else ""), roots
        )
    holder = judge.keys[key.keyid].holder
    _check_hash(signature.hash_name, judge.policy.rules)
    _check_name(name, holder, key.keyid, revoked)
    return Signer(holder, key.keyid, key.fingerprint)


def judge_post_quantum(
    message: bytes,
    name: str,
    raw: bytes,
    roots: Sequence[Root],
    role: str,
    *,
    revoked: Collection[str] = _NOBODY,
) -> tuple[str, PostQuantumKey]:
    """Judge one ML-DSA signature by the same rules; its name has to say by which key it is.

    Raises:
        SignatureInvalid: of a wrong length, forged, for another role, or under another key's name.
        SignerUnknown: under the name of nobody whom a root enrols for the role with such a key.
        KeyRevoked: by a key that was taken back.
    """
    holder, _, digits = name.partition(".")
    keys = [key for root in roots if (key := root.post_quantum_key(role, holder)) is not None]
    key = next((key for key in keys if key.keyid.startswith(digits)), None)
    if key is None:
        raise _unknown(role, f"ML-DSA-87 of {name}", roots)
    verify_post_quantum(key, raw, message, namespace(role))
    named = next(root.keys[key.keyid].holder for root in roots if key.keyid in root.roles[role].keys)
    _check_name(name, named, key.keyid, revoked)
    return holder, key


def counting(root: Root, role: str, signers: Sequence[Signer]) -> list[Signer]:
    """The rule 4: those among signers who count for a role of a root."""
    rule = root.roles[role]
    required = root.policy.pq == "require"
    return [
        one
        for one in signers
        if one.keyid in rule.keys and (not required or set(one.post_quantum) & set(rule.keys))
    ]


def too_few(root: Root, role: str, signers: Sequence[Signer]) -> ThresholdNotMet | None:
    """The rules 3 and 4: why these signers are too few for a role of a root; None if they are enough."""
    rule = root.roles[role]
    valid = counting(root, role, signers)
    # By the names of this root: the next one could call one person's two keys by two.
    count = {root.keys[one.keyid].holder for one in valid}
    counted = min(len(count), len({one.keyid for one in valid}))
    if counted >= rule.threshold:
        return None
    half = sorted({root.keys[one.keyid].holder for one in signers if one.keyid in rule.keys} - count)
    missing = sorted(set(root.holders(role)) - count)
    lacking = f"; without the ML-DSA signature: {', '.join(half)}" if half else ""
    return ThresholdNotMet(
        f"too few holders signed as {role}",
        found=f"{counted}: {', '.join(sorted(count)) or 'nobody'}{lacking}",
        wanted=f"{rule.threshold} of {', '.join(root.holders(role))}",
        hint=f"have one of these sign: {', '.join(missing)}" if missing else None,
    )


def _notes(root: Root, signers: Sequence[Signer]) -> tuple[str, ...]:
    without = sorted({one.holder for one in signers if not one.post_quantum})
    if root.policy.pq != "warn" or not without:
        return ()
    return (f"no ML-DSA signature of {', '.join(without)}; the root asks for them, and does not insist",)


def _check_name(name: str, holder: str, keyid: str, revoked: Collection[str]) -> None:
    """What a signature's file name says of its key must be so; and the key must still count."""
    given, dot, digits = name.partition(".")
    if given != holder:
        raise SignatureInvalid(
            "the file is named for another holder than its key's",
            found=given,
            wanted=holder,
            hint="do not use what it signs until it is clear who renamed the file",
        )
    if dot and digits != keyid[:KEY_DIGITS]:
        raise SignatureInvalid(
            "the file is named for another key than the one that signed",
            found=digits,
            wanted=keyid[:KEY_DIGITS],
            hint="do not use what it signs until it is clear who renamed the file",
        )
    if keyid in revoked:
        raise KeyRevoked(
            "the key was revoked",
            found=keyid,
            wanted="a key that still counts",
            hint=f"have {holder} sign with another key, or somebody else",
        )


def _check_hash(name: str, profile: Profile) -> None:
    if name not in profile.ssh_hashes:
        raise SignatureInvalid(
            f"the profile {profile.name} allows no signature with this hash",
            found=name,
            wanted=" or ".join(sorted(profile.ssh_hashes)),
            hint="have it signed again by: appliance sign, or ssh-keygen -Y sign -O hashalg=sha512",
        )


def _unknown(role: str, found: str, roots: Sequence[Root]) -> SignerUnknown:
    return SignerUnknown(
        f"the root does not enrol this key for the role {role}",
        found=found,
        wanted=f"a key of {', '.join(sorted({one for root in roots for one in root.holders(role)}))}",
        hint="have an enrolled holder sign, or trust the root that enrols this one",
    )
