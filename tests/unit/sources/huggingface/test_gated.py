"""Who may read: gated repositories and their tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import AccessDenied
from tests.unit.sources.huggingface.asking import NAME, locked, spec, where

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.sources.huggingface import HuggingFaceRepository
    from tests.unit.sources.hub_server import HubServer


@pytest.fixture
def gated(hub: HubServer) -> HubServer:
    hub.repositories[NAME].gated, hub.repositories[NAME].token = "manual", "hf_secret"
    return hub


def test_a_gated_repository_is_read_with_a_token_which_the_storage_never_sees(
    gated: HubServer, new_source: Callable[..., HuggingFaceRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    artefacts = locked(new_source())
    assert {entry.origin["gated"] for entry in artefacts} == {"manual"}
    assert "hf_secret" not in "".join(entry.model_dump_json() for entry in artefacts)
    assert {asked.headers.get("authorization") for asked in gated.web.asked} == {"Bearer hf_secret"}
    assert [asked for asked in gated.storage.asked if "authorization" in asked.headers] == []


@pytest.mark.parametrize("token", [None, "hf_other"])
@pytest.mark.parametrize("described", [True, False])
def test_a_gated_repository_without_the_right_token(
    gated: HubServer,
    new_source: Callable[..., HuggingFaceRepository],
    monkeypatch: pytest.MonkeyPatch,
    *,
    token: str | None,
    described: bool,
) -> None:
    gated.repositories[NAME].described = described
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(AccessDenied, match="is gated: its owner wants consent") as caught:
        new_source().resolve(spec(), where)
    assert caught.value.exit_code == 6
    assert caught.value.found == ("the token that is set" if token else "no token")
    assert "hf_other" not in str(caught.value.as_dict())


def test_consent_withdrawn_between_lock_and_build(
    hub: HubServer, source: HuggingFaceRepository, new_source: Callable[..., HuggingFaceRepository]
) -> None:
    artefacts = locked(source)
    hub.repositories[NAME].token = "hf_secret"  # noqa: S105 - a word of this test
    with pytest.raises(AccessDenied, match="is gated"):
        new_source("cold").fetch(artefacts)
