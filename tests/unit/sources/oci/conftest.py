"""A registry, and the source that asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.sources.oci_images import OciImages
from appliance.sources.station import OciSettings, Settings
from tests.unit.sources.loopback import Loopback, serving
from tests.unit.sources.registry_server import RegistryServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.definition.names import Target
    from appliance.sources.station import Station


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
