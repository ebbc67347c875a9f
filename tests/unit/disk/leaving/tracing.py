"""All that a run of programs told the system: what it started, with which words, and what it wrote.

Seen by strace, so nothing is missed that was there for a moment alone.  What is written to a pipe has a
reader among the same programs; everything else that is written to is a place where it may stay.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CALLS: Final = "execve,execveat,write,writev,pwrite64,pwritev,sendto,sendmsg,prctl,mlockall,prlimit64"
_TEXT: Final = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"')
_LINE: Final = re.compile(rb"(\d+) +(\w+)\((.*)", re.DOTALL)
_PLACE: Final = re.compile(rb"\d+<(.*?)>")


@dataclass
class Trace:
    """What was seen.

    Attributes:
        started: words and variables of every program that was started, each time.
        written: by place, what was written there, in a row; pipes are none.
        calls: the other calls, as strace prints them.
        code, out, err: how the first program ended, and what it said.
    """

    code: int
    out: bytes
    err: bytes
    started: list[tuple[str, bytes]] = field(default_factory=list)
    written: defaultdict[str, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    calls: list[str] = field(default_factory=list)

    def places(self) -> list[tuple[str, bytes]]:
        """All of it, each under where it was."""
        said = [("standard output", self.out), ("standard error", self.err)]
        written = [(f"written to {place}", bytes(data)) for place, data in self.written.items()]
        return [*said, *self.started, *written]


def trace(
    command: Sequence[object],
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    answers: Mapping[bytes, bytes] | None = None,
) -> Trace:
    """Run a program under strace.

    Args:
        command: what.
        environment: all of its variables.
        folder: where it runs.
        log: a file for strace, outside of what is searched.
        answers: what a person types when a terminal shows what; without, there is no terminal.
    """
    strace = shutil.which("strace")
    assert strace, "strace is in system-packages.txt"
    words = [strace, "-f", "-qq", "-v", "-xx", "-y", "-s", "10000000", "--seccomp-bpf"]
    words += ["-e", f"trace={_CALLS}", "-e", "signal=none", "-o", str(log)]
    words += ["--", *map(str, command)]
    if answers is not None:
        found = _at_terminal(words, environment, folder, answers)
    else:
        done = subprocess.run(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        found = Trace(done.returncode, done.stdout, done.stderr)
    _read(log.read_bytes(), found)
    log.unlink()
    return found


def _at_terminal(
    words: Sequence[str], environment: Mapping[str, str], folder: Path, answers: Mapping[bytes, bytes]
) -> Trace:
    """Run a program on a terminal of its own; what that shows is all that it said."""
    terminal, end = pty.openpty()
    words = ["setsid", "--ctty", *words]  # a fork of our own would be one of several threads
    running = subprocess.Popen(words, cwd=folder, env=environment, stdin=end, stdout=end, stderr=end)
    os.close(end)
    shown, waiting = b"", dict(answers)
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the other side was closed
            break
        for prompt in [each for each in waiting if each in shown]:
            os.write(terminal, waiting.pop(prompt) + b"\n")
    os.close(terminal)
    return Trace(running.wait(), shown, b"")


def _read(log: bytes, found: Trace) -> None:
    begun: dict[bytes, bytes] = {}
    programs: dict[str, str] = {}
    for line in log.splitlines():
        pid, _, rest = line.partition(b" ")
        if rest.endswith(b" <unfinished ...>"):
            begun[pid] = rest.strip().removesuffix(b" <unfinished ...>")
            continue
        match = re.match(rb" *<\.\.\. \w+ resumed>(.*)", rest)
        _call(line if match is None else pid + b" " + begun.pop(pid, b"") + match[1], found, programs)
    for pid, rest in begun.items():  # that never returned, as exec in a thread
        _call(pid + b" " + rest, found, programs)


def _call(line: bytes, found: Trace, programs: dict[str, str]) -> None:
    match = _LINE.fullmatch(line)
    if match is None:
        return
    pid, name, rest = match[1].decode(), match[2].decode(), match[3]
    texts = [bytes.fromhex(each.replace(b"\\x", b"").decode()) for each in _TEXT.findall(rest)]
    if name.startswith("exec"):
        programs[pid] = texts[0].decode(errors="replace")
        found.started.append((f"start of {programs[pid]}", b"\0".join(texts)))
    elif name in {"write", "writev", "pwrite64", "pwritev", "sendto", "sendmsg"}:
        place = _PLACE.match(rest)
        path = "?" if place is None else _unescaped(place[1]).decode(errors="replace")
        if path.startswith("socket:"):
            path = f"a socket of {programs.get(pid, '?')}"
        if not path.startswith("pipe:"):
            found.written[path] += b"".join(texts)
    else:
        found.calls.append(f"{pid} {name}({rest.decode()}")


def _unescaped(path: bytes) -> bytes:
    return re.sub(rb"\\x([0-9a-f]{2})", lambda byte: bytes.fromhex(byte[1].decode()), path)


def processes() -> list[tuple[str, bytes]]:
    """Words and variables of every process of this machine that may be looked at, as they are now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                found.append((f"/proc/{folder.name}/{name}", (folder / name).read_bytes()))
            except OSError:
                continue  # it ended, or is somebody else's
    return found


def files(*folders: Path) -> list[tuple[str, bytes]]:
    """Every file below folders, by name and contents; names hold something too."""
    found = []
    for path in (path for folder in folders for path in sorted(folder.rglob("*"))):
        try:
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        except OSError:
            data = b""
        found.append((str(path), str(path).encode() + b"\0" + data))
    return found
