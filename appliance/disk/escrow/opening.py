"""What opens an escrow, from files: age identities, and shares that their holders have decrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyrage

from appliance.disk.escrow.sealing import Openers
from appliance.disk.private_file import read_private
from appliance.disk.secret import Secret
from appliance.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_BEGINNING: Final = "AGE-SECRET-KEY-1"


def read_openers(identities: Sequence[Path], shares: Sequence[Path]) -> Openers:
    """Read what may open a record.

    Args:
        identities: files as age-keygen writes them; several keys in one count.
        shares: files with a line as ssss(1) takes it, decrypted by their holder.

    Raises:
        Usage: a file cannot be read, others may read it, or no key is in it.
    """
    found = [key for path in identities for key in _identities(path)]
    return Openers(tuple(found), tuple(Secret(read_private(path).strip()) for path in shares))


def _identities(path: Path) -> list[pyrage.x25519.Identity]:
    lines = [line.strip() for line in read_private(path).decode("utf-8", "replace").splitlines()]
    try:
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line.startswith(_BEGINNING)]
    except pyrage.IdentityError:
        found = []
    if not found:
        raise Usage(
            f"{path} holds no key of age",
            wanted=f"a line that begins with {_BEGINNING}, as age-keygen writes it",
            hint="a key on a token or under a passphrase opens the .age file with age itself",
        )
    return found
