"""Asking an endpoint of metrics: one request, answered in time and not too long, or nothing."""

from __future__ import annotations

import http.client
import socket
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from appliance.export.sources.endpoint import Endpoint

MAX_BYTES: Final = 8 << 20
#: Seconds that an endpoint has for all of its answer.
PATIENCE: Final = 5.0
_OK: Final = 200
_PIECE: Final = 64 << 10


class _Socket(socket.socket):
    """Waits until a moment, in all: who sends a byte now and then, headers too, wins no time."""

    end = 0.0

    def in_time(self) -> None:
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("too slow")
        self.settimeout(left)

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        self.in_time()
        return super().recv_into(*arguments, **named)


class _Connection(http.client.HTTPConnection):
    """To an address or a UNIX socket, answered until a moment of the steady clock."""

    def __init__(self, address: tuple[str, int] | str, end: float) -> None:
        super().__init__(*(("localhost",) if isinstance(address, str) else address))
        self._address, self._end = address, end

    def connect(self) -> None:
        path = isinstance(self._address, str)
        family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self.sock = made = _Socket(family, socket.SOCK_STREAM)
        made.end = self._end
        made.in_time()
        made.connect(self._address)


def scrape(endpoint: Endpoint) -> str:
    """What the endpoint says now; no redirection is followed.

    Raises:
        OSError, ValueError: it says nothing in time, too much, or that it cannot.
    """
    end = time.monotonic() + PATIENCE
    made = _Connection(endpoint.address, end)
    try:
        made.request("GET", endpoint.path, headers={"Accept": "text/plain; version=0.0.4"})
        answer = made.getresponse()
        if answer.status != _OK:
            raise ValueError(f"status {answer.status}")
        found = bytearray()
        while piece := answer.read1(_PIECE):
            found += piece
            if len(found) > MAX_BYTES or time.monotonic() > end:
                raise ValueError("too much, or too slow")
        return found.decode("utf-8")
    except http.client.HTTPException as fault:
        raise ValueError(f"no HTTP: {type(fault).__name__}") from fault
    finally:
        made.close()
