"""The operator's side of a lab is a network namespace: find it and join it again.

A network namespace is remembered by the device and inode of its ``ns/net`` file, which is what the
kernel itself compares; names under /run/netns are optional.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import LabFailed
from appliance.lab import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

_SELF = Path("/proc/thread-self/ns/net")


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
        kernel.join_network(target)
        try:
            yield
        finally:
            kernel.join_network(home)
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
