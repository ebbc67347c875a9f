"""The image that these tests lock, and how."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from appliance.definition.components import Oci
from appliance.errors import Location
from tests.unit.sources.registry_server import digest_of

if TYPE_CHECKING:
    from appliance.definition.document import Loc
    from appliance.definition.lock import Artefact
    from appliance.sources.oci_images import OciImages


NAME = "team/exporter"
LAYER = hashlib.shake_256(b"layer").digest(3_000_000)
BASE = hashlib.shake_256(b"base").digest(100_000)
MIB = 1 << 20


def where(loc: Loc) -> Location:
    return Location("demo.yaml", 7, len(loc))


def spec(*images: bytes | str, repository: str = NAME, **changes: Any) -> Oci:
    entries = [
        {
            "repository": repository,
            "digest": image if isinstance(image, str) else digest_of(image),
            **changes,
        }
        for image in images
    ]
    return Oci.model_validate({"kind": "oci", "images": entries})


def locked(source: OciImages, asked: Oci) -> list[Artefact]:
    artefacts = source.resolve(asked, where)
    source.fetch(artefacts)
    return source.describe(artefacts)


def content(source: OciImages, artefacts: list[Artefact], path: str) -> Any:
    (found,) = [entry for entry in artefacts if entry.path == path]
    return json.loads(source.station.store.path(found.sha256).read_bytes())


def blob_path(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
