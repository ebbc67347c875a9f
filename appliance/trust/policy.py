"""Who signed a bundle, and whether that is enough.

The rules:

1. The signed bytes are those of ``trust/SHA256SUMS`` as they lie there, in the role's namespace.
2. Every signature that is present must be well-formed, by a key enrolled for the role, held by the
   holder its file is named for, and must verify.  One bad signature refuses the bundle, however many
   good ones there are: somebody tampered, and a person should find out who.
3. The threshold counts distinct holders and distinct keys (by SubjectPublicKeyInfo), whichever is
   fewer.  One holder with two keys counts once; one key under two names counts once.
4. No clock is asked: nothing here expires.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import BundleUntrusted, KeyRefused, SignatureInvalid, SignerUnknown, ThresholdNotMet
from appliance.trust.root import namespace
from appliance.trust.sshsig import parse_signature, verify_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.trust.root import Root


@dataclass(frozen=True, slots=True)
class Signer:
    """A holder whose signature verified, and the key that made it."""

    holder: str
    keyid: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, with every reason against (none: accepted)."""

    role: str
    threshold: int
    signers: tuple[Signer, ...]
    refusals: tuple[BundleUntrusted, ...]

    @property
    def accepted(self) -> bool:
        return not self.refusals

    def require(self) -> None:
        """Raise the first reason against, if there is one."""
        if self.refusals:
            raise self.refusals[0]


def decide(listing: bytes, signatures: Mapping[str, bytes], root: Root, role: str) -> Verdict:
    """Judge the signatures over a bundle's list.

    Args:
        listing: the bytes of ``trust/SHA256SUMS``.
        signatures: the bytes of each signature file, by the holder in its name.
        root: the trusted root.
        role: the role that must have signed.
    """
    if role not in root.roles:
        refusal = SignerUnknown(
            f"the root gives nobody the role {role}",
            found=", ".join(root.roles),
            hint="name a role of the root with --role",
        )
        return Verdict(role, 0, (), (refusal,))
    signers: list[Signer] = []
    refusals: list[BundleUntrusted] = []
    for holder, armoured in sorted(signatures.items()):
        try:
            signers.append(judge_signature(listing, holder, armoured, root, role))
        except (SignatureInvalid, SignerUnknown, KeyRefused) as refusal:
            refusal.message = f"signature of {holder}: {refusal.message}"
            refusals.append(refusal)
    threshold = root.roles[role].threshold
    counted = min(len({one.holder for one in signers}), len({one.keyid for one in signers}))
    if counted < threshold:
        refusals.append(_too_few(root, role, signers, counted))
    return Verdict(role, threshold, tuple(signers), tuple(refusals))


def judge_signature(listing: bytes, holder: str, armoured: bytes, root: Root, role: str) -> Signer:
    """Judge one signature by the rules 1 and 2.

    Raises:
        SignatureInvalid: malformed, forged, for another role, or under another holder's name.
        SignerUnknown: by a key the root does not enrol for the role.
        KeyRefused: by a key that proves nothing.
    """
    signature = parse_signature(armoured)
    verify_signature(signature, listing, namespace(role))
    key = signature.key
    enrolled = root.keys.get(key.keyid)
    # The blob is compared too: a token's key and the same key off the token are not interchangeable.
    if enrolled is None or enrolled.key.blob != key.blob or key.keyid not in root.roles[role].keys:
        raise SignerUnknown(
            f"the root does not enrol this key for the role {role}",
            found=f"{key.algorithm} {key.fingerprint}" + (f" of {enrolled.holder}" if enrolled else ""),
            wanted=f"a key of {', '.join(root.holders(role))}",
            hint="have an enrolled holder sign, or trust the root that enrols this one",
        )
    if enrolled.holder != holder:
        raise SignatureInvalid(
            "the file is named for another holder than its key's",
            found=holder,
            wanted=enrolled.holder,
            hint="do not use the bundle until it is clear who renamed the file",
        )
    return Signer(holder, key.keyid, key.fingerprint)


def _too_few(root: Root, role: str, signers: list[Signer], counted: int) -> ThresholdNotMet:
    names = ", ".join(one.holder for one in signers) or "nobody"
    missing = sorted(set(root.holders(role)) - {one.holder for one in signers})
    return ThresholdNotMet(
        f"too few holders signed as {role}",
        found=f"{counted}: {names}",
        wanted=f"{root.roles[role].threshold} of {', '.join(root.holders(role))}",
        hint=f"have one of these sign: {', '.join(missing)}" if missing else None,
    )
