"""The toolkit component: this program, and the wheels it needs on controllers with several Pythons.

One folder holds all wheels, each once; ``requirements-3.11.txt`` and so on say, with digests, which of
them a controller with that Python installs.  They run wherever the C library is that of Ubuntu 22.04 or
newer.  pip's own wheel is in no such list: it installs the others, here and the engine's on nodes, so it
is one that runs on the oldest Python a node may have.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from appliance.definition.lock import Artefact
from appliance.errors import PackageMissing
from appliance.sources.kinds import by_path
from appliance.sources.python_resolver import Platform
from appliance.sources.python_wheels import GENERATOR, PythonWheels, requirements
from appliance.sources.toolkit_wheel import PROJECT, pack_toolkit, runtime_requirements

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appliance.definition.components import Toolkit
    from appliance.sources.kinds import Where

_OLDEST_NODE: Final = "3.10"
_OLDEST_GLIBC: Final = 35


class ToolkitSource(PythonWheels):
    """The program as it runs here, and wheels as of ``PythonWheels``; pip is among them.

    The origin of a wheel says in ``pythons`` which Pythons need it, separated by spaces; that of the
    program and of pip does not.
    """

    def resolve(self, spec: Toolkit, where: Where) -> list[Artefact]:  # type: ignore[override]  # another kind's spec
        """The program's wheel, pip's, and those the program needs under each of ``spec.pythons``.

        Raises:
            PackageMissing: there is no set of wheels for one of the Pythons.
            and the other errors of ``resolve_wheels``.
        """
        needed = runtime_requirements()
        platforms = [self._platform(python) for python in (_OLDEST_NODE, *spec.pythons)]
        demands = [["pip"], *[needed] * len(spec.pythons)]
        try:
            with ThreadPoolExecutor(len(platforms)) as pool:
                pip, *closures = pool.map(self.closure, demands, platforms)
        except PackageMissing as fault:
            fault.where = where(("pythons",))
            raise
        return [self._program(), *pip, *_shared(zip(spec.pythons, closures, strict=True))]

    def fetch(self, artefacts: Sequence[Artefact]) -> None:
        """As for wheels; the program and the requirements are made again, and must come out as locked."""
        absent = self.missing(artefacts)
        self.fetch_wheels([artefact for artefact in absent if artefact.origin["kind"] == "python"])
        for artefact in absent:
            match artefact.origin["kind"]:
                case "toolkit":
                    self.keep_again(artefact, pack_toolkit().data)
                case "generated":  # for no Python in locks of earlier versions, which thus cannot be made
                    python = artefact.origin.get("python", "none")
                    self.keep_again(artefact, _requirements_for(python, artefacts))

    def describe(self, artefacts: Sequence[Artefact]) -> list[Artefact]:
        """With the licences the wheels state, and the requirements for each Python."""
        described = self.with_licences(artefacts)
        pythons = {python for artefact in described for python in _pythons(artefact)}
        listed = [
            self.keep(
                requirements_path(python),
                _requirements_for(python, described),
                generator=GENERATOR,
                licence="CC0-1.0",
                given={"python": python},
            )
            for python in pythons
        ]
        return by_path([*described, *listed])

    def _platform(self, python: str) -> Platform:
        return replace(
            Platform.of(self.target),
            name=f"a system with glibc 2.{_OLDEST_GLIBC}",
            python=python,
            glibc=_OLDEST_GLIBC,
        )

    def _program(self) -> Artefact:
        packed = pack_toolkit()
        sha256, size = self.station.store.add_bytes(packed.data)
        return Artefact(
            path=packed.file,
            name=PROJECT,
            version=packed.version,
            size=size,
            sha256=sha256,
            licence=packed.licence,
            origin={"kind": "toolkit"},
        )


def requirements_path(python: str) -> str:
    """The file, within the component, that names what a controller with this Python installs."""
    return f"requirements-{python}.txt"


def _shared(closures: Iterable[tuple[str, Sequence[Artefact]]]) -> list[Artefact]:
    """Every wheel once, each with the Pythons whose closure it is in."""
    wheels: dict[str, Artefact] = {}
    for python, closure in sorted(closures):
        for wheel in closure:
            pythons = (*_pythons(wheels.get(wheel.path, wheel)), python)
            wheels[wheel.path] = wheel.model_copy(
                update={"origin": {**wheel.origin, "pythons": " ".join(pythons)}}
            )
    return list(wheels.values())


def _pythons(artefact: Artefact) -> list[str]:
    return artefact.origin.get("pythons", "").split()


def _requirements_for(python: str, artefacts: Sequence[Artefact]) -> bytes:
    return requirements(
        [
            artefact
            for artefact in artefacts
            if artefact.origin["kind"] == "toolkit" or python in _pythons(artefact)
        ]
    )
