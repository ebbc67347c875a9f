"""`lock` refuses what no engine could serve, with file, line and column, before anything is fetched."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.definition.bundle_definition import read_definition
from appliance.definition.lock import Artefact
from appliance.errors import DefinitionInvalid, EngineUnfit, ModelIncomplete
from appliance.progress import Silent
from appliance.sources.served import check_served, check_shards, check_task, oldest_driver
from appliance.sources.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEFINITION = """\
format: 1
product: demo
version: "1"
sequence: 1
target: {{distribution: debian, suite: bookworm, architecture: amd64, python: "3.11"}}
hardware: {{gpu: h100-sxm, gpus: 4, tensor_parallel: {parallel}}}
components:
  engine: {{kind: python, requirements: [{engine}]}}
  model: {{kind: huggingface, repository: example-org/example, revision: main}}
inference: {{engine: engine, model: model, file: {file}, name: demo{more}}}
"""
FOLDER = ("config.json", "tokenizer.json", "model.safetensors.index.json", "1.safetensors")
INDEX = "model.safetensors.index.json"


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def artefact(path: str, origin: Mapping[Any, str], data: bytes = b"") -> Artefact:
    return Artefact(
        path=path,
        name=path,
        version="1",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        licence="MIT",
        origin=origin,
    )


def read(engine: str = "vllm", file: str = INDEX, parallel: int = 1, more: str = "") -> Any:
    text = DEFINITION.format(engine=engine, file=file, parallel=parallel, more=more)
    return read_definition(text.encode(), "demo.yaml")


def check(definition: Any, projects: Sequence[str], paths: Sequence[str] = FOLDER) -> list[str]:
    """Notes that were told."""
    notes = Notes()
    resolved = {
        "engine": [artefact(f"{name}.whl", {"kind": "python", "project": name}) for name in projects],
        "model": [artefact(path, {"kind": "huggingface"}) for path in paths],
    }
    check_served(definition, resolved, notes)
    return notes.told


def test_what_can_be_served_is_locked_without_a_word() -> None:
    assert check(read(more=", context: 8192, sequences: 4, precision: bf16, eager: true"), ["vllm"]) == []
    assert check(read(parallel=4), ["vllm", "torch"]) == []
    assert check(read(more=", task: transcription"), ["vllm", "soundfile"]) == []
    assert check(read("xllamacpp", "a.gguf"), ["xllamacpp"], ["a.gguf"]) == []


def test_an_engine_that_is_not_known_is_told_and_left_to_the_program_that_installs() -> None:
    (told,) = check(read("other"), ["other"])
    assert told.startswith("component engine brings no engine that this version can run, or several")


@pytest.mark.parametrize(
    ("asked", "projects", "paths", "found"),
    [
        ({"file": "a.gguf"}, ["vllm"], ["a.gguf"], "vllm serves a model of safetensors"),
        ({"file": "1.safetensors"}, ["xllamacpp"], FOLDER, "xllamacpp serves a GGUF file"),
        ({"file": "a.gguf", "parallel": 4}, ["xllamacpp"], ["a.gguf"], "over 4 GPUs"),
        ({"file": "a.gguf", "more": ", precision: bf16"}, ["xllamacpp"], ["a.gguf"], "and not in bf16"),
        ({"file": "a.gguf", "more": ", eager: true"}, ["xllamacpp"], ["a.gguf"], "eager says nothing"),
        ({"more": ", task: transcription"}, ["vllm"], FOLDER, "without which there is no soundfile"),
    ],
)
def test_what_does_not_go_together_is_refused_at_its_place(
    asked: dict[str, Any], projects: list[str], paths: Sequence[str], found: str
) -> None:
    with pytest.raises(EngineUnfit) as caught:
        check(read(**asked), projects, paths)
    assert found in str(caught.value.found)
    assert str(caught.value.where).startswith("demo.yaml:10:")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("left_out", "wanted"),
    [("config.json", "config.json"), ("tokenizer.json", "a tokenizer (tokenizer.json")],
)
def test_a_folder_that_lacks_what_the_engine_reads_is_refused(left_out: str, wanted: str) -> None:
    with pytest.raises(ModelIncomplete) as caught:
        check(read(), ["vllm"], [path for path in FOLDER if path != left_out])
    assert str(caught.value.wanted).startswith(wanted)
    assert caught.value.exit_code == 3


def test_a_file_that_is_not_there_is_said_before_all_else() -> None:
    with pytest.raises(DefinitionInvalid, match=r"inference.file is not in component model"):
        check(read(file="other.safetensors"), ["vllm"])


@pytest.mark.parametrize(
    ("index", "wanted"),
    [
        (json.dumps({"weight_map": {"a": "1.safetensors"}}), None),
        (json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}), "2.safetensors"),
        ("{}", "an index of weights: it has no weight_map"),
        ("nonsense", "an index of weights: "),
    ],
)
def test_weights_that_the_index_names_must_be_there(index: str, wanted: str | None, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    data = index.encode()
    store.add_bytes(data)
    model = [artefact(path, {"kind": "huggingface"}, data if path == INDEX else b"") for path in FOLDER]
    if wanted is None:
        check_shards(read(), model, store)
        return
    with pytest.raises(ModelIncomplete) as caught:
        check_shards(read(), model, store)
    assert str(caught.value.wanted).startswith(wanted)


@pytest.mark.parametrize(
    "more",
    ["context: 255", "context: 10000000", "sequences: 0", "sequences: 1025", "precision: int4", "eager: 1"],
)
def test_settings_out_of_range_are_refused_where_they_stand(more: str) -> None:
    with pytest.raises(DefinitionInvalid) as caught:
        read(more=f", {more}")
    assert str(caught.value.where).startswith("demo.yaml:10:")


def archived(path: str, model: str = "tiny.gguf", name: str = "demo") -> str:
    """A definition whose engine is a plain file."""
    text = DEFINITION.format(engine="x", file=model, parallel=1, more="").replace(
        "{kind: python, requirements: [x]}",
        f"{{kind: files, files: [{{path: {path}, sha256: '{'0' * 64}', licence: MIT}}]}}",
    )
    return text.replace("name: demo", f"name: {name}")


def check_archive(path: str, model: str = "tiny.gguf", name: str = "demo") -> list[str]:
    """Notes that were told of it."""
    notes = Notes()
    resolved = {
        "engine": [artefact(path, {"kind": "files"})],
        "model": [artefact(model, {"kind": "huggingface"})],
    }
    check_served(read_definition(archived(path, model, name).encode(), "demo.yaml"), resolved, notes)
    return notes.told


@pytest.mark.parametrize(
    ("file", "said", "oldest"),
    [
        ("ollama-linux-amd64.tgz", "", 531),
        ("ollama-linux-amd64.tgz", ", driver: 550", 550),
        ("ollama-linux-amd64.tgz", ", driver: 450", 531),
        ("other.tgz", ", driver: 550", 550),
        ("other.tgz", "", 0),
        ("ollama-linux-amd64.tgz", None, 0),
    ],
)
def test_the_oldest_driver_is_the_definitions_or_the_engines(
    file: str, said: str | None, oldest: int
) -> None:
    text = archived(file).replace(", tensor_parallel: 1", f"{said}")
    if said is None:  # on processors
        text = "".join(line for line in text.splitlines(True) if not line.startswith("hardware"))
    resolved = {"engine": [artefact(file, {"kind": "files"})]}
    assert oldest_driver(read_definition(text.encode(), "demo.yaml"), resolved) == oldest


def test_an_engine_may_be_its_makers_archive() -> None:
    assert check_archive("engine/ollama-linux-amd64.tar.zst") == []
    (told,) = check_archive("vllm")
    assert told.startswith("component engine brings no engine"), "a file's name is no project's"
    with pytest.raises(EngineUnfit) as caught:
        check_archive("ollama-linux-amd64.tgz", "model-00001-of-00003.gguf")
    assert "ollama serves a GGUF file in one piece" in str(caught.value.found)
    with pytest.raises(EngineUnfit, match="the engine cannot serve this") as caught:
        check_archive("ollama-linux-amd64.tgz", name="big-cloud")
    assert "takes the name big-cloud" in str(caught.value.found)


@pytest.mark.parametrize(
    "name", ["h100-vllm", "h100-vllm-trixie", "h100-70b", "h100-whisper", "h100-ollama"]
)
def test_the_definitions_that_ship_say_how_they_are_served(name: str) -> None:
    from pathlib import Path

    path = Path(__file__).parents[3] / f"bundles/{name}.yaml"
    served = read_definition(path.read_bytes(), path).definition.inference
    assert served.context is not None
    assert served.sequences is not None
    # Ollama computes in what the file is in, which its name says.
    assert served.precision in {"bf16", "fp16"} or ("fp16" in served.file and name == "h100-ollama")
    assert not served.eager, "the compiler is in the bundle"
    assert served.task == ("transcription" if name == "h100-whisper" else None)


@pytest.mark.parametrize(
    ("architecture", "more", "key"),
    [
        ("WhisperForConditionalGeneration", "", "model"),
        ("LlamaForCausalLM", ", task: transcription", "task"),
    ],
)
def test_a_model_for_something_else_is_refused_where_it_is_asked_for(
    architecture: str, more: str, key: str, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    right, wrong = (json.dumps({"architectures": [name]}).encode() for name in ("OtherModel", architecture))
    for data in (right, wrong):
        store.add_bytes(data)
    definition = read(more=more)
    check_task(definition, [artefact("config.json", {"kind": "huggingface"}, right)], store)
    # A description in another folder is not that of the model.
    check_task(definition, [artefact("a/config.json", {"kind": "huggingface"}, wrong)], store)
    with pytest.raises(EngineUnfit) as caught:
        check_task(definition, [artefact("config.json", {"kind": "huggingface"}, wrong)], store)
    assert caught.value.found
    assert architecture in caught.value.found
    assert caught.value.where == definition.document.where(("inference", key))
