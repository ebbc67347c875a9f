"""RFC 5424 messages over TLS (RFC 5425) as a sink: each preceded by its length, nothing ever answered.

The protocol has no receipts.  What the other side's kernel has acknowledged counts as taken; whatever was
on the way when a connection broke comes again, and has the same sequence in its structured data.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time
from typing import TYPE_CHECKING, Final

from appliance.errors import ExportSinkUnready
from appliance.export.sinks.pause import Pause
from appliance.export.sinks.pem import client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from pathlib import Path

_TIMEOUT: Final = 10.0
_PAUSE: Final = 0.01


def octet_counted(message: bytes) -> bytes:
    """A message as it stands in the stream (RFC 5425, section 4.3)."""
    return b"%d %s" % (len(message), message)


class TlsSink:
    """One connection to a collector, made when there is something to write, and anew after a fault.

    Args:
        host: its name or address, which its certificate must have.
        port: 6514 by default of the RFC.
        authority: PEM file of who vouches for it.
        certificate: PEM file with our own certificate and key, if it asks for one.
        timeout: seconds to wait for it.
        pause: after a fault; of several connections to one collector the same.

    Raises:
        Usage: a file is not there, or not what it should be.
    """

    def __init__(
        self,
        host: str,
        port: int,
        authority: Path,
        *,
        certificate: Path | None = None,
        timeout: float = _TIMEOUT,
        pause: Pause | None = None,
    ) -> None:
        self._peer, self._timeout = (host, port), timeout
        self._pause = pause or Pause(time.monotonic)
        self._context = client_context(authority, certificate)
        self._stream: ssl.SSLSocket | None = None

    def _connected(self) -> ssl.SSLSocket:
        if self._stream is None:
            plain = socket.create_connection(self._peer, timeout=self._timeout)
            try:
                self._stream = self._context.wrap_socket(plain, server_hostname=self._peer[0])
            except BaseException:
                plain.close()
                raise
        return self._stream

    def ready(self) -> bool:
        self._pause.heed()
        return False

    def write(self, found: Sequence[bytes]) -> None:
        """Give these to the other side.

        Raises:
            ExportSinkUnready: it is not there, is somebody else, or takes nothing; or was so a moment ago.
        """
        self._pause.heed()
        try:
            self._connected().sendall(b"".join(found))
        except OSError as fault:
            raise self._failed(fault) from fault

    def settle(self) -> str:
        """Wait until the other side's kernel has everything.

        Raises:
            ExportSinkUnready: it has not in time, or the connection broke.
        """
        if self._stream is None:
            return ""
        until = time.monotonic() + self._timeout
        try:
            while _unsent(self._stream):
                if time.monotonic() > until:
                    raise TimeoutError("the collector takes nothing more")
                time.sleep(_PAUSE)
            if fault := self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(fault, "the connection broke")
        except OSError as fault:
            raise self._failed(fault) from fault
        return ""

    def _failed(self, fault: OSError) -> ExportSinkUnready:
        self.close()
        host, port = self._peer
        unready = ExportSinkUnready(f"the collector {host}:{port} takes nothing: {fault}")
        self._pause.begin(unready)
        return unready

    def resume(self, mark: str) -> None:
        """There is no way back in a stream: what is written again comes twice."""

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None


def _unsent(stream: socket.socket) -> int:
    """Bytes that the other side has not acknowledged (SIOCOUTQ, tcp(7))."""
    found = fcntl.ioctl(stream.fileno(), termios.TIOCOUTQ, bytes(4))
    return int(struct.unpack("i", found)[0])
