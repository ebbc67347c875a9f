"""A repository is locked with sizes, digests, licence and commit, and built to the same bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from huggingface_hub import constants
from huggingface_hub.utils import _detect_agent

from appliance.definition.lock import Artefact
from tests.unit.sources.hub_server import COMMIT, HubServer, git_sha1
from tests.unit.sources.huggingface.asking import CONFIG, MIB, NAME, WEIGHTS, locked, spec, where
from tests.unit.sources.loopback import cut, status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from appliance.sources.huggingface import HuggingFaceRepository


def test_a_repository_with_sizes_digests_licence_and_commit(source: HuggingFaceRepository) -> None:
    licence, config, weights = locked(source)
    assert [entry.path for entry in (licence, config, weights)] == [
        "LICENSE",
        "config.json",
        "model.safetensors",
    ]
    assert weights == Artefact(
        path="model.safetensors",
        name=NAME,
        version=COMMIT,
        size=len(WEIGHTS),
        sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        licence="Apache-2.0",
        origin={"kind": "huggingface", "repository": NAME, "revision": COMMIT, "upstream": "sha256"},
    )
    assert config.sha256 == hashlib.sha256(CONFIG).hexdigest()
    assert config.origin["upstream"] == f"git-blob-sha1:{git_sha1(CONFIG)}"
    assert source.missing([licence, config, weights]) == []


def test_weights_are_not_fetched_to_be_locked_by_digest(
    hub: HubServer, source: HuggingFaceRepository
) -> None:
    """The hub publishes their SHA-256; small files are measured."""
    source.resolve(spec(), where)
    assert hub.storage.asked == []


def test_no_address_is_in_what_is_locked(source: HuggingFaceRepository) -> None:
    assert not [entry for entry in locked(source) if "127.0.0.1" in entry.model_dump_json()]


def test_nobody_else_is_asked_and_nothing_is_told(
    hub: HubServer, source: HuggingFaceRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By itself the library would ask the public endpoint for a list of programs to look for here."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.web.address)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "list.json"))
    monkeypatch.setattr(_detect_agent, "_registry", None)  # it asks once in a process
    locked(source)
    api = [asked for asked in hub.web.asked if asked.path.startswith("/api")]
    assert [asked.path for asked in api] == [f"/api/models/{NAME}/revision/main"]
    assert "agent/" not in api[0].headers["user-agent"]


def test_a_build_needs_no_description_and_gets_the_same_bytes(
    hub: HubServer, source: HuggingFaceRepository, new_source: Callable[..., HuggingFaceRepository]
) -> None:
    artefacts = locked(source)
    hub.web.asked.clear()
    cold = new_source("cold")
    hub.repositories[NAME].refs["main"] = "f" * 40  # the branch moves on; the lock does not
    cold.fetch(artefacts)
    assert cold.missing(artefacts) == []
    assert not [asked for asked in hub.web.asked if asked.path.startswith("/api")]
    hub.web.asked.clear()
    cold.fetch(artefacts)
    assert hub.web.asked == []


def test_weights_go_on_where_the_connection_broke_from_a_fresh_address(
    hub: HubServer, source: HuggingFaceRepository
) -> None:
    """Addresses of storage are signed and run out: each try begins at the hub again."""
    artefacts = source.resolve(spec(), where)
    blob = f"/blobs/{hashlib.sha256(WEIGHTS).hexdigest()}"
    hub.storage.faults[blob].extend([cut(MIB), cut(MIB)])
    source.fetch(artefacts)
    assert hub.storage.ranges(blob) == [None, f"bytes={MIB}-", f"bytes={2 * MIB}-"]
    assert len(hub.web.ranges(f"/{NAME}/resolve/{COMMIT}/model.safetensors")) == 3


def test_a_hub_that_is_busy_at_first_is_asked_again(hub: HubServer, source: HuggingFaceRepository) -> None:
    page = f"/api/models/{NAME}/revision/main"
    hub.web.faults[page].extend([status(503), status(429, Retry_After="3"), cut(10)])
    hub.web.faults[f"/{NAME}/resolve/{COMMIT}/config.json"].extend([status(500), cut(5)])
    assert len(locked(source)) == 3
    assert 3.0 in source.station.stop.pauses  # type: ignore[attr-defined]  # conftest.Unhurried
