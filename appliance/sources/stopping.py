"""Long work that is given up as soon as a stop signal is set: reading a file, waiting for others.

Work is done in threads, and Ctrl-C reaches only the main one.  It sets the signal
(``appliance.sources.together``); everything that takes long looks at it, so that an operator who
interrupts is not kept waiting, and what came so far is kept in good order.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import threading
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from io import BufferedIOBase
    from pathlib import Path

_Given = TypeVar("_Given")

_READ: Final = 1 << 20
_SECONDS: Final = 0.1  # between two looks at the signal


class Stopped(Exception):
    """Work was ended early because the stop signal is set; what came is kept."""


class StopSignal(threading.Event):
    """The signal, which also ends what cannot look at it: a thread that waits for a server's next bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._ends: dict[object, Callable[[], None]] = {}

    def set(self) -> None:
        """Set it, and end what is under way."""
        super().set()
        with self._lock:
            ends = list(self._ends.values())
        for end in ends:
            end()

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Call ``end``, from another thread, if the signal is set during this block.

        Raises:
            Stopped: it is set already.
        """
        key = object()
        with self._lock:
            self._ends[key] = end
        try:
            check(self)
            yield
        finally:
            with self._lock:
                del self._ends[key]


def check(stop: threading.Event | None) -> None:
    """Raise ``Stopped`` if the signal is set."""
    if stop is not None and stop.is_set():
        raise Stopped


def pieces_of(file: BufferedIOBase, stop: threading.Event | None) -> Iterator[bytes]:
    """The rest of a file."""
    while piece := file.read(_READ):
        check(stop)
        yield piece


def sha256_of(
    file: BufferedIOBase, stop: threading.Event | None, advance: Callable[[int], None] | None = None
) -> str:
    """SHA-256 (hex) of the rest of a file; ``advance`` is told of every piece, in bytes."""
    digest = hashlib.sha256()
    for piece in pieces_of(file, stop):
        digest.update(piece)
        if advance:
            advance(len(piece))
    return digest.hexdigest()


def awaited(work: Callable[[], _Given], stop: threading.Event) -> _Given:
    """What ``work`` gives, which only waits for others and leaves nothing half done.

    It runs in a thread of its own.  When the signal is set it is left there to itself, until it ends or
    the program does: looking a name up or connecting cannot be interrupted.

    Raises:
        Stopped: the signal was set first; and whatever ``work`` raises.
    """
    given: Future[_Given] = Future()

    def run() -> None:
        try:
            given.set_result(work())
        except BaseException as fault:  # noqa: BLE001 - it is raised where it is waited for
            given.set_exception(fault)

    check(stop)
    threading.Thread(target=run, daemon=True).start()
    while not wait([given], timeout=_SECONDS).done:
        check(stop)
    return given.result()


def run_program(
    command: Sequence[str | Path],
    stop: threading.Event | None,
    *,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; it is terminated if the signal is set meanwhile.

    Args:
        command: the program and its arguments.
        stop: the signal.
        text: what the program reads on its standard input.
        environment: of the program; this one's if None.
        descriptors: what it inherits beside the standard ones.
    """
    with (
        _file_of(text) as given,
        subprocess.Popen(
            command,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            pass_fds=descriptors,
        ) as process,
    ):
        try:
            while True:
                check(stop)
                try:
                    output, messages = process.communicate(timeout=_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
                return subprocess.CompletedProcess(command, process.returncode, output, messages)
        except BaseException:
            process.terminate()
            raise


@contextmanager
def _file_of(text: str) -> Iterator[IO[str]]:
    """A file with this text, to be read from its beginning: unlike a pipe, it needs nobody to fill it."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        file.write(text)
        file.seek(0)
        yield file
