"""The witness at the station: echo servers on its own addresses, and a note of every token that arrives.

TCP and UDP on a free port, and on the ports that name lookups, time and web traffic use where those are
free; ICMP is answered by the station's kernel and witnessed by a raw socket where the station may open
one.  Nothing is listened to longer than a probe takes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import selectors
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Literal, Self

from appliance.node import probe_attempts
from appliance.node.probe import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.inventory import Address

Protocol = Literal["tcp", "udp", "icmp"]

#: Ports that programs use to get out, tried besides a free one.
SERVICES: Final[tuple[tuple[str, Protocol, int], ...]] = (
    ("dns", "tcp", 53),
    ("dns", "udp", 53),
    ("https", "tcp", 443),
    ("quic", "udp", 443),
    ("ntp", "udp", 123),
)

_FREE: Final[tuple[tuple[str, Protocol, int], ...]] = (("listener", "tcp", 0), ("listener", "udp", 0))

#: Longest message kept; tokens are far shorter, anything else is not ours.
_MESSAGE: Final = 512
_MOST_LINKS: Final = 256


class Listener:
    """Echo servers on ``addresses``; a context manager that listens inside its block.

    ``token`` marks the messages of this run; others are echoed but not noted.
    """

    def __init__(self, addresses: Sequence[Address], token: str) -> None:
        self._addresses = addresses
        self._token = token
        self._selector = selectors.DefaultSelector()
        self._arrived: set[str] = set()
        self._news = threading.Condition()
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="witness", daemon=True)
        self._links = 0
        self.endpoints: tuple[Endpoint, ...] = ()

    def __enter__(self) -> Self:
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self.endpoints = tuple(
            endpoint for address in self._addresses for endpoint in self._listen(str(address))
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waker.send(b".")
        self._thread.join(5)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._waker.close()
        self._selector.close()

    def arrived(self, nonce: str, *, within: float = 0.0) -> bool:
        """Whether a message with exactly this token has arrived, or arrives within some seconds."""
        with self._news:
            return self._news.wait_for(lambda: nonce in self._arrived, within)

    def try_out(self) -> tuple[Endpoint, ...]:
        """The endpoints, each tried from the station itself: the positive control of every probe."""
        with ThreadPoolExecutor(max(1, len(self.endpoints))) as pool:
            return tuple(pool.map(self._try_out, range(len(self.endpoints)), self.endpoints))

    def _try_out(self, number: int, endpoint: Endpoint) -> Endpoint:
        if not endpoint.witnessed and endpoint.protocol != "icmp":
            return dataclasses.replace(endpoint, alive=False)
        nonce = f"{self._token}-control-{number}-{os.getpid()}"
        found = probe_attempts.attempt(dataclasses.asdict(endpoint), "station", nonce, seconds=1.0)
        alive = found["detail"] == "echo came back"
        if endpoint.witnessed:  # the kernel answers a ping before the witness has read it
            alive = alive and self.arrived(nonce, within=1.0)
        return dataclasses.replace(endpoint, alive=alive)

    # --- opening -------------------------------------------------------------------------------

    def _listen(self, address: str) -> list[Endpoint]:
        return [
            *(
                self._open(target, protocol, address, port)
                for target, protocol, port in (*_FREE, *SERVICES)
            ),
            self._open_icmp(address),
        ]

    def _open(self, target: str, protocol: Protocol, address: str, port: int) -> Endpoint:
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        server = socket.socket(probe_attempts.family_of(address), kind)
        try:
            if protocol == "tcp":
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((address, port))
            if protocol == "tcp":
                server.listen(128)
        except OSError as error:
            server.close()
            trouble = error.strerror or str(error)
            return Endpoint(target, protocol, address, port, witnessed=False, trouble=trouble)
        server.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ, protocol)
        return Endpoint(target, protocol, address, server.getsockname()[1], witnessed=True)

    def _open_icmp(self, address: str) -> Endpoint:
        v6 = ":" in address
        try:
            server = socket.socket(
                probe_attempts.family_of(address),
                socket.SOCK_RAW,
                socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP,
            )
        except OSError as error:
            trouble = f"no witness for ICMP: {error.strerror}"
            return Endpoint("listener", "icmp", address, 0, witnessed=False, trouble=trouble)
        try:
            server.bind((address, 0))
        except OSError as error:
            server.close()
            trouble = error.strerror or str(error)
            return Endpoint("listener", "icmp", address, 0, witnessed=False, trouble=trouble)
        server.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ, "icmp")
        return Endpoint("listener", "icmp", address, 0, witnessed=True)

    # --- serving -------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._wake:
                    return
                if isinstance(key.fileobj, socket.socket):
                    with contextlib.suppress(OSError):
                        self._ready(key.fileobj, key.data)

    def _ready(self, ready: socket.socket, role: str) -> None:
        if role == "tcp":
            link, _ = ready.accept()
            if self._links >= _MOST_LINKS:
                link.close()
                return
            self._links += 1
            link.setblocking(False)
            self._selector.register(link, selectors.EVENT_READ, "link")
        elif role == "link":
            self._selector.unregister(ready)
            self._links -= 1
            with ready:
                data = ready.recv(_MESSAGE)
                self._note(data)
                ready.send(data)
        elif role == "udp":
            data, peer = ready.recvfrom(_MESSAGE)
            self._note(data)
            ready.sendto(data, peer)
        else:
            self._note(ready.recv(2048))

    def _note(self, data: bytes) -> None:
        start = data.find(self._token.encode())
        if start >= 0:
            with self._news:
                self._arrived.add(data[start:].decode("ascii", "replace"))
                self._news.notify_all()
