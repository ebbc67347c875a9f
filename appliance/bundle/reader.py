"""Reading the small files of a bundle: the list, its signatures, the manifest, the root it carries.

Used by everything that looks into a bundle.  What is read here is well-formed and consistent; who
wrote it is for ``appliance.bundle.verify`` to judge.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, overload

from appliance.bundle import large_manifest, listing, manifest_reader
from appliance.bundle.fileset import ListedFiles
from appliance.bundle.manifest import ListedFile, Manifest, parse_manifest
from appliance.bundle.paths import (
    LIST_PATH,
    MANIFEST_PATH,
    TRUST_FOLDER,
    lies_beside_list,
    post_quantum_holder,
    post_quantum_path,
    provenance_holder,
    provenance_path,
    root_path,
    root_version,
    signature_holder,
    signature_path,
)
from appliance.bundle.pieces import read_pieces
from appliance.errors import BundleMalformed, DigestMismatch, FileMissing, FileUnexpected
from appliance.trust import mldsa, sshsig
from appliance.trust import root as roots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from appliance.bundle.listing import Listing
    from appliance.bundle.opening import BundleTree

#: What each key of a root can have signed, the list and a long chain of roots with their signatures.
_MAX_NAMES: Final = 4096
_MAX_BESIDE: Final = 2 * roots.MAX_KEYS
#: A manifest of more bytes is read in pieces, and kept compressed.
LARGE: Final = 8 << 20
#: A provenance names a handful of files by digest; a real one has a few thousand bytes.
MAX_PROVENANCE_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Signed:
    """The bytes that are signed, and what lies beside them by the holder it is named for.

    ``signatures`` and ``post_quantum`` are over ``listing``; ``provenance`` are DSSE envelopes that name
    it by digest.  ``names`` are all those within ``trust/``, sorted.
    """

    listing: bytes
    signatures: Mapping[str, bytes]
    provenance: Mapping[str, bytes] = field(default_factory=dict)
    post_quantum: Mapping[str, bytes] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The bundle's identity: SHA-256 (hex) of its list."""
        return hashlib.sha256(self.listing).hexdigest()

    @property
    def beside(self) -> Mapping[str, bytes]:
        """What lies beside the list and is not in it, by path."""
        kinds = (
            (signature_path, self.signatures),
            (post_quantum_path, self.post_quantum),
            (provenance_path, self.provenance),
        )
        return {path(holder): data for path, files in kinds for holder, data in files.items()}


@dataclass(frozen=True)
class Contents:
    """What the bundle holds: the manifest, and every listed file by path.

    ``order``: the numbers in the list of the payload's files as they lie there, in manifest order.
    ``read``: the paths of files whose bytes were compared with their signed digest already.
    """

    manifest: Manifest
    files: ListedFiles
    order: Sequence[int]
    root: bytes | None
    read: tuple[str, ...]


def read_signed(tree: BundleTree) -> Signed:
    """Read the list, its signatures and what is said of its provenance; parses none of them.

    Other names in ``trust`` are passed over: ``read_contents`` refuses them with all that is not listed.

    Raises:
        FileMissing: there is no list, or no ``trust`` folder.
        FileUnexpected: ``trust`` holds more files than any bundle has, or no plain ones.
        BundleMalformed, DigestMismatch: a file there is too large or cannot be read.
    """
    names = tree.names(TRUST_FOLDER, most=_MAX_NAMES)
    if sum(map(lies_beside_list, names)) > _MAX_BESIDE:
        raise FileUnexpected(
            "more people signed than a root has keys",
            found=f"{sum(map(lies_beside_list, names)):,} files",
            wanted=f"at most {_MAX_BESIDE}",
            hint="find out who put them there; obtain the bundle again",
        )
    data = tree.read(LIST_PATH, limit=listing.MAX_BYTES)

    def read(
        holder_in: Callable[[str], str | None], path: Callable[[str], str], limit: int
    ) -> dict[str, bytes]:
        holders = [holder for name in names if (holder := holder_in(name))]
        return {holder: tree.read(path(holder), limit=limit) for holder in holders}

    return Signed(
        data,
        signatures=read(signature_holder, signature_path, sshsig.MAX_BYTES),
        provenance=read(provenance_holder, provenance_path, MAX_PROVENANCE_BYTES),
        post_quantum=read(post_quantum_holder, post_quantum_path, mldsa.SIGNATURE_SIZE),
        names=tuple(names),
    )


