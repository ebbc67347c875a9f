"""An image becomes a layout, of which only what is asked for is carried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import DefinitionInvalid, ImageRefused
from tests.unit.sources.loopback import cut
from tests.unit.sources.oci.pulling import BASE, LAYER, MIB, NAME, blob_path, content, locked, spec, where
from tests.unit.sources.registry_server import DOCKER, OCI, RegistryServer, described, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.sources.oci_images import OciImages


def test_an_image_becomes_a_layout(registry: RegistryServer, source: OciImages) -> None:
    image = registry.image(BASE, LAYER)
    artefacts = locked(source, spec(image))
    by_part = {entry.origin.get("part", entry.path): entry for entry in artefacts}
    assert set(by_part) == {"manifest", "config", "layer", "oci-layout", "index.json"}
    assert content(source, artefacts, "oci-layout") == {"imageLayoutVersion": "1.0.0"}
    assert content(source, artefacts, "index.json") == {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.index.v1+json",
        "manifests": [
            {
                **described(image, f"{OCI}.manifest.v1+json"),
                "platform": {"os": "linux", "architecture": "amd64"},
                "annotations": {"org.opencontainers.image.ref.name": f"{NAME}@{digest_of(image)}"},
            }
        ],
    }
    layer = next(entry for entry in artefacts if entry.path == blob_path(LAYER))
    assert (layer.name, layer.version, layer.size) == (NAME, digest_of(image), len(LAYER))
    assert layer.origin == {
        "kind": "oci",
        "repository": NAME,
        "image": digest_of(image),
        "platform": "linux/amd64",
        "part": "layer",
        "upstream": "sha256",
    }
    assert source.missing(artefacts) == []
    for entry in artefacts:  # an image layout names every blob by its digest
        assert not entry.path.startswith("blobs/") or entry.path == f"blobs/sha256/{entry.sha256}"


def test_no_address_is_in_what_is_locked(registry: RegistryServer, source: OciImages) -> None:
    artefacts = locked(source, spec(registry.image(BASE)))
    assert not [entry for entry in artefacts if "127.0.0.1" in entry.model_dump_json()]


def test_layers_are_not_fetched_to_be_locked(registry: RegistryServer, source: OciImages) -> None:
    image = registry.image(BASE, LAYER)
    source.resolve(spec(image), where)
    assert [asked.path for asked in registry.storage.asked] == [f"/{next(iter(registry.blobs))}"]  # config


def test_of_an_index_only_the_platform_is_carried_and_the_index_kept_as_evidence(
    registry: RegistryServer, source: OciImages
) -> None:
    ours, other = registry.image(BASE, LAYER), registry.image(b"arm", architecture="arm64")
    index = registry.index({"arm64": other, "amd64": ours})
    artefacts = locked(source, spec(index))
    paths = {entry.path for entry in artefacts}
    assert {blob_path(index), blob_path(ours), blob_path(LAYER)} <= paths
    assert blob_path(other) not in paths
    assert blob_path(b"arm") not in paths
    (listed,) = content(source, artefacts, "index.json")["manifests"]
    assert listed["digest"] == digest_of(ours)
    assert listed["annotations"] == {"org.opencontainers.image.ref.name": f"{NAME}@{digest_of(index)}"}


def test_another_platform_may_be_asked_for(registry: RegistryServer, source: OciImages) -> None:
    index = registry.index(
        {"amd64": registry.image(BASE), "arm64": registry.image(b"a", architecture="arm64")}
    )
    artefacts = locked(source, spec(index, platform="linux/arm64"))
    assert blob_path(b"a") in {entry.path for entry in artefacts}
    with pytest.raises(ImageRefused, match="has no image for linux/riscv64") as caught:
        source.resolve(spec(index, platform="linux/riscv64"), where)
    assert caught.value.found == "linux/amd64, linux/arm64"
    assert str(caught.value.where) == "demo.yaml:7:2"


def test_the_first_entry_that_fits_is_taken_and_a_variant_only_if_asked_for(
    registry: RegistryServer, source: OciImages
) -> None:
    first, second = registry.image(BASE), registry.image(LAYER)
    kind = f"{OCI}.manifest.v1+json"
    platform = {"os": "linux", "architecture": "amd64"}
    entries = [
        described(b"attestation", kind, platform={"os": "unknown", "architecture": "unknown"}),
        described(b"nothing", kind),
        described(first, kind, platform={**platform, "variant": "v1"}),
        described(second, kind, platform={**platform, "variant": "v3"}),
    ]
    index = registry.index({}, manifests=entries)
    assert blob_path(first) in {entry.path for entry in source.resolve(spec(index), where)}
    with pytest.raises(ImageRefused, match="has no image for linux/amd64/v2"):
        source.resolve(spec(index, platform="linux/amd64/v2"), where)


def test_several_images_share_layers_in_one_layout(registry: RegistryServer, source: OciImages) -> None:
    one, two = registry.image(BASE, LAYER), registry.image(BASE, b"more")
    artefacts = locked(source, spec(one, two))
    assert len([entry for entry in artefacts if entry.path == blob_path(BASE)]) == 1
    assert len(content(source, artefacts, "index.json")["manifests"]) == 2


def test_the_same_image_by_index_and_by_manifest_is_a_slip(
    registry: RegistryServer, source: OciImages
) -> None:
    image = registry.image(BASE)
    with pytest.raises(DefinitionInvalid, match="listed already") as caught:
        source.resolve(spec(image, registry.index({"amd64": image})), where)
    assert str(caught.value.where) == "demo.yaml:7:2"


def test_dockers_names_for_the_same_things(registry: RegistryServer, source: OciImages) -> None:
    image = registry.image(BASE, docker=True)
    listed = registry.index({"amd64": image}, mediaType=f"{DOCKER}.distribution.manifest.list.v2+json")
    registry.manifests[digest_of(listed)] = (f"{DOCKER}.distribution.manifest.list.v2+json", listed)
    artefacts = locked(source, spec(listed))
    (entry,) = content(source, artefacts, "index.json")["manifests"]
    assert entry["mediaType"] == f"{DOCKER}.distribution.manifest.v2+json"


def test_a_build_gets_the_same_bytes_and_makes_the_same_layout(
    registry: RegistryServer, source: OciImages, new_source: Callable[..., OciImages]
) -> None:
    artefacts = locked(source, spec(registry.index({"amd64": registry.image(BASE, LAYER)})))
    cold = new_source("cold")
    cold.fetch(artefacts)
    assert cold.missing(artefacts) == []
    registry.web.asked.clear()
    cold.fetch(artefacts)
    assert registry.web.asked == []


def test_a_layer_goes_on_where_the_connection_broke(registry: RegistryServer, source: OciImages) -> None:
    artefacts = source.resolve(spec(registry.image(LAYER)), where)
    path = f"/{digest_of(LAYER)}"
    registry.storage.faults[path].extend([cut(MIB), cut(MIB)])
    source.fetch(artefacts)
    assert registry.storage.ranges(path) == [None, f"bytes={MIB}-", f"bytes={2 * MIB}-"]


LICENCES = [
    ({"annotations": {"org.opencontainers.image.licenses": "MIT"}}, None, "MIT"),
    ({"labels": {"org.opencontainers.image.licenses": "BSD-3-Clause"}}, None, "BSD-3-Clause"),
    ({}, None, "not stated"),
    ({"labels": {"org.opencontainers.image.licenses": "MIT"}}, "Apache-2.0", "Apache-2.0"),
]


@pytest.mark.parametrize(("stated", "given", "wanted"), LICENCES)
def test_the_licence_is_the_annotations_the_labels_or_the_definitions(
    registry: RegistryServer, source: OciImages, stated: dict[str, Any], given: str | None, wanted: str
) -> None:
    artefacts = source.resolve(spec(registry.image(BASE, **stated), licence=given), where)
    assert {entry.licence for entry in artefacts} == {wanted}
