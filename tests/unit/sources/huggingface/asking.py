"""The repository that these tests lock, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.definition.components import HuggingFace
from appliance.errors import Location
from tests.unit.sources.hub_server import safetensors

if TYPE_CHECKING:
    from appliance.definition.document import Loc
    from appliance.definition.lock import Artefact
    from appliance.sources.huggingface import HuggingFaceRepository


NAME = "example-org/Example-7B"
WEIGHTS = safetensors(3_000_000)
CONFIG = b'{"architectures": ["Example"]}'
MIB = 1 << 20


def where(loc: Loc) -> Location:
    return Location("demo.yaml", 7, len(loc))


def spec(**changes: Any) -> HuggingFace:
    values = {"kind": "huggingface", "repository": NAME, "revision": "main", **changes}
    return HuggingFace.model_validate(values)


def locked(source: HuggingFaceRepository, **changes: Any) -> list[Artefact]:
    artefacts = source.resolve(spec(**changes), where)
    source.fetch(artefacts)
    return source.describe(artefacts)
