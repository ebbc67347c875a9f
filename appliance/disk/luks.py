"""What a LUKS2 header says, without a passphrase: cryptsetup's JSON in, values out.

LUKS2 On-Disk Format Specification 1.1.1, section 3; segments of type ``hw-opal`` and ``hw-opal-crypt`` are
cryptsetup's since 2.7.0 (its release notes).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

Layer = Literal["dm-crypt", "opal", "opal and dm-crypt"]

_LAYERS: Final[dict[str, Layer]] = {
    "crypt": "dm-crypt",
    "hw-opal": "opal",
    "hw-opal-crypt": "opal and dm-crypt",
}
#: A segment of another type, as while LUKS is put on or off, is not encrypted, whatever the others are.
_WEAKEST_FIRST: Final[tuple[Layer | None, ...]] = (None, "opal", "dm-crypt", "opal and dm-crypt")


@dataclass(frozen=True, slots=True)
class LuksHeader:
    """A LUKS2 header.

    Attributes:
        layer: what encrypts; of several segments what the weakest has, None for nothing.
        cipher: of dm-crypt, as aes-xts-plain64; empty without it.
        range: the drive's locking range that it uses; None without OPAL.
        keyslots: how many passphrases or tokens open it.
        tokens: their kinds, as systemd-tpm2.
    """

    layer: Layer | None
    cipher: str
    range: int | None
    keyslots: int
    tokens: tuple[str, ...]


def parse_luks(text: str) -> LuksHeader:
    """Read ``cryptsetup luksDump --dump-json-metadata``.

    Raises:
        ValueError: it is no such JSON.
    """
    values = json.loads(text)
    if not isinstance(values, dict) or not isinstance(values.get("segments"), dict):
        raise ValueError("no segments in the LUKS2 metadata")  # noqa: TRY004 - malformed, whatever its type
    segments: list[dict[str, Any]] = [one for one in values["segments"].values() if isinstance(one, dict)]
    layers = [_LAYERS.get(str(one.get("type"))) for one in segments]
    ranges = [one["opal_segment_number"] for one in segments if "opal_segment_number" in one]
    tokens = values.get("tokens") or {}
    return LuksHeader(
        layer=min(layers, key=_WEAKEST_FIRST.index, default=None),
        cipher=next((str(one["encryption"]) for one in segments if "encryption" in one), ""),
        range=int(ranges[0]) if ranges else None,
        keyslots=len(values.get("keyslots") or {}),
        tokens=tuple(sorted(str(one.get("type")) for one in tokens.values())),
    )
