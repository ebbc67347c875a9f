"""Who may pull: tokens and the credentials of a login."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import requests

from appliance.errors import AccessDenied, SettingsInvalid
from appliance.sources.oci_images import OciImages
from appliance.sources.oci_registry import Access
from tests.unit.sources.loopback import Asked, Reply, status
from tests.unit.sources.oci.pulling import BASE, LAYER, MIB, NAME, locked, spec, where
from tests.unit.sources.registry_server import RegistryServer, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.definition.names import Target
    from appliance.sources.station import Station


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
