"""From the station towards the node: which doors are open, tried with plain connections.

Attempts of one call run at the same time in one thread.  ``until`` keeps knocking at a door that
answers "refused" until somebody opens it or the time is over: the node's own echo servers open a
moment after the first knock.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from appliance.node.probe import Attempt
from appliance.node.probe_attempts import family_of, judge_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Pause between knocks at a closed door.
_PAUSE = 0.05


@dataclass(frozen=True)
class Door:
    """An address and port of the node, knocked at from ``source`` (an address of the station)."""

    target: str
    protocol: Literal["tcp", "udp"]
    source: str
    address: str
    port: int
    nonce: str = ""

    def attempt(self, outcome: str, detail: str, started: float) -> Attempt:
        return Attempt(
            target=self.target,
            protocol=self.protocol,
            address=self.address,
            port=self.port,
            who=f"station {self.source}",
            outcome=outcome,  # type: ignore[arg-type]  # one of judge_error's
            detail=detail,
            milliseconds=round((time.monotonic() - started) * 1000),
        )


class _Knock:
    """One door being tried."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.started = time.monotonic()
        self.link: socket.socket | None = None
        self.result: Attempt | None = None
        self.again = 0.0
        self.closed: tuple[str, str] | None = None

    def start(self) -> None:
        door = self.door
        kind = socket.SOCK_STREAM if door.protocol == "tcp" else socket.SOCK_DGRAM
        link = socket.socket(family_of(door.address), kind)
        link.setblocking(False)
        try:
            link.bind((door.source, 0))
            code = link.connect_ex((door.address, door.port))
            if code not in {0, errno.EINPROGRESS}:
                raise OSError(code, "")
            if door.protocol == "udp":
                link.send(door.nonce.encode())
                self.again = time.monotonic() + _PAUSE
        except OSError as error:
            link.close()
            self.end(*judge_error(error, time.monotonic() - self.started))
        else:
            self.link = link

    def end(self, outcome: str, detail: str) -> None:
        if self.link:
            self.link.close()
            self.link = None
        self.result = self.door.attempt(outcome, detail, self.started)

    def once_more(self) -> None:
        """Send the datagram again: the first ones may have come before anybody opened the door."""
        if self.link and self.door.protocol == "udp" and time.monotonic() >= self.again:
            self.again = time.monotonic() + _PAUSE
            with contextlib.suppress(OSError):  # an error is news, and told by ready()
                self.link.send(self.door.nonce.encode())

    def ready(self, *, again: bool) -> None:
        """The socket has news: a connection, an echo, or an error."""
        link, door = self.link, self.door
        if link is None:
            return
        code = link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0 and door.protocol == "udp":
            try:
                data = link.recv(512)
            except OSError as error:
                code = error.errno or 0
            else:
                self.end("reached", "echo came back" if data == door.nonce.encode() else "answered")
                return
        if code == 0:
            self.end("reached", "connected")
        elif code == errno.ECONNREFUSED:  # nobody listens there, or the firewall says so
            link.close()
            self.link, self.closed = None, ("denied", "refused by the node")
            if again:
                self.again = time.monotonic() + _PAUSE
            else:
                self.end(*self.closed)
        else:
            self.end(*judge_error(OSError(code, ""), time.monotonic() - self.started))


def knock(
    doors: Sequence[Door], *, seconds: float, until: Callable[[], bool] | None = None
) -> tuple[Attempt, ...]:
    """Knock at all doors at once; each gets one answer.

    Args:
        doors: where to knock.
        seconds: how long to wait for an answer.
        until: if given, keep knocking until this says True (then ``seconds`` is the longest time).

    Returns:
        One attempt per door, in order: ``reached``, ``denied`` (refused), ``silent``, ``no-route`` …
    """
    knocks = [_Knock(door) for door in doors]
    end = time.monotonic() + seconds
    for each in knocks:
        each.start()
    while time.monotonic() < end and any(each.result is None for each in knocks):
        if until and until():
            break
        _wait(knocks, end, again=until is not None)
    for each in knocks:
        if each.result is None:
            each.end(*(each.closed or ("silent", "")))
    return tuple(each.result for each in knocks if each.result)


def _wait(knocks: Sequence[_Knock], end: float, *, again: bool) -> None:
    """Wait for news of any door for a moment, and knock again where it is time."""
    for each in knocks:
        if each.result is None and each.link is None and time.monotonic() >= each.again:
            each.start()
        elif again:
            each.once_more()
    poll = select.poll()  # not select(): a station may hold more than 1024 descriptors
    waiting = {each.link.fileno(): each for each in knocks if each.link}
    for number, each in waiting.items():
        poll.register(number, select.POLLIN if each.door.protocol == "udp" else select.POLLOUT)
    for number, _ in poll.poll(max(0.0, min(_PAUSE, end - time.monotonic())) * 1000):
        waiting[number].ready(again=again)


def greeting(address: str, port: int, source: str, *, seconds: float) -> Attempt:
    """Connect from ``source`` and wait for an SSH server's greeting (RFC 4253, 4.2)."""
    door = Door("ssh", "tcp", source, address, port)
    started = time.monotonic()
    try:
        with socket.create_connection((address, port), seconds, source_address=(source, 0)) as link:
            said = link.recv(255)
    except OSError as error:
        outcome, detail = judge_error(error, time.monotonic() - started)
        if error.errno == errno.ECONNREFUSED:
            outcome, detail = "denied", "refused by the node"
        return door.attempt(outcome, detail, started)
    return door.attempt("reached", "SSH answers" if said.startswith(b"SSH-") else "connected", started)
