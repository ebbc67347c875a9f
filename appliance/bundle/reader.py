"""Reading the small files of a bundle: the list, its signatures, the manifest, the root it carries.

Used by everything that looks into a bundle.  What is read here is well-formed and consistent; who
wrote it is for ``appliance.bundle.verify`` to judge.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.bundle import listing, manifest_reader
from appliance.bundle.manifest import ListedFile, Manifest, parse_manifest
from appliance.bundle.paths import (
    LIST_PATH,
    MANIFEST_PATH,
    TRUST_FOLDER,
    provenance_holder,
    provenance_path,
    root_path,
    root_version,
    signature_holder,
    signature_path,
)
from appliance.errors import BundleMalformed, DigestMismatch, FileMissing
from appliance.trust import root as roots
from appliance.trust import sshsig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.bundle.opening import BundleTree

#: A signature and a provenance for each key that a root can have, the list and a root beside them.
_MAX_NAMES: Final = 2 * roots.MAX_KEYS + 2
#: A provenance names a handful of files by digest; a real one has a few thousand bytes.
MAX_PROVENANCE_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Signed:
    """The bytes that are signed, and what lies beside them by the holder it is named for.

    ``signatures`` are over ``listing``; ``provenance`` are DSSE envelopes that name it by digest.
    """

    listing: bytes
    signatures: Mapping[str, bytes]
    provenance: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The bundle's identity: SHA-256 (hex) of its list."""
        return hashlib.sha256(self.listing).hexdigest()


@dataclass(frozen=True)
class Contents:
    """What the bundle holds: the manifest, and every listed file by path."""

    manifest: Manifest
    files: Mapping[str, ListedFile]
    root: bytes | None


def read_signed(tree: BundleTree) -> Signed:
    """Read the list, its signatures and what is said of its provenance; parses none of them.

    Other names in ``trust`` are passed over: ``read_contents`` refuses them with all that is not listed.

    Raises:
        FileMissing: there is no list, or no ``trust`` folder.
        FileUnexpected: ``trust`` holds more files than any bundle has, or no plain ones.
        BundleMalformed, DigestMismatch: a file there is too large or cannot be read.
    """
    names = tree.names(TRUST_FOLDER, most=_MAX_NAMES)
    signers = [holder for name in names if (holder := signature_holder(name))]
    tellers = [holder for name in names if (holder := provenance_holder(name))]
    data = tree.read(LIST_PATH, limit=listing.MAX_BYTES)
    signatures = {holder: tree.read(signature_path(holder), limit=sshsig.MAX_BYTES) for holder in signers}
    provenance = {
        holder: tree.read(provenance_path(holder), limit=MAX_PROVENANCE_BYTES) for holder in tellers
    }
    return Signed(data, signatures, provenance)


def read_contents(tree: BundleTree, signed: Signed) -> Contents:
    """Read list, manifest and carried root; check them and the set of files against each other.

    Everything is checked but the bytes of the payload, ``blocks.bin`` and the review page.

    Raises:
        BundleMalformed: the list or the manifest break the format, or they contradict each other.
        FileMissing, FileUnexpected: other files lie in the folder than the list names.
        DigestMismatch: manifest or root differ from the list, or a file has another size than signed.
    """
    digests = listing.parse_listing(signed.listing)
    beside = [*map(signature_path, signed.signatures), *map(provenance_path, signed.provenance)]
    sizes = tree.check_set([*digests, LIST_PATH, *beside])
    data = read_listed(tree, MANIFEST_PATH, digests[MANIFEST_PATH], limit=manifest_reader.MAX_BYTES)
    manifest = parse_manifest(data)
    files = {**manifest.listed(), MANIFEST_PATH: ListedFile(digests[MANIFEST_PATH], len(data))}
    _compare(files, digests)
    if wrong := [path for path, file in files.items() if sizes[path] != file.size]:
        first = wrong[0]
        raise DigestMismatch(
            f"{len(wrong)} files have another size than was signed, the first is {first}",
            found=f"{sizes[first]:,} bytes",
            wanted=f"{files[first].size:,} bytes",
            hint="copy these files again from their medium: " + ", ".join(wrong[:10]),
        )
    carried = next((path for path in digests if root_version(path) is not None), None)
    root = read_listed(tree, carried, digests[carried], limit=roots.MAX_BYTES) if carried else None
    if root is not None and root_path(roots.parse_root(root).version) != carried:
        raise BundleMalformed(f"{carried} is a root of another version than its name says")
    return Contents(manifest, files, root)


def read_listed(tree: BundleTree, path: str, sha256: str, *, limit: int) -> bytes:
    """The bytes of a small file, which must have the digest that was signed.

    Raises:
        DigestMismatch: it has another.
        BundleMalformed, FileMissing, FileUnexpected: as ``BundleTree.read``.
    """
    data = tree.read(path, limit=limit)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DigestMismatch(
            f"{path} is not what was signed",
            found=f"sha256 {found}",
            wanted=f"sha256 {sha256}",
            hint="copy the bundle again from its medium",
        )
    return data


def _compare(files: Mapping[str, ListedFile], digests: Mapping[str, str]) -> None:
    """Refuse a manifest that speaks of other files, or other digests, than the list."""
    hint = "obtain the bundle again; its builder made a mistake"
    if absent := sorted(digests.keys() - files.keys()):
        raise BundleMalformed("the manifest lacks listed files", found=", ".join(absent[:10]), hint=hint)
    if unlisted := sorted(files.keys() - digests.keys()):
        raise BundleMalformed("the manifest has unlisted files", found=", ".join(unlisted[:10]), hint=hint)
    for path, file in files.items():
        if file.sha256 != digests[path]:
            raise BundleMalformed(
                f"list and manifest disagree about {path}",
                found=f"manifest: {file.sha256}",
                wanted=f"list: {digests[path]}",
                hint=hint,
            )


def require_file(tree: BundleTree, path: str) -> None:
    """Refuse a folder that lacks the file a bundle always has.

    Raises:
        FileMissing: it is not there.
    """
    try:
        with tree.open(path):
            pass
    except FileMissing as fault:
        raise FileMissing(
            f"{tree.folder} is not a bundle",
            found=f"no {path}",
            hint="name the folder that holds manifest.json",
        ) from fault
