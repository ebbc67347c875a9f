"""What people say about one bundle or one node: admissions, permits, waivers, times, enrolments, drives.

Each is a document of canonical JSON, signed by a role (``ROLE_OF``).  What speaks to a node names it, its
journal, and a nonce that is used once (docs/trust.md, "Statements to one node").

============  =========  ============================================================
type          role       says
============  =========  ============================================================
admission     site       this bundle may run on these nodes
permit        release    this node may go back, once, from this bundle to that
waiver        site       this node may take this bundle, once, although it is past its date
time          time       it is at least this late, for this node
enrolment     site       this node, which lost its journal, begins a new one with these floors
drive-permit  site       this may be done to these drives of this node, until a date
============  =========  ============================================================

A root without the role site leaves waivers, enrolments and permits for drives to release.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, get_args

from appliance.errors import StatementInvalid
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appliance.trust.root import Root

FORMAT: Final = 1
MAX_BYTES: Final = 64 * 1024
#: Admits a bundle to every node of a site.
EVERY_NODE: Final = "*"
MAX_NODES: Final = 1000
FORGOTTEN: Final = "0" * 64
#: What a drive loses by being enrolled: it is empty, and nobody owns it.
NOTHING_LOST: Final = "nothing"
MAX_DRIVES: Final = 256

_DIGEST = re.compile(r"[0-9a-f]{64}")
_JOURNAL = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_VOLUME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: As drives say it: printable ASCII, and no blanks around it (NVM Express Base 2.0, Figure 275; 20 there).
_SERIAL = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}")
#: With the hours of a day: to Python 3.14, 24:00 is another spelling of midnight.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z")
#: The last one that can be written.
LATEST: Final = "9999-12-31T23:59:59Z"


@dataclass(frozen=True, slots=True)
class Release:
    """One step of a product: a sequence number, and the digest of the bundle that had it.

    The digest is ``FORGOTTEN`` where a journal was begun anew and nobody knows it any more.
    """

    sequence: int
    digest: str

    @property
    def is_known(self) -> bool:
        return self.digest != FORGOTTEN


@dataclass(frozen=True, slots=True)
class Admission:
    """A bundle, and the nodes it is admitted to."""

    bundle: str
    product: str
    version: str
    sequence: int
    nodes: tuple[str, ...]

    def admits(self, bundle: str, node: str) -> bool:
        return self.bundle == bundle and (self.nodes == (EVERY_NODE,) or node in self.nodes)


@dataclass(frozen=True, slots=True)
class Permit:
    """One way back for one node: ``before`` is what it has, ``after`` what it may have again."""

    node: str
    journal: str
    nonce: str
    product: str
    before: Release
    after: Release
    reason: str


@dataclass(frozen=True, slots=True)
class Waiver:
    """One bundle past its date for one node."""

    node: str
    journal: str
    nonce: str
    bundle: str
    reason: str


@dataclass(frozen=True, slots=True)
class Time:
    """The time, RFC 3339 in UTC to the second, as people attest it to one node."""

    node: str
    journal: str
    nonce: str
    time: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A new journal for one node: the sequence below which no product may fall."""

    node: str
    nonce: str
    reason: str
    products: Mapping[str, int] = field(default_factory=dict)


Act = Literal["enroll", "reset", "retire"]


@dataclass(frozen=True, slots=True)
class DrivePermit:
    """What may be done to drives of one node, until a date.

    Attributes:
        node: the node's name.
        act: what; a reset goes on to enrolment.
        drives: by serial number what may be lost there: the UUID of the volume with its keys, or
            ``NOTHING_LOST`` of a drive that is enrolled.
        until: the last second of it, RFC 3339 in UTC.
        nonce: so that no two permits are the same.
        reason: why, for people.
    """

    node: str
    act: Act
    drives: Mapping[str, str]
    until: str
    nonce: str
    reason: str


Statement = Admission | Permit | Waiver | Time | Enrolment | DrivePermit

TYPES: Final[Mapping[type[Statement], str]] = {
    Admission: "admission",
    Permit: "permit",
    Waiver: "waiver",
    Time: "time",
    Enrolment: "enrolment",
    DrivePermit: "drive-permit",
}
ROLE_OF: Final[Mapping[type[Statement], str]] = {
    Admission: "site",
    Permit: "release",
    Waiver: "site",
    Time: "time",
    Enrolment: "site",
    DrivePermit: "site",
}


def role_for(statement: Statement, root: Root) -> str:
    """The role whose holders have to sign a statement."""
    role = ROLE_OF[type(statement)]
    if role == "site" and role not in root.roles and not isinstance(statement, Admission):
        return "release"
    return role


def statement_name(statement: Statement) -> str:
    """The file name of a statement: what it is, and enough of what identifies it."""
    mark = statement.bundle if isinstance(statement, Admission) else statement.nonce
    return f"{TYPES[type(statement)]}.{mark[:16]}.json"


def parse_time(text: str) -> dt.datetime:
    """A time as it is spelled here.

    Raises:
        ValueError: it is spelled otherwise, or there is no such time.
    """
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!a} is not a time like 2026-01-31T12:00:00Z")
    return dt.datetime.fromisoformat(text)


def time_text(time: dt.datetime) -> str:
    """A time in UTC in its one spelling, which sorts as the times do."""
    return time.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"  # strftime drops zeros of a year


def statement_bytes(statement: Statement) -> bytes:
    """The statement in its one spelling."""
    values: dict[str, object] = {"format": FORMAT, "type": TYPES[type(statement)]}
    for key in statement.__dataclass_fields__:
        value = getattr(statement, key)
        if isinstance(value, Release):
            value = {"sequence": value.sequence, "digest": value.digest}
        elif isinstance(value, tuple):
            value = list(value)
        values[{"before": "from", "after": "to"}.get(key, key)] = value
    return canonical_bytes(values)


