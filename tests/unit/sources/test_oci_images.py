"""Images by digest: every level compared, one platform, one layout that other tools read."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import requests

from appliance.definition.components import Oci
from appliance.errors import (
    AccessDenied,
    ApplianceError,
    DefinitionInvalid,
    DigestMismatch,
    ImageRefused,
    Location,
    PackageMissing,
    SettingsInvalid,
    SourceUnreachable,
)
from appliance.sources.oci_images import OciImages
from appliance.sources.oci_registry import Access
from appliance.sources.station import OciSettings, Settings

from .loopback import Asked, Loopback, Reply, cut, header, sends, serving, status
from .registry_server import DOCKER, OCI, RegistryServer, described, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.definition.document import Loc
    from appliance.definition.lock import Artefact
    from appliance.definition.names import Target
    from appliance.sources.station import Station

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


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RegistryServer]:
    """A registry, and a station without credentials for it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    with serving(Loopback()) as web, serving(Loopback()) as storage:
        yield RegistryServer(web, storage)


@pytest.fixture
def new_source(
    registry: RegistryServer, new_station: Callable[..., Station], target: Target
) -> Callable[..., OciImages]:
    settings = Settings(oci=OciSettings(registry=registry.web.address))
    return lambda store="store": OciImages(target, new_station(store, settings))


@pytest.fixture
def source(new_source: Callable[..., OciImages]) -> OciImages:
    return new_source()


def locked(source: OciImages, asked: Oci) -> list[Artefact]:
    artefacts = source.resolve(asked, where)
    source.fetch(artefacts)
    return source.describe(artefacts)


def content(source: OciImages, artefacts: list[Artefact], path: str) -> Any:
    (found,) = [entry for entry in artefacts if entry.path == path]
    return json.loads(source.station.store.path(found.sha256).read_bytes())


def blob_path(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


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


# --- who may pull -------------------------------------------------------------------------------


def log_in(registry: RegistryServer, folder: Path, password: str) -> None:
    """As docker login does."""
    auth = base64.b64encode(f"station:{password}".encode()).decode()
    host = registry.web.address.removeprefix("http://")
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def test_a_token_for_everybody_is_asked_for_and_stays_with_the_registry(
    registry: RegistryServer, source: OciImages
) -> None:
    registry.scheme = "bearer"
    artefacts = locked(source, spec(registry.image(BASE, LAYER)))
    assert source.missing(artefacts) == []
    assert "scope=repository%3Ateam%2Fexporter%3Apull" in next(
        asked.query for asked in registry.web.asked if asked.path == "/token"
    )
    assert registry.storage.asked
    assert not [asked for asked in registry.storage.asked if "authorization" in asked.headers]


def test_a_token_that_runs_out_during_a_download_is_renewed(
    registry: RegistryServer, source: OciImages
) -> None:
    registry.scheme = "bearer"
    artefacts = source.resolve(spec(registry.image(LAYER)), where)

    def expire(_: Asked, reply: Reply, __: bytes) -> Reply:
        registry.tokens = dict.fromkeys(registry.tokens, 0)
        return replace(reply, cut=MIB)

    registry.storage.faults[f"/{digest_of(LAYER)}"].append(expire)
    source.fetch(artefacts)
    assert source.missing(artefacts) == []
    assert registry.storage.ranges(f"/{digest_of(LAYER)}") == [None, f"bytes={MIB}-"]


def test_credentials_are_not_for_the_storage_whatever_it_asks(
    registry: RegistryServer, source: OciImages, tmp_path: Path
) -> None:
    log_in(registry, tmp_path / ".docker", "secret")
    artefacts = source.resolve(spec(registry.image(BASE)), where)
    challenges = [f'Bearer realm="{registry.storage.address}/token"', 'Basic realm="storage"']
    for challenge in challenges:
        registry.storage.faults[f"/{digest_of(BASE)}"].append(status(401, WWW_Authenticate=challenge))
        with pytest.raises(AccessDenied):
            source.fetch(artefacts)
    asked = registry.storage.asked
    assert [entry for entry in asked if "authorization" in entry.headers or "token" in entry.path] == []


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
@pytest.mark.parametrize("place", ["home", "variable"])
def test_credentials_of_docker_login_are_used(
    registry: RegistryServer,
    source: OciImages,
    monkeypatch: pytest.MonkeyPatch,
    *,
    scheme: str,
    place: str,
) -> None:
    tmp_path = source.station.folder.parent
    registry.scheme, registry.password = scheme, "secret"
    image = spec(registry.image(BASE))
    with pytest.raises(AccessDenied, match="does not give team/exporter@sha256:") as caught:
        source.resolve(image, where)
    assert caught.value.exit_code == 6
    if place == "variable":
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "elsewhere"))
        log_in(registry, tmp_path / "elsewhere", "secret")
    else:
        log_in(registry, tmp_path / ".docker", "secret")
    assert source.missing(locked(source, image)) == []
    log_in(registry, tmp_path / ("elsewhere" if place == "variable" else ".docker"), "wrong")
    with pytest.raises(AccessDenied) as caught:
        source.resolve(image, where)
    assert "wrong" not in str(caught.value.as_dict())


def test_credentials_that_cannot_be_read(
    registry: RegistryServer, source: OciImages, tmp_path: Path
) -> None:
    registry.scheme = "bearer"
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text("{")
    with pytest.raises(SettingsInvalid, match="registry credentials"):
        source.resolve(spec(registry.image(BASE)), where)


@pytest.mark.parametrize("realm", ["ftp://127.0.0.1/token", "http://127.0.0.1:9/token", "nonsense"])
def test_a_token_service_that_does_not_serve(
    registry: RegistryServer, source: OciImages, realm: str
) -> None:
    registry.scheme, registry.realm = "bearer", realm
    with pytest.raises(AccessDenied):
        source.resolve(spec(registry.image(BASE)), where)


def test_a_registry_behind_tls_names_no_token_service_that_is_not(registry: RegistryServer) -> None:
    """A token over a line that anybody reads is none."""
    answer = requests.Response()
    answer.url = f"https://registry.example/v2/{NAME}/manifests/x"
    answer.request = requests.Request("GET", answer.url).prepare()
    answer.headers["WWW-Authenticate"] = f'Bearer realm="{registry.web.address}/token"'
    assert not Access("https://registry.example").renew(answer)
    assert registry.web.asked == []
    answer.url = answer.url.replace("https:", "http:")
    assert Access("http://registry.example").renew(answer)


def test_a_station_without_a_registry(new_station: Callable[..., Station], target: Target) -> None:
    with pytest.raises(SettingsInvalid, match="knows no image registry") as caught:
        OciImages(target, new_station()).resolve(spec("sha256:" + "0" * 64), where)
    assert "APPLIANCE_OCI_REGISTRY" in (caught.value.wanted or "")


# --- what cannot be believed --------------------------------------------------------------------

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
