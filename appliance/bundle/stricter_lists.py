"""Writing the further lists of a bundle whose root's profile asks for more than SHA-256.

Done when everything else of the bundle lies in its folder, its first list too: each file is read once more,
as it lies there, and hashed for all lists in that one pass.  What no longer has the SHA-256 it was listed
with ends the build, so that two lists of one bundle never speak of different bytes.
"""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from appliance.bundle.durable import write_file
from appliance.bundle.hashing import Hasher, worker_count
from appliance.bundle.list_kind import INDEX
from appliance.bundle.listing import listing_bytes
from appliance.bundle.tree import Tree
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.manifest import ListedFile
    from appliance.progress import Progress


def write_stricter_lists(
    folder: Path, files: Mapping[str, ListedFile], kinds: Sequence[ListKind], progress: Progress
) -> None:
    """Write every list of ``kinds`` but the first, which lies there already, into an unfinished bundle.

    Args:
        folder: the bundle.
        files: what the first list names, by path.
        kinds: the lists that the root's profile asks for, the weakest first.
        progress: told of every file.

    Raises:
        DigestMismatch: a file is not what it was listed as.
        OSError: the folder cannot be written to.
    """
    if kinds == (INDEX,):
        return
    digests = _hash_all(folder, files, kinds, progress)
    for number, kind in enumerate(kinds[1:], 1):
        lines = {path: found[number] for path, found in digests.items()}
        for weaker in kinds[:number]:
            lines[weaker.path] = kind.digest((folder / weaker.path).read_bytes())
        write_file(folder / kind.path, listing_bytes(lines))


def _hash_all(
    folder: Path, files: Mapping[str, ListedFile], kinds: Sequence[ListKind], progress: Progress
) -> dict[str, tuple[str, ...]]:
    """The digests of all files, by path; on all cores, long files first."""
    found: dict[str, tuple[str, ...]] = {}
    waiting = iter(sorted(files, key=lambda path: -files[path].size))
    stop, lock = threading.Event(), threading.Lock()

    def take() -> str | None:
        with lock:
            return None if stop.is_set() else next(waiting, None)

    def run(tree: Tree) -> None:
        with tree.cursor() as cursor:
            hasher = Hasher(tree, cursor, kinds, progress=progress, stopped=stop.is_set)
            while (path := take()) is not None:
                found[path] = _listed(path, hasher.digests(path), files[path].sha256)
                progress.item(path)

    progress.begin("list", len(files), sum(file.size for file in files.values()))
    with Tree(folder) as tree, ThreadPoolExecutor(count := worker_count()) as pool:
        try:
            futures = [pool.submit(run, tree) for _ in range(count)]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            stop.set()
            progress.end()
    return found


def _listed(path: str, digests: tuple[str, ...] | None, sha256: str) -> tuple[str, ...]:
    """The digests of a file that is still what the first list says."""
    if digests is None or digests[0] != sha256:
        raise DigestMismatch(
            f"{path} was changed while the bundle was written",
            found=f"sha256 {digests[0]}" if digests else None,
            wanted=f"sha256 {sha256}",
            hint="build again; if it happens once more, suspect the disk or the memory",
        )
    return digests
