"""A hub with one repository, and the source that asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants

from appliance.sources.huggingface import HuggingFaceRepository
from appliance.sources.station import HuggingFaceSettings, Settings
from tests.unit.sources.hub_server import HubServer, Repository
from tests.unit.sources.huggingface.asking import CONFIG, NAME, WEIGHTS
from tests.unit.sources.loopback import Loopback, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.definition.names import Target
    from appliance.sources.station import Station


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one repository."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
    with serving(Loopback()) as web, serving(Loopback()) as storage:
        server = HubServer(web, storage)
        files = {"config.json": CONFIG, "model.safetensors": WEIGHTS, ".gitattributes": b"*.x lfs\n"}
        server.repositories[NAME] = Repository({**files, "LICENSE": b"Apache License\n"})
        yield server


@pytest.fixture
def new_source(
    hub: HubServer, new_station: Callable[..., Station], target: Target
) -> Callable[..., HuggingFaceRepository]:
    settings = Settings(huggingface=HuggingFaceSettings(endpoint=hub.web.address))
    return lambda store="store": HuggingFaceRepository(target, new_station(store, settings))


@pytest.fixture
def source(new_source: Callable[..., HuggingFaceRepository]) -> HuggingFaceRepository:
    return new_source()
