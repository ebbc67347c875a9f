"""The bundle that is installed on a node, as far as its documents go: read from its copy, and judged.

What lies outside the payload is small.  It is fetched when it is asked for, and kept in a folder here.  The
list is known by its digest, and everything else by the list.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.listing import MAX_BYTES as MAX_LIST
from appliance.bundle.listing import parse_listing
from appliance.bundle.manifest import parse_manifest
from appliance.bundle.manifest_reader import MAX_BYTES as MAX_MANIFEST
from appliance.bundle.patch.holdings import OUTSIDE, HeldFile
from appliance.bundle.patch.whole import FolderFiles, WholeFile
from appliance.bundle.paths import (
    LIST_PATH,
    MANIFEST_PATH,
    PAYLOAD_FOLDER,
    TRUST_FOLDER,
    lies_beside_list,
)
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.bundle.manifest import Manifest
    from appliance.node.patching.reader import CopyReader

#: Signatures, provenance, the second list.
_MOST_BESIDE: Final = 64 << 20


@dataclass(frozen=True)
class NodeBase:
    """What is installed: its manifest, and every file of it as it lies on the node, by path.

    ``folder``: where what was fetched lies here.
    """

    digest: str
    manifest: Manifest
    files: Mapping[str, HeldFile]
    folder: Path
    reader: CopyReader

    def by_digest(self) -> dict[str, HeldFile]:
        """The files by SHA-256 (hex)."""
        return {file.sha256: file for file in self.files.values()}

    def open(self, file: HeldFile) -> WholeFile:
        """A file that lies outside the payload, or a short one; fetched now if it was not yet.

        Raises:
            DigestMismatch: the node has another.
            FileMissing, NodeUnreachable: it cannot be read there.
        """
        place = self.folder / file.path
        if not place.exists():
            data = self.reader.read(file.path, 0, file.size)
            _require(self.reader.node, file.path, data, file.sha256)
            _keep(place, data)
        return WholeFile(FolderFiles(), file.path, ((str(place), file.size),))


def read_base(reader: CopyReader, digest: str, folder: Path) -> NodeBase:
    """List, manifest, and what is said beside the list; the rest is fetched when it is asked for.

    Args:
        reader: of the node's copy.
        digest: the bundle's.
        folder: where what is fetched is kept.

    Raises:
        DigestMismatch: the node has another list or manifest under this name.
        BundleMalformed: they break the format.
        FileMissing, NodeUnreachable: they cannot be read.
    """
    data = reader.whole(LIST_PATH, MAX_LIST)
    _require(reader.node, LIST_PATH, data, digest)
    _keep(folder / LIST_PATH, data)
    listing = parse_listing(data)
    spelled = reader.whole(MANIFEST_PATH, MAX_MANIFEST)
    _require(reader.node, MANIFEST_PATH, spelled, listing[MANIFEST_PATH])
    _keep(folder / MANIFEST_PATH, spelled)
    manifest = parse_manifest(spelled)
    files = {LIST_PATH: _held(LIST_PATH, digest, len(data))}
    files[MANIFEST_PATH] = _held(MANIFEST_PATH, listing[MANIFEST_PATH], len(spelled))
    for path, file in manifest.files.items():
        files[path] = _held(path, file.sha256, file.size)
    for each in manifest.payload():
        files[each.path] = _held(each.path, each.sha256, each.size, each.path.split("/")[1], each.name)
    for name in reader.names(TRUST_FOLDER):
        path = f"{TRUST_FOLDER}/{name}"
        if path not in files and (lies_beside_list(name) or name == "SHA384SUMS"):
            beside = reader.whole(path, _MOST_BESIDE)
            _keep(folder / path, beside)
            files[path] = _held(path, hashlib.sha256(beside).hexdigest(), len(beside))
    return NodeBase(digest, manifest, files, folder, reader)


def is_document(path: str) -> bool:
    """Whether a file lies outside the payload and is no recovery data: small, and wanted at the station."""
    return not path.startswith((f"{PAYLOAD_FOLDER}/", "parity/"))


def _held(path: str, sha256: str, size: int, component: str = OUTSIDE, name: str = "") -> HeldFile:
    return HeldFile(path, sha256, size, component, name or path, ((path, size),))


def _keep(place: Path, data: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)


def _require(node: str, path: str, data: bytes, wanted: str) -> None:
    if (found := hashlib.sha256(data).hexdigest()) != wanted:
        raise DigestMismatch(
            f"{node}: {path} of the installed bundle is not what was staged",
            found=f"sha256 {found}",
            wanted=f"sha256 {wanted}",
            hint="find out who changes it; install the whole bundle. What runs was not touched",
        )
