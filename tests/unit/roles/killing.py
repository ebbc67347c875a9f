"""A program of ours that ends before any one of its steps, as after SIGKILL, or to which one call fails.

A step is each change of the disk below a folder (by Python's audit events), each wait for the disk, and
whatever else says that it is one.  From the moment it is killed on, the program changes nothing more,
whatever it would still do on its way out.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Killed(BaseException):
    """The program ended here."""


class Power:
    """Counts the steps of a program and, at one of them, ends it or lets the call fail."""

    def __init__(self, below: str) -> None:
        self.below = below
        self.steps = 0
        self.at: int | None = None
        self.errno = 0  # 0: the program is killed; otherwise this one call fails
        self.dead = False
        #: A disk without room: nothing can be written until something of before has been removed.
        self.full = False
        self.names: list[str] = []

    def step(self, name: str) -> None:
        """Before each step."""
        if self.dead:
            raise Killed
        self.steps += 1
        self.names.append(name)
        if self.steps == self.at:
            if self.errno:
                raise OSError(self.errno, os.strerror(self.errno))
            self.dead = True
            raise Killed


_power: list[Power] = []
_CHANGES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.truncate",
}
_GROWS = {"open", "os.mkdir", "os.symlink"}


def _makes_room(path: str, power: Power) -> bool:
    """Whether it is there (Python tells of every removal), no draft, and on the disk."""
    there = path.startswith("/") and os.path.lexists(path)
    return there and not path.endswith(".appliance-revert") and not path.startswith(f"{power.below}/run/")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's audit hook.  It cannot be taken away; it does nothing unless a program is ``acting``."""
    if not _power or (event not in _CHANGES and event != "open"):
        return
    power, path = _power[-1], str(arguments[0])
    if event == "open" and not (
        isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_CREAT)
    ):
        return
    # A tree is removed from within, by names below an open folder.
    if not path.startswith(power.below) and path.startswith("/"):
        return
    power.step(f"{event} {path.removeprefix(power.below)}")
    if event in {"os.remove", "os.rmdir"} and _makes_room(path, power):
        power.full = False
    elif power.full and event in _GROWS:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


sys.addaudithook(_audit)


def wait_for_disk(_: int) -> None:
    """In place of ``os.fsync``: what matters is where the program is when it ends, not the disk."""
    if _power:
        _power[-1].step("fsync")


@contextmanager
def acting(power: Power, at: int | None = None, error: int = 0) -> Iterator[Power]:
    """While a program runs whose steps count."""
    power.steps, power.at, power.errno, power.dead = 0, at, error, False
    power.names.clear()
    _power.append(power)
    try:
        yield power
    except Killed:
        pass
    finally:
        _power.pop()
        power.at, power.errno = None, 0


@contextmanager
def others() -> Iterator[None]:
    """While others are at work, who are not killed."""
    kept, _power[:] = _power[:], []
    try:
        yield
    finally:
        _power[:] = kept
