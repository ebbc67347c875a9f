"""What waits at a socket: up to some dozens of datagrams, or bursts of them, in one call (recvmmsg(2)).

Python itself takes one at a time, and gives its lock up for each: beside a thread that writes lines, the
next one is had only once that one lets go of it.  This call never waits, so it keeps the lock.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
from typing import Any, Final

#: Datagrams, or bursts of them, that are had in one call.
_SLOTS: Final = 32
#: The longest that a burst can be.
_ROOM: Final = 65_536
#: Of a control message with the length of a burst's datagrams (udp(7), UDP_GRO), which is an int.
_ABOUT: Final = socket.CMSG_SPACE(ctypes.sizeof(ctypes.c_int))
_STEP: Final = socket.CMSG_LEN(0)


class _Vector(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct mmsghdr``: a header, and how many bytes came."""

    _fields_ = (("header", _Header), ("size", ctypes.c_uint))


class Incoming:
    """The datagrams that come to a socket.

    Args:
        source: the socket.
    """

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._call = ctypes.PyDLL(None, use_errno=True).recvmmsg
        self._room = mmap.mmap(-1, _SLOTS * _ROOM)  # of which memory is taken as far as it is used
        self._about = ctypes.create_string_buffer(_SLOTS * _ABOUT)
        self._vectors = (_Vector * _SLOTS)()
        self._messages = (_Message * _SLOTS)()
        room = ctypes.addressof(ctypes.c_char.from_buffer(self._room))
        for place, (vector, message) in enumerate(zip(self._vectors, self._messages, strict=True)):
            vector.base, vector.length = room + place * _ROOM, _ROOM
            header = message.header
            header.vectors, header.vector_count = ctypes.addressof(vector), 1
            header.control = ctypes.addressof(self._about) + place * _ABOUT
            header.control_length = _ABOUT
        self._fresh = bytes(self._messages)
        self._sizes = _numbers(self._messages, _Message.size.offset, ctypes.sizeof(_Message))
        self._steps = _numbers(self._about, _STEP, _ABOUT)

    def take(self, most: int) -> list[bytes]:
        """The datagrams that wait: about so many, since those that came together are not parted."""
        found: list[bytes] = []
        while (wanted := min(most - len(found), _SLOTS)) > 0:
            count, room = self._receive(wanted), self._room
            sizes, steps = self._sizes[:count].tolist(), self._steps[:count].tolist()
            for place, (size, step) in enumerate(zip(sizes, steps, strict=True)):
                begin = place * _ROOM
                end = begin + size
                if 0 < step < size:  # a burst: all as long as the first one, but for the last
                    found += [room[at : min(at + step, end)] for at in range(begin, end, step)]
                else:
                    found.append(room[begin:end])
            if count < wanted:
                break
        return found

    def _receive(self, most: int) -> int:
        """Fill so many slots at most; says how many."""
        ctypes.memmove(self._messages, self._fresh, len(self._fresh))
        ctypes.memset(self._about, 0, _SLOTS * _ABOUT)
        count = self._call(self._source.fileno(), self._messages, most, socket.MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in {errno.EAGAIN, errno.EINTR}:
                return 0
            raise OSError(code, os.strerror(code))
        return int(count)


def _numbers(memory: ctypes.Array[Any], first: int, step: int) -> memoryview:
    """Every int that stands so far behind the one before it."""
    size = ctypes.sizeof(ctypes.c_int)
    return memoryview(memory).cast("B").cast("i")[first // size :: step // size]
