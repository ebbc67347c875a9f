"""Statements with their signatures: which of them count.  Bytes in, values out.

A document that enough holders of its role did not sign, or that one signature speaks against, is refused
and not passed over: whoever brought it should find out why.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from appliance.errors import BundleUntrusted
from appliance.trust.canonical import NotCanonicalError, parse_canonical
from appliance.trust.node_rules import Attested, Statements
from appliance.trust.policy import decide
from appliance.trust.revocation import MAX_BYTES as LONGEST
from appliance.trust.statements import (
    Admission,
    Enrolment,
    Permit,
    Statement,
    Time,
    Waiver,
    parse_statement,
    role_for,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from appliance.trust.documents import SignedDocument
    from appliance.trust.policy import Verdict
    from appliance.trust.root import Root


def judge_statements(
    documents: Mapping[str, SignedDocument], root: Root, *, revoked: Collection[str]
) -> Statements:
    """The statements among documents; roots and revocations that lie beside them are passed over.

    Args:
        documents: each with its signatures, by the name of its file.
        root: the newest root.
        revoked: identities of keys that sign nothing any more.

    Raises:
        StatementInvalid: one is malformed.
        BundleUntrusted: one was not signed as its type asks; the subclass says why.
    """
    judged = [
        _judge(name, each, root, revoked) for name, each in documents.items() if not _is_another(each.data)
    ]
    said = [statement for statement, _ in judged]
    return Statements(
        admissions=[each for each in said if isinstance(each, Admission)],
        permits=[each for each in said if isinstance(each, Permit)],
        waivers=[each for each in said if isinstance(each, Waiver)],
        times=[
            Attested(each, _holders(verdict, root)) for each, verdict in judged if isinstance(each, Time)
        ],
        enrolments=[each for each in said if isinstance(each, Enrolment)],
    )


def _judge(
    name: str, document: SignedDocument, root: Root, revoked: Collection[str]
) -> tuple[Statement, Verdict]:
    with _naming(name):
        statement = parse_statement(document.data)
        return statement, _signed(document, root, role_for(statement, root), revoked)


def _holders(verdict: Verdict, root: Root) -> int:
    """How many distinct holders count among those who signed."""
    required = root.policy.pq == "require"
    return len({one.holder for one in verdict.signers if one.post_quantum or not required})


def _signed(document: SignedDocument, root: Root, role: str, revoked: Collection[str]) -> Verdict:
    given = document.signatures
    verdict = decide(document.data, given.ssh, root, role, post_quantum=given.post_quantum, revoked=revoked)
    verdict.require()
    return verdict


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say which file it is that is refused."""
    try:
        yield
    except BundleUntrusted as refusal:
        refusal.message = f"{name}: {refusal.message}"
        raise


def _is_another(data: bytes) -> bool:
    """Whether these are the bytes of a document that is no statement."""
    try:
        value = parse_canonical(data, limit=LONGEST)
    except NotCanonicalError:
        return False  # to be refused by who reads it
    return isinstance(value, dict) and value.get("type") in {"root", "revocation"}
