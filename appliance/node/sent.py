"""What is sent of a bundle to a node: each file under its own path, and where its bytes lie here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.blocks import split_blocks
from appliance.bundle.paths import BLOCKS_PATH, LIST_PATH

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle


@dataclass(frozen=True)
class SentSlice:
    """A slice of a file, as it lies in the bundle."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class SentFile:
    """One file of the copy as the receiver is told of it.

    ``blocks``: SHA-256 of each 4 MiB of the whole file, hex.  ``slices``: where its bytes lie in the
    bundle, in order; empty for a file that lies there whole.
    """

    path: str
    size: int
    sha256: str
    blocks: tuple[str, ...] = ()
    slices: tuple[SentSlice, ...] = ()


def files_to_send(bundle: VerifiedBundle) -> list[SentFile]:
    """Every file of a bundle, joined: the list and its signatures first, then what it lists."""
    index = (bundle.folder / BLOCKS_PATH).read_bytes()
    blocks = {
        path: tuple(digest.hex() for digest in digests)
        for path, digests in split_blocks(bundle.manifest, index)
    }
    files = [_unlisted(bundle.folder, LIST_PATH)]
    files += [
        _unlisted(bundle.folder, f"trust/{signature.name}")
        for signature in sorted((bundle.folder / "trust").glob("SHA256SUMS.*.sig"))
    ]
    files += [
        SentFile(path, listed.size, listed.sha256)
        for path, listed in bundle.files.items()
        if path not in blocks
    ]
    files += [
        SentFile(
            file.path,
            file.size,
            file.sha256,
            tuple(digest for path, _ in file.parts() for digest in blocks[path]),
            tuple(SentSlice(path, part.size, part.sha256) for path, part in file.parts())
            if file.slices
            else (),
        )
        for file in bundle.manifest.payload()
    ]
    return files


def _unlisted(folder: Path, path: str) -> SentFile:
    data = (folder / path).read_bytes()
    return SentFile(path, len(data), hashlib.sha256(data).hexdigest())
