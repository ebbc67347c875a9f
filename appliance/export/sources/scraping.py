"""Asking an endpoint of metrics: one request, answered in time and not too long, or nothing."""

from __future__ import annotations

import http.client
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from appliance.export.sources.endpoint import Endpoint

MAX_BYTES: Final = 8 << 20
#: Seconds that an endpoint has for all of its answer.
PATIENCE: Final = 5.0
_OK: Final = 200
_PIECE: Final = 64 << 10


class _Connection(http.client.HTTPConnection):
    """To a UNIX socket instead of an address."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


def scrape(endpoint: Endpoint) -> str:
    """What the endpoint says now; no redirection is followed.

    Raises:
        OSError, ValueError: it says nothing in time, too much, or that it cannot.
    """
    end = time.monotonic() + PATIENCE
    address = endpoint.address
    made = (
        _Connection(address)
        if isinstance(address, str)
        else http.client.HTTPConnection(*address, timeout=PATIENCE)
    )
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
