"""Plain files beside the definition; what they must be, the definition says by digest."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

from appliance.definition.lock import Artefact
from appliance.errors import DigestMismatch, PackageMissing
from appliance.sources.http_download import fetch_resuming
from appliance.sources.kinds import Source, by_path
from appliance.sources.stopping import Stopped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedRandom
    from pathlib import Path

    from appliance.definition.components import Files, PlainFile
    from appliance.definition.names import Target
    from appliance.errors import Location
    from appliance.sources.kinds import Where
    from appliance.sources.station import Station

_READ: Final = 1 << 20
_STAT_BLOCK: Final = 512  # bytes that st_blocks counts in, whatever the file system


class PlainFiles(Source):
    """Files beside the definition."""

    def __init__(self, target: Target, station: Station) -> None:
        super().__init__(target, station)
        self._named_at: dict[str, Location] = {}

    def resolve(self, spec: Files, where: Where) -> list[Artefact]:
        """The files as the definition names them; nothing of them is read yet.

        Raises:
            PackageMissing: a file is not there.
            DigestMismatch: a file has another size than the definition says.
        """
        artefacts = []
        for index, file in enumerate(spec.files):
            self._named_at[file.path] = where(("files", index))
            try:
                artefacts.append(self._artefact(file))
            except (DigestMismatch, PackageMissing) as fault:
                fault.where = self._named_at[file.path]
                raise
        return by_path(artefacts)

    def fetch(self, artefacts: Sequence[Artefact]) -> None:
        """Copy the files into the store, going on where an earlier copy stopped.

        Raises:
            PackageMissing: a file is not there any more.
            DigestMismatch: a file is not the one that is named, or changes while it is read.
            SpaceExhausted: the store's disk is full.
        """
        for artefact in self.missing(artefacts):
            path = self._existing(artefact.path)
            try:
                fetch_resuming(self.station, artefact, partial(self._append, artefact, path))
            except DigestMismatch as fault:
                fault.where = self._named_at.get(artefact.path)
                if holes := _holes(path):
                    fault.hint = (
                        f"{holes:,} bytes of {path} are holes, which read as zeros: "
                        "is it a copy or download that did not finish?"
                    )
                raise

    def _artefact(self, file: PlainFile) -> Artefact:
        path = self._existing(file.path)
        size = path.stat().st_size
        if file.size not in {None, size}:
            raise DigestMismatch(
                f"{file.path} is not the file the definition names",
                found=f"{size:,} bytes",
                wanted=f"{file.size:,} bytes",
            )
        return Artefact(
            path=file.path,
            name=path.name,
            version=file.sha256[:12],
            size=size,
            sha256=file.sha256,
            licence=file.licence,
            origin={"kind": "file"},
        )

    def _existing(self, name: str) -> Path:
        path = self.station.folder / name
        if not path.is_file():
            raise PackageMissing(f"the file {name} is not beside the definition", found=f"no file {path}")
        return path

    def _append(self, artefact: Artefact, path: Path, partial_file: BufferedRandom) -> None:
        """Copy what is missing, a piece at a time, and notice if somebody writes to the file meanwhile."""
        with path.open("rb") as source:
            before = os.fstat(source.fileno())
            if before.st_size != artefact.size:
                raise DigestMismatch(
                    f"{artefact.path} is not the file that was locked",
                    found=f"{before.st_size:,} bytes",
                    wanted=f"{artefact.size:,} bytes",
                )
            source.seek(partial_file.tell())
            while piece := source.read(_READ):
                if self.station.stop.is_set():
                    raise Stopped
                partial_file.write(piece)
                self.station.progress.advance(len(piece))
            after = os.fstat(source.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise DigestMismatch(
                f"{artefact.path} changed while it was read",
                found=f"{after.st_size:,} bytes, written to meanwhile",
                hint="wait until nobody writes to it, then run the same command again",
            )


def _holes(path: Path) -> int:
    """Bytes of a file that no block of the disk holds."""
    status = path.stat()
    return max(0, status.st_size - status.st_blocks * _STAT_BLOCK)
