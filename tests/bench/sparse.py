"""Signed bundles of any size that take no disk: every file is one hole, made without the writer.

Or all but its last bytes, where it has to differ from another one.
"""

from __future__ import annotations

import hashlib
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

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
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import Holders

_BLOCK: Final = bytes(BLOCK_SIZE)


class Digest(Protocol):
    """What computes one, as ``hashlib`` has it."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


@cache
def zeros(size: int, end: bytes = b"", make: Callable[[], Digest] = hashlib.sha256) -> str:
    """SHA-256 (hex) of so many bytes, zeros but for the last ones; or what ``make`` makes of them."""
    digest = make()
    for position in range(0, size - len(end), BLOCK_SIZE):
        digest.update(_BLOCK[: size - len(end) - position])
    digest.update(end)
    return digest.hexdigest()


def sparse_file(
    path: str, size: int, end: bytes | None = None, make: Callable[[], Digest] = hashlib.sha256
) -> PayloadFile:
    """A file of zeros as a record of a package; the digest of a cut one is of its first slice.

    ``end`` are its last bytes, whole blocks in the last slice; given, the digest of a cut file is its own,
    by ``make``, which takes as long as hashing it.
    """
    slices: tuple[ListedFile, ...] = ()
    if size > SLICE_SIZE:
        sizes = [min(SLICE_SIZE, size - start) for start in range(0, size, SLICE_SIZE)]
        *others, last = sizes
        slices = tuple(ListedFile(zeros(each), each) for each in others)
        slices += (ListedFile(zeros(last, end or b""), last),)
    name = path.rpartition("/")[2].partition("_")[0]
    origin = {
        "kind": "debian",
        "suite": "trixie",
        "component": "main",
        "package": name,
        "architecture": "amd64",
        "upstream": "sha256",
    }
    digest = zeros(min(size, SLICE_SIZE)) if end is None else zeros(size, end, make)
    return PayloadFile(
        path, size, digest, name, "1.2.3-1+deb13u1", "GPL-2.0-or-later", origin, slices=slices
    )


def write_sparse(
    folder: Path,
    holders: Holders,
    components: Mapping[str, Iterable[PayloadFile]],
    *,
    sequence: int = 1,
    ends: Mapping[str, bytes] = MappingProxyType({}),
    root: Root | None = None,
) -> Path:
    """Write a bundle of these files, in order of path, and let alice and bob sign it.

    ``ends``: the last bytes of those that have others than zeros, by path; whole blocks.
    ``root``: the one that the bundle carries, if not that of the two.
    """
    root = root or holders.root("alice", "bob")
    parts = {name: Component("files", tuple(files)) for name, files in sorted(components.items())}
    blocks = bytearray()
    for component in parts.values():
        for file in component.files:
            *_, last = file.parts()
            for path, part in file.parts():
                end = ends.get(file.path, b"") if (path, part) == last else b""
                _hole(folder / path, part.size, end)
                full, rest = divmod(part.size - len(end), BLOCK_SIZE)
                blocks += bytes.fromhex(zeros(BLOCK_SIZE)) * full
                blocks += bytes.fromhex(zeros(rest)) if rest else b""
                for position in range(0, len(end), BLOCK_SIZE):
                    blocks += hashlib.sha256(end[position : position + BLOCK_SIZE]).digest()
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


def _hole(path: Path, size: int, end: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size - len(end))
        file.write(end)
