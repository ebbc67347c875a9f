"""Reading the small files of a bundle: the list, its signatures, the manifest, the root it carries.

Used by everything that looks into a bundle.  What is read here is well-formed and consistent; who
wrote it is for ``appliance.bundle.verify`` to judge.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, overload

from appliance.bundle import large_manifest, listing, manifest_reader
from appliance.bundle.fileset import ListedFiles
from appliance.bundle.list_kind import INDEX, strongest
from appliance.bundle.lists import parse_lists
from appliance.bundle.manifest import ListedFile, Manifest, parse_manifest
from appliance.bundle.paths import (
    BLOCKS_PATH,
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
from appliance.bundle.sizes import WORTH_ASKING, measure, refuse_sizes
from appliance.errors import BundleMalformed, FileMissing, FileUnexpected
from appliance.trust import mldsa, sshsig
from appliance.trust import root as roots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.listing import Listing
    from appliance.bundle.lists import Lists
    from appliance.bundle.opening import BundleTree

#: What each key of a root can have signed, the list and a long chain of roots with their signatures.
_MAX_NAMES: Final = 4096
_MAX_BESIDE: Final = 2 * roots.MAX_KEYS
#: A manifest of more bytes is read in pieces, and not kept.
LARGE: Final = 8 << 20
#: A provenance names a handful of files by digest; a real one has a few thousand bytes.
MAX_PROVENANCE_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Signed:
    """The bytes that are signed, and what lies beside them by the holder it is named for.

    ``listing`` is the list that identifies the bundle, ``message`` the one that is signed, of the kind
    ``kind``: the same, or a stricter one.  ``signatures`` and ``post_quantum`` are over ``message``;
    ``provenance`` are DSSE envelopes that name ``listing`` by digest.  ``names`` are all those within
    ``trust/``, sorted.
    """

    listing: bytes
    kind: ListKind
    message: bytes
    signatures: Mapping[str, bytes]
    provenance: Mapping[str, bytes] = field(default_factory=dict)
    post_quantum: Mapping[str, bytes] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The bundle's identity: SHA-256 (hex) of its list."""
        return INDEX.digest(self.listing)

    @property
    def digests(self) -> Mapping[str, str]:
        """The digests (hex) of the list that identifies the bundle, by each algorithm its lists are of."""
        return {kind.algorithm: kind.digest(self.listing) for kind in (INDEX, self.kind)}

    @property
    def unlisted(self) -> Mapping[str, bytes]:
        """What the list that identifies the bundle cannot name, by path: the lists, and who signed."""
        return (
            {INDEX.path: self.listing, self.kind.path: self.message}
            | {signature_path(holder, self.kind): data for holder, data in self.signatures.items()}
            | {post_quantum_path(holder, self.kind): data for holder, data in self.post_quantum.items()}
            | {provenance_path(holder): data for holder, data in self.provenance.items()}
        )


@dataclass(frozen=True)
class Contents:
    """What the bundle holds: the manifest, and every listed file by path.

    ``order``: the numbers in the list of the payload's files as they lie there, in manifest order.
    """

    manifest: Manifest
    files: ListedFiles
    order: Sequence[int]
    root: bytes | None


