"""What cannot be believed of an image or a registry is refused by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from appliance.errors import (
    AccessDenied,
    ApplianceError,
    DigestMismatch,
    ImageRefused,
    PackageMissing,
    SourceUnreachable,
)
from appliance.sources.oci_images import OciImages
from appliance.sources.station import OciSettings, Settings
from tests.unit.sources.loopback import Loopback, cut, header, sends, status
from tests.unit.sources.oci.pulling import BASE, LAYER, NAME, locked, spec, where
from tests.unit.sources.registry_server import DOCKER, OCI, RegistryServer, described, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.definition.names import Target
    from appliance.sources.station import Station

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def malformed(registry: RegistryServer) -> dict[str, bytes]:
    """Images of which each breaks one rule."""
    good = registry.image(BASE)
    kind = f"{OCI}.manifest.v1+json"
    entry = described(good, kind, platform={"os": "linux", "architecture": "amd64"})
    return {
        "no JSON": registry.document("x", kind)[:0] or registry.document([1], kind),
        "an unknown type": registry.image(BASE, mediaType="application/vnd.example+json"),
        "two types at once": registry.image(BASE, mediaType=f"{DOCKER}.distribution.manifest.v2+json"),
        "no layers": registry.image(layers=None),
        "layers without end": registry.image(
            layers=[described(BASE, f"{OCI}.layer.v1.tar")] * 1025,
        ),
        "a foreign layer": registry.image(layers=[described(BASE, FOREIGN, urls=["https://x.example"])]),
        "a negative size": registry.image(layers=[{**described(BASE, f"{OCI}.layer.v1.tar"), "size": -1}]),
        "a size as text": registry.image(layers=[{**described(BASE, f"{OCI}.layer.v1.tar"), "size": "1"}]),
        "another algorithm": registry.image(
            layers=[{**described(BASE, f"{OCI}.layer.v1.tar"), "digest": "sha512:" + "0" * 128}]
        ),
        "a digest that leaves": registry.image(
            layers=[{**described(BASE, f"{OCI}.layer.v1.tar"), "digest": "sha256:../../etc/passwd"}]
        ),
        "an artefact that is no image": registry.image(
            config=described(registry.blob(b"{}"), "application/vnd.oci.empty.v1+json")
        ),
        "a configuration too large": registry.image(
            config={**described(BASE, f"{OCI}.config.v1+json"), "size": 9 << 20}
        ),
        "a configuration that is none": registry.image(
            config=described(registry.blob(b"[]"), f"{OCI}.config.v1+json")
        ),
        "for another platform": registry.image(BASE, architecture="arm64"),
        "an index without manifests": registry.index({}, manifests=None),
        "an index of indexes": registry.index(
            {}, manifests=[{**entry, "mediaType": f"{OCI}.index.v1+json"}]
        ),
        "an index that lies about the type": registry.index(
            {}, manifests=[{**entry, "mediaType": f"{DOCKER}.distribution.manifest.v2+json"}]
        ),
        "an index that lies about the size": registry.index({}, manifests=[{**entry, "size": 10}]),
    }


@pytest.mark.parametrize("case", sorted(malformed(RegistryServer(Loopback(), Loopback()))))
def test_an_image_that_breaks_a_rule_is_refused(
    registry: RegistryServer, source: OciImages, case: str
) -> None:
    with pytest.raises(ImageRefused) as caught:
        source.resolve(spec(malformed(registry)[case]), where)
    assert caught.value.exit_code == 4
    assert NAME in caught.value.message
    assert str(caught.value.where) == "demo.yaml:7:2"
    assert case != "an index of indexes" or "is no manifest" in caught.value.message
    assert registry.storage.ranges(f"/{digest_of(BASE)}") == []  # no layer was fetched for it


def test_a_manifest_without_a_type_is_what_the_registry_calls_it(
    registry: RegistryServer, source: OciImages
) -> None:
    image = registry.image(BASE, mediaType=None)
    assert locked(source, spec(image))
    registry.manifests[digest_of(image)] = ("application/json", image)
    path = f"/v2/{NAME}/manifests/{digest_of(image)}"
    registry.web.faults[path].append(sends(image))
    with pytest.raises(ImageRefused, match="no kind of image"):
        source.resolve(spec(image), where)


def test_a_manifest_too_large_is_not_read_to_its_end(registry: RegistryServer, source: OciImages) -> None:
    image = registry.image(BASE, annotations={"filler": "x" * (5 << 20)})
    with pytest.raises(ImageRefused, match="too large"):
        source.resolve(spec(image), where)


def paths_of(registry: RegistryServer, image: bytes) -> dict[str, tuple[Loopback, str]]:
    config = json.loads(image)["config"]["digest"]
    return {
        "manifest": (registry.web, f"/v2/{NAME}/manifests/{digest_of(image)}"),
        "config": (registry.storage, f"/{config}"),
        "layer": (registry.storage, f"/{digest_of(BASE)}"),
    }


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
def test_other_bytes_are_refused_at_every_level(
    registry: RegistryServer, source: OciImages, part: str
) -> None:
    image = registry.image(BASE)
    web, path = paths_of(registry, image)[part]
    original = image if part == "manifest" else registry.blobs[path.removeprefix("/")]
    changed = original.replace(b'"linux"', b'"Linux"') if part != "layer" else original[:-1] + b"!"
    if part == "manifest":
        changed = original.replace(b'"schemaVersion": 2', b'"schemaVersion": 3')
    assert changed != original
    web.faults[path].append(sends(changed))
    with pytest.raises(DigestMismatch):
        locked(source, spec(image))
    assert source.missing(locked(source, spec(image))) == []


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
def test_a_registry_that_stumbles_is_asked_again(
    registry: RegistryServer, source: OciImages, part: str
) -> None:
    image = registry.image(BASE)
    web, path = paths_of(registry, image)[part]
    web.faults[path].extend(
        [status(503), cut(20), status(429, Retry_After="1"), header("X-Y", "z" * 99_999)]
    )
    assert source.missing(locked(source, spec(image))) == []


ANSWERS: dict[int, type[ApplianceError]] = {
    404: PackageMissing,
    410: PackageMissing,
    401: AccessDenied,
    403: AccessDenied,
    418: SourceUnreachable,
    307: SourceUnreachable,
}


@pytest.mark.parametrize("code", ANSWERS)
@pytest.mark.parametrize("part", ["manifest", "layer"])
def test_every_answer_has_its_error(
    registry: RegistryServer, source: OciImages, code: int, part: str
) -> None:
    image = registry.image(BASE)
    path = f"/v2/{NAME}/manifests/{digest_of(image)}"
    if part == "layer":
        path = f"/v2/{NAME}/blobs/{digest_of(BASE)}"
    registry.web.faults[path].extend([status(code, **({"Location": path} if code == 307 else {}))] * 20)
    with pytest.raises(ANSWERS[code]) as caught:
        locked(source, spec(image))
    assert type(caught.value) is ANSWERS[code]


def test_a_registry_that_is_not_there(new_station: Callable[..., Station], target: Target) -> None:
    station = new_station("store", Settings(oci=OciSettings(registry="http://127.0.0.1:9")))
    with pytest.raises(SourceUnreachable, match="the image registry does not answer"):
        OciImages(target, station).resolve(spec("sha256:" + "0" * 64), where)


def test_an_image_deleted_between_lock_and_build(
    registry: RegistryServer, source: OciImages, new_source: Callable[..., OciImages]
) -> None:
    image = registry.image(BASE, LAYER)
    artefacts = locked(source, spec(image))
    del registry.blobs[digest_of(LAYER)]
    with pytest.raises(PackageMissing, match="team/exporter: layer sha256:"):
        new_source("cold").fetch(artefacts)
