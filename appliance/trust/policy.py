"""Who signed, and whether that is enough."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signer:
    """A holder whose signature verified, with the key it was made by (see ``keys.PublicKey.keyid``)."""

    holder: str
    keyid: str
