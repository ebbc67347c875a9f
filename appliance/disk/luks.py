"""What a LUKS2 header says, without a passphrase: cryptsetup's JSON in, values out.

LUKS2 On-Disk Format Specification 1.1.1, sections 2 and 3; segments of type ``hw-opal`` and
``hw-opal-crypt`` are cryptsetup's since 2.7.0 (its release notes).

A token of ours (section 3.4; what is no kind of cryptsetup's it leaves alone) says which keys of an escrow
the passphrase is of, and in which keyslot it is or will be:

    {"type": "appliance-keys", "keyslots": [], "keys": mark of the keys, "slot": "1", "before": "0"}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

Layer = Literal["dm-crypt", "opal", "opal and dm-crypt"]

#: The magic of a primary header, and version 2; then where the UUID lies, and as long as all of it is.
MAGIC: Final = b"LUKS\xba\xbe\0\x02"
_UUID: Final = slice(168, 208)
_BINARY: Final = 4096

TOKEN: Final = "appliance-keys"  # noqa: S105 - a kind, and no secret
#: Where luksFormat puts its passphrase, and how many keyslots and tokens a header has at most.
FIRST_SLOT: Final = "0"
_MOST: Final = 32

_LAYERS: Final[dict[str, Layer]] = {
    "crypt": "dm-crypt",
    "hw-opal": "opal",
    "hw-opal-crypt": "opal and dm-crypt",
}
#: A segment of another type, as while LUKS is put on or off, is not encrypted, whatever the others are.
_WEAKEST_FIRST: Final[tuple[Layer | None, ...]] = (None, "opal", "dm-crypt", "opal and dm-crypt")


@dataclass(frozen=True, slots=True)
class PassphraseToken:
    """Of which keys of an escrow the passphrase is.

    Attributes:
        number: of the token itself.
        keys: the mark of the keys (``Record.mark``).
        slot: the keyslot their passphrase is in, or is to get.
        before: the keyslot of the passphrase before.
    """

    number: str
    keys: str
    slot: str
    before: str

    def to_bytes(self) -> bytes:
        """As cryptsetup takes it."""
        values = {
            "type": TOKEN,
            "keyslots": [],
            "keys": self.keys,
            "slot": self.slot,
            "before": self.before,
        }
        return json.dumps(values).encode("ascii")


@dataclass(frozen=True, slots=True)
class LuksHeader:
    """A LUKS2 header.

    Attributes:
        layer: what encrypts; of several segments what the weakest has, None for nothing.
        cipher: of dm-crypt, as aes-xts-plain64; empty without it.
        range: the drive's locking range that it uses; None without OPAL.
        keyslots: how many passphrases or tokens open it.
        tokens: their kinds, as systemd-tpm2.
        uuid: of the volume; empty where it cannot be told.
        pcrs: registers that its TPM's token is bound to; none without one.
        slots: numbers of the keyslots.
        passphrase: of which keys the passphrase is; None where no token says.
        taken: numbers of all tokens.
    """

    layer: Layer | None
    cipher: str
    range: int | None
    keyslots: int
    tokens: tuple[str, ...]
    uuid: str = ""
    pcrs: tuple[int, ...] = ()
    slots: tuple[str, ...] = ()
    passphrase: PassphraseToken | None = None
    taken: tuple[str, ...] = ()

    @property
    def passphrase_slot(self) -> str:
        """The keyslot of the passphrase that the newest token tells of, or of luksFormat's."""
        return FIRST_SLOT if self.passphrase is None else self.passphrase.slot

    def next_token(self, keys: str) -> PassphraseToken | None:
        """The token for a further passphrase; None where there is no room for it."""
        slot = next((str(one) for one in range(_MOST) if str(one) not in self.slots), None)
        number = next((str(one) for one in range(_MOST) if str(one) not in self.taken), None)
        if self.passphrase is not None:
            number = self.passphrase.number
        if slot is None or number is None:
            return None
        return PassphraseToken(number, keys, slot, self.passphrase_slot)


def parse_luks(text: str, uuid: str = "") -> LuksHeader:
    """Read ``cryptsetup luksDump --dump-json-metadata``, and what ``cryptsetup luksUUID`` says.

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
        uuid=uuid,
        pcrs=tuple(sorted({int(one) for token in tokens.values() for one in token.get("tpm2-pcrs") or ()})),
        slots=tuple(sorted(values.get("keyslots") or {}, key=int)),
        passphrase=next(filter(None, map(_token, tokens.items())), None),
        taken=tuple(sorted(tokens, key=int)),
    )


def _token(item: tuple[str, Any]) -> PassphraseToken | None:
    """A token of ours; None for others."""
    number, token = item
    if not isinstance(token, dict) or token.get("type") != TOKEN:
        return None
    return PassphraseToken(number, *(str(token.get(name, "")) for name in ("keys", "slot", "before")))


def uuid_in(header: bytes) -> str | None:
    """The volume's UUID in a binary header (section 2.2); None where these bytes are no LUKS2 header."""
    if len(header) < _BINARY or not header.startswith(MAGIC):
        return None
    return header[_UUID].partition(b"\0")[0].decode("ascii", "replace")
