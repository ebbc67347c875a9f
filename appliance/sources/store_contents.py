"""What the content store holds, who needs it, and tidying up what nobody does.

A file's age counts from when a lock or build last needed it.  Tidying up keeps every file that a given
lock names and every file that is young; what an interrupted fetch left stays as long, so that it can be
gone on with.  It runs only while nobody uses the store.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.errors import DigestMismatch

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

    ``name`` is a digest, or says what else it is; ``users`` are the locks that name it.
    """

    name: str
    path: Path
    size: int
    needed: float
    users: tuple[str, ...] = ()


def users(locks: Mapping[str, Lock]) -> dict[str, tuple[str, ...]]:
    """Which of the named locks needs a digest."""
    found: dict[str, list[str]] = {}
    for name, lock in locks.items():
        for component in lock.components.values():
            for artefact in component.artefacts:
                if name not in found.setdefault(artefact.sha256, []):
                    found[artefact.sha256].append(name)
    return {sha256: tuple(names) for sha256, names in found.items()}


def contents(store: Store, needed_by: Mapping[str, tuple[str, ...]]) -> list[Held]:
    """The files of the store, largest first."""
    held = [
        Held(path.name, path, status.st_size, status.st_mtime, needed_by.get(path.name, ()))
        for path, status in _walk(store.folder / "objects")
        if _DIGEST.fullmatch(path.name)
    ]
    return sorted(held, key=lambda entry: (-entry.size, entry.name))


def leftovers(store: Store, needed_by: Mapping[str, tuple[str, ...]]) -> list[Held]:
    """What interrupted work left: partial downloads, scratch files, apt's downloads."""
    found = []
    for path in sorted((store.folder / "partial").iterdir()):
        status = path.lstat()
        name = f"partial {path.name}" if _DIGEST.fullmatch(path.name) else "scratch"
        size = status.st_size if path.is_file() else sum(entry.st_size for _, entry in _walk(path))
        found.append(Held(name, path, size, status.st_mtime, needed_by.get(path.name, ())))
    for path, status in _walk(store.folder / "apt"):
        if path.suffix == ".deb" or path.parent.name == "partial":
            found.append(Held(f"apt's {path.name}", path, status.st_size, status.st_mtime))
    return found


def collect(
    store: Store, needed_by: Mapping[str, tuple[str, ...]], *, before: float, dry_run: bool
) -> list[Held]:
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
        candidates = [*contents(store, needed_by), *leftovers(store, needed_by)]
        removed = []
        for entry in candidates:
            # Scratch files belong to work that is over: nobody else is here.
            if entry.users or (entry.needed >= before and entry.name != "scratch"):
                continue
            if dry_run or _remove(entry.path):
                removed.append(entry)
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


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path, path.stat()


def _remove(path: Path) -> bool:
    """Remove a file or a scratch folder; a partial file that a fetch holds is left alone."""
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
