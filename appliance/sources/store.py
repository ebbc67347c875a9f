"""The content store: files kept by their SHA-256, shared by builds.

``objects/ab/ab12…`` holds a file whose bytes have that digest, read-only; it is there whole or not at
all.  ``ab12….digests`` beside it holds those of its slices and blocks, if it is long
(``appliance.bundle.known_digests``), ``ab12….licence`` what it says of its licence, if it is a package
(``appliance.sources.known_licences``).  ``partial/ab12…`` holds what an interrupted fetch got so far, to be
continued.  Several processes may use one store: a fetch holds an advisory lock on its partial file, and a
finished file takes its place by rename.  ``in-use`` is locked, shared, by everything that relies on what
is there staying there; only tidying up (``appliance.sources.store_contents``) wants it alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from appliance.bundle.known_digests import digests_of, is_worth_keeping, known_bytes
from appliance.errors import DigestMismatch, InProgress, SpaceExhausted
from appliance.progress import Silent
from appliance.sources.stopping import check, pieces_of, sha256_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from io import BufferedIOBase, BufferedRandom

    from appliance.progress import Beside

_HOUR: Final = 3600  # seconds
LONG: Final = 1 << 30  # bytes of a file that takes seconds to hash
_NOT_SHOWN: Final = Silent().beside
#: What a file's name ends with that holds the digests of another one's slices and blocks.
KNOWN_ENDING: Final = ".digests"
#: And with what it ends that holds what a package says of its licence.
LICENCE_ENDING: Final = ".licence"
_OUT_OF_SPACE: Final = frozenset({28, 122})  # ENOSPC, EDQUOT


class Store:
    """A folder of files named by their SHA-256 (lower-case hex)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._objects = str(folder / "objects")
        for part in ("objects", "partial"):
            with full_disk(folder.parent):
                (folder / part).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Nothing is tidied away during this block; waits while that is being done."""
        with self._lock_file() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody relies on the store during this block.

        Raises:
            InProgress: somebody does.
        """
        with self._lock_file() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as fault:
                raise InProgress(
                    f"the content store {self.folder} is in use",
                    found="a lock, a build or another gc that has not ended",
                    hint="wait for it, then run the same command again; nothing was removed",
                ) from fault
            yield

    def needed(self, sha256: str, size: int) -> bool:
        """Whether the file is here, as ``holds``; if so its age, known to the hour, counts from now."""
        place = self.place(sha256)
        try:
            status = os.stat(place)  # noqa: PTH116 - see place
        except FileNotFoundError:
            return False
        if status.st_mtime < time.time() - _HOUR:
            with suppress(PermissionError):  # another user's file: its age counts from when it came
                os.utime(place)
        return status.st_size == size

    def path(self, sha256: str) -> Path:
        """Where the file with this digest is, or would be."""
        return Path(self.place(sha256))

    def place(self, sha256: str) -> str:
        """The same as text: of 200,000 files, making each a ``Path`` takes longer than asking for it."""
        return f"{self._objects}/{sha256[:2]}/{sha256}"

    def holds(self, sha256: str, size: int) -> bool:
        """Whether the file is here, by name and size in bytes; its bytes were checked when it came in."""
        try:
            return os.stat(self.place(sha256)).st_size == size  # noqa: PTH116 - see place
        except FileNotFoundError:
            return False

    def known(self, sha256: str, ending: str = KNOWN_ENDING) -> bytes | None:
        """What is kept of this file, by default of its slices and blocks.

        None if nothing is, or it cannot be read.
        """
        try:
            return self._known_path(sha256, ending).read_bytes()
        except OSError:
            return None

    def keep_known(self, sha256: str, data: bytes, ending: str = KNOWN_ENDING) -> None:
        """Keep something of a file beside it, by default its digests, where that is possible.

        Not brought to the disk at once: what a power cut leaves of it does not fit its own digest.
        """
        with suppress(OSError, SpaceExhausted), self.scratch() as scratch:
            scratch.write_bytes(data)
            scratch.chmod(0o444)
            scratch.replace(self._known_path(sha256, ending))

    def fetched(self, sha256: str) -> int:
        """Bytes an interrupted fetch left behind for this file."""
        try:
            return (self.folder / "partial" / sha256).stat().st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def fetch(
        self,
        sha256: str,
        size: int,
        name: str,
        stop: threading.Event | None = None,
        beside: Beside = _NOT_SHOWN,
    ) -> Iterator[BufferedRandom | None]:
        """The partial file of one download, positioned at its end; None when the file is here already.

        Leaving the block checks size and digest and moves the file to its place; leaving it by an
        exception keeps what came so far.  Another process fetching the same file is waited for.

        Args:
            sha256: the digest it must have, hex.
            size: in bytes.
            name: for messages.
            stop: ends the wait for a digest.
            beside: told of a long file while its digest is computed (``appliance.progress``).

        Raises:
            DigestMismatch: other bytes came than were locked; they are deleted.
            SpaceExhausted: the store's disk is full; what came so far is kept.
            Stopped: ``stop`` was set while the digest was computed; the file is kept.
        """
        partial = self.folder / "partial" / sha256
        with full_disk(self.folder), _locked(partial) as file:
            if self.holds(sha256, size):
                partial.unlink()
                yield None
                return
            if file.seek(0, os.SEEK_END) > size:
                file.truncate(0)
                file.seek(0)
            yield file
            file.flush()
            file.seek(0)
            found_size = os.fstat(file.fileno()).st_size
            found, known = _digests(file, found_size, name, stop, beside)
            if (found_size, found) != (size, sha256):
                partial.unlink()
                raise _mismatch(name, found, found_size, sha256, size)
            self._settle(file, partial, sha256)
            if known:
                self.keep_known(sha256, known)

    def replace(self, partial: BufferedRandom, source: Path, stop: threading.Event | None = None) -> None:
        """Fill a partial file, from its beginning, with another file's bytes."""
        partial.truncate(0)
        partial.seek(0)
        with source.open("rb") as file:
            partial.writelines(pieces_of(file, stop))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A path in the store's file system for a file whose digest is not known yet; gone afterwards."""
        with (
            tempfile.TemporaryDirectory(dir=self.folder / "partial", prefix="scratch-") as folder,
            full_disk(self.folder),
        ):
            yield Path(folder) / "file"

    def add_file(
        self,
        source: Path,
        stop: threading.Event | None = None,
        *,
        name: str | None = None,
        beside: Beside = _NOT_SHOWN,
    ) -> tuple[str, int]:
        """Copy a file in; returns its SHA-256 and size in bytes.  The rest as for ``fetch``."""
        name = name or source.name
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            with _shown(name, size, beside) as advance:
                sha256 = sha256_of(file, stop, advance)
        with self.fetch(sha256, size, name, stop, beside) as partial:
            if partial:
                self.replace(partial, source, stop)
        return sha256, size

    def add_bytes(self, data: bytes) -> tuple[str, int]:
        """Keep ``data``; returns its SHA-256 and size in bytes."""
        sha256 = hashlib.sha256(data).hexdigest()
        with self.fetch(sha256, len(data), sha256) as partial:
            if partial:
                partial.truncate(0)
                partial.seek(0)
                partial.write(data)
        return sha256, len(data)

    def check(self, sha256: str) -> bool:
        """Read the file again; one whose bytes have changed is removed and False returned.

        What is kept of its slices and blocks is computed again too, and put right; what is kept of its
        licence is forgotten, and found again by whoever asks.
        """
        path = self.path(sha256)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found, known = _digests(file, size, sha256, None, _NOT_SHOWN)
        self._known_path(sha256, LICENCE_ENDING).unlink(missing_ok=True)
        if found != sha256:
            path.unlink()
            self._known_path(sha256, KNOWN_ENDING).unlink(missing_ok=True)
            return False
        if known and known != self.known(sha256):
            self.keep_known(sha256, known)
        return True

    def _known_path(self, sha256: str, ending: str) -> Path:
        return Path(self.place(sha256) + ending)

    def _lock_file(self) -> IO[bytes]:
        descriptor = os.open(self.folder / "in-use", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return os.fdopen(descriptor, "rb")

    def _settle(self, file: BufferedRandom, partial: Path, sha256: str) -> None:
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
        place = self.path(sha256)
        place.parent.mkdir(exist_ok=True)
        partial.rename(place)


@contextmanager
def _locked(path: Path) -> Iterator[BufferedRandom]:
    """Open for reading and writing, created if need be, with the exclusive lock held."""
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # The holder before us may have renamed or deleted this very file: then take the new one.
            try:
                current = os.path.samestat(path.stat(), os.fstat(file.fileno()))
            except FileNotFoundError:
                current = False
            if current:
                yield file
                return


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Turn "no space left" while writing under ``folder`` into ``SpaceExhausted``."""
    try:
        yield
    except OSError as fault:
        if fault.errno not in _OUT_OF_SPACE:
            raise
        raise SpaceExhausted(
            f"the disk of {folder} is full",
            found=f"{shutil.disk_usage(folder).free:,} bytes free",
            hint="free some space, or name another folder; then run the same command again",
        ) from fault


def _digests(
    file: BufferedIOBase, size: int, name: str, stop: threading.Event | None, beside: Beside
) -> tuple[str, bytes | None]:
    """SHA-256 (hex) of a file, and, of a long one, what is worth keeping of its slices and blocks."""
    with _shown(name, size, beside) as advance:
        if not is_worth_keeping(size):
            return sha256_of(file, stop, advance), None

        def before(count: int) -> None:
            check(stop)
            advance(count)

        digests = digests_of(file.fileno(), size, before=before)
    return digests.whole, known_bytes(digests, size)


@contextmanager
def _shown(name: str, size: int, beside: Beside) -> Iterator[Callable[[int], None]]:
    """Told of the bytes that are hashed; of a long file, people see how far that is."""
    if size < LONG:
        yield lambda _: None
        return
    with beside(f"compare {name}", size) as advance:
        yield advance


def _mismatch(name: str, found: str, found_size: int, wanted: str, wanted_size: int) -> DigestMismatch:
    return DigestMismatch(
        f"{name} is not the file that was locked; it was not kept",
        found=f"sha256 {found}, {found_size:,} bytes",
        wanted=f"sha256 {wanted}, {wanted_size:,} bytes",
        hint="the source changed or lies: find out which, then lock again or fetch from another source",
    )
