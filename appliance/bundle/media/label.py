"""A volume's label, ``volume.json``: which share of which bundle lies here.

Canonical JSON, but nobody signs it.  So it is believed in nothing but names: it says which volume this
claims to be and which others there are.  What a file holds is judged by the signed list alone, and
which volume holds a file is found by looking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.paths import PARITY_FOLDER, PAYLOAD_FOLDER, check_path
from appliance.errors import BundleMalformed, LabelInvalid
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

LABEL_PATH: Final = "volume.json"
#: The label of a volume that is being written, under the name it has until all was read back.
UNFINISHED_PATH: Final = LABEL_PATH + ".partial"
#: Files that have no final name yet.
INCOMING_FOLDER: Final = "incoming"
#: The label of a recovery volume, which holds no part of the bundle (docs/repair.md).
RECOVERY_LABEL_PATH: Final = "recovery.json"
#: Holds second copies of what parity cannot mend, each under its own path.
SPARE_FOLDER: Final = "spare"
FORMAT: Final = 1
MAX_VOLUMES: Final = 999
#: Room for a label of so many volumes, each with two of the longest paths.
MAX_BYTES: Final = 2 << 20

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_DIGITS: Final = 12
_KEYS: Final = frozenset({"format", "bundle", "product", "version", "number", "volumes"})
_SHARE_KEYS: Final = frozenset({"bytes", "files", "first", "last"})


@dataclass(frozen=True, slots=True)
class VolumeShare:
    """What one volume holds of payload and parity: a range of the bundle's order, both ends included.

    The order is that of the payload files as they lie there (slices), in manifest order, then the
    parity files.  ``size`` is in bytes, ``files`` counts, ``first`` and ``last`` are paths.
    """

    size: int
    files: int
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class VolumeLabel:
    """The label of volume ``number`` (the first is 1) of the bundle whose digest is ``bundle``."""

    bundle: str
    product: str
    version: str
    number: int
    volumes: tuple[VolumeShare, ...]

    @property
    def share(self) -> VolumeShare:
        """What this very volume holds."""
        return self.volumes[self.number - 1]

    @property
    def folder_name(self) -> str:
        """The name of the volume's folder on its medium."""
        return volume_folder_name(self.product, self.version, self.bundle)


def volume_folder_name(product: str, version: str, digest: str) -> str:
    """The folder that a volume of the bundle with this digest (64 hex digits) has on its medium."""
    return f"{product}-{version}.{digest[:_DIGITS]}"


def label_bytes(label: VolumeLabel) -> bytes:
    """The label in its one spelling."""
    return canonical_bytes(
        {
            "format": FORMAT,
            "bundle": label.bundle,
            "product": label.product,
            "version": label.version,
            "number": label.number,
            "volumes": [
                {"bytes": share.size, "files": share.files, "first": share.first, "last": share.last}
                for share in label.volumes
            ],
        }
    )


def parse_label(data: bytes) -> VolumeLabel:
    """Read a label.

    Raises:
        LabelInvalid: anything else than what ``label_bytes`` writes for a possible volume.
    """
    try:
        value = parse_canonical(data, limit=MAX_BYTES)
    except NotCanonicalError as fault:
        raise LabelInvalid(
            f"{LABEL_PATH} is not canonical JSON",
            found=str(fault),
            wanted="the RFC 8785 spelling, as `appliance media write` writes it",
            hint="write this volume again",
        ) from fault
    top = Record(value, LABEL_PATH, LabelInvalid).exactly(_KEYS)
    if top.number("format") != FORMAT:
        top.refuse("another format", found=str(top.number("format")), wanted=str(FORMAT))
    shares = tuple(_shares(top))
    if not 1 <= len(shares) <= MAX_VOLUMES:
        top.refuse("a wrong number of volumes", found=str(len(shares)), wanted=f"1 to {MAX_VOLUMES}")
    return VolumeLabel(
        bundle=top.text("bundle", _DIGEST),
        product=top.text("product", _NAME),
        version=top.text("version", _VERSION),
        number=top.number("number", least=1, most=len(shares)),
        volumes=shares,
    )


def _shares(top: Record) -> Iterator[VolumeShare]:
    for record in top.records("volumes"):
        record.exactly(_SHARE_KEYS)
        share = VolumeShare(
            size=record.number("bytes"),
            files=record.number("files", least=1),
            first=_path(record, "first"),
            last=_path(record, "last"),
        )
        if (share.files == 1) != (share.first == share.last):
            record.refuse("first, last and the number of files contradict each other")
        yield share


def _path(record: Record, key: str) -> str:
    path = record.text(key)
    try:
        check_path(path)
    except BundleMalformed as fault:
        record.refuse(f"{key}: {fault.message}")
    if path.partition("/")[0] not in {PAYLOAD_FOLDER, PARITY_FOLDER}:
        record.refuse(f"{key} is no file of a share", found=path, wanted="payload/… or parity/…")
    return path
