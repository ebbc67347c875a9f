"""What a node says it holds, signed with its SSH host key: read and judged (docs/patch.md, "Inventory").

Canonical JSON with its own signature in it: over the same values without ``signature``, as SSHSIG in the
namespace ``inventory@appliance`` with SHA-512, of which only the raw value is kept, so that the short form
can be typed.  The key is the one by which every connection to the node is judged: no other secret lies on
a node that is older than its first journal, and the station has it already.

The node is believed in what it says of itself, and in no more: a patch is cut against it, and a file that
is not what it says is found when the patch is applied, before anything changes.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.errors import NodeInventoryInvalid, SignatureInvalid
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record
from appliance.trust.sshsig import Signature, verify_signature

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.trust.keys import PublicKey

TYPE: Final = "node-inventory"
NAMESPACE: Final = "inventory@appliance"
#: 200,000 files with long paths; of the short form, what can be typed (``appliance.trust.spoken``).
MAX_BYTES: Final = 64 << 20
MAX_COPIES: Final = 64
_HASH: Final = "sha512"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}")
_PRODUCT = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_WORD = re.compile(r"[a-z-]{1,32}")


@dataclass(frozen=True, slots=True)
class HeldCopy:
    """The node's copy of one bundle.

    Of ``files`` that it should have, ``hashed`` were read for this inventory; the others are believed since
    nothing touched them after they were hashed.  ``wrong``: how many are not right; ``faults`` says which,
    and ``holds`` the SHA-256 (hex) of every other by path, both empty in the short form.
    """

    bundle: str
    complete: bool
    files: int
    hashed: int
    wrong: int
    faults: Mapping[str, str] = field(default_factory=dict)
    holds: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether it is there, all of it and as it was signed."""
        return self.complete and not self.wrong


@dataclass(frozen=True, slots=True)
class Running:
    """What the node says is installed on it."""

    bundle: str
    product: str
    version: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """Of the node's journal: its count, the version of the newest root, the serial of the revocation."""

    count: int
    root: int
    revocation: int


@dataclass(frozen=True, slots=True)
class NodeInventory:
    """What one node holds.  ``time`` is by the node's own clock; ``serving`` systemd's word."""

    site: str
    node: str
    time: str
    serving: str
    copies: tuple[HeldCopy, ...]
    installed: Running | None
    journal: Remembered | None
    message: bytes
    signature: bytes

    def copy(self, bundle: str) -> HeldCopy | None:
        """Its copy of a bundle, if it has one."""
        return next((copy for copy in self.copies if copy.bundle == bundle), None)


def parse_inventory(data: bytes) -> NodeInventory:
    """Read an inventory in either form; who signed it is judged by ``judge_inventory``.

    Raises:
        NodeInventoryInvalid: anything but what a node's program writes.
    """
    try:
        value = parse_canonical(data, limit=MAX_BYTES)
    except NotCanonicalError as fault:
        raise _invalid("the node's inventory is not canonical JSON", found=str(fault)) from fault
    top = Record(value, "inventory", NodeInventoryInvalid)
    required = {"format", "type", "site", "node", "time", "serving", "copies", "signature"}
    top.exactly(frozenset(required), frozenset({"installed", "journal"}))
    if top.number("format") != 1 or top.text("type") != TYPE:
        top.refuse("a file of another kind", found=top.text("type"), wanted=TYPE)
    copies = tuple(map(_copy, top.records("copies")))
    if len({copy.bundle for copy in copies}) < len(copies) or len(copies) > MAX_COPIES:
        top.refuse("copies are not each of another bundle, or too many")
    unsigned = {key: top.raw(key) for key in top.names() if key != "signature"}
    return NodeInventory(
        site=top.text("site", _NAME),
        node=top.text("node", _NAME),
        time=top.text("time", _TIME),
        serving=top.text("serving", _WORD),
        copies=copies,
        installed=_running(top.record("installed")) if top.has("installed") else None,
        journal=_remembered(top.record("journal")) if top.has("journal") else None,
        message=canonical_bytes(unsigned),
        signature=_raw(top),
    )


def judge_inventory(inventory: NodeInventory, keys: Sequence[PublicKey]) -> PublicKey:
    """The one of the node's pinned host keys that signed; their order does not matter.

    Raises:
        NodeInventoryInvalid: none of them did.
    """
    for key in keys:
        signature = Signature(key, NAMESPACE, _HASH, inventory.signature)
        try:
            verify_signature(signature, inventory.message, NAMESPACE)
        except SignatureInvalid:
            continue
        return key
    raise _invalid(
        f"the inventory of {inventory.node} is not signed with the node's pinned host key",
        found=", ".join(key.fingerprint for key in keys) or "no key that could sign one",
        wanted="a signature by one of the keys that known_hosts pins for it",
    )


def _copy(record: Record) -> HeldCopy:
    record.exactly(frozenset({"bundle", "complete", "files", "hashed", "wrong"}), frozenset({"holds"}))
    counted = not record.has("holds")
    faults = {} if counted else _texts(record.record("wrong"))
    holds = {} if counted else _texts(record.record("holds"), _DIGEST)
    copy = HeldCopy(
        bundle=record.text("bundle", _DIGEST),
        complete=record.flag("complete"),
        files=record.number("files"),
        hashed=record.number("hashed"),
        wrong=record.number("wrong") if counted else len(faults),
        faults=faults,
        holds=holds,
    )
    if copy.hashed > copy.files or len(holds) > copy.files or holds.keys() & faults.keys():
        record.refuse("the numbers of files contradict each other")
    return copy


def _texts(record: Record, pattern: re.Pattern[str] | None = None) -> dict[str, str]:
    return {name: record.text(name, pattern) for name in record.names()}


def _running(record: Record) -> Running:
    record.exactly(frozenset({"bundle", "product", "version", "sequence"}))
    return Running(
        bundle=record.text("bundle", _DIGEST),
        product=record.text("product", _PRODUCT),
        version=record.text("version", _VERSION),
        sequence=record.number("sequence"),
    )


def _remembered(record: Record) -> Remembered:
    record.exactly(frozenset({"count", "root", "revocation"}))
    return Remembered(
        record.number("count", least=1), record.number("root", least=1), record.number("revocation")
    )


def _raw(top: Record) -> bytes:
    text = top.text("signature")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as fault:
        raise _invalid("the inventory's signature is not base64", found=str(fault)) from fault
    if base64.b64encode(raw).decode() != text:
        top.refuse("the signature is not spelled as base64 is")
    return raw


def _invalid(message: str, *, found: str, wanted: str | None = None) -> NodeInventoryInvalid:
    return NodeInventoryInvalid(
        message,
        found=found,
        wanted=wanted or "a file that appliance status --export wrote",
        hint="fetch it from the node again",
    )
