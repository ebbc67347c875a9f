"""The smallest XDP program there is, and its place at a card: every frame is dropped where it comes in.

Two instructions need no compiler, and no library: they are given to the kernel by bpf(2), and the card by
rtnetlink(7).  ``ip link set … xdp obj`` could do it with an object file, but wants a writable file system
at /sys/fs/bpf, mounts one where there is none, and leaves it there (decision 55).  Sources: RFC 9669 for
the instructions; linux/bpf.h, linux/if_link.h and linux/rtnetlink.h for the numbers.

Run as a program in the card's network namespace: ``python -m appliance.export.line.xdp DEVICE``.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import socket
import struct
import sys
from typing import Final

from appliance.export.line.card import driver

#: What ``ip -details link`` shows of it.
NAME: Final = "appliance_drop"

_XDP_DROP: Final = 1  # enum xdp_action
_MOV_K: Final = 0xB7  # r0 = immediate, 64 bits
_EXIT: Final = 0x95
_PROG_LOAD: Final = 5
_PROG_TYPE_XDP: Final = 6
#: The program calls nothing that is for the GPL alone.
_LICENCE: Final = b"Apache-2.0\0"
#: asm/unistd_64.h; asm-generic/unistd.h for all newer architectures.
_SYS_BPF: Final = 321 if platform.machine() == "x86_64" else 280

_SETLINK: Final = 19
_REQUEST_ACK: Final = 1 | 4
_IFLA_XDP: Final = 43 | 0x8000  # nested
_IFLA_XDP_FD, _IFLA_XDP_FLAGS = 1, 3
#: Drivers whose frames that their XDP drops are in no counter of received frames: no alarm would rise.
UNCOUNTED: Final = frozenset({"mlx5_core"})
#: Where the program runs (XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE): in the driver, or right behind it.
NATIVE, GENERIC = 4, 2
_ERROR: Final = 2


def program() -> bytes:
    """The two instructions: ``r0 = XDP_DROP; exit``, in the byte order of this machine, as bpf(2) wants."""
    return struct.pack("=BBhiBBhi", _MOV_K, 0, 0, _XDP_DROP, _EXIT, 0, 0, 0)


def tags() -> frozenset[str]:
    """What kernels call this program: the beginning of its SHA-1, or of its SHA-256 (6.18)."""
    algorithms = (hashlib.sha1, hashlib.sha256)  # the kernel's choice, and no proof of anything
    return frozenset(each(program()).hexdigest()[:16] for each in algorithms)


def setlink_message(index: int, descriptor: int, mode: int) -> bytes:
    """The rtnetlink request that puts a loaded program at a card, in this mode.  Pure."""
    inner = struct.pack("=HHiHHI", 8, _IFLA_XDP_FD, descriptor, 8, _IFLA_XDP_FLAGS, mode)
    attribute = struct.pack("=HH", 4 + len(inner), _IFLA_XDP) + inner
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0) + attribute
    return struct.pack("=IHHII", 16 + len(body), _SETLINK, _REQUEST_ACK, 1, 0) + body


def load() -> int:
    """Give the program to the kernel; returns its descriptor.

    Raises:
        OSError: the kernel does not take it.
    """
    instructions, licence = ctypes.create_string_buffer(program()), ctypes.create_string_buffer(_LICENCE)
    # prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags, prog_name
    request = struct.pack(
        "=IIQQIIQII16s",
        *(_PROG_TYPE_XDP, len(program()) // 8, ctypes.addressof(instructions), ctypes.addressof(licence)),
        *(0, 0, 0, 0, 0, NAME.encode()),
    )
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = int(
        library.syscall(
            _SYS_BPF, _PROG_LOAD, ctypes.create_string_buffer(request, len(request)), len(request)
        )
    )
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf: {os.strerror(code)}")
    return descriptor


def attach(device: str) -> None:
    """Put the program at a card of this network namespace; it stays there without us.

    In the driver; behind it where that runs no programs, has too few queues or too large packets for
    them, or does not count what they drop.

    Raises:
        OSError: the kernel does not take it, or there is no such card.
    """
    index, descriptor = socket.if_nametoindex(device), load()
    *tried, last = modes(driver(device))
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            for mode in tried:
                try:
                    _ask(kernel, setlink_message(index, descriptor, mode))
                except OSError:
                    continue
                return
            _ask(kernel, setlink_message(index, descriptor, last))
    finally:
        os.close(descriptor)


def modes(name: str) -> tuple[int, ...]:
    """Where to put the program at a card with this driver, the best place first.  Pure."""
    return (GENERIC,) if name in UNCOUNTED else (NATIVE, GENERIC)


def _ask(kernel: socket.socket, message: bytes) -> None:
    kernel.send(message)
    answer = kernel.recv(4096)
    (kind,) = struct.unpack_from("=H", answer, 4)
    (code,) = struct.unpack_from("=i", answer, 16)
    if kind != _ERROR or code:
        raise OSError(-code, f"rtnetlink: {os.strerror(-code)}")


if __name__ == "__main__":
    try:
        attach(sys.argv[1])
    except OSError as fault:
        sys.exit(f"the XDP program cannot be put at {sys.argv[1]}: {fault.strerror}")