def read_contents(tree: BundleTree, signed: Signed) -> Contents:
    """Read list, manifest and carried root; check them and the set of files against each other.

    Everything is checked but the bytes of the payload, ``blocks.bin`` and the review page.

    Raises:
        BundleMalformed: the list or the manifest break the format, or they contradict each other.
        FileMissing, FileUnexpected: other files lie in the folder than the list names.
        DigestMismatch: manifest or root differ from the list, or a file has another size than signed.
    """
    listed = listing.parse_listing(signed.listing)
    found = tree.check_set(_Together(listed.paths, (LIST_PATH, *signed.beside)))
    sizes = array("q", islice(found.values(), len(listed)))
    del found
    manifest, files, order = _read_manifest(tree, listed, sizes[listed.paths.index(MANIFEST_PATH)])
    if files.sizes != sizes:
        wrong = [number for number, size in enumerate(files.sizes) if size != sizes[number]]
        first = wrong[0]
        raise DigestMismatch(
            f"{len(wrong)} files have another size than was signed, the first is {listed.paths[first]}",
            found=f"{sizes[first]:,} bytes",
            wanted=f"{files.sizes[first]:,} bytes",
            hint="copy these files again from their medium: "
            + ", ".join(listed.paths[number] for number in wrong[:10]),
        )
    versions = [version for path in manifest.files if (version := root_version(path)) is not None]
    carried = root_path(max(versions)) if versions else None
    root = read_listed(tree, carried, listed[carried], limit=roots.MAX_BYTES) if carried else None
    if root is not None and root_path(roots.parse_root(root).version) != carried:
        raise BundleMalformed(f"{carried} is a root of another version than its name says")
    return Contents(manifest, files, order, root, (MANIFEST_PATH, *([carried] if carried else [])))


class _Together(Sequence[str]):
    """The listed paths, and those that lie beside the list."""

    def __init__(self, listed: Sequence[str], beside: Sequence[str]) -> None:
        self._listed, self._beside = listed, beside

    def __len__(self) -> int:
        return len(self._listed) + len(self._beside)

    def __iter__(self) -> Iterator[str]:
        return chain(self._listed, self._beside)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str]:
        if isinstance(number, slice):
            first, end, step = number.indices(len(self))
            if step == 1 and end <= len(self._listed):
                return self._listed[first:end]
            return [self[each] for each in range(first, end, step)]
        number = range(len(self))[number]
        return (
            self._listed[number] if number < len(self._listed) else self._beside[number - len(self._listed)]
        )


def _read_manifest(
    tree: BundleTree, listed: Listing, size: int
) -> tuple[Manifest, ListedFiles, Sequence[int]]:
    """The manifest, which says the same as the list; the payload's numbers in the list, in its order."""
    if size > LARGE:
        with tree.open(MANIFEST_PATH) as fd:
            pieces = read_pieces(
                fd, MANIFEST_PATH, mark=large_manifest.MARK, limit=manifest_reader.MAX_BYTES
            )
        _require(MANIFEST_PATH, pieces.sha256, listed[MANIFEST_PATH])
        if large := large_manifest.read_large(pieces, listed):
            return large.manifest, ListedFiles(listed, large.sizes), large.order
        data = pieces.join()
    else:
        data = read_listed(tree, MANIFEST_PATH, listed[MANIFEST_PATH], limit=manifest_reader.MAX_BYTES)
    manifest = parse_manifest(data)
    files = {**manifest.listed(), MANIFEST_PATH: ListedFile(listed[MANIFEST_PATH], len(data))}
    _compare(files, listed)
    paths = (path for file in manifest.payload() for path, _ in file.parts())
    order = array("I", map(listed.paths.index, paths))
    return manifest, ListedFiles(listed, array("q", (files[path].size for path in listed))), order


def read_listed(tree: BundleTree, path: str, sha256: str, *, limit: int) -> bytes:
    """The bytes of a small file, which must have the digest that was signed.

    Raises:
        DigestMismatch: it has another.
        BundleMalformed, FileMissing, FileUnexpected: as ``BundleTree.read``.
    """
    data = tree.read(path, limit=limit)
    _require(path, hashlib.sha256(data).hexdigest(), sha256)
    return data


def _require(path: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise DigestMismatch(
            f"{path} is not what was signed",
            found=f"sha256 {found}",
            wanted=f"sha256 {wanted}",
            hint="copy the bundle again from its medium",
        )


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
