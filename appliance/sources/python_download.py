"""Fetching wheels that a lock names: found again by project, file name and digest, never by address."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import requests
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    NoSuchProjectError,
    ProjectPage,
    PyPISimple,
)

from appliance.errors import DigestMismatch, PackageMissing
from appliance.sources.http_download import HttpDownloader, HttpRefused, fetch_resuming
from appliance.sources.python_indexes import local_path
from appliance.sources.stopping import awaited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedRandom

    from appliance.definition.lock import Artefact
    from appliance.sources.station import Station

_TIMEOUT: Final = (15, 60)  # seconds: to connect, and between two pieces of an answer


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
        self._http = HttpDownloader(
            station, "the Python package index", certificates=self._indexes.certificates
        )

    def fetch(self, wheel: Artefact) -> None:
        """Bring a locked wheel into the store, going on where an earlier try stopped.

        Raises:
            PackageMissing: no index offers the file any more.
            DigestMismatch: it is offered, or sent, with other bytes.
            SourceUnreachable: the index does not answer; what came is kept.
        """
        offer = self.find(wheel)

        def append(partial: BufferedRandom) -> None:
            self.download(offer.url, partial, name=wheel.path, size=wheel.size)

        fetch_resuming(self._station, wheel, append)

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

    def published(self, project: str, file: str) -> set[str | None]:
        """The digests that the indexes themselves give for a file."""
        return {offer.sha256 for offer in self._offers(project, file)}

    def download(self, url: str, partial: BufferedRandom, *, name: str, size: int | None = None) -> None:
        """Append what is missing of ``url`` to ``partial``; ``name`` and ``size`` are the wheel's."""
        if (path := local_path(url)) is not None:
            if not path.is_file():
                raise PackageMissing(f"the package index offers {path} but does not have it")
            start = partial.tell()
            self._station.store.replace(partial, path, self._station.stop)
            self._station.progress.advance(partial.tell() - start)
            return
        try:
            self._http.append(url, partial, name=name, size=size)
        except HttpRefused as fault:
            if fault.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
                raise PackageMissing(
                    f"the package index offers {name} but does not have it",
                    hint="try again later, or lock again",
                ) from fault
            raise self._http.unreachable(url, str(fault)) from fault

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
            return awaited(lambda: ask(place), self._station.stop)
        except (NoSuchProjectError, FileNotFoundError):
            return None
        except requests.RequestException as fault:
            raise self._http.unreachable(place, type(fault).__name__) from fault

    def _links(self, place: str, project: str) -> ProjectPage:
        answer = self._http.session.get(place, timeout=_TIMEOUT)
        answer.raise_for_status()
        return ProjectPage.from_html(project, answer.content, base_url=place)

    def _page(self, index: str, project: str) -> ProjectPage:
        if (folder := local_path(index)) is not None:
            file = folder / project / "index.html"
            return ProjectPage.from_html(project, file.read_bytes(), base_url=file.absolute().as_uri())
        return PyPISimple(index, session=self._http.session).get_project_page(project, timeout=_TIMEOUT)


def _named(page: ProjectPage | None, file: str) -> Iterator[Offer]:
    packages: list[DistributionPackage] = page.packages if page else []
    for package in packages:
        if package.filename == file:
            yield Offer(package.url.partition("#")[0], package.digests.get("sha256"))
