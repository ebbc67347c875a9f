"""What is sent of a bundle to a node: each file under its own path, and where its bytes lie here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.blocks import split_blocks
from appliance.bundle.opening import open_tree
from appliance.bundle.paths import BLOCKS_PATH, LIST_PATH, provenance_path, signature_path
from appliance.bundle.reader import read_signed

if TYPE_CHECKING:
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
    """Every file of a bundle, joined: the list and what lies beside it first, then what it lists."""
    with open_tree(bundle.folders) as tree:
        index = tree.read(BLOCKS_PATH, limit=bundle.files[BLOCKS_PATH].size)
        signed = read_signed(tree)
    blocks = {
        path: tuple(digest.hex() for digest in digests)
        for path, digests in split_blocks(bundle.manifest, index)
    }
    beside = {signature_path(holder): data for holder, data in signed.signatures.items()}
    beside |= {provenance_path(holder): data for holder, data in signed.provenance.items()}
    files = [_unlisted(LIST_PATH, signed.listing)]
    files += [_unlisted(path, beside[path]) for path in sorted(beside)]
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


def _unlisted(path: str, data: bytes) -> SentFile:
    return SentFile(path, len(data), hashlib.sha256(data).hexdigest())
