"""The root file on disk that is trusted."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from appliance.errors import RootInvalid, Usage
from appliance.trust.allowed_signers import allowed_signers
from appliance.trust.root import MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.trust.root import Root

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


def load_root(path: Path, fingerprint: str | None) -> bytes:
    """The bytes of a root file, compared with the fingerprint a person typed, if one is given.

    Args:
        path: the root file.
        fingerprint: 64 hex digits; case, spaces and colons are ignored.

    Raises:
        Usage: the file cannot be read, or the fingerprint is misspelled.
        RootInvalid: it has another fingerprint, or is far too long.
    """
    data = _read(path, MAX_BYTES)
    if data is None:
        raise RootInvalid(f"{path} is too long for a root", wanted=f"at most {MAX_BYTES:,} bytes")
    if fingerprint is not None:
        wanted = re.sub(r"[\s:]", "", fingerprint).lower()
        if not _FINGERPRINT.fullmatch(wanted):
            raise Usage("the fingerprint is misspelled", found=ascii(fingerprint), wanted="64 hex digits")
        found = hashlib.sha256(data).hexdigest()
        if found != wanted:
            raise RootInvalid(
                f"{path} is not the root you were told about",
                found=f"fingerprint {found}",
                wanted=f"fingerprint {wanted}",
                hint="obtain the root again from its holders, in person",
            )
    return data


def signers_digest(root: Root) -> str:
    """The SHA-256 (hex) of the root's allowed_signers file."""
    return hashlib.sha256(allowed_signers(root).encode()).hexdigest()


def _read(path: Path, limit: int) -> bytes | None:
    """The bytes of a small file a person named; None if it is too long."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as fault:
        raise Usage(f"{path} cannot be read", found=fault.strerror) from fault
    return None if len(data) > limit else data
