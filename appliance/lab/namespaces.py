"""Linux namespaces: leave the shared ones, find and join the operator's side again.

A network namespace is remembered by the device and inode of its ``ns/net`` file, which is what the
kernel itself compares; names under /run/netns are optional.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import LabFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_SELF = Path("/proc/thread-self/ns/net")

# os.unshare and os.setns exist from Python 3.12 on; the oldest Python supported here is 3.11.
_libc = ctypes.CDLL(None, use_errno=True)


def leave_shared() -> None:
    """Move this process into mount and network namespaces of its own; mounts stay private to them."""
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET), "unshare")


def own_network() -> tuple[int, int]:
    """Device and inode of the network namespace this thread is in."""
    return _identity(_SELF.stat())


@contextlib.contextmanager
def joined(netns: tuple[int, int]) -> Iterator[None]:
    """Be in a network namespace while the block runs (this thread, and processes it starts).

    Raises:
        LabFailed: the namespace is gone.
    """
    if netns == own_network():
        yield
        return
    target = _open_network(netns)
    if target is None:
        raise LabFailed(
            "the lab's operator side is gone",
            found="no process and no name holds its network namespace",
            wanted="the network namespace that `appliance lab up` was run in",
            hint="take the lab down and bring it up again",
        )
    home = os.open(_SELF, os.O_RDONLY)
    try:
        _check(_libc.setns(target, _CLONE_NEWNET), "setns")
        try:
            yield
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET), "setns")
    finally:
        os.close(home)
        os.close(target)


def network_exists(netns: tuple[int, int]) -> bool:
    """Whether any process or name still holds the network namespace."""
    descriptor = _open_network(netns)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def _open_network(netns: tuple[int, int]) -> int | None:
    for path in _candidates():
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:  # the process ended, or the name is no mount
            continue
        if _identity(os.fstat(descriptor)) == netns:
            return descriptor
        os.close(descriptor)
    return None


def _candidates() -> Iterator[Path]:
    yield _SELF
    named = Path("/run/netns")
    if named.is_dir():
        yield from named.iterdir()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            yield entry / "ns/net"


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _check(result: int, call: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
