"""What is sent of a bundle to a node: each file under its own path, and where its bytes lie here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.blocks import split_blocks
from appliance.bundle.list_kind import INDEX
from appliance.bundle.opening import opened_again
from appliance.bundle.paths import (
    BLOCKS_PATH,
    MANIFEST_PATH,
)
from appliance.bundle.reader import read_signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.lists import Lists
    from appliance.bundle.manifest import Manifest, PayloadFile
    from appliance.bundle.opening import BundleTree
    from appliance.bundle.verify import VerifiedBundle


@dataclass(frozen=True, slots=True)
class SentSlice:
    """A slice of a file, as it lies in the bundle; ``further`` as of ``SentFile``."""

    path: str
    size: int
    sha256: str
    further: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SentFile:
    """One file of the copy as the receiver is told of it.

    ``blocks``: SHA-256 of each 4 MiB of the whole file, hex, one behind another: a terabyte has a quarter
    of a million, which as texts of their own take twice the room.  ``slices``: where its bytes lie in the
    bundle, in order; empty for a file that lies there whole.  ``further``: algorithms and digests (hex)
    that a stricter list has besides, of what lies in the bundle: of a cut file its slices have them.
    ``same``: the path of the same bytes in the node's copy of another bundle, where that is known.
    """

    path: str
    size: int
    sha256: str
    blocks: str = ""
    slices: tuple[SentSlice, ...] = ()
    further: tuple[tuple[str, str], ...] = ()
    same: str = ""

    def as_dict(self) -> dict[str, object]:
        """As the receiver reads it."""
        return {
            "path": self.path,
            "size": self.size,
            "sha256": self.sha256,
            "further": self.further,
            "blocks": self.blocks,
            "slices": [
                {"path": each.path, "size": each.size, "sha256": each.sha256, "further": each.further}
                for each in self.slices
            ],
            "same": self.same,
        }


def files_to_send(bundle: VerifiedBundle) -> list[SentFile]:
    """Every file of a bundle, joined: the list and what lies beside it first, then what it lists."""
    with opened_again(bundle.folders) as tree:
        return files_of(tree, bundle.manifest, bundle.files)


def files_of(tree: BundleTree, manifest: Manifest, listed: ListedFiles) -> list[SentFile]:
    """Likewise, of a bundle of which what lies outside the payload is at hand."""
    index = tree.read(BLOCKS_PATH, limit=listed[BLOCKS_PATH].size)
    signed, lists = read_signed(tree), listed.lists
    files = [_unlisted(path, data, lists) for path, data in sorted(signed.unlisted.items())]
    for path, file in (*manifest.files.items(), (MANIFEST_PATH, listed[MANIFEST_PATH])):
        files.append(SentFile(path, file.size, file.sha256, further=lists.further(path)))
    blocks = split_blocks(manifest, index)
    files += [_sent(file, [next(blocks) for _ in file.parts()], lists) for file in manifest.payload()]
    return files


def _sent(file: PayloadFile, blocks: Sequence[tuple[str, Sequence[bytes]]], lists: Lists) -> SentFile:
    """A file of the payload; ``blocks``: for each of its parts the path, and the digests of its blocks."""
    slices = tuple(
        SentSlice(path, part.size, part.sha256, lists.further(path))
        for path, part in file.parts()
        if file.slices
    )
    digests = b"".join(digest for _, part in blocks for digest in part).hex()
    if digests == file.sha256:
        digests = file.sha256  # one text, not two: most files have one block
    further = () if slices else lists.further(file.path)
    return SentFile(file.path, file.size, file.sha256, digests, slices, further)


def _unlisted(path: str, data: bytes, lists: Lists) -> SentFile:
    """A file that the index does not name; a stricter list does name the index itself."""
    further = lists.further(path) if path == INDEX.path else ()
    return SentFile(path, len(data), hashlib.sha256(data).hexdigest(), further=further)
