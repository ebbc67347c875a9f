"""Where metrics are asked for: an endpoint of this machine, by loopback or a UNIX socket, and no other."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from appliance.errors import Usage

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
