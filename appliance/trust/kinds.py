"""Any document: what it says, how its file is called, and which role has to sign it (docs/trust.md)."""

from __future__ import annotations

from typing import Final

from appliance.errors import DocumentInvalid
from appliance.trust import revocation, statements
from appliance.trust.canonical import NotCanonicalError, parse_canonical
from appliance.trust.revocation import Revocation, parse_revocation, revocation_bytes
from appliance.trust.root import MAX_BYTES, Root, parse_root, root_bytes
from appliance.trust.statements import Statement, parse_statement, role_for, statement_bytes, statement_name

Document = Root | Revocation | Statement

_STATEMENTS: Final = tuple(statements.TYPES.values())
_TYPES: Final = ("root", "revocation", *_STATEMENTS)


def parse_document(data: bytes) -> Document:
    """Read a document of whatever type.

    Raises:
        DocumentInvalid: it is none, or its type is unknown.
        RootInvalid, KeyRefused, RevocationInvalid, StatementInvalid: of its type, and malformed.
    """
    try:
        value = parse_canonical(data, limit=max(MAX_BYTES, revocation.MAX_BYTES, statements.MAX_BYTES))
    except NotCanonicalError as fault:
        raise DocumentInvalid(
            "this is no document: not canonical JSON",
            found=str(fault),
            wanted="a file that appliance trust wrote, byte for byte",
            hint="obtain it again from who made it",
        ) from fault
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "root":
        return parse_root(data)
    if kind == "revocation":
        return parse_revocation(data)
    if kind in _STATEMENTS:
        return parse_statement(data)
    raise DocumentInvalid(
        "this is no document of a known type", found=ascii(kind)[:80], wanted=", ".join(_TYPES)
    )


def document_type(document: Document) -> str:
    """The type as its file spells it: ``root``, ``revocation``, ``admission`` …"""
    if isinstance(document, Root):
        return "root"
    return "revocation" if isinstance(document, Revocation) else statements.TYPES[type(document)]


def document_name(document: Document) -> str:
    """The name its file has to have."""
    if isinstance(document, Root):
        return f"root.{document.version}.json"
    if isinstance(document, Revocation):
        return f"revoked.{document.serial}.json"
    return statement_name(document)


def document_bytes(document: Document) -> bytes:
    """The document in its one spelling."""
    if isinstance(document, Root):
        return root_bytes(document)
    return revocation_bytes(document) if isinstance(document, Revocation) else statement_bytes(document)


def role_of(document: Document, root: Root) -> str:
    """The role whose holders have to sign a document, by the root that counts for it."""
    if isinstance(document, Root):
        return "root"
    return "revoke" if isinstance(document, Revocation) else role_for(document, root)
