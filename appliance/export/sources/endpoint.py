"""Where metrics are asked for: an endpoint of this machine, by loopback or a UNIX socket, and no other."""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from appliance.errors import Usage

MAX_BYTES: Final = 8 << 20
#: Seconds that an endpoint has for all of its answer.
PATIENCE: Final = 5.0
_OK: Final = 200
_PIECE: Final = 64 << 10
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_PATH: Final = re.compile(r"/[!-~]{0,200}")
_WANTED: Final = "NAME=http://127.0.0.1:9100/metrics, or NAME=unix:/run/vllm.sock:/metrics"


@dataclass(frozen=True)
class Endpoint:
    """An endpoint: the stream's name, an address of loopback and a port or the path of a socket, a path."""

    name: str
    address: tuple[str, int] | str
    path: str


def parse_endpoint(text: str) -> Endpoint:
    """Read ``NAME=URL``.

    Raises:
        Usage: it is none, or is not on this machine: names are not asked for, and nothing goes out.
    """
    name, _, place = text.partition("=")
    if not _NAME.fullmatch(name):
        raise Usage("not a name of an endpoint", found=ascii(text)[:80], wanted=_WANTED)
    if place.startswith("unix:"):
        socket_path, _, path = place.removeprefix("unix:").partition(":")
        if socket_path.startswith("/") and _PATH.fullmatch(path or "/metrics"):
            return Endpoint(name, socket_path, path or "/metrics")
        raise Usage("not an endpoint of metrics", found=ascii(place)[:80], wanted=_WANTED)
    try:
        parts = urlsplit(place)
        address, port = ipaddress.ip_address(parts.hostname or ""), parts.port or 80
    except ValueError as fault:
        raise Usage("not an endpoint of metrics", found=ascii(place)[:80], wanted=_WANTED) from fault
    if not address.is_loopback or parts.scheme != "http" or parts.username or parts.query:
        raise Usage("metrics come from this machine alone", found=ascii(place)[:80], wanted=_WANTED)
    if not _PATH.fullmatch(parts.path or "/metrics"):
        raise Usage("not an endpoint of metrics", found=ascii(place)[:80], wanted=_WANTED)
    return Endpoint(name, (str(address), port), parts.path or "/metrics")


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
