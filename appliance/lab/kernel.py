"""System calls that the oldest supported Python (3.11) has no names for, through the C library.

The numbers are those of every architecture (include/uapi/asm-generic/unistd.h).
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000

_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6


def leave_shared() -> None:
    """Move this process into mount and network namespaces of its own (unshare(2))."""
    _checked(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET), "unshare")


def join_network(descriptor: int) -> None:
    """Move this thread into the network namespace behind an open ``ns/net`` file (setns(2))."""
    _checked(_libc.setns(descriptor, _CLONE_NEWNET), "setns")


def detached_mount(kind: str) -> int:
    """Mount a file system of a kind nowhere; the descriptor is its root (fsopen(2), fsmount(2)).

    It is seen by nobody else and goes when the descriptor is closed.

    Raises:
        OSError: the kernel does not have it, or this process may not.
    """
    context = _checked(_libc.syscall(_SYS_FSOPEN, kind.encode("ascii"), _FSOPEN_CLOEXEC), "fsopen")
    try:
        _checked(_libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig")
        return _checked(_libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0), "fsmount")
    finally:
        os.close(context)


def _checked(result: int, call: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
    return result
