"""One file on its way over HTTP: what is here, what may be built upon it, and when to stop trying."""

from __future__ import annotations

import re
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import requests

from appliance.errors import DigestMismatch
from appliance.sources.stopping import Stopped, check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRandom

    from appliance.sources.station import Station
    from appliance.sources.stopping import StopSignal

_CHUNK: Final = 1 << 16  # bytes; what a broken connection loses at most
_IDLE_TRIES: Final = 5  # in a row that bring nothing new, before giving up
_NEWS: Final = 1 << 20  # bytes that make a broken try count as one that brought something
_LONGEST_PAUSE: Final = 120.0  # seconds a server may ask us to wait
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Broken(Exception):
    """A try that failed and may go better next time; ``pause`` is what the server asked for, in seconds."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = pause


class Transfer:
    """One file on its way: what is here, and what of it may be built upon."""

    def __init__(self, station: Station, partial: BufferedRandom, name: str, size: int | None) -> None:
        self._station, self._partial, self._name, self._size = station, partial, name, size
        self._etag: str | None = None
        self._ranges = True  # until the server proves unable to send parts
        self.reached = partial.tell()

    @property
    def complete(self) -> bool:
        return self._size is not None and self._partial.tell() == self._size

    def request_headers(self) -> dict[str, str]:
        """For the missing part, but for the whole if the file has changed since (If-Range)."""
        start = self._partial.tell()
        if not start or not self._ranges:
            return {}
        return {"Range": f"bytes={start}-", **({"If-Range": self._etag} if self._etag else {})}

    def take(self, answer: requests.Response) -> None:
        """Write an answer's bytes where they belong; returns when the file is whole."""
        status, start = HTTPStatus(answer.status_code), self._partial.tell()
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._ranges = False
            raise Broken(f"it has less than {start:,} bytes")
        etag = _strong(answer.headers.get("ETag"))
        if status == HTTPStatus.PARTIAL_CONTENT:
            self._check_part(answer, start, etag)
        else:  # the whole; but for an error page with a good status nothing is given up
            self._check_length(answer.headers.get("Content-Length"))
            self._start_over()
        self._etag = etag
        for piece in pieces(answer, self._station.stop):
            check(self._station.stop)
            if self._size is not None and self._partial.tell() + len(piece) > self._size:
                raise self._other_length(f"more than {self._size:,} bytes")
            self._partial.write(piece)
            self._station.progress.advance(len(piece))
        if self._size is not None and not self.complete:
            raise Broken("it ended early")

    def settle(self) -> None:
        """After a broken try: remember how far any of them came."""
        self.reached = max(self.reached, self._partial.tell())

    def _check_part(self, answer: requests.Response, start: int, etag: str | None) -> None:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if not match or int(match[1]) != start or not self._ranges or not start:
            self._ranges = False
            raise Broken("it sends another part than the one asked for")
        if match[3] != "*":
            self._check_length(match[3])
        if self._etag and etag != self._etag:
            self._ranges = False
            raise Broken("the file changed between two connections")

    def _check_length(self, length: str | None) -> None:
        if self._size is not None and length is not None and length != str(self._size):
            raise self._other_length(f"{length} bytes")

    def _start_over(self) -> None:
        self._station.progress.advance(-self._partial.tell())
        self._partial.seek(0)
        self._partial.truncate()

    def _other_length(self, found: str) -> DigestMismatch:
        return DigestMismatch(
            f"{self._name} is not the file that was locked",
            found=found,
            wanted=f"{self._size:,} bytes",
            hint="the source changed or lies: find out which, then lock again or use another source",
        )


class Patience:
    """How often, and after which pauses, a broken transfer is tried again.

    ``reached`` is how many bytes were here before the first try.
    """

    def __init__(self, station: Station, reached: int = 0) -> None:
        self._stop = station.stop
        self._idle, self._reached = 0, reached

    def another(self, fault: Broken, reached: int) -> bool:
        """Wait as long as it takes; False when it is enough.

        Args:
            fault: why the last try ended.
            reached: how far the best try came, in bytes, so that going in circles ends.

        Raises:
            Stopped: the work was given up meanwhile.
        """
        check(self._stop)  # which is what broke it
        news = reached - self._reached >= _NEWS
        if news:
            self._idle, self._reached = 0, reached
        else:
            self._idle += 1
        pause = fault.pause if fault.pause is not None else float(2**self._idle // 2)
        if self._idle >= _IDLE_TRIES or pause > _LONGEST_PAUSE:
            return False
        if self._stop.wait(pause):
            raise Stopped
        return True


def pieces(answer: requests.Response, stop: StopSignal) -> Iterator[bytes]:
    """The bytes of an answer as they come; none any more as soon as the signal is set.

    Raises:
        Broken: it ends before the length it announced.
        Stopped: the signal is set: the connection was shut down, which may look like the answer's end.
    """

    def hang_up() -> None:
        with suppress(OSError, ValueError, RuntimeError):  # it is closed, or was given back, already
            answer.raw.shutdown()

    try:
        with stop.ending(hang_up):
            yield from answer.iter_content(_CHUNK)
    except requests.RequestException as fault:
        raise Broken(type(fault).__name__) from fault
    check(stop)


def _strong(etag: str | None) -> str | None:
    """A validator that names bytes; a weak one ("W/") does not (RFC 9110, section 8.8.1)."""
    return etag if etag and etag.startswith('"') else None
