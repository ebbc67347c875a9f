"""Preflight refuses what the roles could not serve, whoever made the bundle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.hardware.needs import HardwareNeeds
from appliance.node.serving_checks import serving_checks

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.manifest import Manifest

VLLM_FOLDER = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.fixture(scope="module")
def manifest(pristine_bundle: Path) -> Manifest:
    return parse_manifest((pristine_bundle / "manifest.json").read_bytes())


def changed(
    manifest: Manifest, project: str, paths: tuple[str, ...] = ("tiny.gguf",), **served: Any
) -> Manifest:
    """The manifest with wheels of another project, and another model."""
    components = dict(manifest.components)
    wheels = tuple(
        replace(file, origin={"kind": "python", "project": project}) for file in components["engine"].files
    )
    components["engine"] = replace(components["engine"], files=wheels)
    one = components["model"].files[0]
    files = tuple(replace(one, path=f"payload/model/{path}") for path in paths)
    components["model"] = replace(components["model"], files=files)
    return replace(manifest, components=components, inference=replace(manifest.inference, **served))


def failed(manifest: Manifest) -> dict[str, str]:
    return {check.name: check.found for check in serving_checks(manifest) if check.stops}


def test_what_can_be_served_passes(manifest: Manifest) -> None:
    assert failed(manifest) == {}
    assert failed(changed(manifest, "vllm", VLLM_FOLDER, file="model.safetensors")) == {}


def archived(manifest: Manifest, *names: str) -> Manifest:
    """The manifest with plain files in the place of wheels."""
    one = manifest.components["engine"].files[0]
    files = tuple(replace(one, path=f"payload/engine/{name}") for name in names)
    engine = replace(manifest.components["engine"], kind="files", files=files)
    return replace(manifest, components={**manifest.components, "engine": engine})


def test_an_engine_may_come_as_its_makers_archive(manifest: Manifest) -> None:
    assert failed(archived(manifest, "ollama-linux-amd64.tgz", "LICENSE")) == {}
    called = replace(manifest, inference=replace(manifest.inference, name="big-cloud"))
    assert list(failed(archived(called, "ollama-linux-amd64.tgz"))) == ["model-served"]
    assert failed(archived(manifest, "other.tgz")) == {"engine": "component engine brings other.tgz"}


def test_wheels_without_an_engine_are_refused(manifest: Manifest) -> None:
    assert failed(changed(manifest, "torch")) == {"engine": "component engine brings torch"}


@pytest.mark.parametrize(
    ("project", "paths", "served", "found"),
    [
        (
            "vllm",
            ("tiny.gguf",),
            {},
            "vllm serves a model of safetensors: its index, or its one file, and not",
        ),
        ("vllm", VLLM_FOLDER[1:], {"file": "model.safetensors"}, "without config.json"),
        ("xllamacpp", ("model.safetensors",), {"file": "model.safetensors"}, "serves a GGUF file"),
        ("xllamacpp", ("tiny.gguf",), {"precision": "fp16"}, "and not in fp16"),
        (
            "vllm",
            VLLM_FOLDER,
            {"file": "model.safetensors", "task": "transcription"},
            "without which there is no soundfile",
        ),
    ],
)
def test_a_model_that_the_engine_cannot_serve_is_refused(
    manifest: Manifest, project: str, paths: tuple[str, ...], served: dict[str, Any], found: str
) -> None:
    checks = failed(changed(manifest, project, paths, **served))
    assert list(checks) == ["model-served"]
    assert found in checks["model-served"]


def test_a_model_over_several_gpus_needs_an_engine_that_can(manifest: Manifest) -> None:
    divided = replace(manifest, hardware=HardwareNeeds("h100-sxm", 4, tensor_parallel=4))
    assert "not set up to divide a model over 4 GPUs" in failed(divided)["model-served"]
    with_vllm = changed(divided, "vllm", VLLM_FOLDER, file="model.safetensors")
    assert failed(with_vllm) == {}
