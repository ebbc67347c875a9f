"""Writing a bundle from a lock and a store: a complete bundle or none.

Everything is written to the hidden folder ``.<name>.partial`` beside the target, brought to the disk,
and renamed.  A lock on that folder keeps two builds apart and ends with its process; what a killed
build left is removed by the next.  The same lock, root and slice size give the same bytes: nothing in
a bundle depends on time, machine, user or umask.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.bootstrap import bootstrap_bytes
from appliance.bundle.draft import draft_manifest
from appliance.bundle.durable import (
    FILE_MODE,
    FOLDER_MODE,
    create_file,
    free_bytes,
    settle_file,
    sync_file_system,
    sync_folder,
    syncing_beside,
    write_one_of_many,
    writing_under,
)
from appliance.bundle.large_manifest import MARK, read_large
from appliance.bundle.list_kind import INDEX, kinds_for
from appliance.bundle.listing import listing_of, parse_listing
from appliance.bundle.manifest import SLICE_SIZE, ListedFile, Manifest, parse_manifest
from appliance.bundle.manifest_pieces import listed_parts, manifest_pieces
from appliance.bundle.manifest_reader import MAX_BYTES
from appliance.bundle.paths import (
    BLOCKS_PATH,
    BOOTSTRAP_PATH,
    LIST_PATH,
    MANIFEST_PATH,
    REVIEW_PATH,
    TRUST_FOLDER,
    root_path,
)
from appliance.bundle.payload import copy_payload, payload_room
from appliance.bundle.pieces import read_pieces
from appliance.bundle.review import review_bytes
from appliance.bundle.stricter_lists import write_stricter_lists
from appliance.errors import InProgress, SpaceExhausted, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.draft import Leads
    from appliance.bundle.payload import Store
    from appliance.definition.lock import Lock
    from appliance.progress import Progress
    from appliance.trust.root import Root

#: What file systems take for themselves, per file and for everything that is not payload.
_PER_FILE: Final = 8 << 10
_BESIDES: Final = 16 << 20


class Companion(Protocol):
    """Makes files of the bundle from what is already written: SBOM, parity."""

    def __call__(self, folder: Path, manifest: Manifest, progress: Progress) -> Mapping[str, ListedFile]:
        """Write the files, and their folders, into ``folder``; returns them by path.

        Args:
            folder: the unfinished bundle.  The payload, the root files known before and what
                earlier companions made lie there; the manifest and the list do not.
            manifest: complete but for ``files``, which names what lies there outside the payload.
            progress: told of the work, as a phase of its own.
        """


def write_bundle(
    out: Path,
    lock: Lock,
    store: Store,
    *,
    root: bytes | None,
    documents: Mapping[str, bytes] | None = None,
    progress: Progress,
    companions: Sequence[Companion] = (),
    companion_bytes: int = 0,
    slice_size: int = SLICE_SIZE,
    patch: Leads | None = None,
) -> Path:
    """Write the bundle that ``lock`` describes to the new folder ``out``; returns ``out``.

    Args:
        out: must not exist; the folder it lies in must.
        lock: what to put into the bundle.
        store: has every artefact of the lock.
        root: the root file the bundle is built for; None leaves it out.  Its profile says which lists
            the bundle has.
        documents: what lies beside it in ``trust/``, by path: the roots before, signatures, a revocation.
        progress: told of every block and file.
        companions: make what lies beside the payload, in this order (see ``Companion``).
        companion_bytes: room to ask for on their behalf, before anything is written.
        slice_size: longer files are cut; a multiple of the block size.
        patch: what the manifest says besides, if this is one (``appliance.bundle.patch``).

    Raises:
        Usage: ``out`` exists already, or cannot be made.
        InProgress: another build is writing to ``out``.
        LockInvalid: the lock asks for what no bundle can hold.
        RootInvalid, KeyRefused: ``root`` is malformed.
        FileMissing: the store lacks an artefact.
        DigestMismatch: an artefact in the store differs from the lock.
        SpaceExhausted: not enough room; nothing is left behind.
        PreflightFailed: the folder ``out`` lies in cannot be written to.
        and what the companions raise; nothing is left behind then either.
    """
    if slice_size <= 0 or slice_size % BLOCK_SIZE:
        raise ValueError("slice_size is a multiple of the block size")
    small = _small_files(root, None if patch else lock) | dict(documents or {})
    draft = draft_manifest(lock, small, slice_size, patch)
    _check_space(out.parent, draft, companion_bytes)
    with writing_under(out.parent), partial_folder(out) as (folder, fd):
        manifest, blocks = copy_payload(folder, draft, store, slice_size, progress)
        with syncing_beside(fd):
            manifest = _write_root_files(folder, manifest, {**small, BLOCKS_PATH: blocks})
            for companion in companions:
                manifest = _accompany(folder, manifest, companion, progress)
            _write_list(folder, manifest)
            kinds = kinds_for(_read_root(root).policy.rules) if root is not None else (INDEX,)
            write_stricter_lists(folder, kinds, progress)
        for inner, _, _ in os.walk(folder):
            os.chmod(inner, FOLDER_MODE)  # noqa: PTH101 - os.walk gives text
        sync_file_system(fd)
        try:
            folder.rename(out)
        except OSError as fault:
            raise exists_already(out) from fault
        sync_folder(out.parent)
    return out


def _read_root(root: bytes) -> Root:
    """A root; the library that reads its keys is not imported where there is none."""
    from appliance.trust.root import parse_root

    return parse_root(root)


def _small_files(root: bytes | None, lock: Lock | None) -> dict[str, bytes]:
    """The root files that are known before anything is copied, by path; of a patch without a lock."""
    small = {REVIEW_PATH: review_bytes()}
    if lock and any(component.kind == "toolkit" for component in lock.components.values()):
        small[BOOTSTRAP_PATH] = bootstrap_bytes()
    if root is not None:
        small[root_path(_read_root(root).version)] = root
    return small


def _write_root_files(folder: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Manifest:
    """Write these files, by path; the manifest that names them."""
    (folder / TRUST_FOLDER).mkdir()
    for path, data in contents.items():
        write_one_of_many(folder / path, data)
    return replace(manifest, files={path: _listed(contents[path]) for path in sorted(contents)})


def _accompany(folder: Path, manifest: Manifest, companion: Companion, progress: Progress) -> Manifest:
    """Let a companion write its files; the manifest with these."""
    made = companion(folder, manifest, progress)
    for path, file in made.items():
        if path in manifest.files or (folder / path).stat().st_size != file.size:
            raise RuntimeError(f"a companion says otherwise than it did: {path}")
        (folder / path).chmod(FILE_MODE)
    return replace(manifest, files=dict(sorted({**manifest.files, **made}.items())))


def _write_list(folder: Path, manifest: Manifest) -> None:
    """Write the manifest and, last, the list of everything that lies there."""
    path = folder / MANIFEST_PATH
    with os.fdopen(create_file(path), "wb") as file:
        file.writelines(manifest_pieces(manifest))
        settle_file(file.fileno())
    pieces = read_pieces(lambda: _open(path), MANIFEST_PATH, mark=MARK, limit=MAX_BYTES)
    listing = listing_of(listed_parts(manifest, (MANIFEST_PATH, pieces.sha256)))
    if read_large(pieces, parse_listing(listing)) is None:  # what we write, we accept
        parse_manifest(pieces.join())
    write_one_of_many(folder / LIST_PATH, listing)


@contextmanager
def _open(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        yield file.fileno()


def _listed(data: bytes) -> ListedFile:
    return ListedFile(hashlib.sha256(data).hexdigest(), len(data))


def _check_space(parent: Path, draft: Manifest, beside: int) -> None:
    if not parent.is_dir():
        raise Usage(f"{parent} is not a folder", wanted="an existing folder to write the bundle into")
    wanted = payload_room(draft, _PER_FILE) + _BESIDES + beside
    if (free := free_bytes(parent)) < wanted:
        raise SpaceExhausted(
            f"too little room under {parent}",
            found=f"{free:,} bytes free",
            wanted=f"{wanted:,} bytes",
            hint="free some space or name another folder with --out; nothing was written",
        )


@contextmanager
def partial_folder(out: Path) -> Iterator[tuple[Path, int]]:
    """The empty hidden folder to write to, open and locked; it is gone afterwards, renamed or removed."""
    if out.exists() or out.is_symlink():
        raise exists_already(out)
    folder = out.with_name(f".{out.name}.partial")
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not folder.is_dir() or not os.path.samestat(folder.stat(), os.fstat(fd)):
            raise BlockingIOError  # the other build has just finished
    except BlockingIOError as fault:
        os.close(fd)
        raise InProgress(
            f"another build is writing {out}", hint="wait for it, or name another folder with --out"
        ) from fault
    try:
        for left in folder.iterdir():  # by a build that was killed
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        yield folder, fd
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def require_new(out: Path) -> None:
    """Refuse a place for a new folder before anything is done to fill it.

    Raises:
        Usage: something is there, or the folder that it should lie in is none.
    """
    if out.exists() or out.is_symlink():
        raise exists_already(out)
    if not out.parent.is_dir():
        raise Usage(f"{out.parent} is not a folder", wanted="an existing folder to write into")


def exists_already(out: Path) -> Usage:
    """What is said of a new folder's place where something is."""
    return Usage(
        f"{out} exists already", wanted="a new folder", hint="remove it, or name another with --out"
    )
