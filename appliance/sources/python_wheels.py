"""Python components: a closure of wheels for the node's Python, and requirements with digests."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from appliance.definition.lock import Artefact
from appliance.errors import DigestMismatch, PackageMissing
from appliance.sources.kinds import UNKNOWN, Source, by_path
from appliance.sources.known_licences import of_wheel
from appliance.sources.python_resolver import Platform, Wheel, resolve_wheels
from appliance.sources.together import together

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
            return self.closure(spec.requirements, Platform.of(self.target))
        except PackageMissing as fault:
            fault.where = where(("requirements",))
            raise

    def fetch(self, artefacts: Sequence[Artefact]) -> None:
        """Bring the locked wheels into the store, several at a time; then write the requirements again."""
        absent = self.missing(artefacts)
        self.fetch_wheels([artefact for artefact in absent if artefact.origin["kind"] == "python"])
        for artefact in absent:
            if artefact.path == REQUIREMENTS:
                self.keep_again(artefact, requirements(artefacts))

    def describe(self, artefacts: Sequence[Artefact]) -> list[Artefact]:
        """With the licences the wheels state, and ``requirements.txt``."""
        described = self.with_licences(artefacts)
        listed = self.keep(REQUIREMENTS, requirements(described), generator=GENERATOR, licence="CC0-1.0")
        return by_path([*described, listed])

    def with_licences(self, wheels: Sequence[Artefact]) -> list[Artefact]:
        """The same wheels, which are in the store, with the licences they state."""
        store = self.station.store
        return [
            wheel.model_copy(update={"licence": of_wheel(store, wheel.sha256) or UNKNOWN})
            for wheel in wheels
        ]

    def closure(self, demanded: Sequence[str], platform: Platform) -> list[Artefact]:
        """The wheels of a resolution.  Those on whose size the index is silent are fetched for it."""
        resolved = resolve_wheels(demanded, platform, self.station.indexes, self.station.stop)
        return [self._pin(wheel) for wheel in resolved]

    def _pin(self, wheel: Wheel) -> Artefact:
        size, sha256, published = wheel.size, wheel.sha256, True
        if size is None or sha256 is None:
            sha256, size, published = self._measure(wheel)
        return Artefact(
            path=wheel.file,
            name=wheel.project,
            version=wheel.version,
            size=size,
            sha256=sha256,
            licence=UNKNOWN,
            origin={
                "kind": "python",
                "project": wheel.project,
                **({"upstream": "sha256"} if published else {}),
            },
        )

    def _measure(self, wheel: Wheel) -> tuple[str, int, bool]:
        """SHA-256, size in bytes, and whether the index itself says the digest (uv's may be its own).

        The wheel is in the store afterwards.
        """
        from appliance.sources.python_download import WheelFetcher

        fetcher = WheelFetcher(self.station)
        with self.station.store.scratch() as scratch:
            with scratch.open("w+b") as file:
                fetcher.download(wheel.url, file, name=wheel.file)
            sha256, size = self.station.store.add_file(
                scratch, self.station.stop, name=wheel.file, beside=self.station.progress.beside
            )
        if wheel.sha256 not in {None, sha256}:
            raise DigestMismatch(
                f"{wheel.file} is not the file its index describes",
                found=f"sha256 {sha256}",
                wanted=f"sha256 {wheel.sha256}",
            )
        return sha256, size, sha256 in fetcher.published(wheel.project, wheel.file)

    def fetch_wheels(self, absent: Sequence[Artefact]) -> None:
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
