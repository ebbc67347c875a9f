"""The block index: SHA-256 of every 4 MiB block of the payload, for resume, repair and spot checks.

``blocks.bin`` holds 32 bytes per block, for each payload file as it lies in the bundle (each slice
for itself), in manifest order.  A file's last block may be short; an empty file has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.errors import BundleMalformed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.manifest import Manifest

BLOCK_SIZE: Final = 4 << 20
DIGEST_SIZE: Final = 32
_MISTAKE: Final = "obtain the bundle again; its builder made a mistake"


def block_count(size: int) -> int:
    """How many blocks a file of ``size`` bytes has."""
    return -(-size // BLOCK_SIZE)


def blocks_size(manifest: Manifest) -> int:
    """The size in bytes that ``blocks.bin`` must have for this manifest."""
    return DIGEST_SIZE * sum(
        block_count(part.size) for file in manifest.payload() for _, part in file.parts()
    )


def split_blocks(manifest: Manifest, data: bytes) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Each payload file as it lies in the bundle, with the digests of its blocks.

    Args:
        manifest: the bundle's manifest.
        data: the bytes of ``blocks.bin``.

    Raises:
        BundleMalformed: the size is wrong, or a file of one block has another digest here than
            in the manifest.
    """
    if len(data) != (wanted := blocks_size(manifest)):
        raise _unfit(len(data), wanted)
    position = 0
    for file in manifest.payload():
        for path, part in file.parts():
            count = block_count(part.size)
            digests = tuple(
                data[start : start + DIGEST_SIZE]
                for start in range(position, position + count * DIGEST_SIZE, DIGEST_SIZE)
            )
            position += count * DIGEST_SIZE
            if count == 1 and digests[0].hex() != part.sha256:
                raise _contradicted(path, digests[0], part.sha256)
            yield path, digests


def check_blocks(files: ListedFiles, order: Sequence[int], data: bytes) -> None:
    """Compare ``blocks.bin`` with what was signed, as ``split_blocks`` does, without spelling out paths.

    Args:
        files: every listed file.
        order: the numbers of the payload's files in the list, in manifest order.
        data: the bytes of ``blocks.bin``.

    Raises:
        BundleMalformed: as ``split_blocks``.
    """
    sizes, digest = files.sizes, files.listing.digest
    wanted = DIGEST_SIZE * sum(-(-sizes[number] // BLOCK_SIZE) for number in order)
    if len(data) != wanted:
        raise _unfit(len(data), wanted)
    position = 0
    for number in order:
        if 0 < (size := sizes[number]) <= BLOCK_SIZE:
            found = data[position : position + DIGEST_SIZE]
            if found.hex() != (signed := digest(number)):
                raise _contradicted(files.listing.paths[number], found, signed)
            position += DIGEST_SIZE
        else:
            position += DIGEST_SIZE * block_count(size)


def _unfit(found: int, wanted: int) -> BundleMalformed:
    return BundleMalformed(
        "blocks.bin does not fit the manifest",
        found=f"{found:,} bytes",
        wanted=f"{wanted:,} bytes",
        hint=_MISTAKE,
    )


def _contradicted(path: str, found: bytes, wanted: str) -> BundleMalformed:
    return BundleMalformed(
        f"blocks.bin contradicts the manifest about {path}", found=found.hex(), wanted=wanted, hint=_MISTAKE
    )
