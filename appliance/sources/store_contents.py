"""What the content store holds, who needs it, and tidying up what nobody does.

A file's age counts from when a lock or build last needed it.  Tidying up keeps every file that a given
lock names and every file that is young; what an interrupted fetch left stays as long, so that it can be
gone on with, and so do apt's package lists, which the next lock fetches anew if they are gone.  It runs
only while nobody uses the store.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.errors import DigestMismatch
from appliance.sources.store import KNOWN_ENDING, LICENCE_ENDING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from appliance.definition.lock import Lock
    from appliance.progress import Progress
    from appliance.sources.store import Store

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Held:
    """One thing on the store's disk: its size in bytes, and when it was last needed (seconds since 1970).

    ``name`` is a digest, or says what else it is; ``users`` are the locks that name it, ``called`` is
    how the first of them does.
    """

    name: str
    path: Path
    size: int
    needed: float
    users: tuple[str, ...] = ()
    called: str = ""


@dataclass(frozen=True)
class Use:
    """What a digest is called, as ``component/path``, and by which locks."""

    called: str
    locks: tuple[str, ...]


_NOBODY: Final = Use("", ())
#: What is kept of a file beside it, by the ending of its name.
_KEPT: Final = {KNOWN_ENDING: "digests", LICENCE_ENDING: "licence"}


def users(locks: Mapping[str, Lock]) -> dict[str, Use]:
    """What the named locks need, by digest."""
    found: dict[str, Use] = {}
    for name, lock in locks.items():
        for component, locked in lock.components.items():
            for artefact in locked.artefacts:
                known = found.get(artefact.sha256, Use(f"{component}/{artefact.path}", ()))
                if name not in known.locks:
                    found[artefact.sha256] = Use(known.called, (*known.locks, name))
    return found


def contents(store: Store, needed_by: Mapping[str, Use]) -> list[Held]:
    """The files of the store, largest first."""
    held = [
        _held(path.name, path, status.st_size, status.st_mtime, needed_by.get(path.name, _NOBODY))
        for path, status in _walk(store.folder / "objects")
        if _DIGEST.fullmatch(path.name)
    ]
    return sorted(held, key=lambda entry: (-entry.size, entry.name))


def beside(store: Store, needed_by: Mapping[str, Use]) -> list[Held]:
    """What else lies there: what is kept of files, partial downloads, scratch files, apt's lists.

    Digests of slices and blocks, and a licence, are needed as long as the file they are of; without it,
    they never were.
    """
    found = []
    for path, status in _walk(store.folder / "objects"):
        sha256, ending = path.stem, path.suffix
        if ending in _KEPT and _DIGEST.fullmatch(sha256):
            needed = _last_needed(store.path(sha256))
            use = needed_by.get(sha256, _NOBODY) if needed else _NOBODY
            found.append(_held(f"{_KEPT[ending]} {sha256}", path, status.st_size, needed, use))
    for path in sorted((store.folder / "partial").iterdir()):
        name = f"partial {path.name}" if _DIGEST.fullmatch(path.name) else "scratch"
        status = path.lstat()
        size = status.st_size if path.is_file() else sum(each.st_size for _, each in _walk(path))
        found.append(_held(name, path, size, status.st_mtime, needed_by.get(path.name, _NOBODY)))
    for path in sorted((store.folder / "apt").glob("*/")):
        files = [status for _, status in _walk(path)]
        # apt dates its lists as the archive does; that it was here, its newest file tells.
        newest = max((status.st_mtime for status in files), default=path.stat().st_mtime)
        size = sum(status.st_size for status in files)
        found.append(_held(f"apt's lists and downloads, {path.name}", path, size, newest, _NOBODY))
    return found


def collect(store: Store, needed_by: Mapping[str, Use], *, before: float, dry_run: bool) -> list[Held]:
    """Remove what no lock of ``needed_by`` names and nobody has needed since ``before``; returns it.

    Args:
        store: which is used by nobody else meanwhile.
        needed_by: see ``users``.
        before: seconds since 1970; what was needed later stays.
        dry_run: only say what would be removed.

    Raises:
        InProgress: the store is in use; nothing was removed.
    """
    with store.alone():
        candidates = [*contents(store, needed_by), *beside(store, needed_by)]
        removed = []
        for entry in candidates:
            # Scratch files belong to work that is over: nobody else is here.
            if entry.users or (entry.needed >= before and entry.name != "scratch"):
                continue
            if dry_run or _remove(entry.path):
                removed.append(entry)
        if not dry_run:
            _remove_empty_folders(store)
        return removed


def check(store: Store, progress: Progress) -> int:
    """Read every file again and remove those whose bytes have changed; returns how many there are.

    Raises:
        DigestMismatch: some had changed.
    """
    with store.in_use():
        held = contents(store, {})
        progress.begin("check", len(held), sum(entry.size for entry in held))

        def intact(entry: Held) -> bool:
            sound = store.check(entry.name)
            progress.advance(entry.size)
            progress.item(entry.name)
            return sound

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            results = list(pool.map(intact, held))
        progress.end()
    bad = [entry.name for entry, sound in zip(held, results, strict=True) if not sound]
    if bad:
        raise DigestMismatch(
            "files of the content store had changed; they were removed",
            found=", ".join(bad),
            hint="the next build fetches them again; find out whether the disk is failing",
        )
    return len(held)


def total(held: Sequence[Held]) -> int:
    """Bytes of all of them."""
    return sum(entry.size for entry in held)


def _held(name: str, path: Path, size: int, needed: float, use: Use) -> Held:
    return Held(name, path, size, needed, use.locks, use.called)


def _last_needed(path: Path) -> float:
    """When a file of the store was last needed, in seconds since 1970; 0 if it is not there."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path, path.stat()


def _remove(path: Path) -> bool:
    """Remove a file or a whole folder; a partial file that a fetch holds is left alone."""
    if path.is_dir():
        shutil.rmtree(path)
        return True
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink()
    return True


def _remove_empty_folders(store: Store) -> None:
    for folder in [*(store.folder / "objects").glob("*/"), store.folder / "apt"]:
        with suppress(OSError):  # it is not empty, or not there
            folder.rmdir()
