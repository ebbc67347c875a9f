"""The toolkit component: this program, what it needs on the node, and a script that sets it up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.definition.lock import Artefact
from appliance.sources.kinds import by_path
from appliance.sources.python_wheels import PythonWheels
from appliance.sources.toolkit_wheel import PROJECT, pack_toolkit, runtime_requirements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.components import Toolkit
    from appliance.sources.kinds import Where

BOOTSTRAP: Final = "bootstrap.sh"
GENERATOR: Final = "bootstrap 1"


class ToolkitSource(PythonWheels):
    """The program as it runs here, and wheels as of ``PythonWheels``; pip is among them."""

    def resolve(self, spec: Toolkit, where: Where) -> list[Artefact]:  # type: ignore[override]  # another kind's spec
        """The program's wheel, and the wheels it needs; errors as of ``resolve_wheels``."""
        packed = pack_toolkit()
        sha256, size = self.station.store.add_bytes(packed.data)
        wheel = Artefact(
            path=packed.file,
            name=PROJECT,
            version=packed.version,
            size=size,
            sha256=sha256,
            licence=packed.licence,
            origin={"kind": "toolkit"},
        )
        return [wheel, *self.closure([*runtime_requirements(), "pip"])]

    def fetch(self, artefacts: Sequence[Artefact]) -> None:
        """As for wheels; the program and the script are made again, and must come out as locked."""
        for artefact in self.missing(artefacts):
            if artefact.origin["kind"] == "toolkit":
                self.keep_again(artefact, pack_toolkit().data)
            elif artefact.path == BOOTSTRAP:
                self.keep_again(artefact, bootstrap(artefact.origin["python"]))
        super().fetch(artefacts)

    def describe(self, artefacts: Sequence[Artefact]) -> list[Artefact]:
        """With licences, requirements and ``bootstrap.sh``."""
        python = self.target.python
        script = self.keep(
            BOOTSTRAP,
            bootstrap(python),
            generator=GENERATOR,
            licence=next(artefact.licence for artefact in artefacts if artefact.name == PROJECT),
            given={"python": python},
        )
        return by_path([*super().describe(artefacts), script])


def bootstrap(python: str) -> bytes:
    """The script that sets the program up on a system with this Python ("3.13") and nothing else."""
    template = Path(__file__).with_name(BOOTSTRAP).read_text(encoding="utf-8")
    return template.replace("@PYTHON@", python).encode()
