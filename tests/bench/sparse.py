"""Signed bundles of any size that take no disk: every file is one hole, made without the writer.

Or all but its first bytes, where it has to differ from another one.
"""

from __future__ import annotations

import hashlib
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.listing import listing_bytes
from appliance.bundle.manifest import (
    SLICE_SIZE,
    Component,
    Inference,
    ListedFile,
    Manifest,
    PayloadFile,
    Target,
    manifest_bytes,
)
from appliance.bundle.sign import sign_bundle
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.conftest import Holders


@cache
def zeros(size: int, start: bytes = b"") -> str:
    """SHA-256 (hex) of so many bytes, zeros but for the first ones."""
    digest = hashlib.sha256(start)
    for position in range(len(start), size, BLOCK_SIZE):
        digest.update(bytes(min(BLOCK_SIZE, size - position)))
    return digest.hexdigest()


def sparse_file(path: str, size: int, start: bytes | None = None) -> PayloadFile:
    """A file of zeros as a record of a package; the digest of a cut one is of its first slice.

    ``start`` are its first bytes, whole blocks in the first slice; given, the digest of a cut file is its
    own, which takes as long as hashing it.
    """
    slices: tuple[ListedFile, ...] = ()
    if size > SLICE_SIZE:
        sizes = [min(SLICE_SIZE, size - start) for start in range(0, size, SLICE_SIZE)]
        first, *others = sizes
        slices = (ListedFile(zeros(first, start or b""), first),)
        slices += tuple(ListedFile(zeros(each), each) for each in others)
    name = path.rpartition("/")[2].partition("_")[0]
    origin = {
        "kind": "debian",
        "suite": "trixie",
        "component": "main",
        "package": name,
        "architecture": "amd64",
        "upstream": "sha256",
    }
    digest = zeros(min(size, SLICE_SIZE)) if start is None else zeros(size, start)
    return PayloadFile(
        path, size, digest, name, "1.2.3-1+deb13u1", "GPL-2.0-or-later", origin, slices=slices
    )


def write_sparse(
    folder: Path,
    holders: Holders,
    components: Mapping[str, Iterable[PayloadFile]],
    *,
    sequence: int = 1,
    starts: Mapping[str, bytes] = MappingProxyType({}),
) -> Path:
    """Write a bundle of these files, in order of path, and let alice and bob sign it.

    ``starts``: the first bytes of those that have others than zeros, by path; whole blocks.
    """
    root = holders.root("alice", "bob")
    parts = {name: Component("files", tuple(files)) for name, files in sorted(components.items())}
    blocks = bytearray()
    for component in parts.values():
        for file in component.files:
            start = starts.get(file.path, b"")
            for path, part in file.parts():
                _hole(folder / path, part.size, start)
                full, rest = divmod(part.size, BLOCK_SIZE)
                for position in range(0, len(start), BLOCK_SIZE):
                    blocks += hashlib.sha256(start[position : position + BLOCK_SIZE]).digest()
                    full -= 1
                start = b""
                blocks += bytes.fromhex(zeros(BLOCK_SIZE)) * full
                blocks += bytes.fromhex(zeros(rest)) if rest else b""
    small = {"VERIFY.txt": b"", "blocks.bin": bytes(blocks), "trust/root.1.json": root_bytes(root)}
    model = parts["model"].files[0]
    manifest = Manifest(
        product="demo",
        version=str(sequence),
        sequence=sequence,
        created="2026-01-31T12:00:00Z",
        target=Target("debian", "trixie", "amd64", "3.13"),
        inference=Inference("model", "model", model.path.rpartition("/")[2], "demo"),
        components=parts,
        files={
            path: ListedFile(hashlib.sha256(data).hexdigest(), len(data)) for path, data in small.items()
        },
    )
    small["manifest.json"] = manifest_bytes(manifest)
    digests = {path: file.sha256 for path, file in manifest.listed().items()}
    digests["manifest.json"] = hashlib.sha256(small["manifest.json"]).hexdigest()
    small["trust/SHA256SUMS"] = listing_bytes(digests)
    (folder / "trust").mkdir()
    for path, data in small.items():
        (folder / path).write_bytes(data)
    for name in ("alice", "bob"):
        sign_bundle(folder, holders.key(name))
    return folder


def _hole(path: Path, size: int, start: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
