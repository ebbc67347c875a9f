"""Root files on disk: reading the one that is trusted, writing the first one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import replace_file, writing_under
from appliance.errors import KeyRefused, RootInvalid, Usage
from appliance.trust.allowed_signers import allowed_signers
from appliance.trust.founding import first_root
from appliance.trust.keys import PublicKey, parse_public_file
from appliance.trust.root import MAX_BYTES, Root, root_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_MAX_KEY_FILE: Final = 16 * 1024
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Founded:
    """A new root, and the two files that were written."""

    root: Root
    path: Path
    signers_path: Path
    signers_digest: str


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


def found_root(out: Path, holders: Iterable[str], thresholds: Iterable[str], *, solo: bool) -> Founded:
    """Write ``root.1.json`` and ``root.1.allowed_signers`` to the folder ``out``.

    Args:
        out: made if it is not there; must hold neither file yet.
        holders: ``NAME=KEY.pub`` for each.
        thresholds: ``ROLE=N`` for each that is not the usual one.
        solo: whether one person alone may do everything.

    Raises:
        Usage: misspelled or contradictory arguments, or a file that exists already.
        KeyRefused: a key is weak, malformed or of a kind not allowed.
    """
    root = first_root(_holders(out, holders), thresholds=_thresholds(thresholds), solo=solo)
    path, signers_path = out / "root.1.json", out / "root.1.allowed_signers"
    for file in (path, signers_path):
        if file.exists() or file.is_symlink():
            raise Usage(
                f"{file} exists already", hint="a root is founded once: name another folder with --out"
            )
    with writing_under(out):
        out.mkdir(parents=True, exist_ok=True)
        replace_file(path, root_bytes(root))
        replace_file(signers_path, allowed_signers(root).encode())
    return Founded(root, path, signers_path, signers_digest(root))


def _holders(out: Path, pairs: Iterable[str]) -> dict[str, PublicKey]:
    keys: dict[str, PublicKey] = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not equals or not file or name in keys:
            raise Usage("a holder is misspelled or named twice", found=ascii(pair), wanted="NAME=KEY.pub")
        data = _read(out.__class__(file), _MAX_KEY_FILE) or b""
        try:
            keys[name] = parse_public_file(data.decode("utf-8", "replace"))
        except KeyRefused as fault:
            fault.message = f"key of {name}: {fault.message}"
            raise
    return keys


def _thresholds(pairs: Iterable[str]) -> dict[str, int]:
    thresholds: dict[str, int] = {}
    for pair in pairs:
        role, _, number = pair.partition("=")
        if not re.fullmatch(r"[0-9]{1,3}", number) or role in thresholds:
            raise Usage("a threshold is misspelled or given twice", found=ascii(pair), wanted="ROLE=N")
        thresholds[role] = int(number)
    return thresholds


def _read(path: Path, limit: int) -> bytes | None:
    """The bytes of a small file a person named; None if it is too long."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as fault:
        raise Usage(f"{path} cannot be read", found=fault.strerror) from fault
    return None if len(data) > limit else data
