"""What of a bundle goes onto media: root files onto each of them, the rest divided among them.

The rest has an order, the bundle's order: the payload files as they lie there (slices), in manifest
order, then the parity files.  Volumes are ranges of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.blocks import split_blocks
from appliance.bundle.judging import judge_list, require_role
from appliance.bundle.paths import (
    BLOCKS_PATH,
    MANIFEST_PATH,
    TRUST_FOLDER,
    parity_number,
)
from appliance.bundle.reader import read_contents, read_listed, read_signed, require_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from appliance.bundle.manifest import ListedFile, Manifest
    from appliance.bundle.opening import BundleTree
    from appliance.bundle.reader import Signed


@dataclass(frozen=True, slots=True)
class Part:
    """A file as it lies in the bundle; ``size`` in bytes, ``sha256`` as signed.

    Of what the list cannot name (lists, signatures, provenance) it is that of the bytes that were read.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Cargo:
    """A bundle, seen as what is to be carried.

    ``root`` repeats on every volume, ``shared`` is divided, in the bundle's order.  ``holders`` have
    signature files there; ``trusted`` says whether these were judged by a root, and were enough.
    """

    digest: str
    manifest: Manifest
    root: tuple[Part, ...]
    shared: tuple[Part, ...]
    holders: tuple[str, ...]
    trusted: bool
    blocks: bytes

    @property
    def spare(self) -> tuple[Part, ...]:
        """The root files of which every volume has a second copy: what parity cannot mend."""
        return tuple(
            part
            for part in self.root
            if part.path == MANIFEST_PATH or part.path.startswith(f"{TRUST_FOLDER}/")
        )

    def block_digests(self, paths: Collection[str]) -> dict[str, tuple[bytes, ...]]:
        """The digests of the 4 MiB blocks of these files; parity and root files have none."""
        return {path: found for path, found in split_blocks(self.manifest, self.blocks) if path in paths}


def in_bundle_order(manifest: Manifest) -> Iterator[tuple[str, ListedFile]]:
    """Everything that is divided among volumes, in the bundle's order."""
    for file in manifest.payload():
        yield from file.parts()
    yield from sorted(
        (path, file) for path, file in manifest.files.items() if parity_number(path) is not None
    )


def read_cargo(tree: BundleTree, *, root: bytes | None = None, role: str = "release") -> Cargo:
    """Read everything about a bundle but its bytes.

    With a root the signatures are judged before anything else is believed.  That costs no pass over
    the bytes: whoever copies them compares each file with its signed digest anyway.

    Args:
        tree: the open bundle.
        root: the bytes of the root that is trusted; None to believe the bundle about itself.
        role: the role whose holders must have signed.

    Raises:
        BundleUntrusted: malformed, contradictory, not signed as the root wants, or of another kind than
            the role may bring.
    """
    require_file(tree, MANIFEST_PATH)
    signed = read_signed(tree)
    if root is not None:
        judge_list(tree, signed, root, role).verdict.require()
    contents = read_contents(tree, signed)
    manifest = contents.manifest
    if root is not None:
        require_role(manifest, role)
    blocks = read_listed(tree, contents.files.lists, BLOCKS_PATH, limit=manifest.files[BLOCKS_PATH].size)
    for _ in split_blocks(manifest, blocks):
        pass  # each step checks one file
    shared = tuple(Part(path, file.size, file.sha256) for path, file in in_bundle_order(manifest))
    return Cargo(
        digest=signed.digest,
        manifest=manifest,
        root=tuple(_root_parts(contents.files, signed, {part.path for part in shared})),
        shared=shared,
        holders=tuple(sorted(signed.signatures)),
        trusted=root is not None,
        blocks=blocks,
    )


def _root_parts(files: Mapping[str, ListedFile], signed: Signed, shared: Collection[str]) -> Iterator[Part]:
    for path, data in signed.unlisted.items():  # the lists first
        yield Part(path, len(data), hashlib.sha256(data).hexdigest())
    for path, file in sorted(files.items()):
        if path not in shared:
            yield Part(path, file.size, file.sha256)
