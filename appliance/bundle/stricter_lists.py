"""Writing the further lists of a bundle whose root's profile asks for more than SHA-256.

Done when everything else of the bundle lies in its folder, its first list too: each file is read once more,
as it lies there, and hashed for all lists in that one pass.  What no longer has the SHA-256 it was listed
with ends the build, so that two lists of one bundle never speak of different bytes.
"""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from appliance.bundle.durable import write_one_of_many
from appliance.bundle.hashing import Hasher, worker_count
from appliance.bundle.list_kind import INDEX
from appliance.bundle.listing import listing_bytes, parse_listing
from appliance.bundle.tree import Tree
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.listing import Listing
    from appliance.progress import Progress


def write_stricter_lists(folder: Path, kinds: Sequence[ListKind], progress: Progress) -> None:
    """Write every list of ``kinds`` but the first, which lies there already, into an unfinished bundle.

    Args:
        folder: the bundle, which holds what its first list names, and nothing else.
        kinds: the lists that the root's profile asks for, the weakest first.
        progress: told of every file.

    Raises:
        DigestMismatch: a file is not what it was listed as.
        OSError: the folder cannot be written to.
    """
    if len(kinds) == 1:
        return
    data = (folder / INDEX.path).read_bytes()
    listed = parse_listing(data)
    digests = _hash_all(folder, listed, kinds, progress)
    for number, kind in enumerate(kinds[1:]):
        lines = {path: digests[place][number] for place, path in enumerate(listed)}
        for weaker in kinds[: number + 1]:
            lines[weaker.path] = kind.digest((folder / weaker.path).read_bytes())
        write_one_of_many(folder / kind.path, listing_bytes(lines))


def _hash_all(
    folder: Path, listed: Listing, kinds: Sequence[ListKind], progress: Progress
) -> list[tuple[str, ...]]:
    """The digests of all files but the first, in the order of the list; on all cores, long files first."""
    found: list[tuple[str, ...]] = [()] * len(listed)
    stop, lock = threading.Event(), threading.Lock()
    with Tree(folder) as tree:
        sizes = [*tree.check_set([*listed, INDEX.path]).values()][: len(listed)]
        waiting = iter(sorted(range(len(listed)), key=lambda number: -sizes[number]))

        def take() -> int | None:
            with lock:
                return None if stop.is_set() else next(waiting, None)

        def run() -> None:
            with tree.cursor() as cursor:
                hasher = Hasher(tree, cursor, kinds, progress=progress, stopped=stop.is_set)
                while (number := take()) is not None:
                    path = listed.paths[number]
                    found[number] = _further(path, hasher.digests(path), listed.digest(number))
                    progress.item(path)

        progress.begin("list", len(listed), sum(sizes))
        with ThreadPoolExecutor(count := worker_count()) as pool:
            try:
                futures = [pool.submit(run) for _ in range(count)]
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
            finally:
                stop.set()
                progress.end()
    return found


def _further(path: str, digests: tuple[str, ...] | None, sha256: str) -> tuple[str, ...]:
    """The other digests of a file that is still what the first list says."""
    if digests is None or digests[0] != sha256:
        raise DigestMismatch(
            f"{path} was changed while the bundle was written",
            found=f"sha256 {digests[0]}" if digests else None,
            wanted=f"sha256 {sha256}",
            hint="build again; if it happens once more, suspect the disk or the memory",
        )
    return digests[1:]
