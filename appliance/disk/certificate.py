"""A certificate of sanitization: what NIST SP 800-88 Rev. 1 asks for, as canonical JSON and as text.

Fields: section 4.8 and the sample form of appendix G.  Rev. 2 (September 2025) keeps cryptographic erase as
a technique of Purge, leaves other techniques to IEEE 2883, and tells verification (the technique ended as
it should) from validation (whether that is enough, which people decide): what is verified is said here, and
for the other there are lines to sign.

Values in, values out.  What could not be shown is said, in ``not_shown``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance import __version__
from appliance.disk.escrow.record import spelled
from appliance.disk.sampling import LENGTH
from appliance.errors import DocumentInvalid
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical

if TYPE_CHECKING:
    from appliance.disk.sampling import Comparison, Sample
    from appliance.disk.state import Drive

KIND: Final = "appliance-certificate-of-sanitization"
FORMAT: Final = 1
STANDARD: Final = "NIST SP 800-88 Rev. 1, section 4.8 and appendix G"
#: What an SSH signature beside it is made for.
NAMESPACE: Final = "certificate@appliance"
LONGEST: Final = 64 * 1024

_DETAILS: Final = {
    "SID": "TCG Opal: Revert of the Admin SP by its owner (SID), by the PIN of the escrow",
    "PSID": "TCG Opal: Revert of the Admin SP by the PSID of the drive's label",
}
_ALWAYS: Final = (
    "that the firmware encrypts, with keys that are nowhere else: it says so, and nobody can look",
    "blocks that the drive does not show (spare ones, worn ones): under the same keys, as it says",
)


@dataclass(frozen=True, slots=True)
class Who:
    """What a certificate says that only people know; empty where nobody said it."""

    name: str
    title: str = ""
    organization: str = ""
    location: str = ""
    contact: str = ""
    property_number: str = ""
    classification: str = ""
    backed_up: str = ""
    destination: str = ""
    classification_after: str = ""


@dataclass(frozen=True, slots=True)
class Certified:
    """What came of a retirement.

    Attributes:
        values: the certificate.
        name: what its files' names begin with.
    """

    values: dict[str, Any]
    name: str

    @property
    def sanitized(self) -> bool:
        """Whether all that was looked at says that the drive is erased."""
        return self.values["verification"]["result"] in {"verified", "partly verified"}

    @property
    def data(self) -> bytes:
        """The bytes that count, and that are signed."""
        return canonical_bytes(self.values)

    @property
    def digest(self) -> str:
        """SHA-256 of these."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def files(self) -> dict[str, bytes]:
        """The files, by name."""
        text = certificate_text(self.values).encode("utf-8")
        return {f"{self.name}.json": self.data, f"{self.name}.txt": text}


def certify(
    drive: Drive,
    sample: Sample,
    comparison: Comparison,
    *,
    who: Who,
    host: str,
    ended: str,
) -> Certified:
    """What came of erasing a drive.

    Args:
        drive: as it was read afterwards.
        sample: taken before.
        comparison: of the same places before and after.
        who: people and places.
        host: the node it was in.
        ended: RFC 3339 UTC.
    """
    checks = [
        {"name": "owner", "found": drive.owner, "wanted": "nobody"},
        {"name": "locking", "found": "on" if drive.locking else "off", "wanted": "off"},
        {"name": "luks-header", "found": "there" if drive.luks else "none", "wanted": "none"},
    ]
    right = all(one["found"] == one["wanted"] for one in checks)
    result = comparison.verdict if right else "failed"
    values = {
        "kind": KIND,
        "format": FORMAT,
        "standard": STANDARD,
        "performed_by": {
            key: getattr(who, key) for key in ("name", "title", "organization", "location", "contact")
        },
        "media": {
            "model": drive.model,
            "serial": drive.serial,
            "firmware": drive.firmware,
            "size": drive.size,
            "property_number": who.property_number,
            "type": "flash memory, self-encrypting solid state drive (TCG Opal)",
            "source": host,
            "volume": sample.volume,
            "classification": who.classification,
            "backed_up": who.backed_up or "unknown",
        },
        "sanitization": {
            "method_type": "Purge",
            "method_used": "Cryptographic Erase",
            "details": _DETAILS[sample.by],
            "tool": f"appliance {__version__}",
            "begun": sample.time,
            "ended": ended,
        },
        "verification": {
            "method": f"{comparison.places} places of {LENGTH} bytes, by chance, read before and after",
            "share_in_millionths": comparison.places * LENGTH * 1_000_000 // max(1, drive.size),
            **asdict(comparison),
            "ranges": [dict(one) for one in sample.ranges],
            "checks": checks,
            "result": result,
            "not_shown": [*_not_shown(comparison, sample), *_ALWAYS],
        },
        "afterwards": {
            "destination": who.destination,
            "classification": who.classification_after,
        },
    }
    time = re.sub(r"[-:]", "", ended)
    return Certified(values, f"{spelled(drive.serial)}.{time}.certificate")


