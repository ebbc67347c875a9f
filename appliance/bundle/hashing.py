"""Hashing a bundle's files on all cores, in bounded memory.

Each worker thread reads one file at a time through a buffer of its own; reading and hashing release
the interpreter's lock.  The largest files go first, so that no thread is left with a long one at
the end.  Files over 1 GiB lie in slices, which is what lets several cores share one large model.
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final

from appliance.bundle.tree import refuse_special, unreadable
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.bundle.manifest import ListedFile
    from appliance.bundle.opening import BundleTree
    from appliance.progress import Progress

_BUFFER: Final = 256 << 10  # stays in a core's cache between reading and hashing
_REPORT: Final = 16 << 20  # bytes between two reports of progress
_NAMES_SHOWN: Final = 10


def check_bytes(
    tree: BundleTree, files: Mapping[str, ListedFile], *, progress: Progress, workers: int | None = None
) -> None:
    """Hash every one of ``files`` and compare; all are read even if some are wrong.

    Args:
        tree: the bundle's folder.
        files: digest and size by path.
        progress: told of every file.
        workers: threads; one for each core this process may use if None.

    Raises:
        DigestMismatch: naming every file that is wrong or cannot be read.
        FileMissing, FileUnexpected: a file was taken away or exchanged meanwhile.
    """
    order = sorted(files, key=lambda path: (-files[path].size, path))
    stop = threading.Event()
    progress.begin("verify", len(files), sum(file.size for file in files.values()))
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        try:
            futures = [pool.submit(_check, tree, path, files[path], progress, stop) for path in order]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()  # raises at once what makes going on pointless
            wrong = [fault for future in futures if (fault := future.result())]
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            progress.end()
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise DigestMismatch(
            f"{len(wrong)} files are not what was signed",
            found="; ".join(fault.message for fault in wrong[:_NAMES_SHOWN]),
            hint="copy these files again from their medium",
        )


def _check(
    tree: BundleTree, path: str, wanted: ListedFile, progress: Progress, stop: threading.Event
) -> DigestMismatch | None:
    try:
        found = _digest(tree, path, progress, stop)
    except DigestMismatch as fault:
        return fault
    progress.item(path)
    if found == (wanted.sha256, wanted.size):
        return None
    return DigestMismatch(
        f"{tree.place(path)} is not what was signed",
        found=f"sha256 {found[0]}, {found[1]:,} bytes",
        wanted=f"sha256 {wanted.sha256}, {wanted.size:,} bytes",
        hint="copy the file again from its medium",
    )


def _digest(tree: BundleTree, path: str, progress: Progress, stop: threading.Event) -> tuple[str, int]:
    """Digest (hex) and size of one file, which must not change while it is read."""
    buffer = memoryview(bytearray(_BUFFER))
    digest = hashlib.sha256()
    size = reported = 0
    with tree.open(path) as fd:
        before = os.fstat(fd)
        refuse_special(path, before)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while count := os.readv(fd, [buffer]):
                digest.update(buffer[:count])
                size += count
                if size - reported >= _REPORT:
                    progress.advance(size - reported)
                    reported = size
                if stop.is_set() or size > before.st_size:
                    break
        except OSError as fault:
            raise unreadable(tree.place(path), fault) from fault
        if _version(os.fstat(fd)) != _version(before):
            raise DigestMismatch(
                f"{tree.place(path)} was changed while it was read",
                hint="make the medium read-only and verify again",
            )
    progress.advance(size - reported)
    return digest.hexdigest(), size


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
