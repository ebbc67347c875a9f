"""A line between two network namespaces that loses frames, and programs at its ends that are measured.

The kernel of a station may lack netem, so frames are dropped by an nftables rule on the receiving end's
ingress, before IP puts fragments together; its counters say how many.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import threading
import time
from base64 import b64encode
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

HERE: Final = "10.90.0.1"
THERE: Final = "10.90.0.2"
_ALL: Final = 100
_RULES: Final = """
table netdev loss {
    counter dropped { }
    chain ingress {
        type filter hook ingress device "there" priority 0; policy accept;
        %s
    }
}
"""


def _run(*command: str, text: str | None = None) -> None:
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)


class Wire:
    """``here`` sends and ``there`` receives, each in a namespace of its own, at an MTU of 1,500."""

    def __init__(self) -> None:
        self.here, self.there = (f"bench-{side}-{os.getpid()}" for side in ("here", "there"))

    def __enter__(self) -> Self:
        for each in (self.here, self.there):
            _run("ip", "netns", "add", each)
        _run(
            "ip",
            "-n",
            self.here,
            "link",
            "add",
            "here",
            "type",
            "veth",
            "peer",
            "there",
            "netns",
            self.there,
        )
        # Datagrams that left in one call are parted before the cable, as cards part them: else the rule
        # that loses frames would see one.
        _run("ip", "-n", self.here, "link", "set", "here", "gso_max_segs", "1")
        for name, end, address in ((self.here, "here", HERE), (self.there, "there", THERE)):
            _run("ip", "-n", name, "address", "add", f"{address}/24", "broadcast", "+", "dev", end)
            for each in ("lo", end):
                _run("ip", "-n", name, "link", "set", each, "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self.here, self.there):
            subprocess.run(["ip", "netns", "delete", each], check=False)

    def lose(self, percent: float) -> None:
        """Drop so many of a hundred frames, by chance and one by one; 100 is a cut line."""
        chance = f"numgen random mod 1000 < {round(percent * 10)} " if percent < _ALL else ""
        rule = f"{chance}counter name dropped drop" if percent else ""
        nft = ("ip", "netns", "exec", self.there, "nft")
        subprocess.run([*nft, "delete", "table", "netdev", "loss"], check=False, capture_output=True)
        _run(*nft, "-f", "-", text=_RULES % rule)

    def start(
        self,
        end: str,
        command: Sequence[str],
        *,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> Running:
        """A program at one end."""
        return Running(["ip", "netns", "exec", end, *command], stdin=stdin, stdout=stdout)


@dataclass(frozen=True)
class Used:
    """CPU seconds, and the most bytes that were resident at once."""

    cpu: float
    memory: int


class Running:
    """A program that runs; ``ip netns exec`` becomes it, so that what is measured is the program."""

    def __init__(
        self, command: Sequence[str], *, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
    ) -> None:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=stdin or quiet, stdout=stdout or quiet, stderr=quiet
        )
        self._used: Used | None = None
        self._peak = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        if self._used is None:
            self._look()
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self._used = Used(usage.ru_utime + usage.ru_stime, self._peak)
        return self._used is not None

    def _look(self) -> None:
        """Its own peak: what wait4(2) says holds the peak of whoever started it, too."""
        with suppress(OSError):
            found = re.search(r"VmHWM:\s+([0-9]+) kB", Path(f"/proc/{self.pid}/status").read_text("ascii"))
            self._peak = int(found[1]) << 10 if found else self._peak

    def end(self, patience: float = 60.0) -> Used:
        """Ask it to end, if it runs still; what it used."""
        stop = time.monotonic() + patience
        if not self.ended:
            self._process.terminate()
        while not self.ended:
            if time.monotonic() > stop:
                self._process.kill()
            time.sleep(0.01)
        assert self._used is not None
        return self._used


def log_lines(path: Path, size: int) -> int:
    """Lines as ``journalctl --output=json`` prints them, of which no two are alike; says how many.

    Texts are of chance and compress to some four fifths: the line has to carry about what is logged.
    """
    luck = random.Random(7)  # noqa: S311 - the same bytes in every run
    pool = b64encode(luck.randbytes(1 << 20)).decode()
    count = written = 0
    with path.open("w", encoding="ascii") as file:
        while written < size:
            start = luck.randrange(len(pool) - 700)
            line = json.dumps(
                {
                    "MESSAGE": pool[start : start + 700],
                    "PRIORITY": "6",
                    "SYSLOG_IDENTIFIER": "engine",
                    "_PID": str(luck.randrange(1 << 22)),
                    "_SYSTEMD_UNIT": "appliance-inference.service",
                    "__CURSOR": f"s=84670d76e5fb409aad7cdf35e0c7dc23;i={count:x}",
                    "__REALTIME_TIMESTAMP": str(1_800_000_000_000_000 + count * 100),
                },
                separators=(",", ":"),
            )
            written += file.write(line + "\n")
            count += 1
    return count


@dataclass
class Growth:
    """How many whole lines a file has, over time: pairs of seconds and lines."""

    path: Path
    points: list[tuple[float, int]] = field(default_factory=lambda: [(0.0, 0)])

    def watch(self, began: float, stop: threading.Event) -> None:
        """Until ``stop`` is set."""
        count, rest = 0, b""
        while not self.path.exists() and not stop.wait(0.01):
            pass
        with self.path.open("rb") as file:
            while not stop.wait(0.02):
                if piece := file.read():
                    whole, _, rest = (rest + piece).rpartition(b"\n")
                    count += whole.count(b'"record":{"')
                    self.points.append((time.monotonic() - began, count))

    @property
    def count(self) -> int:
        return self.points[-1][1]

    def at(self, second: float) -> tuple[float, int]:
        """The last point up to then at which there were more."""
        return max(each for each in self.points if each[0] <= second)


@contextmanager
def watching(path: Path, began: float) -> Iterator[Growth]:
    """Watch a file that grows, beside everything else."""
    growth, stop = Growth(path), threading.Event()
    thread = threading.Thread(target=growth.watch, args=(began, stop))
    thread.start()
    try:
        yield growth
    finally:
        stop.set()
        thread.join()


def others(since: float, used: float, busy: float) -> float:
    """CPU seconds per second that everything else used."""
    return (busy_seconds() - busy - used) / max(time.monotonic() - since, 1e-3)


def busy_seconds() -> float:
    """CPU seconds that were not idle, of all cores since boot (proc_stat(5))."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
