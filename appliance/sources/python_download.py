"""Fetching wheels that a lock names: found again by project, file name and digest, never by address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import requests
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    NoSuchProjectError,
    ProjectPage,
    PyPISimple,
)

from appliance.errors import DigestMismatch, PackageMissing, SourceUnreachable
from appliance.sources.python_indexes import local_path
from appliance.sources.station import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedRandom

    from appliance.definition.lock import Artefact
    from appliance.sources.station import Station

_CHUNK: Final = 1 << 16  # bytes; what a broken connection loses at most
_TIMEOUT: Final = (15, 60)  # seconds: to connect, and between two pieces of an answer
_TRIES: Final = 4  # connections per file that may break before giving up


@dataclass(frozen=True)
class Offer:
    """Where an index offers a file, and the digest it claims."""

    url: str
    sha256: str | None


class WheelFetcher:
    """The station's indexes, asked for wheels.  One per thread."""

    def __init__(self, station: Station) -> None:
        self._indexes = station.indexes
        self._station = station
        self._session = requests.Session()
        if self._indexes.certificates:
            self._session.verify = self._indexes.certificates

    def fetch(self, wheel: Artefact) -> None:
        """Bring a locked wheel into the store, going on where an earlier try stopped.

        Raises:
            PackageMissing: no index offers the file any more.
            DigestMismatch: it is offered, or sent, with other bytes.
            SourceUnreachable: the index does not answer; what came is kept.
        """
        offer = self.find(wheel)
        resumed = self._station.store.fetched(wheel.sha256) > 0
        try:
            self._fetch(wheel, offer)
        except DigestMismatch:
            if not resumed:
                raise
            self._fetch(wheel, offer)  # what an earlier try left may have been the bad part
        self._station.progress.item(wheel.path)

    def _fetch(self, wheel: Artefact, offer: Offer) -> None:
        with self._station.store.fetch(wheel.sha256, wheel.size, wheel.path) as partial:
            if partial:
                self._station.progress.advance(partial.tell())
                self.download(offer.url, partial)

    def find(self, wheel: Artefact) -> Offer:
        """Where the file with the locked name and digest is."""
        others = []
        for offer in self._offers(wheel.origin["project"], wheel.path):
            if offer.sha256 in {wheel.sha256, None}:
                return offer
            others.append(offer)
        if others:
            raise DigestMismatch(
                f"{wheel.path} is not the file that was locked",
                found=f"sha256 {others[0].sha256} in the package index",
                wanted=f"sha256 {wheel.sha256}",
                hint="a published wheel never changes: find out who serves another one",
            )
        raise PackageMissing(
            f"no package index of this station offers {wheel.path}",
            hint="it was withdrawn, or the lock was made with other indexes; lock again",
        )

    def download(self, url: str, partial: BufferedRandom) -> None:
        """Append what is missing of ``url`` to ``partial``, in as few connections as it takes."""
        if (path := local_path(url)) is not None:
            if not path.is_file():
                raise PackageMissing(f"the package index offers {path} but does not have it")
            self._station.store.replace(partial, path)
            self._station.progress.advance(partial.tell())
            return
        broken: requests.RequestException | None = None
        for _ in range(_TRIES):
            try:
                self._append(url, partial)
                return
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as fault:
                broken = fault
        raise _unreachable(url, broken) from broken

    def _append(self, url: str, partial: BufferedRandom) -> None:
        start = partial.tell()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with self._session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            if start and answer.status_code == requests.codes.requested_range_not_satisfiable:
                return  # nothing is missing; the digest decides
            if answer.status_code in {requests.codes.not_found, requests.codes.gone}:
                raise PackageMissing(
                    f"the package index offers {url.rpartition('/')[2]} but does not have it",
                    hint="try again later, or lock again",
                )
            if not answer.ok:
                raise _unreachable(url, requests.HTTPError(f"HTTP status {answer.status_code}"))
            if start and answer.status_code != requests.codes.partial_content:
                partial.truncate(0)  # the server sends the whole file
                partial.seek(0)
                self._station.progress.advance(-start)
            for piece in answer.iter_content(_CHUNK):
                if self._station.stop.is_set():
                    raise Stopped
                partial.write(piece)
                self._station.progress.advance(len(piece))

    def _offers(self, project: str, file: str) -> Iterator[Offer]:
        for place in self._indexes.find_links:
            folder = local_path(place)
            if folder is None:
                yield from _named(self._asked(place, lambda place: self._links(place, project)), file)
            elif (folder / file).is_file():
                yield Offer((folder / file).absolute().as_uri(), None)
        if self._indexes.only_links:
            return
        for index in (*self._indexes.extra, self._indexes.index or PYPI_SIMPLE_ENDPOINT):
            yield from _named(self._asked(index, lambda index: self._page(index, project)), file)

    def _asked(self, place: str, ask: Callable[[str], ProjectPage]) -> ProjectPage | None:
        """The page a place has for a project, or None if it has none."""
        try:
            return ask(place)
        except (NoSuchProjectError, FileNotFoundError):
            return None
        except requests.RequestException as fault:
            raise _unreachable(place, fault) from fault

    def _links(self, place: str, project: str) -> ProjectPage:
        answer = self._session.get(place, timeout=_TIMEOUT)
        answer.raise_for_status()
        return ProjectPage.from_html(project, answer.content, base_url=place)

    def _page(self, index: str, project: str) -> ProjectPage:
        if (folder := local_path(index)) is not None:
            file = folder / project / "index.html"
            return ProjectPage.from_html(project, file.read_bytes(), base_url=file.absolute().as_uri())
        return PyPISimple(index, session=self._session).get_project_page(project, timeout=_TIMEOUT)


def _named(page: ProjectPage | None, file: str) -> Iterator[Offer]:
    packages: list[DistributionPackage] = page.packages if page else []
    for package in packages:
        if package.filename == file:
            yield Offer(package.url.partition("#")[0], package.digests.get("sha256"))


def _unreachable(url: str, fault: requests.RequestException | None) -> SourceUnreachable:
    from urllib.parse import urlsplit

    # The address may hold credentials; the host is enough to act on.
    return SourceUnreachable(
        "the Python package index does not answer; what came is kept for the next try",
        found=f"{urlsplit(url).hostname}: {type(fault).__name__}",
        hint="check this station's network and pip configuration, then run the same command again",
    )
