"""One holder's signature beside a document.

It is judged as any verifier would judge it before it gets its name: by the root whose keys count, and of
root N+1 by root N and N+1.  What others signed is judged too, and said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.documents import read_document
from appliance.bundle.durable import replace_file
from appliance.bundle.post_quantum_keys import PostQuantumSigner
from appliance.bundle.roots import load_root
from appliance.errors import BundleUntrusted, DocumentInvalid, SignerUnknown, Usage
from appliance.trust.documents import SignedDocument, signature_name
from appliance.trust.kinds import document_name, document_type, parse_document, role_of
from appliance.trust.policy import KEY_DIGITS, Signatures, judge_signers
from appliance.trust.root import namespace, parse_root
from appliance.trust.sshsig import parse_signature
from appliance.trust.standing import judge_document, roots_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.bundle.signing_keys import SigningKey
    from appliance.trust.kinds import Document
    from appliance.trust.root import Enrolled, Root
    from appliance.trust.standing import Standing


@dataclass(frozen=True, slots=True)
class Made:
    """A new signature, whose it is, and how far the document is with it."""

    path: Path
    entry: Enrolled
    standing: Standing


def sign_document(
    file: Path, signer: SigningKey | PostQuantumSigner, *, role: str | None = None, root: Path | None = None
) -> Made:
    """Sign a document; a former signature by the same key is replaced.

    Args:
        file: the document.
        signer: the opened key, of either kind.
        role: the role to sign in; that of the document if None, and no other can be.
        root: the root whose keys count; of root N+1 the root N; none for a root of version 1.

    Raises:
        Usage: there is no such file, another role, or a root is missing.
        DocumentInvalid: it is none, or lies under another name than its own.
        SignerUnknown, SignatureInvalid, KeyRefused: this signature would not count.
        SigningFailed: the key would not sign.
        PreflightFailed, SpaceExhausted: nothing can be written beside the document.
    """
    signed = read_document(file)
    document = named_document(file.name, signed.data)
    trusted = None if root is None else parse_root(load_root(root, None))
    roots = roots_for(document, trusted)
    needed = role_of(document, roots[0])
    if role not in {None, needed}:
        raise Usage(
            f"a document of the type {document_type(document)} is not signed in this role",
            found=str(role),
            wanted=needed,
        )
    made = signer.sign(signed.data, namespace(needed))
    later = isinstance(signer, PostQuantumSigner)
    key = signer.key if isinstance(signer, PostQuantumSigner) else parse_signature(made).key
    entry = _entry(key.keyid, roots, needed, f"{key.algorithm} {key.fingerprint}")
    name = f"{entry.holder}.{key.keyid[:KEY_DIGITS]}"
    alone = Signatures(post_quantum={name: made}) if later else Signatures({name: made})
    if refusals := judge_signers(signed.data, alone, roots, needed)[1]:
        raise refusals[0]

    path = file.with_name(signature_name(file.name, entry.holder, key.keyid, post_quantum=later))
    replace_file(path, made)
    ssh, post_quantum = dict(signed.signatures.ssh), dict(signed.signatures.post_quantum)
    (post_quantum if later else ssh)[name] = made
    standing = judge_document(SignedDocument(signed.data, Signatures(ssh, post_quantum)), trusted)
    return Made(path, entry, standing)


def named_document(name: str, data: bytes) -> Document:
    """The document in a file of this name.

    Raises:
        DocumentInvalid: it has to be called otherwise; its signatures are found by its name.
        BundleUntrusted: it is none.
    """
    try:
        document = parse_document(data)
    except BundleUntrusted as fault:
        fault.message = f"{name}: {fault.message}"
        raise
    if (wanted := document_name(document)) != name:
        raise DocumentInvalid(
            "the document lies under another name than its own",
            found=name,
            wanted=wanted,
            hint="find out who renamed it, and why",
        )
    return document


def _entry(keyid: str, roots: Sequence[Root], role: str, found: str) -> Enrolled:
    for root in roots:
        if keyid in root.roles[role].keys:
            return root.keys[keyid]
    known = next((f" of {root.keys[keyid].holder}" for root in roots if keyid in root.keys), "")
    raise SignerUnknown(
        f"the root does not enrol this key for the role {role}",
        found=f"{found}{known}",
        wanted=f"a key of {', '.join(sorted({one for root in roots for one in root.holders(role)}))}",
        hint="have an enrolled holder sign, or name the root that enrols this one with --root",
    )
