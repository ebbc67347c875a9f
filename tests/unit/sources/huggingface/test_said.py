"""What the hub says of licence and model is locked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.sources.huggingface.asking import NAME, spec, where

if TYPE_CHECKING:
    from appliance.sources.huggingface import HuggingFaceRepository
    from tests.unit.sources.hub_server import HubServer

LICENCES: dict[str, tuple[dict[str, Any], str]] = {
    "SPDX": ({"license": "mit"}, "MIT"),
    "several": ({"license": ["mit", "apache-2.0"]}, "MIT AND Apache-2.0"),
    "the hub's own short name": ({"license": "llama3.1"}, "llama3.1"),
    "another, by name": ({"license": "other", "license_name": "example-community"}, "example-community"),
    "another, without a name": ({"license": "other"}, "other"),
    "none": ({}, "not stated"),
}


@pytest.mark.parametrize("case", LICENCES)
def test_the_licence_is_the_cards(hub: HubServer, source: HuggingFaceRepository, case: str) -> None:
    hub.repositories[NAME].card, wanted = LICENCES[case]
    assert {entry.licence for entry in source.resolve(spec(), where)} == {wanted}


def test_the_definition_may_say_the_licence(source: HuggingFaceRepository) -> None:
    assert {entry.licence for entry in source.resolve(spec(licence="LicenseRef-Ours"), where)} == {
        "LicenseRef-Ours"
    }


SAID: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "task and architecture": (
        {"pipeline_tag": "text-generation", "config": {"architectures": ["LlamaForCausalLM"]}},
        {"task": "text-generation", "architectures": "LlamaForCausalLM"},
    ),
    "several architectures": (
        {"config": {"architectures": ["One", "Two"]}},
        {"architectures": "One, Two"},
    ),
    "nothing": ({"config": {"model_type": "llama"}}, {}),
    "no configuration": ({"config": None, "pipeline_tag": None}, {}),
    "a configuration that is none": ({"config": ["architectures"]}, {}),
    "no architectures": ({"config": {"architectures": []}}, {}),
    "what is no name": ({"pipeline_tag": "a\x1b[2Jb", "config": {"architectures": [{}]}}, {}),
    "a name without end": ({"pipeline_tag": "x" * 101}, {}),
    "names without end": ({"config": {"architectures": ["x"] * 99}}, {"architectures": ", ".join("x" * 8)}),
}


@pytest.mark.parametrize("case", SAID)
def test_what_the_hub_says_of_the_model_is_locked(
    hub: HubServer, source: HuggingFaceRepository, case: str
) -> None:
    hub.repositories[NAME].changes, wanted = SAID[case]
    for entry in source.resolve(spec(), where):
        said = {key: value for key, value in entry.origin.items() if key in {"task", "architectures"}}
        assert said == wanted
