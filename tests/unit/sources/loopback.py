"""A web server on loopback that does what it is told: ranges as RFC 9110 has them, and every fault.

``pages`` answers a request; ``faults`` changes the answers to the next requests for a path, one each.
Everything happens once and in order, so that tests need neither pauses nor luck.
"""

from __future__ import annotations

import functools
import hashlib
import threading
import time
from collections import defaultdict, deque
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from appliance.sources.station import Station


@dataclass(frozen=True)
class Asked:
    """One request; header names in lower case."""

    path: str
    query: str
    headers: Mapping[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclass(frozen=True)
class Reply:
    """An answer; ``length`` is what Content-Length says (None: nothing), ``cut`` how many bytes go out.

    ``then`` is called when they have gone out, and before the connection ends.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = -1
    cut: int | None = None
    then: Callable[[], object] | None = None


@dataclass
class Loopback:
    """The server: ``pages`` maps a request to a whole answer, of which ranges are cut."""

    pages: Callable[[Asked], Reply] | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, deque[Callable[[Asked, Reply, bytes], Reply]]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    asked: list[Asked] = field(default_factory=list)
    address: str = ""

    def ranges(self, path: str) -> list[str | None]:
        """The Range headers of all requests for a path."""
        return [asked.range for asked in self.asked if asked.path == path]

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        if self.pages:
            whole = self.pages(asked)
        elif asked.path in self.files:
            whole = file_reply(self.files[asked.path])
        else:
            whole = Reply(404)
        reply = ranged(asked, whole)
        if self.faults[asked.path]:
            reply = self.faults[asked.path].popleft()(asked, reply, whole.body)
        return reply


def file_reply(data: bytes) -> Reply:
    """A file with a validator made of its bytes."""
    return Reply(headers={"ETag": f'"{hashlib.sha256(data).hexdigest()[:16]}"'}, body=data)


def ranged(asked: Asked, whole: Reply) -> Reply:
    """RFC 9110, sections 13.1.5 and 14.2, for one open-ended range."""
    if whole.status != 200 or not asked.range:
        return whole
    if asked.headers.get("if-range", whole.headers.get("ETag")) != whole.headers.get("ETag"):
        return whole
    start, size = int(asked.range.removeprefix("bytes=").rstrip("-")), len(whole.body)
    if start >= size:
        return Reply(416, {"Content-Range": f"bytes */{size}"})
    headers = {**whole.headers, "Content-Range": f"bytes {start}-{size - 1}/{size}"}
    return Reply(206, headers, whole.body[start:])


# --- faults -------------------------------------------------------------------------------------


def cut(count: int) -> Callable[[Asked, Reply, bytes], Reply]:
    """The connection breaks after so many bytes of the body."""
    return lambda _, reply, __: replace(reply, cut=count)


def says_length(length: int | None) -> Callable[[Asked, Reply, bytes], Reply]:
    """Another Content-Length than the body has; None: none at all, and the end of the connection counts."""
    return lambda _, reply, __: replace(reply, length=length)


def status(code: int, **headers: str) -> Callable[[Asked, Reply, bytes], Reply]:
    """Another status, without a body."""
    return lambda _, __, ___: Reply(code, {name.replace("_", "-"): text for name, text in headers.items()})


def header(name: str, value: str) -> Callable[[Asked, Reply, bytes], Reply]:
    """One header otherwise."""
    return lambda _, reply, __: replace(reply, headers={**reply.headers, name: value})


def without_ranges(_: Asked, __: Reply, whole: bytes) -> Reply:
    """The whole file, whatever part was asked for."""
    return file_reply(whole)


def other_part(start: int) -> Callable[[Asked, Reply, bytes], Reply]:
    """206, but from another byte on."""
    return lambda _, reply, whole: Reply(
        206,
        {**reply.headers, "Content-Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}"},
        whole[start:],
    )


def sends(data: bytes) -> Callable[[Asked, Reply, bytes], Reply]:
    """Another file under the same name."""
    return lambda asked, _, __: ranged(asked, file_reply(data))


# --- silence ------------------------------------------------------------------------------------


class Silence:
    """A server's silence: half a minute, unless it is released.  What it was asked for waits as long."""

    def __init__(self) -> None:
        self.begun, self.release, self.over = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        self.release.wait(30)
        self.over.set()


def interrupt(
    station: Station, begun: threading.Event, until: Callable[[], object] = lambda: True
) -> threading.Thread:
    """Set the signal, as Ctrl-C does in the main thread, once the server is silent and ``until`` holds."""

    def wait_and_set() -> None:
        end = time.monotonic() + 30
        begun.wait(30)
        while not until() and time.monotonic() < end:
            time.sleep(0.01)
        station.stop.set()

    thread = threading.Thread(target=wait_and_set)
    thread.start()
    return thread


# --- the server ---------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, web: Loopback, *rest: object) -> None:
        self._web = web
        super().__init__(*rest)  # type: ignore[arg-type]  # what http.server hands on

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self._web.answer(Asked(unquote(parts.path), parts.query, headers))
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        length = len(reply.body) if reply.length == -1 else reply.length
        if length is not None:
            self.send_header("Content-Length", str(length))
        if length != len(reply.body) or reply.cut is not None:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body[: reply.cut])
        if reply.then:
            self.wfile.flush()
            reply.then()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(web: Loopback, tls: ssl.SSLContext | None = None) -> Iterator[Loopback]:
    """The server, answering at ``web.address`` until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, web))
    server.daemon_threads = True
    web.address = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