def read_signed(tree: BundleTree) -> Signed:
    """Read the lists, the signatures and what is said of the provenance; parses none of them.

    Which list is signed shows by the names: the strongest there.  Who judges compares that with the root's
    profile (``list_kind.require_kind``).  Other names in ``trust`` are passed over: ``read_contents``
    refuses them with all that is not listed.

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
    kind = strongest(names)
    data = tree.read(INDEX.path, limit=listing.MAX_BYTES)

    def read(holder_in: Callable[[str], str | None], limit: int) -> dict[str, bytes]:
        holders = {name: holder for name in names if (holder := holder_in(name))}
        return {
            holder: tree.read(f"{TRUST_FOLDER}/{name}", limit=limit) for name, holder in holders.items()
        }

    return Signed(
        data,
        kind,
        message=data if kind is INDEX else tree.read(kind.path, limit=listing.MAX_BYTES),
        signatures=read(partial(signature_holder, kind=kind), sshsig.MAX_BYTES),
        provenance=read(provenance_holder, MAX_PROVENANCE_BYTES),
        post_quantum=read(partial(post_quantum_holder, kind=kind), mldsa.SIGNATURE_SIZE),
        names=tuple(names),
    )


def read_contents(
    tree: BundleTree,
    signed: Signed,
    lists: Lists | None = None,
    hash_meanwhile: Callable[[Sequence[int]], None] | None = None,
) -> Contents:
    """Read list, manifest and carried root; check them and the set of files against each other.

    Everything is checked but the bytes of the payload, ``blocks.bin`` and the review page.

    Args:
        tree: the bundle.
        signed: its list, and what lies beside that.
        lists: the lists, if they were parsed already.
        hash_meanwhile: told the numbers of listed files that may be opened now, if others hash the short
            ones and find their sizes by it; then no more than names and kinds of these is checked here.
            The numbers of files beside the list follow those of the listed.

    Raises:
        BundleMalformed: the list or the manifest break the format, or they contradict each other.
        FileMissing, FileUnexpected: other files lie in the folder than the list names.
        DigestMismatch: manifest or root differ from the list, or a file has another size than signed.
    """
    lists = lists or parse_lists(signed)
    listed = lists.index
    together = _Together(listed.paths, tuple(signed.unlisted))
    if hash_meanwhile:
        tree.check_names(together, hash_meanwhile)
        manifest, files, order = _read_manifest(tree, lists)
        apart = {listed.paths.index(path) for path in read_apart(listed)}
        asked = [n for n, size in enumerate(files.sizes) if size >= WORTH_ASKING or n in apart]
        measure(tree, files, asked)
    else:
        sizes = array("q", islice(tree.check_set(together).values(), len(listed)))
        manifest, files, order = _read_manifest(tree, lists)
        pairs = enumerate(zip(sizes, files.sizes, strict=True))
        refuse_sizes(files, {n: size for n, (size, wanted) in pairs if size != wanted})
    carried = newest_root(manifest.files)
    root = read_listed(tree, lists, carried, limit=roots.MAX_BYTES) if carried else None
    if root is not None and root_path(roots.parse_root(root).version) != carried:
        raise BundleMalformed(f"{carried} is a root of another version than its name says")
    return Contents(manifest, files, order, root)


def read_apart(listed: Listing) -> tuple[str, ...]:
    """The listed files that are read here, or by ``read_listed``, and compared with their digests."""
    carried = newest_root(listed.paths.under(TRUST_FOLDER))
    return (MANIFEST_PATH, BLOCKS_PATH, *([carried] if carried else []))


def newest_root(paths: Iterable[str]) -> str | None:
    """The path of the latest of the roots among these, which is the one the bundle was built for."""
    versions = [version for path in paths if (version := root_version(path)) is not None]
    return root_path(max(versions)) if versions else None


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


def _read_manifest(tree: BundleTree, lists: Lists) -> tuple[Manifest, ListedFiles, Sequence[int]]:
    """The manifest, which says the same as the list; the payload's numbers in the list, in its order."""
    listed = lists.index
    with tree.open(MANIFEST_PATH) as fd:
        size = os.fstat(fd).st_size
    if size > LARGE:
        pieces = read_pieces(
            tree.again(MANIFEST_PATH),
            MANIFEST_PATH,
            mark=large_manifest.MARK,
            limit=manifest_reader.MAX_BYTES,
            kinds=lists.kinds,
        )
        lists.require(MANIFEST_PATH, pieces.digests)
        if large := large_manifest.read_large(pieces, listed):
            return large.manifest, ListedFiles(lists, large.sizes), large.order
        data = pieces.join()
    else:
        data = read_listed(tree, lists, MANIFEST_PATH, limit=manifest_reader.MAX_BYTES)
    manifest = parse_manifest(data)
    files = {**manifest.listed(), MANIFEST_PATH: ListedFile(listed[MANIFEST_PATH], len(data))}
    _compare(files, listed)
    paths = (path for file in manifest.payload() for path, _ in file.parts())
    order = array("I", map(listed.paths.index, paths))
    return manifest, ListedFiles(lists, array("q", (files[path].size for path in listed))), order


def read_listed(tree: BundleTree, lists: Lists, path: str, *, limit: int) -> bytes:
    """The bytes of a small file, which must have the digests that were signed.

    Raises:
        DigestMismatch: it has others.
        BundleMalformed, FileMissing, FileUnexpected: as ``BundleTree.read``.
    """
    data = tree.read(path, limit=limit)
    hashes = lists.hashes()
    hashes.update(data)
    lists.require(path, hashes.hexdigests())
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
