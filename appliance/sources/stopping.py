"""Long work that is given up as soon as a stop signal is set: reading a file, waiting for a program.

Work is done in threads, and Ctrl-C reaches only the main one.  It sets the signal
(``appliance.sources.together``); everything that takes long looks at it, so that an operator who
interrupts is not kept waiting, and what came so far is kept in good order.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping, Sequence
    from io import BufferedIOBase
    from pathlib import Path

_READ: Final = 1 << 20
_SECONDS: Final = 0.1  # between two looks at the signal


class Stopped(Exception):
    """Work was ended early because the stop signal is set; what came is kept."""


def check(stop: threading.Event | None) -> None:
    """Raise ``Stopped`` if the signal is set."""
    if stop is not None and stop.is_set():
        raise Stopped


def pieces_of(file: BufferedIOBase, stop: threading.Event | None) -> Iterator[bytes]:
    """The rest of a file."""
    while piece := file.read(_READ):
        check(stop)
        yield piece


def sha256_of(file: BufferedIOBase, stop: threading.Event | None) -> str:
    """SHA-256 (hex) of the rest of a file."""
    digest = hashlib.sha256()
    for piece in pieces_of(file, stop):
        digest.update(piece)
    return digest.hexdigest()


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
