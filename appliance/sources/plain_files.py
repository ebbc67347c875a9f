"""Plain files beside the definition; what they must be, the definition says by digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.definition.components import PlainFile
from appliance.definition.lock import Artefact
from appliance.errors import DigestMismatch, PackageMissing
from appliance.sources.kinds import Source, by_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.components import Files
    from appliance.sources.kinds import Where


class PlainFiles(Source):
    """Files beside the definition."""

    def resolve(self, spec: Files, where: Where) -> list[Artefact]:
        """The files, taken into the store.

        Raises:
            PackageMissing: a file is not there.
            DigestMismatch: a file is not the one the definition names.
        """
        artefacts = []
        for index, file in enumerate(spec.files):
            try:
                artefacts.append(self._take(file))
            except (DigestMismatch, PackageMissing) as fault:
                fault.where = where(("files", index))
                raise
        return by_path(artefacts)

    def fetch(self, artefacts: Sequence[Artefact]) -> None:
        """Take the locked files into the store again; errors as of ``resolve``."""
        for artefact in self.missing(artefacts):
            self._take(PlainFile(path=artefact.path, sha256=artefact.sha256, licence=artefact.licence))
            self.station.progress.advance(artefact.size)
            self.station.progress.item(artefact.path)

    def _take(self, file: PlainFile) -> Artefact:
        path = self.station.folder / file.path
        if not path.is_file():
            raise PackageMissing(
                f"the file {file.path} is not beside the definition", found=f"no file {path}"
            )
        size = path.stat().st_size
        with self.station.store.fetch(file.sha256, size, file.path) as partial:
            if partial:
                self.station.store.replace(partial, path)
        return Artefact(
            path=file.path,
            name=path.name,
            version=file.sha256[:12],
            size=size,
            sha256=file.sha256,
            licence=file.licence,
            origin={"kind": "file"},
        )
