"""Fetching over HTTP: a file grows until it is whole, over as many connections as that takes.

A connection that breaks, a busy server and a server that lost its head for a moment are asked again,
from the byte that is missing (RFC 9110, sections 13 and 14).  Tries are bounded: several in a row that
bring nothing new are the last.  Proxies and certificates are those that ``requests`` finds in the
environment; what shows this station's right to read is never sent on to another host, and no address
appears in a message, since it may hold credentials.

What a file must be, the caller knows by digest; here only lengths are compared, early, so that nobody
waits for gigabytes that cannot be right.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial as partial_call
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from appliance.errors import DigestMismatch, SourceUnreachable
from appliance.sources.http_transfer import Broken, Patience, Transfer, pieces
from appliance.sources.stopping import awaited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from io import BufferedRandom

    from appliance.definition.lock import Artefact
    from appliance.sources.station import Station

_TIMEOUT: Final = (15, 60)  # seconds: to connect, and between two pieces of an answer
_REDIRECTS: Final = 10

UNTRUSTED: Final = "its certificate is not trusted here (REQUESTS_CA_BUNDLE names other authorities)"
BUSY: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_FIRST_SERVER_FAULT: Final = 500


class HttpRefused(Exception):
    """The server answers and says no.  What that means, the source knows that asked."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(f"HTTP status {answer.status_code}")
        self.status = answer.status_code
        self.headers = answer.headers


class Access(Protocol):
    """How a station shows a server that it may read."""

    def headers(self) -> Mapping[str, str]:
        """What to send along, to this server and to no other it redirects to."""

    def renew(self, answer: requests.Response) -> bool:
        """After a 401: get the right to read, or get it anew; whether asking again makes sense."""


@dataclass(frozen=True)
class Document:
    """A small answer, held in memory."""

    data: bytes
    media_type: str


class HttpDownloader:
    """One source on the web.  One per thread.

    Args:
        station: whose progress and stop signal count.
        source: what it is called in messages, such as "the Python package index".
        access: how to show that this station may read; None for sources open to all (and for what
            ``requests`` finds in a netrc file).
        certificates: a file of authorities to trust instead of those of the environment.
    """

    def __init__(
        self,
        station: Station,
        source: str,
        *,
        access: Access | None = None,
        certificates: str | None = None,
    ) -> None:
        self._station, self._source, self._access = station, source, access
        self.session = requests.Session()
        self.session.max_redirects = _REDIRECTS
        if certificates:
            self.session.verify = certificates

    def append(
        self,
        url: str,
        partial: BufferedRandom,
        *,
        name: str,
        size: int | None = None,
        accept: str = "*/*",
    ) -> None:
        """Append what is missing of ``url`` to ``partial``; ``size`` is the whole file's, if it is known.

        Raises:
            HttpRefused: the server does not give it.
            DigestMismatch: it has another length than ``size``.
            SourceUnreachable: no answer, or only broken ones; what came stays in ``partial``.
        """
        transfer = Transfer(self._station, partial, name, size)
        patience = Patience(self._station, transfer.reached)
        while not transfer.complete:
            try:
                with self._ask(url, {"Accept": accept, **transfer.request_headers()}) as answer:
                    transfer.take(answer)
                return
            except Broken as fault:
                transfer.settle()
                if not patience.another(fault, transfer.reached):
                    raise self.unreachable(url, str(fault)) from fault

    def read(self, url: str, *, limit: int, accept: str = "*/*") -> Document:
        """A small document; of one longer than ``limit`` bytes, its beginning and at least a byte more.

        Raises:
            HttpRefused: the server does not give it.
            SourceUnreachable: no answer, or only broken ones.
        """
        patience = Patience(self._station)
        while True:
            data = bytearray()
            try:
                with self._ask(url, {"Accept": accept}) as answer:
                    for piece in pieces(answer, self._station.stop):
                        data += piece
                        if len(data) > limit:
                            break
                    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                    return Document(bytes(data), kind)
            except Broken as fault:
                if not patience.another(fault, 0):
                    raise self.unreachable(url, str(fault)) from fault

    def unreachable(self, url: str, why: str) -> SourceUnreachable:
        """The error for a source that does not answer; the address may hold credentials, the host not."""
        return SourceUnreachable(
            f"{self._source} does not answer; what came is kept for the next try",
            found=f"{urlsplit(url).hostname}: {why}",
            hint="check this station's network and settings, then run the same command again",
        )

    def _ask(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """An answer of status 200 or 206, or 416 to a request for a part."""
        answer = self._send(url, headers)
        if answer.status_code == HTTPStatus.UNAUTHORIZED and self._renews(answer):
            answer.close()
            answer = self._send(url, headers)
        status = answer.status_code
        if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                answer.close()
                raise self.unreachable(url, "it sends an encoded form, though the plain one was asked for")
            return answer
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and "Range" in headers:
            return answer
        answer.close()
        if status in BUSY or status >= _FIRST_SERVER_FAULT:
            raise Broken(f"HTTP status {status}", retry_after(answer.headers.get("Retry-After")))
        raise HttpRefused(answer)

    def _renews(self, answer: requests.Response) -> bool:
        """Whether there is access, and it could be renewed."""
        access = self._access
        return access is not None and awaited(lambda: access.renew(answer), self._station.stop)

    def _send(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Ask, and wait for the beginning of the answer."""
        ask = partial_call(
            self.session.get,
            url,
            headers={"Accept-Encoding": "identity", **headers},
            auth=_Shown(self._access.headers()) if self._access else None,
            stream=True,
            timeout=_TIMEOUT,
        )
        try:
            return awaited(ask, self._station.stop)
        except requests.exceptions.SSLError as fault:
            raise self.unreachable(url, UNTRUSTED) from fault
        except (requests.ConnectionError, requests.Timeout) as fault:
            raise Broken(type(fault).__name__) from fault
        except requests.RequestException as fault:
            raise self.unreachable(url, type(fault).__name__) from fault


class _Shown(AuthBase):
    """Headers sent to the server that was meant; ``requests`` drops Authorization for any other host."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request


def fetch_resuming(station: Station, artefact: Artefact, append: Callable[[BufferedRandom], None]) -> None:
    """Bring a locked file into the store; ``append`` completes the partial file it is given.

    Raises:
        DigestMismatch: it is another file.
        SpaceExhausted, Stopped: see ``Store.fetch``; and whatever ``append`` raises.
    """
    if station.store.fetched(artefact.sha256) > 0:
        try:
            _fetch_once(station, artefact, append)
        except DigestMismatch:  # what an earlier run left may have been the bad part
            _fetch_once(station, artefact, append)
    else:
        _fetch_once(station, artefact, append)
    station.progress.item(artefact.path)


def _fetch_once(station: Station, artefact: Artefact, append: Callable[[BufferedRandom], None]) -> None:
    came = 0
    try:
        with station.store.fetch(
            artefact.sha256, artefact.size, artefact.path, station.stop, station.progress.beside
        ) as partial:
            if partial:
                station.progress.advance(partial.tell())
                try:
                    append(partial)
                finally:
                    came = partial.tell()
    except DigestMismatch:
        station.progress.advance(-came)
        raise


def retry_after(value: str | None) -> float | None:
    """Seconds to wait (RFC 9110, section 10.2.3): a number, or a date."""
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
