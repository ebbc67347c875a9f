"""Writing documents that are to be signed: revocations, and statements to nodes.

What cannot be is refused here, before anybody signs it; a draft is read as every reader will read it.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.bundle.ceremony.proposing import keys_named
from appliance.bundle.documents import read_document, read_plain
from appliance.bundle.durable import have_folder, replace_file, writing_under
from appliance.bundle.opening import open_tree
from appliance.bundle.reader import read_contents, read_signed
from appliance.bundle.roots import load_root
from appliance.errors import BundleUntrusted, DocumentInvalid, RevocationInvalid, StatementInvalid, Usage
from appliance.trust.kinds import document_bytes, document_name, parse_document
from appliance.trust.revocation import NOTHING, Revocation, extended
from appliance.trust.root import MAX_BYTES, parse_root
from appliance.trust.standing import judge_document
from appliance.trust.statements import EVERY_NODE, Admission, Release

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appliance.trust.kinds import Document
    from appliance.trust.root import Root

_KEYID: Final = re.compile(r"[0-9a-f]{64}")
_RELEASE: Final = re.compile(r"([0-9]{1,16}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Draft:
    """A document to be signed, where it was written, and what people should know of it."""

    path: Path
    document: Document
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Named:
    """A bundle as it was named: by its digest alone, or by the folder it lies in."""

    digest: str
    product: str | None = None
    version: str | None = None
    sequence: int | None = None
    is_patch: bool = False


def new_nonce() -> str:
    """64 hex digits that nobody can guess and that never come again."""
    return secrets.token_hex(32)


def write_draft(document: Document, out: Path, notes: Iterable[str] = ()) -> Draft:
    """Write a document under its name into the folder ``out``.

    Raises:
        Usage: it cannot be, or another lies there already.
        PreflightFailed, SpaceExhausted: it cannot be written.
    """
    data = document_bytes(document)
    try:
        parse_document(data)
    except (StatementInvalid, RevocationInvalid) as fault:
        raise Usage(fault.message, found=fault.found, wanted=fault.wanted) from fault
    path = out / document_name(document)
    with writing_under(out):
        have_folder(out)
        if os.path.lexists(path) and read_plain(path, MAX_BYTES) != data:
            raise Usage(f"{path} is there already, and another", hint="name another folder with --out")
        replace_file(path, data)
    return Draft(path, document, tuple(notes))


def revoke(
    out: Path, *, root: Path, before: Path | None, keys: Sequence[str], bundles: Sequence[str]
) -> Draft:
    """Write the next revocation: all that was revoked before, and these.

    Args:
        out: the folder to write to.
        root: the root in which names and shortened identities of keys are looked up.
        before: the newest revocation there is; None if there is none.
        keys: identities, or names of holders, all of whose keys in this root are meant.
        bundles: digests, or folders of bundles.

    Raises:
        Usage: nothing new would be revoked, or there is no such key.
        DocumentInvalid: ``before`` is no revocation.
    """
    trusted = parse_root(load_root(root, None))
    known, notes = NOTHING, []
    if before is not None:
        signed = read_document(before)
        document = parse_document(signed.data)
        if not isinstance(document, Revocation):
            raise DocumentInvalid(f"{before} is no revocation", wanted="revoked.N.json")
        known = document
        if not judge_document(signed, trusted).accepted:
            notes.append(
                f"by root {trusted.version}, {before.name} is not signed by enough; its contents stay in"
            )
    named = [keyid for text in keys for keyid in _identities(trusted, text)]
    digests = [name_bundle([text]).digest for text in bundles]
    following = extended(known, named, digests)
    if len(following.keys) + len(following.bundles) == len(known.keys) + len(known.bundles):
        raise Usage("nothing new is revoked", wanted="--key or --bundle, of what still counts")
    gone = set(following.keys)
    for role, rule in trusted.roles.items():
        left = {trusted.keys[keyid].holder for keyid in rule.keys if keyid not in gone}
        if role != "root" and len(left) < rule.threshold:
            notes.append(
                f"too few are left for the role {role} of root {trusted.version}: propose another root"
            )
    return write_draft(following, out, notes)


def admission(bundle: Named, nodes: Sequence[str], given: Named) -> Admission:
    """The admission of a bundle to nodes; no nodes: to every one.

    Args:
        bundle: what nodes come to have.
        nodes: the nodes' names.
        given: what is known of the bundle where only its digest is named.

    Raises:
        Usage: product, version or sequence are not known, or contradict the bundle.
    """
    parts = {}
    for part in ("product", "version", "sequence"):
        found, said = getattr(bundle, part), getattr(given, part)
        if found is not None and said not in {None, found}:
            raise Usage(f"the bundle has another {part}", found=str(found), wanted=str(said))
        if found is None and said is None:
            raise Usage(
                f"a digest alone does not tell the {part}", wanted=f"--{part}, or the bundle's folder"
            )
        parts[part] = said if found is None else found
    return Admission(
        bundle.digest,
        str(parts["product"]),
        str(parts["version"]),
        int(parts["sequence"] or 0),
        tuple(sorted(set(nodes))) or (EVERY_NODE,),
    )


def name_bundle(names: Sequence[str]) -> Named:
    """The bundle that is named by its digest, or lies in these folders (volumes of one bundle).

    Its signatures are not judged, nor is its payload read.

    Raises:
        Usage: there is no such folder.
        BundleUntrusted: what lies there is no bundle.
    """
    return _named(names)[0]


def name_outcome(names: Sequence[str]) -> Named:
    """What nodes come to have by it: the bundle itself, or the one that a patch leads to.

    Their journals are asked about that one, so statements name it.  Otherwise as ``name_bundle``.
    """
    itself, makes = _named(names)
    return itself if makes is None else replace(itself, digest=makes, is_patch=True)


def _named(names: Sequence[str]) -> tuple[Named, str | None]:
    if len(names) == 1 and _KEYID.fullmatch(names[0]):
        return Named(names[0]), None
    with open_tree([Path(name) for name in names]) as tree:
        signed = read_signed(tree)
        manifest = read_contents(tree, signed).manifest
    return Named(signed.digest, manifest.product, manifest.version, manifest.sequence), manifest.makes


def name_release(text: str) -> tuple[Release, str | None]:
    """A step of a product: ``SEQUENCE:DIGEST``, or a folder, which tells the product too.

    Raises:
        Usage, BundleUntrusted: as ``name_outcome``.
    """
    if match := _RELEASE.fullmatch(text):
        return Release(int(match[1]), match[2]), None
    try:
        named = name_outcome([text])
    except BundleUntrusted as fault:
        fault.hint = "name the bundle's folder, or SEQUENCE:DIGEST"
        raise
    if named.sequence is None:
        raise Usage("a digest alone does not tell the sequence", found=text, wanted="SEQUENCE:DIGEST")
    return Release(named.sequence, named.digest), named.product


def _identities(root: Root, text: str) -> list[str]:
    """A whole identity may be that of a key which an older root enrolled."""
    return [text] if _KEYID.fullmatch(text) else keys_named(root, text)
