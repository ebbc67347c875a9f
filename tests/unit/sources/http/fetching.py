"""Fetching one file whose bytes are known, into the store of a station or without one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from appliance.definition.lock import Artefact
from appliance.sources.http_download import HttpDownloader, fetch_resuming

if TYPE_CHECKING:
    from io import BufferedRandom

    from appliance.sources.station import Station
    from tests.unit.sources.loopback import Loopback


DATA = hashlib.shake_256(b"the file").digest(3_000_000)
OTHER = hashlib.shake_256(b"another").digest(3_000_000)
MIB = 1 << 20
PIECE = 1 << 16


class Fetch:
    """Fetches one file into a station's store, or only into a file."""

    def __init__(self, station: Station, web: Loopback) -> None:
        self.station, self.web = station, web
        self.http = HttpDownloader(station, "the example source")

    def locked(self, path: str = "/big", data: bytes = DATA) -> bytes:
        """As a locked artefact; returns what the store has then."""
        sha256 = hashlib.sha256(data).hexdigest()
        artefact = Artefact(
            path="big.bin",
            name="big",
            version="1",
            size=len(data),
            sha256=sha256,
            licence="CC0-1.0",
            origin={"kind": "file"},
        )

        def append(partial: BufferedRandom) -> None:
            self.http.append(self.web.address + path, partial, name="big.bin", size=len(data))

        fetch_resuming(self.station, artefact, append)
        return self.station.store.path(sha256).read_bytes()

    def unknown(self, path: str = "/big") -> bytes:
        """A file of which nothing is known; returns what came."""
        with self.station.store.scratch() as scratch, scratch.open("w+b") as file:
            self.http.append(self.web.address + path, file, name="big.bin")
            file.seek(0)
            return file.read()

    @property
    def kept(self) -> int:
        return self.station.store.fetched(hashlib.sha256(DATA).hexdigest())

    @property
    def pauses(self) -> list[float]:
        return self.station.stop.pauses  # type: ignore[attr-defined]  # conftest.Unhurried
