"""Further copies of a bundle's small files: on the other volumes, and under ``spare/``."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle import listing
from appliance.bundle.paths import LIST_PATH
from appliance.bundle.plain_files import NAMES_SHOWN
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.bundle.volume import Volume

_BUFFER: Final = 256 << 10
_UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the bundle's file ``path``, at ``place`` on a volume."""

    path: str
    volume: Volume
    place: str

    def __str__(self) -> str:
        return f"{self.place} on {self.volume.name}"


def compare_copies(first: Volume, copies: Iterable[Copy], *, hint: str) -> None:
    """Refuse copies that are not like the first volume's file.

    Where the signed list tells which of two is right, the wrong one is named, even if it is the first.

    Args:
        first: the volume whose files the bundle is read from.
        copies: what to compare with it.
        hint: what to do next.

    Raises:
        DigestMismatch: naming the damaged copies.
    """
    originals: dict[str, str] = {}
    different: list[tuple[Copy, str]] = []
    for copy in copies:
        if copy.path not in originals:
            originals[copy.path] = digest_of(first, copy.path)
        if (found := digest_of(copy.volume, copy.place)) != originals[copy.path]:
            different.append((copy, found))
    if not different:
        return
    signed = listing.parse_listing(first.tree.read(LIST_PATH, limit=listing.MAX_BYTES))
    wrong: dict[str, None] = {}  # each once, in order
    for copy, found in different:
        original = Copy(copy.path, first, copy.path)
        right = signed.get(copy.path, originals[copy.path])
        if originals[copy.path] != right:
            wrong[str(original)] = None
        if found != right:
            wrong[str(copy)] = None
    names = list(wrong)
    raise DigestMismatch(
        f"{len(names)} of the files that lie on several places {'are' if len(names) > 1 else 'is'} damaged",
        found=", ".join(names[:NAMES_SHOWN]) + (" …" if len(names) > NAMES_SHOWN else ""),
        wanted="the same bytes everywhere, as they were signed",
        hint=hint,
    )


def digest_of(volume: Volume, path: str) -> str:
    """The SHA-256 (hex) of a file on a volume; a word that is no digest if it cannot be read."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BUFFER))
    with volume.named(), volume.tree.open(path) as fd:
        try:
            while count := os.readv(fd, [buffer]):
                digest.update(buffer[:count])
        except OSError:
            return _UNREADABLE
    return digest.hexdigest()
