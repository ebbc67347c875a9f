"""Python components: a closure of wheels for the node's Python, and requirements with digests."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from appliance.definition.lock import Artefact
from appliance.errors import DigestMismatch, PackageMissing
from appliance.sources.kinds import UNKNOWN, Source, by_path
from appliance.sources.python_resolver import Wheel, resolve_wheels
from appliance.sources.together import together
from appliance.sources.wheel_metadata import licence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.components import Python
    from appliance.sources.kinds import Where

REQUIREMENTS: Final = "requirements.txt"
GENERATOR: Final = "requirements 1"
_CONNECTIONS: Final = 4  # wheels fetched at the same time


class PythonWheels(Source):
    """Wheels from the indexes this station's pip uses."""

    def resolve(self, spec: Python, where: Where) -> list[Artefact]:
        """The wheels that ``spec.requirements`` need on the target; errors as of ``resolve_wheels``."""
        try:
            return self.closure(spec.requirements)
        except PackageMissing as fault:
            fault.where = where(("requirements",))
            raise

    def fetch(self, artefacts: Sequence[Artefact]) -> None:
        """Bring the locked wheels into the store, several at a time; then write the requirements again."""
        absent = self.missing(artefacts)
        self._fetch_wheels([artefact for artefact in absent if artefact.origin["kind"] == "python"])
        for artefact in absent:
            if artefact.path == REQUIREMENTS:
                self.keep_again(artefact, requirements(artefacts))

    def describe(self, artefacts: Sequence[Artefact]) -> list[Artefact]:
        """With the licences the wheels state, and ``requirements.txt``."""
        store = self.station.store
        described = [
            wheel.model_copy(update={"licence": licence(store.path(wheel.sha256)) or UNKNOWN})
            for wheel in artefacts
        ]
        listed = self.keep(REQUIREMENTS, requirements(described), generator=GENERATOR, licence="CC0-1.0")
        return by_path([*described, listed])

    def closure(self, demanded: Sequence[str]) -> list[Artefact]:
        """The wheels of a resolution.  Those on whose size the index is silent are fetched for it."""
        resolved = resolve_wheels(demanded, self.target, self.station.indexes)
        return [self._pin(wheel) for wheel in resolved]

    def _pin(self, wheel: Wheel) -> Artefact:
        size, sha256 = wheel.size, wheel.sha256
        if size is None or sha256 is None:
            sha256, size = self._measure(wheel)
        return Artefact(
            path=wheel.file,
            name=wheel.project,
            version=wheel.version,
            size=size,
            sha256=sha256,
            licence=UNKNOWN,
            origin={"kind": "python", "project": wheel.project},
        )

    def _measure(self, wheel: Wheel) -> tuple[str, int]:
        """SHA-256 and size in bytes of a wheel, which is in the store afterwards."""
        from appliance.sources.python_download import WheelFetcher

        with self.station.store.scratch() as scratch:
            with scratch.open("w+b") as file:
                WheelFetcher(self.station).download(wheel.url, file)
            sha256, size = self.station.store.add_file(scratch)
        if wheel.sha256 not in {None, sha256}:
            raise DigestMismatch(
                f"{wheel.file} is not the file its index describes",
                found=f"sha256 {sha256}",
                wanted=f"sha256 {wheel.sha256}",
            )
        return sha256, size

    def _fetch_wheels(self, absent: Sequence[Artefact]) -> None:
        """Fetch several at a time; the first that fails ends the others."""
        if not absent:
            return
        from appliance.sources.python_download import WheelFetcher

        # Longest first, so that no connection ends alone with the biggest file.
        queue = sorted(absent, key=lambda wheel: -wheel.size)
        tasks = [partial(WheelFetcher(self.station).fetch, wheel) for wheel in queue]
        together(tasks, _CONNECTIONS, self.station.stop)


def requirements(artefacts: Sequence[Artefact]) -> bytes:
    """A requirements file that pins every wheel among ``artefacts`` to its version and digest."""
    lines = [
        f"{artefact.name}=={artefact.version} --hash=sha256:{artefact.sha256}\n"
        for artefact in artefacts
        if artefact.path.endswith(".whl")
    ]
    return "".join(sorted(lines)).encode()
