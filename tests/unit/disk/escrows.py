"""Escrows that tests make: recipients whose keys are at hand."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pyrage

from appliance.definition.escrow import Escrow
from appliance.disk.escrow.record import DriveIdentity
from appliance.disk.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

DRIVE = DriveIdentity("S6C/1 %", "A drive", "FW1", "1", 16 << 20)
PSID = Secret(b"PSIDPSIDPSIDPSIDPSIDPSIDPSIDPSID")
CREATED = "2026-05-04T03:02:01Z"


_KEYS: defaultdict[str, pyrage.x25519.Identity] = defaultdict(pyrage.x25519.Identity.generate)


def key(name: str) -> pyrage.x25519.Identity:
    """Somebody's key, the same each time."""
    return _KEYS[name]


def escrow(*names: str, threshold: int = 1) -> Escrow:
    return Escrow(tuple((name, str(key(name).to_public())) for name in names), threshold)


def key_file(folder: Path, name: str) -> Path:
    """The same as age-keygen writes it."""
    path = folder / f"{name}.key"
    path.touch(0o600)
    path.write_text(f"# a comment\n{key(name)}\n")
    return path