def parse_certificate(data: bytes) -> dict[str, Any]:
    """Read a certificate.

    Raises:
        DocumentInvalid: it is none.
    """
    try:
        values: Any = parse_canonical(data, limit=LONGEST)
        if not isinstance(values, dict) or (values.get("kind"), values.get("format")) != (KIND, FORMAT):
            raise ValueError("another kind of document")
        certificate_text(values)
    except (NotCanonicalError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise DocumentInvalid(
            "this is no certificate of sanitization",
            found=f"{type(fault).__name__}: {fault}",
            wanted=f"canonical JSON of kind {KIND}, format {FORMAT}",
            hint="take the file SERIAL.TIME.certificate.json as disk retire wrote it",
        ) from None
    found: dict[str, Any] = values
    return found


def certificate_text(values: dict[str, Any]) -> str:
    """The same for people, with lines to sign."""
    media, done, found = values["media"], values["sanitization"], values["verification"]
    title = {
        "verified": "CERTIFICATE OF SANITIZATION",
        "partly verified": "CERTIFICATE OF SANITIZATION (verified in part)",
    }.get(found["result"], f"NO CERTIFICATE: SANITIZATION {found['result'].upper()}")
    sections = [
        ("Person performing sanitization", values["performed_by"]),
        ("Media", media),
        ("Sanitization", done),
        (
            "Verification",
            {
                "method": found["method"],
                "share of the drive": f"{found['share_in_millionths'] / 10_000:.4f} %",
                "changed": found["changed"],
                "unchanged": found["unchanged"],
                "blank before": found["blank"],
                "unreadable before": found["unreadable_before"],
                "unreadable after": found["unreadable_after"],
                **{one["name"]: f"{one['found']} (wanted: {one['wanted']})" for one in found["checks"]},
                "result": found["result"],
            },
        ),
        ("Afterwards", values["afterwards"]),
    ]
    lines = [title, values["standard"], ""]
    for head, fields in sections:
        lines += [head.upper()]
        lines += [
            f"  {key.replace('_', ' '):22}{'-' if value == '' else value}" for key, value in fields.items()
        ]
        lines.append("")
    lines += ["NOT SHOWN BY THIS", *(f"  - {one}" for one in found["not_shown"]), ""]
    for who in ("Sanitized by", "Validated by (name, title, organization)"):
        lines += [f"{who}: {'_' * 40}", f"Signature, date: {'_' * 40}", ""]
    return "\n".join(lines)


def _not_shown(comparison: Comparison, sample: Sample) -> list[str]:
    told = []
    if comparison.unreadable_before:
        why = "" if sample.ranges else ": no administrator's PIN was at hand to open its ranges"
        told.append(
            f"{comparison.unreadable_before} of {comparison.places} places: not readable before{why}"
        )
    if comparison.blank:
        told.append(f"{comparison.blank} of {comparison.places} places: they held one byte over and over")
    if comparison.unreadable_after:
        told.append(f"{comparison.unreadable_after} of {comparison.places} places: not readable afterwards")
    return told
