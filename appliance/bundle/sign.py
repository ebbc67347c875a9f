"""Adding one holder's signature to a bundle.

The signature is one that ``ssh-keygen -Y verify`` accepts; the key may be a file, with or without a
passphrase, in ssh-agent, or on a token (``appliance.bundle.signing_keys``).  Beside it goes what the
holder says of the bundle's provenance.  A holder who has an ML-DSA key too signs with that as well, by a
call of its own.  All is judged as any verifier would judge it before it is put in its place.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import replace_file
from appliance.bundle.judging import require_role
from appliance.bundle.list_kind import require_kind
from appliance.bundle.media.label import SPARE_FOLDER
from appliance.bundle.opening import open_tree
from appliance.bundle.paths import (
    MANIFEST_PATH,
    TRUST_FOLDER,
    post_quantum_path,
    provenance_path,
    signature_path,
)
from appliance.bundle.post_quantum_keys import PostQuantumSigner, open_signer
from appliance.bundle.provenance import judge_provenance, make_provenance, statement_bytes
from appliance.bundle.reader import read_contents, read_signed, require_file
from appliance.errors import PreflightFailed, SignerUnknown, ThresholdNotMet, Usage
from appliance.trust.mldsa import verify_post_quantum
from appliance.trust.policy import Signer, decide, judge_signature
from appliance.trust.root import HOLDER, ROLES, namespace, parse_root
from appliance.trust.sshsig import parse_signature, verify_signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from appliance.bundle.reader import Signed
    from appliance.errors import BundleUntrusted
    from appliance.trust.root import Root


#: Roles that bring bundles, each of one kind.
_KINDS: Final = frozenset({"patch", "release"})


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """What signing did: the new signature, and how far the bundle is by its own root.

    ``threshold`` is None and ``signers`` holds only this one if the bundle carries no root; ``enough``
    says whether that root asks for no more signatures.
    ``spoilt`` says what is wrong with what others put there: with it the bundle never verifies.
    ``provenance`` is where the holder's statement lies, None if there is none.
    """

    path: Path
    digest: str
    role: str
    signer: Signer
    signers: tuple[Signer, ...]
    threshold: int | None
    spoilt: tuple[str, ...] = ()
    provenance: Path | None = None
    enough: bool = False


def sign_bundle(
    folders: Path | Sequence[Path],
    key: Path,
    *,
    role: str = "release",
    holder: str | None = None,
    with_provenance: bool = True,
) -> SignedBundle:
    """Sign the list of the bundle in ``folders``; a former signature of the same holder is replaced.

    List, manifest, names and sizes are checked first; the payload's bytes are not, since it is the
    list that is signed: damaged bytes can never pass for the listed ones.

    Args:
        folders: where the bundle lies; of several volumes every one is signed, its second copies too.
        key: a private key file (OpenSSH's or ML-DSA-87), or a public one whose key ssh-agent holds.
        role: the role to sign in.
        holder: the holder's name; found in the bundle's root by the key if None.
        with_provenance: whether to say, too, what the bundle was built from; keys on tokens cannot.
            A former statement of the same holder is replaced, or removed.

    Raises:
        Usage: no such key file or role, or the holder is not known.
        ToolMissing: the key is on a token, and there is no ssh-keygen.
        SigningFailed: the key could not be opened, or would not sign.
        SignerUnknown, SignatureInvalid, KeyRefused: by the bundle's root this key does not count.
        ProfileNotMet: the bundle lacks the list that its root's profile has signed.
        BundleUntrusted: the bundle is incomplete or malformed, or of another kind than the role may bring;
            it is not signed.
        PreflightFailed, SpaceExhausted: a volume cannot be written to.
    """
    if role not in ROLES:
        raise Usage("no such role", found=role, wanted=", ".join(ROLES))
    if holder is not None and not HOLDER.fullmatch(holder):
        raise Usage("a holder's name is misspelled", found=ascii(holder), wanted=HOLDER.pattern)
    with open_tree(folders) as tree:
        require_file(tree, MANIFEST_PATH)
        signed = read_signed(tree)
        contents = read_contents(tree, signed)
    if role in _KINDS:
        require_role(contents.manifest, role)
    root = parse_root(contents.root) if contents.root is not None else None
    if root is not None:
        require_kind(signed.kind, root.policy.rules)
    opened = open_signer(key)
    if isinstance(opened, PostQuantumSigner):
        return _sign_second(tree.folders, signed, opened, root, role)
    armoured = opened.sign(signed.message, namespace(role))
    signer = _judge(signed.message, armoured, root, role, holder)
    statement = statement_bytes(signed.digests, contents.manifest, contents.files)
    public = parse_signature(armoured).key
    envelope = make_provenance(opened, public, statement) if with_provenance else None

    path = _write_everywhere(tree.folders, signature_path(signer.holder, signed.kind), armoured)
    beside = _write_everywhere(tree.folders, provenance_path(signer.holder), envelope)
    provenance = beside if envelope is not None else None
    if root is None:
        return SignedBundle(path, signed.digest, role, signer, (signer,), None, provenance=provenance)
    verdict = decide(
        signed.message,
        {**signed.signatures, signer.holder: armoured},
        root,
        role,
        post_quantum=signed.post_quantum,
    )
    # What is wrong with a holder is said once: of a spoilt signature, not of the provenance beside it.
    passed_over = {signer.holder} | signed.signatures.keys() - {one.holder for one in verdict.signers}
    others = {name: data for name, data in signed.provenance.items() if name not in passed_over}
    refusals = [*verdict.refusals, *judge_provenance(others, verdict.signers, root, statement)]
    return SignedBundle(
        path,
        signed.digest,
        role,
        signer,
        verdict.signers,
        verdict.threshold,
        spoilt=tuple(each.message for each in refusals if not isinstance(each, ThresholdNotMet)),
        provenance=provenance,
        enough=_is_enough(refusals),
    )


def _is_enough(refusals: Iterable[BundleUntrusted]) -> bool:
    return not any(isinstance(each, ThresholdNotMet) for each in refusals)


def _sign_second(
    folders: Sequence[Path], signed: Signed, opened: PostQuantumSigner, root: Root | None, role: str
) -> SignedBundle:
    """Add a holder's ML-DSA signature, which stands beside the other and counts only with it."""
    if root is None:
        raise Usage(
            "the bundle carries no root, so nobody knows whose ML-DSA key this is",
            found=opened.key.fingerprint,
            wanted="a bundle that was built with --root",
        )
    enrolled = root.keys.get(opened.key.keyid)
    if role not in root.roles or enrolled is None or opened.key.keyid not in root.roles[role].keys:
        raise SignerUnknown(
            f"the bundle's root does not enrol this key for the role {role}",
            found=f"{opened.key.algorithm} {opened.key.fingerprint}",
            wanted="an ML-DSA-87 key that the root names in this role",
        )
    holder = enrolled.holder
    raw = opened.sign(signed.message, namespace(role))
    verify_post_quantum(opened.key, raw, signed.message, namespace(role))
    path = _write_everywhere(folders, post_quantum_path(holder, signed.kind), raw)
    verdict = decide(
        signed.message, signed.signatures, root, role, post_quantum={**signed.post_quantum, holder: raw}
    )
    return SignedBundle(
        path,
        signed.digest,
        role,
        Signer(holder, opened.key.keyid, opened.key.fingerprint, (opened.key.keyid,)),
        verdict.signers,
        verdict.threshold,
        spoilt=tuple(each.message for each in verdict.refusals if not isinstance(each, ThresholdNotMet)),
        enough=_is_enough(verdict.refusals),
    )


def _write_everywhere(folders: Sequence[Path], path: str, data: bytes | None) -> Path:
    """Write a file beside the list into the bundle's folder, or onto all its volumes; the first place.

    None removes it.

    Raises:
        PreflightFailed, SpaceExhausted: one of them cannot be written to.  As far as that can be
            foreseen, nothing is written to the others either.
    """
    places = [folder / path for folder in folders]
    places += [
        folder / SPARE_FOLDER / path
        for folder in folders
        if (folder / SPARE_FOLDER / TRUST_FOLDER).is_dir()
    ]
    if locked := [place.parent for place in places if not os.access(place.parent, os.W_OK)]:
        raise PreflightFailed(
            f"nothing can be written under {locked[0]}",
            found="no permission, or a write-protected medium",
            wanted="every folder the bundle lies in: all of them carry every signature",
            hint="sign a writable copy, and before `appliance media write`",
        )
    for place in places:
        if data is None:
            place.unlink(missing_ok=True)
        else:
            replace_file(place, data)
    return places[0]


def _judge(message: bytes, armoured: bytes, root: Root | None, role: str, holder: str | None) -> Signer:
    """Check what the key returned as any verifier would; returns who signed."""
    signature = parse_signature(armoured)
    verify_signature(signature, message, namespace(role))
    key = signature.key
    if root is None:
        if holder is None:
            raise Usage(
                "the bundle carries no root, so the key's holder is not known",
                found=key.fingerprint,
                wanted="--holder NAME",
            )
        return Signer(holder, key.keyid, key.fingerprint)
    if role not in root.roles:
        raise SignerUnknown(f"the bundle's root gives nobody the role {role}", found=", ".join(root.roles))
    enrolled = root.keys.get(key.keyid)
    name = holder or (enrolled.holder if enrolled else "nobody")
    return judge_signature(message, name, armoured, (root,), role)
