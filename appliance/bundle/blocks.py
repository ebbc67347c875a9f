"""The block index: SHA-256 of every 4 MiB block of the payload, for resume, repair and spot checks.

``blocks.bin`` holds 32 bytes per block, for each payload file as it lies in the bundle (each slice
for itself), in manifest order.  A file's last block may be short; an empty file has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.errors import BundleMalformed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.bundle.manifest import Manifest

BLOCK_SIZE: Final = 4 << 20
DIGEST_SIZE: Final = 32


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
    if len(data) != blocks_size(manifest):
        raise BundleMalformed(
            "blocks.bin does not fit the manifest",
            found=f"{len(data):,} bytes",
            wanted=f"{blocks_size(manifest):,} bytes",
            hint="obtain the bundle again; its builder made a mistake",
        )
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
                raise BundleMalformed(
                    f"blocks.bin contradicts the manifest about {path}",
                    found=digests[0].hex(),
                    wanted=part.sha256,
                    hint="obtain the bundle again; its builder made a mistake",
                )
            yield path, digests
