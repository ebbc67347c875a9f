"""The bundle's bill of materials: CycloneDX 1.7 as canonical JSON, made from the manifest alone.

One component for each package (``appliance.bundle.packages``), never one for each file, so that its
size follows what a person would list.  The same manifest gives the same bytes: the time is the
bundle's, the serial number comes from what is in it, lists are sorted.  What the manifest does not
say is not said: no supplier is guessed, and a model card holds what is known of the model and no more.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from appliance.bundle.durable import write_one_of_many
from appliance.bundle.manifest import ListedFile
from appliance.bundle.packages import packages
from appliance.bundle.paths import SBOM_PATH
from appliance.trust.canonical import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cyclonedx.model import Property
    from cyclonedx.model.component import Component

    from appliance.bundle.manifest import Manifest, PayloadFile
    from appliance.bundle.packages import Package
    from appliance.progress import Progress

#: A model's files are named one by one up to here; of more, their number and one digest are given.
MOST_FILES: Final = 4096
#: What the programs that generate models make (``appliance.sources.tiny_gguf``).
_GENERATED: Final = {"tiny-gguf": {"task": "text-generation", "modelArchitecture": "llama"}}
#: What the origin says of a model, and where its card has room for it.
_CARD_KEYS: Final = {"task": "task", "architectures": "modelArchitecture"}


def add_sbom(folder: Path, manifest: Manifest, progress: Progress) -> Mapping[str, ListedFile]:
    """Write the bill of materials of ``manifest`` into the bundle being written in ``folder``.

    A companion of ``appliance.bundle.writer.write_bundle``.
    """
    progress.begin("sbom", 1)
    data = sbom_bytes(manifest)
    path = folder / SBOM_PATH
    path.parent.mkdir()
    write_one_of_many(path, data)
    progress.item(SBOM_PATH)
    progress.end()
    return {SBOM_PATH: ListedFile(hashlib.sha256(data).hexdigest(), len(data))}


def sbom_bytes(manifest: Manifest) -> bytes:
    """The bill of materials of a bundle; what lies outside its payload makes no difference."""
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.dependency import Dependency
    from cyclonedx.output.json import JsonV1Dot7

    contents = list(packages(manifest))
    product = Component(
        type=ComponentType.PLATFORM,
        bom_ref="bundle",
        name=manifest.product,
        version=manifest.version,
        properties=_properties(_about(manifest)),
    )
    components = [_component(package, manifest) for package in contents]
    leaves = [Dependency(component.bom_ref) for component in components]
    bom = Bom(
        serial_number=uuid.UUID(int=0),
        metadata=BomMetaData(component=product, timestamp=datetime.fromisoformat(manifest.created)),
        components=components,
        dependencies=[Dependency(product.bom_ref, leaves), *leaves],
    )
    document = json.loads(JsonV1Dot7(bom).output_as_string())
    document["metadata"]["timestamp"] = manifest.created  # as the manifest spells it
    # The library has no model cards (its version 11).
    cards = {package.reference: _model_card(package) for package in contents if package.is_model}
    for component in document["components"]:
        if component["bom-ref"] in cards:
            component["modelCard"] = cards[component["bom-ref"]]
    document = _sorted(document)
    # Two bundles share a serial number exactly if the rest is the same.
    content = hashlib.sha256(canonical_bytes(document)).hexdigest()
    document["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_OID, f"appliance sbom {content}").urn
    return canonical_bytes(document)


def _component(package: Package, manifest: Manifest) -> Component:
    from cyclonedx.model.component import Component

    from appliance.bundle.sbom.identifiers import cpe, purl
    from appliance.bundle.sbom.licences import licences

    is_many = len(package.files) > 1
    return Component(
        type=_type(package),
        bom_ref=package.reference,
        name=package.name,
        version=package.version or None,
        purl=purl(package, manifest.target),
        cpe=cpe(package),
        hashes=_hashes(package.sha256) if package.sha256 else [],
        licenses=licences(package.licences),
        properties=_properties(_details(package)),
        components=[_file(file) for file in package.files]
        if package.is_model and is_many and len(package.files) <= MOST_FILES
        else [],
    )


def _file(file: PayloadFile) -> Component:
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        type=ComponentType.FILE,
        bom_ref=file.path,
        name=file.path,
        hashes=_hashes(file.sha256),
        properties=_properties({"size": str(file.size)}),
    )


def _type(package: Package) -> Any:
    from cyclonedx.model.component import ComponentType

    if package.is_model:
        return ComponentType.MACHINE_LEARNING_MODEL
    kinds = {"toolkit": ComponentType.APPLICATION, "oci": ComponentType.CONTAINER}
    kinds |= dict.fromkeys(("python", "debian"), ComponentType.LIBRARY)
    return kinds.get(package.kind, ComponentType.DATA)


def _hashes(sha256: str) -> list[Any]:
    from cyclonedx.model import HashAlgorithm, HashType

    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]


def _about(manifest: Manifest) -> dict[str, str]:
    target = manifest.target
    about = {
        "sequence": str(manifest.sequence),
        "target": f"{target.distribution} {target.suite} {target.architecture}",
        "target-python": target.python,
    }
    if manifest.build:
        about |= {"definition-sha256": manifest.build.definition, "lock-sha256": manifest.build.lock}
    return about


def _details(package: Package) -> dict[str, str]:
    """What CycloneDX has no field for; ``origin:`` holds the origin's own names."""
    details = {"component": package.component, "files": str(len(package.files)), "size": str(package.size)}
    details |= {f"origin:{key}": value for key, value in package.origin.items()}
    if package.sha256:
        return details | {"path": package.files[0].path}
    return details | {"list-sha256": str(package.list_sha256)}


def _properties(values: Mapping[str, str]) -> list[Property]:
    from cyclonedx.model import Property

    return [Property(name=f"appliance:{key}", value=value) for key, value in values.items()]


def _model_card(package: Package) -> dict[str, object]:
    origin = package.origin
    known = dict(_GENERATED.get(origin.get("generator", "").partition(" ")[0], {}))
    known |= {field: origin[key] for key, field in _CARD_KEYS.items() if key in origin}
    formats = sorted({file.path.rpartition(".")[2].lower() for file in package.files if "." in file.path})
    card: dict[str, object] = {
        "properties": [
            {"name": "appliance:formats", "value": ", ".join(formats)},
            {"name": "appliance:weights", "value": str(package.size)},
        ]
    }
    return card | ({"modelParameters": known} if known else {})


def _sorted(value: Any) -> Any:
    """The value with every list in the order of its canonical spelling; no list here has a meaning."""
    if isinstance(value, dict):
        return {key: _sorted(each) for key, each in value.items()}
    if isinstance(value, list):
        return sorted(map(_sorted, value), key=canonical_bytes)
    return value
