"""What every kind of component offers, and where it is.

``resolve`` decides which artefacts a component consists of, asking the outside world.  ``fetch``
brings exactly the artefacts it is given into the store; it is all that a build runs.  ``describe``
completes what was resolved once the files are there: licences, and files made from the others.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from appliance.definition.lock import Artefact
from appliance.definition.lock_records import brief
from appliance.errors import LockInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from appliance.definition.document import Loc
    from appliance.definition.names import Target
    from appliance.errors import Location
    from appliance.sources.station import Station

    Where = Callable[[Loc], Location]
    """The place of a part of the component in the definition."""

UNKNOWN: Final = "not stated"
"""Licence of a file that does not state one, and of every file before ``describe``."""

_SOURCES: Final = {
    "debian": ("debian_packages", "DebianPackages"),
    "files": ("plain_files", "PlainFiles"),
    "huggingface": ("huggingface", "HuggingFaceRepository"),
    "oci": ("oci_images", "OciImages"),
    "python": ("python_wheels", "PythonWheels"),
    "tiny-gguf": ("tiny_model", "TinyModel"),
    "toolkit": ("toolkit", "ToolkitSource"),
}


class Source(ABC):
    """Where components of one kind come from, for one target, as seen from this station."""

    in_turn: ClassVar[bool] = False
    """Whether components of this kind are fetched one after another: the next finds what they share."""

    def __init__(self, target: Target, station: Station) -> None:
        self.target = target
        self.station = station
        self.left_out: frozenset[str] = frozenset()
        """What the origin holds beside what ``resolve`` chose, where a definition chooses by patterns."""

    @abstractmethod
    def resolve(self, spec: Any, where: Where) -> list[Artefact]:
        """The artefacts that ``spec``, a component of the definition, stands for; with size and digest."""

    @abstractmethod
    def fetch(self, artefacts: Sequence[Artefact]) -> None:
        """Bring those of a component's artefacts into the store that it lacks.

        Progress: bytes as they come, and each artefact once.
        """

    def describe(self, artefacts: Sequence[Artefact]) -> list[Artefact]:
        """The finished list, sorted by path; all of ``artefacts`` are in the store."""
        return by_path(artefacts)

    def missing(self, artefacts: Sequence[Artefact]) -> list[Artefact]:
        """Those the store does not hold."""
        holds = self.station.store.holds
        absent = [n for n, (_, size, sha256) in enumerate(brief(artefacts)) if not holds(sha256, size)]
        return [artefacts[number] for number in absent]

    def keep(
        self,
        path: str,
        data: bytes,
        *,
        generator: str,
        licence: str,
        given: Mapping[str, str] | None = None,
    ) -> Artefact:
        """Keep a file this program made; ``given`` is what it was made from."""
        sha256, size = self.station.store.add_bytes(data)
        return Artefact(
            path=path,
            name=path,
            version=generator.rpartition(" ")[2],
            size=size,
            sha256=sha256,
            licence=licence,
            origin={"kind": "generated", "generator": generator, **(given or {})},
        )

    def keep_again(self, artefact: Artefact, data: bytes) -> None:
        """Keep a file that was made again from the lock, if it is the locked one.

        Raises:
            LockInvalid: this program makes other bytes than the one that wrote the lock.
        """
        sha256, _ = self.station.store.add_bytes(data)
        if sha256 != artefact.sha256:
            raise LockInvalid(
                f"{artefact.path} cannot be made as it was locked",
                found=f"sha256 {sha256} from this program",
                wanted=f"sha256 {artefact.sha256}",
                hint="lock again with this version of the program, or build with the version that locked",
            )
        self.station.progress.advance(artefact.size)
        self.station.progress.item(artefact.path)


def source(kind: str, target: Target, station: Station) -> Source:
    """The source for a kind of component; imported only when a definition uses it."""
    module, name = _SOURCES[kind]
    return cast(
        "Source", getattr(importlib.import_module(f"appliance.sources.{module}"), name)(target, station)
    )


def by_path(artefacts: Sequence[Artefact]) -> list[Artefact]:
    """The order of a lock."""
    return sorted(artefacts, key=lambda artefact: artefact.path)
