"""What one escrow record says in the open, and its spelling: canonical JSON (RFC 8785).

    {"created": "2026-05-04T03:02:01Z", "drive": {"firmware", "model", "namespace", "serial", "size"},
     "format": 1, "generation": 1, "holds": ["admin-pin", "passphrase", "psid"], "host": "gpu-01",
     "kind": "appliance-disk-escrow", "layers": "opal and dm-crypt", "purpose": "keys",
     "recipients": {"safe": "age1…"}, "threshold": 1, "sealed": {"SERIAL.0001.keys.age": "sha256…"}}

and, of keys for a volume that was there before them, ``"volume"``: its UUID.

All of it but ``sealed`` lies inside of what is sealed too, and whoever opens compares: to those who can
open a record, nothing in the open can have been changed.  To others ``sealed`` says whether the files are
whole.

Bytes in, values out; nothing is opened here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from urllib.parse import quote
from uuid import UUID

from appliance.definition.disks import Layers
from appliance.errors import EscrowInvalid
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND: Final = "appliance-disk-escrow"
FORMAT: Final = 1
LONGEST: Final = 64 * 1024
Purpose = Literal["keys", "header"]

#: What a record of each purpose holds, and one of the keys of a drive that does not encrypt by itself.
HOLDS: Final[Mapping[str, tuple[str, ...]]] = {
    "keys": ("admin-pin", "passphrase", "psid"),
    "header": ("luks-header",),
}
HOLDS_PLAIN: Final = ("passphrase",)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MOST_GENERATIONS: Final = 9999


@dataclass(frozen=True, slots=True)
class DriveIdentity:
    """Which drive: as it says itself, all of it text but ``size`` in bytes."""

    serial: str
    model: str
    firmware: str
    namespace: str
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """One escrow record.

    Attributes:
        host: the node that the drive is in.
        drive: which drive.
        purpose: what is kept: its keys, or its LUKS header after the drive was formatted.
        layers: what was chosen to encrypt; with "opal" the drive's firmware alone is trusted, and with
            "dm-crypt" the drive has no part in it, nor a PIN.
        generation: counts each time that new keys are made for a drive, from 1; a header has its keys' one.
        created: RFC 3339 UTC, whole seconds.
        recipients: who can open it: age recipients by name.
        threshold: how many of them it takes.
        sealed: SHA-256 of the sealed files by name; empty while they are not made.
        volume: UUID of the LUKS volume, where that was made with keys before these (``disk rotate``).
    """

    host: str
    drive: DriveIdentity
    purpose: Purpose
    layers: Layers
    generation: int
    created: str
    recipients: Mapping[str, str]
    threshold: int
    sealed: Mapping[str, str]
    volume: str = ""

    @property
    def stem(self) -> str:
        """What its files' names begin with."""
        return f"{spelled(self.drive.serial)}.{self.generation:04}.{self.purpose}"

    @property
    def uuid(self) -> str:
        """Of the LUKS volume that gets the keys of this record: what it is, or else its ``mark``.

        So the header on a drive says which keys it was made with, of all that any escrow holds.
        """
        return self.volume or str(UUID(self.mark))

    @property
    def mark(self) -> str:
        """What names these keys on a drive, of all that any escrow holds: half of their file's SHA-256.

        32 hexadecimal digits, as many bytes as a drive keeps as the name of an administrator.
        """
        if self.purpose != "keys":
            raise ValueError("a volume is named after its keys")
        return self.sealed[f"{self.stem}.age"][:32]

    @property
    def holds(self) -> tuple[str, ...]:
        """Names of what is sealed."""
        plain = self.purpose == "keys" and self.layers == "dm-crypt"
        return HOLDS_PLAIN if plain else HOLDS[self.purpose]

    def inner(self) -> dict[str, Any]:
        """What of it lies inside of what is sealed."""
        return {
            "kind": KIND,
            "format": FORMAT,
            "host": self.host,
            "drive": {name: getattr(self.drive, name) for name in DriveIdentity.__slots__},
            "purpose": self.purpose,
            "layers": self.layers,
            "generation": self.generation,
            "created": self.created,
            "holds": list(self.holds),
            "recipients": dict(self.recipients),
            "threshold": self.threshold,
            **({"volume": self.volume} if self.volume else {}),
        }

    def to_bytes(self) -> bytes:
        """The file ``STEM.json``."""
        return canonical_bytes(self.inner() | {"sealed": dict(self.sealed)})

    def with_sealed(self, sealed: Mapping[str, str]) -> Record:
        """The same record of files that have been made."""
        return replace(self, sealed=dict(sealed))


def spelled(serial: str) -> str:
    """A serial number as a part of a file's name: all but letters, digits, ``-``, ``_``, ``~`` as %XX."""
    return quote(serial, safe="").replace(".", "%2E")


def parse_record(data: bytes, name: str) -> Record:
    """Read the file ``STEM.json``.

    Args:
        data: its bytes.
        name: its name, which has to be that of the record.

    Raises:
        EscrowInvalid: it is no such record, or another one's.
    """
    try:
        values = parse_canonical(data, limit=LONGEST)
        record = _record(values)
        if values != record.inner() | {"sealed": dict(record.sealed)}:
            raise ValueError("other fields than a record has")
    except (NotCanonicalError, KeyError, TypeError, ValueError, AttributeError) as fault:
        raise EscrowInvalid(
            f"{name} is no escrow record",
            found=f"{type(fault).__name__}: {fault}",
            wanted=f"canonical JSON of kind {KIND}, format {FORMAT}",
            hint="take it from another copy of the escrow",
        ) from None
    if name != f"{record.stem}.json":
        raise EscrowInvalid(
            f"{name} is another drive's or generation's record", found=f"one of {record.stem}", wanted=name
        )
    return record


def _record(values: Any) -> Record:
    drive = values["drive"]
    record = Record(
        host=_text(values["host"]),
        drive=DriveIdentity(
            serial=_text(drive["serial"]),
            model=_text(drive["model"]),
            firmware=_text(drive["firmware"]),
            namespace=_text(drive["namespace"]),
            size=_whole(drive["size"], 1, 2**53 - 1),
        ),
        purpose=values["purpose"],
        layers=values["layers"],
        generation=_whole(values["generation"], 1, _MOST_GENERATIONS),
        created=_matching(_TIME, values["created"]),
        recipients={_text(name): _text(key) for name, key in values["recipients"].items()},
        threshold=_whole(values["threshold"], 1, max(1, len(values["recipients"]))),
        sealed={_text(name): _matching(_SHA256, digest) for name, digest in values["sealed"].items()},
        volume=_matching(_UUID, values["volume"]) if "volume" in values else "",
    )
    if record.purpose not in get_args(Purpose) or record.layers not in get_args(Layers):
        raise ValueError("no known purpose or layers")
    if not record.drive.serial or not record.recipients:
        raise ValueError("no serial number or no recipients")
    shares = {f"{record.stem}.share-{name}.age" for name in record.recipients if record.threshold > 1}
    if set(record.sealed) != {f"{record.stem}.age", *shares}:
        raise ValueError("other sealed files than its recipients and threshold ask for")
    return record


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text is wanted")
    return value


def _whole(value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError("a number is out of bounds")
    return value


def _matching(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError("a time, digest or UUID is misspelled")
    return value