def parse_statement(data: bytes) -> Statement:
    """Read a statement.

    Raises:
        StatementInvalid: anything but what ``statement_bytes`` writes.
    """
    try:
        value = parse_canonical(data, limit=MAX_BYTES)
    except NotCanonicalError as fault:
        raise StatementInvalid(
            "the statement is not canonical JSON",
            found=str(fault),
            wanted="the file that appliance trust wrote, byte for byte",
        ) from fault
    top = Record(value, "statement", StatementInvalid)
    if not top.has("type") or not top.has("format") or top.number("format") != FORMAT:
        top.refuse("not a statement of format 1")
    if (kind := top.text("type")) not in _READERS:
        top.refuse("no such type", found=kind, wanted=", ".join(_READERS))
    return _READERS[kind](top)


def _admission(top: Record) -> Admission:
    top.exactly(frozenset({"format", "type", "bundle", "product", "version", "sequence", "nodes"}))
    nodes = top.items("nodes")
    if not 0 < len(nodes) <= MAX_NODES:
        top.refuse("a wrong number of nodes", found=str(len(nodes)), wanted=f"1 to {MAX_NODES}")
    named: list[str] = []
    for node in nodes:
        if not isinstance(node, str) or not (_NAME.fullmatch(node) or nodes == [EVERY_NODE]):
            top.refuse("a node's name is misspelled", found=str(node))
        named.append(node)
    if any(one >= other for one, other in pairwise(named)):
        top.refuse("nodes are not sorted, each once")
    return Admission(
        bundle=top.text("bundle", _DIGEST),
        product=top.text("product", _NAME),
        version=top.text("version", _VERSION),
        sequence=top.number("sequence"),
        nodes=tuple(named),
    )


def _to_node(top: Record, *more: str) -> tuple[str, str, str]:
    """Node, journal and nonce of a statement that has these and ``more``."""
    top.exactly(frozenset({"format", "type", "node", "journal", "nonce", *more}))
    return top.text("node", _NAME), top.text("journal", _JOURNAL), top.text("nonce", _DIGEST)


def _permit(top: Record) -> Permit:
    node, journal, nonce = _to_node(top, "product", "from", "to", "reason")
    permit = Permit(
        node=node,
        journal=journal,
        nonce=nonce,
        product=top.text("product", _NAME),
        before=_release(top.record("from")),
        after=_release(top.record("to")),
        reason=top.text("reason"),
    )
    if permit.after.sequence >= permit.before.sequence:
        top.refuse("a permit that does not go back", found=str(permit.after.sequence))
    return permit


def _release(record: Record) -> Release:
    record.exactly(frozenset({"sequence", "digest"}))
    return Release(record.number("sequence"), record.text("digest", _DIGEST))


def _waiver(top: Record) -> Waiver:
    node, journal, nonce = _to_node(top, "bundle", "reason")
    return Waiver(node, journal, nonce, top.text("bundle", _DIGEST), top.text("reason"))


def _time(top: Record) -> Time:
    node, journal, nonce = _to_node(top, "time")
    return Time(node, journal, nonce, _time_in(top, "time"))


def _time_in(top: Record, key: str) -> str:
    time = top.text(key, _TIME)
    try:
        parse_time(time)
    except ValueError:
        top.refuse("there is no such time", found=time)
    return time


def _enrolment(top: Record) -> Enrolment:
    top.exactly(frozenset({"format", "type", "node", "nonce", "reason", "products"}))
    floors = top.record("products")
    products = {name: floors.number(name) for name in floors.names()}
    if wrong := [name for name in products if not _NAME.fullmatch(name)]:
        top.refuse("a product's name is misspelled", found=wrong[0])
    return Enrolment(top.text("node", _NAME), top.text("nonce", _DIGEST), top.text("reason"), products)


def _drive_permit(top: Record) -> DrivePermit:
    top.exactly(frozenset({"format", "type", "node", "act", "drives", "until", "nonce", "reason"}))
    act: Act | None = next((one for one in get_args(Act) if one == top.raw("act")), None)
    if act is None:
        top.refuse("no such act", found=str(top.raw("act")), wanted=", ".join(get_args(Act)))
    listed = top.record("drives")
    if not 0 < len(listed.names()) <= MAX_DRIVES:
        top.refuse("a wrong number of drives", found=str(len(listed.names())), wanted=f"1 to {MAX_DRIVES}")
    if wrong := [serial for serial in listed.names() if not _SERIAL.fullmatch(serial)]:
        top.refuse("a serial number is misspelled", found=wrong[0])
    drives = {serial: listed.text(serial) for serial in listed.names()}
    for lost in drives.values():
        if act == "enroll" and lost != NOTHING_LOST:
            top.refuse("a drive that is enrolled is empty", found=lost, wanted=NOTHING_LOST)
        if act != "enroll" and not _VOLUME.fullmatch(lost):
            top.refuse("it does not say which volume may be lost", found=lost, wanted="its UUID")
    return DrivePermit(
        node=top.text("node", _NAME),
        act=act,
        drives=drives,
        until=_time_in(top, "until"),
        nonce=top.text("nonce", _DIGEST),
        reason=top.text("reason"),
    )


_READERS: Final[Mapping[str, Callable[[Record], Statement]]] = {
    "admission": _admission,
    "permit": _permit,
    "waiver": _waiver,
    "time": _time,
    "enrolment": _enrolment,
    "drive-permit": _drive_permit,
}
