"""What a model's makers signed: names of files and their digests; and whether these are the files.

The statement is in-toto's, version 1, with the predicate of model-signing 1.x.  Its names are relative to
the model's folder.  Only SHA-256 of whole files can be compared with a manifest: digests of shards or of
another kind would need every byte hashed once more, and are refused by name.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.errors import UpstreamSignatureInvalid
from appliance.trust.canonical import NotCanonicalError, parse_foreign
from appliance.trust.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
#: What to do about a signature of another form.
FOREIGN: Final = "name the right file; if it is, ask the model's makers for one that model-signing 1.x made"
_MAX_BYTES: Final = 8 << 20
_MAX_IGNORED: Final = 1024
_NAMED: Final = 10  # files named in a message before "and others"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Statement:
    """``resources`` are digests (SHA-256, hex) by name; ``ignored`` are names that were not looked at."""

    model: str
    resources: Mapping[str, str]
    ignored: frozenset[str]

    def ignores(self, name: str) -> bool:
        """Whether its maker left a file, or a folder it lies in, out of account."""
        parts = name.split("/")
        return any("/".join(parts[:end]) in self.ignored for end in range(1, len(parts) + 1))


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a statement fits the files that are there.

    ``covered`` counts files whose digests are the signed ones.  ``uncovered`` are files that are there and
    that its maker left out of account, ``absent`` those it names that are not there; sorted.
    """

    covered: int
    uncovered: tuple[str, ...] = field(default=())
    absent: tuple[str, ...] = field(default=())


def parse_statement(payload: bytes) -> Statement:
    """Read the payload of an envelope whose signature held.

    Raises:
        UpstreamSignatureInvalid: of another form than model-signing 1.x writes, or not comparable.
    """
    try:
        value = parse_foreign(payload, limit=_MAX_BYTES)
    except NotCanonicalError as fault:
        raise UpstreamSignatureInvalid(
            "what is signed is not a statement",
            found=str(fault),
            wanted="in-toto's JSON, as model-signing 1.x writes it",
            hint=FOREIGN,
        ) from fault
    top = Record(value, "signed statement", UpstreamSignatureInvalid, hint=FOREIGN)
    top.exactly(frozenset({"_type", "subject", "predicateType", "predicate"}))
    for key, wanted in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if (found := top.text(key)) != wanted:
            top.refuse(f"{key} is another", found=found, wanted=wanted)
    predicate = top.record("predicate").exactly(frozenset({"serialization", "resources"}))
    ignored = _serialization(predicate.record("serialization"))
    resources = _resources(predicate)
    model, whole = _subject(top)
    joined = hashlib.sha256(b"".join(map(bytes.fromhex, resources.values()))).hexdigest()
    if joined != whole:
        top.refuse("the subject's digest is not that of the files", found=joined, wanted=whole)
    return Statement(model, resources, ignored)


def compare(statement: Statement, files: Iterable[tuple[str, str]], signature: str) -> Coverage:
    """Compare a statement with the files that are there, by digests that were signed or locked.

    Args:
        statement: what was signed.
        files: names relative to the model's folder, each once, and digests (SHA-256, hex).
        signature: the name of the signature file itself, which no signature can cover.

    Raises:
        UpstreamSignatureInvalid: a file is another than the one that was signed, or is there and was not
            signed although its maker did not leave it out of account.
    """
    left = dict(statement.resources)
    changed: list[str] = []
    added: list[str] = []
    uncovered: list[str] = []
    covered = 0
    for name, sha256 in files:
        wanted = left.pop(name, None)
        if wanted == sha256:
            covered += 1
        elif wanted is not None:
            changed.append(name)
        elif name != signature:
            (uncovered if statement.ignores(name) else added).append(name)
    if changed:
        raise UpstreamSignatureInvalid(
            "files are not the ones that the model's makers signed",
            found=_named(changed),
            wanted=f"{changed[0]} with sha256 {statement.resources[changed[0]]}",
            hint="find out who changed them: its makers after they signed, or somebody on the way",
        )
    if added:
        raise UpstreamSignatureInvalid(
            "files are there that the model's makers did not sign",
            found=_named(added),
            wanted="only files that they signed, or left out of account (ignore_paths)",
            hint="leave them out of the component, or have the model signed again",
        )
    absent = sorted(name for name in left if not statement.ignores(name))
    return Coverage(covered, tuple(sorted(uncovered)), tuple(absent))


def _serialization(record: Record) -> frozenset[str]:
    """What is left out of account; refuses digests that no manifest holds."""
    method = record.text("method")
    if method == "shards" or method.startswith(
        "file-shard-"
    ):  # model-signing's word, and the specification's
        record.refuse(
            "it holds digests of parts of files (shards): comparing them would take hashing all again",
            found=method,
            wanted="files",
        )
    if method != "files":
        record.refuse("serialized in a way that is not known here", found=method, wanted="files")
    record.exactly(frozenset({"method", "hash_type", "allow_symlinks"}), frozenset({"ignore_paths"}))
    record.flag("allow_symlinks")
    if (kind := record.text("hash_type")) != "sha256":
        record.refuse("its digests are of a kind that no manifest holds", found=kind, wanted="sha256")
    if not record.has("ignore_paths"):
        return frozenset()
    ignored = record.items("ignore_paths")
    if len(ignored) > _MAX_IGNORED:
        record.refuse("too many ignore_paths", found=str(len(ignored)), wanted=f"at most {_MAX_IGNORED}")
    for name in ignored:
        _check_name(record, name)
    return frozenset(map(str, ignored))


def _resources(predicate: Record) -> dict[str, str]:
    resources: dict[str, str] = {}
    for record in predicate.records("resources"):
        record.exactly(frozenset({"name", "algorithm", "digest"}))
        _check_name(record, name := record.text("name"))
        if (kind := record.text("algorithm")) != "sha256":
            record.refuse("its digest is of a kind that no manifest holds", found=kind, wanted="sha256")
        if name in resources:
            record.refuse("a file is named twice", found=name)
        resources[name] = record.text("digest", _SHA256)
    if not resources:
        predicate.refuse("it names no file")
    return resources


def _subject(top: Record) -> tuple[str, str]:
    if (count := len(top.items("subject"))) != 1:
        top.refuse("not exactly one subject", found=str(count), wanted="1")
    (subject,) = top.records("subject")
    subject.exactly(frozenset({"name", "digest"}))
    digest = subject.record("digest").exactly(frozenset({"sha256"}))
    return subject.text("name"), digest.text("sha256", _SHA256)


def _check_name(record: Record, name: object) -> None:
    """Refuse a name that is no path within the model's folder, or is read differently elsewhere."""
    if (
        not isinstance(name, str)
        or not name.isprintable()
        or "\\" in name
        or _DRIVE.match(name)
        or any(part in {"", ".", ".."} for part in name.split("/"))
    ):
        record.refuse(
            "a name is no path within the model's folder", found=str(name), wanted="parts joined by /"
        )


def _named(names: list[str]) -> str:
    others = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
    return ", ".join(sorted(names)[:_NAMED]) + others
