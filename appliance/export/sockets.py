"""The two ends of the line: one that cannot hear, and one that never speaks.

The sender's socket is not connected, so that no ICMP message comes back as an error, and has a filter that
lets nothing in, locked, so that nobody takes it off again.  That is the last of several walls and proves
nothing alone: the others are in the kernel's network and on the wire.

Datagrams of one length leave in one call, and those that came together are had in one: to the wire they are
what they were, and the kernel's share of the CPU falls to a fifth (udp(7), UDP_SEGMENT and UDP_GRO).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
from typing import TYPE_CHECKING, Final

from appliance.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h, as the next ones
_SO_LOCK_FILTER: Final = 44
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO_DROPS: Final = 8  # linux/sock_diag.h: SK_MEMINFO_DROPS
_RET_K: Final = 6  # linux/bpf_common.h: BPF_RET | BPF_K
_RECEIVE_BUFFER: Final = 32 << 20
_SEND_BUFFER: Final = 1 << 20
_UDP_SEGMENT: Final = 103  # linux/udp.h, as the next one
_UDP_GRO: Final = 104
#: A card that leaves checksums to the kernel (EIO until Linux 6.11), IPsec on the way, or a longer datagram
#: than the link takes, which the kernel would have to fragment.
_NOT_TOGETHER: Final = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP})

Address = tuple[str, int]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def parse_address(text: str) -> Address:
    """``192.0.2.1:5000`` or ``[2001:db8::1]:5000``.

    Raises:
        Usage: it is none.  Names are none: nothing asks for them on this line.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        socket.inet_pton(_family(bare), bare)
        number = int(port)
        if not colon or not 0 <= number <= 65535:  # noqa: PLR2004 - UDP's ports
            raise ValueError("no port")
    except (OSError, ValueError) as fault:
        raise Usage(
            "not an address and a port",
            found=ascii(text)[:80],
            wanted="192.0.2.1:5514 or [2001:db8::1]:5514",
        ) from fault
    return bare, number


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def sending_socket(peer: Address) -> socket.socket:
    """A socket to send from to this peer, which lets nothing in."""
    made = socket.socket(_family(peer[0]), socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        drop = ctypes.create_string_buffer(struct.pack("=HBBI", _RET_K, 0, 0, 0))
        program = _Program(1, ctypes.addressof(drop))
        made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))
        made.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)
    except BaseException:
        made.close()
        raise
    return made


def receiving_socket(address: Address) -> socket.socket:
    """A socket to receive on, with as large a buffer as the system gives."""
    made = socket.socket(_family(address[0]), socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        try:
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:  # not root: as much as is allowed
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        with contextlib.suppress(OSError):  # Linux before 5.0
            made.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made


def send(line: socket.socket, burst: Sequence[bytes], peer: Address) -> int:
    """Send datagrams of one length; says how many of them the system took, from the first on.

    Raises:
        OSError: it took none.
    """
    if len(burst) > 1:
        together = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", len(burst[0])))]
        try:
            line.sendmsg(burst, together, 0, peer)
        except OSError as fault:
            if fault.errno not in _NOT_TOGETHER:
                raise
        else:
            return len(burst)
    line.sendto(burst[0], peer)
    for sent, each in enumerate(burst[1:], 1):
        try:
            line.sendto(each, peer)
        except OSError:
            return sent
    return len(burst)


def dropped_by(source: socket.socket) -> int:
    """How many datagrams the kernel has thrown away because the socket's buffer was full."""
    found = source.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64)
    return int(struct.unpack_from("=I", found, 4 * _MEMINFO_DROPS)[0])
