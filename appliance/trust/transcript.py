"""The transcript of a ceremony: what was done, with which files, by whom; altering it is found.

A file of lines, each canonical JSON ``{"entry": {…}, "signature": "-----BEGIN SSH SIGNATURE…"}``.  An entry
holds ``format``, ``type``, ``number`` (from 1), ``before`` (the SHA-256 of the line before, with its
signature and line feed; zeros for the first), ``command``, ``in`` and ``out`` (names and SHA-256 of files),
and where they are known ``holder`` and ``note``.  The signature is an SSHSIG over the entry's bytes in the
namespace ``transcript@appliance``, so it serves no role.  The rules:

1. Each line names the digest of the one before.  So a signature covers all lines up to its own, and what
   an unsigned line says is vouched for by whoever signs next.
2. Only an end that somebody signed is an end: the last line is ``close``, signed.  A transcript without it
   is open, and may have been cut.  Others may close it too; nothing else follows.
3. Whose keys these are is for roots to say: each signature is by a key that one of them enrols, for the
   holder that the line names.  Without a root only the fingerprint of the whole file tells a transcript
   from one that somebody else made and closed: it belongs on paper, like that of a root.

No times: nobody could check them.  Who wants one writes it in a note, and signs it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from appliance.errors import BundleUntrusted, SignatureInvalid, SignerUnknown, TranscriptInvalid
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record
from appliance.trust.root import HOLDER
from appliance.trust.sshsig import parse_signature, verify_signature

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.trust.root import Root

FORMAT: Final = 1
NAMESPACE: Final = "transcript@appliance"
CLOSE: Final = "close"
MAX_BYTES: Final = 8 << 20
_MAX_LINE: Final = 256 * 1024
_NOTHING_BEFORE: Final = "0" * 64

_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMMAND = re.compile(r"[a-z][a-z-]{0,31}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done; files are pairs of name and SHA-256."""

    number: int
    before: str
    command: str
    taken: tuple[tuple[str, str], ...] = ()
    made: tuple[tuple[str, str], ...] = ()
    holder: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """An entry, and the fingerprint of the key that signed it (None: nobody did)."""

    entry: Entry
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a transcript says, after all its rules were checked; ``digest`` is its fingerprint."""

    lines: tuple[Line, ...]
    digest: str

    @property
    def closed_by(self) -> tuple[str, ...]:
        """Who closed it: holders, or fingerprints of keys."""
        return tuple(
            line.entry.holder or line.fingerprint or ""
            for line in self.lines
            if line.entry.command == CLOSE
        )

    def require_closed(self) -> None:
        """Refuse a transcript that may have been cut.

        Raises:
            TranscriptInvalid: nobody closed it.
        """
        if not self.closed_by:
            raise _wrong(
                len(self.lines),
                "the transcript is not closed, so lines may have been cut off",
                wanted="a signed line `close` at its end",
                hint="obtain the whole transcript, or close it: appliance trust transcript close",
            )


def entry_bytes(entry: Entry) -> bytes:
    """What is signed of a line."""
    return canonical_bytes(_entry_value(entry))


def line_bytes(entry: Entry, signature: bytes | None) -> bytes:
    """A line of the file, with its line feed."""
    value: dict[str, object] = {"entry": _entry_value(entry)}
    if signature is not None:
        value["signature"] = signature.decode("ascii")
    return canonical_bytes(value) + b"\n"


def line_before(data: bytes) -> str:
    """What the next line names as the one before it."""
    if not data:
        return _NOTHING_BEFORE
    return hashlib.sha256(data[data.rfind(b"\n", 0, -1) + 1 :]).hexdigest()


def read_transcript(data: bytes, roots: Sequence[Root] = ()) -> Transcript:
    """Read a transcript by the rules of this module.

    Args:
        data: the bytes of the file.
        roots: those that say whose keys count; none: whose keys they are is not judged.

    Raises:
        TranscriptInvalid: it breaks a rule; the message names the line.
    """
    if not data or len(data) > MAX_BYTES or not data.endswith(b"\n"):
        raise _wrong(
            data.count(b"\n") + 1,
            "the transcript is empty, too long, or its last line is cut",
            found=f"{len(data):,} bytes",
            wanted=f"whole lines, at most {MAX_BYTES:,} bytes",
        )
    lines: list[Line] = []
    before = _NOTHING_BEFORE
    for number, raw in enumerate(data[:-1].split(b"\n"), 1):
        line = _read_line(number, raw, roots)
        if line.entry.number != number:
            raise _wrong(number, "a line is missing or moved", found=f"number {line.entry.number}")
        if line.entry.before != before:
            raise _wrong(
                number,
                "the line before was altered, added or removed",
                found=f"SHA-256 {before}",
                wanted=line.entry.before,
            )
        before = hashlib.sha256(raw + b"\n").hexdigest()
        lines.append(line)
    for one, other in pairwise(lines):
        if one.entry.command == CLOSE != other.entry.command:
            raise _wrong(other.entry.number, "the transcript goes on after it was closed")
    return Transcript(tuple(lines), hashlib.sha256(data).hexdigest())


def _read_line(number: int, raw: bytes, roots: Sequence[Root]) -> Line:
    try:
        top = Record(parse_canonical(raw, limit=_MAX_LINE), f"line {number}", TranscriptInvalid)
    except NotCanonicalError as fault:
        raise _wrong(number, "the line is not canonical JSON", found=str(fault)) from fault
    top.exactly(frozenset({"entry"}), frozenset({"signature"}))
    entry = _read_entry(top.record("entry"))
    if not top.has("signature"):
        if entry.command == CLOSE:
            raise _wrong(number, "the transcript is closed without a signature")
        return Line(entry, None)
    value = top.raw("signature")
    try:
        signature = parse_signature(value.encode() if isinstance(value, str) else b"")
        verify_signature(signature, entry_bytes(entry), NAMESPACE)
        _check_holder(signature.key.keyid, signature.key.fingerprint, entry.holder, roots)
    except BundleUntrusted as fault:
        raise _wrong(number, fault.message, found=fault.found, wanted=fault.wanted) from fault
    return Line(entry, signature.key.fingerprint)


def _check_holder(keyid: str, fingerprint: str, holder: str | None, roots: Sequence[Root]) -> None:
    known = {root.keys[keyid].holder for root in roots if keyid in root.keys}
    if roots and not known:
        raise SignerUnknown("no root that was given enrols the key that signed", found=fingerprint)
    if known and holder is not None and holder not in known:
        raise SignatureInvalid(
            "the line names another holder than the key's", found=holder, wanted=", ".join(sorted(known))
        )


def _read_entry(record: Record) -> Entry:
    record.exactly(
        frozenset({"format", "type", "number", "before", "command", "in", "out"}),
        frozenset({"holder", "note"}),
    )
    if record.number("format") != FORMAT or record.text("type") != "transcript":
        record.refuse("not a transcript of format 1", found=record.text("type"))
    return Entry(
        number=record.number("number", least=1),
        before=record.text("before", _DIGEST),
        command=record.text("command", _COMMAND),
        taken=_files(record, "in"),
        made=_files(record, "out"),
        holder=record.text("holder", HOLDER) if record.has("holder") else None,
        note=record.text("note") if record.has("note") else None,
    )


def _files(record: Record, key: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (one.exactly(frozenset({"name", "sha256"})).text("name"), one.text("sha256", _DIGEST))
        for one in record.records(key)
    )


def _entry_value(entry: Entry) -> Mapping[str, object]:
    value: dict[str, object] = {
        "format": FORMAT,
        "type": "transcript",
        "number": entry.number,
        "before": entry.before,
        "command": entry.command,
        "in": [{"name": name, "sha256": digest} for name, digest in entry.taken],
        "out": [{"name": name, "sha256": digest} for name, digest in entry.made],
    }
    value |= {key: text for key in ("holder", "note") if (text := getattr(entry, key)) is not None}
    return value


def _wrong(
    number: int,
    message: str,
    *,
    found: str | None = None,
    wanted: str | None = None,
    hint: str | None = None,
) -> TranscriptInvalid:
    return TranscriptInvalid(
        f"line {number}: {message}",
        found=found,
        wanted=wanted or "the transcript as it was written, line by line",
        hint=hint or "compare it with the other copies of the ceremony; do not go on writing this one",
    )
