"""A model is what its description says before a lock is written: the engine would find out on the node."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.definition.bundle_definition import read_definition
from appliance.definition.lock import Artefact
from appliance.errors import ModelMisdescribed
from appliance.planning.locked_model import check_locked_model
from appliance.sources.store import Store
from tests.unit.planning.conftest import TINY, safetensors, tensors_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEFINITION = """\
format: 1
product: demo
version: "1"
sequence: 1
target: {{distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}}
components:
  weights: {{kind: huggingface, repository: org/model, revision: main}}
  engine: {{kind: python, requirements: [vllm]}}
inference: {{engine: engine, model: weights, file: {file}, name: demo}}
"""
TENSORS = tensors_of(TINY)
HALVES = [dict(list(TENSORS.items())[half::2]) for half in (0, 1)]
INDEX = "model.safetensors.index.json"
SHARDS = {f"model-0000{number}-of-00002.safetensors": safetensors(HALVES[number - 1]) for number in (1, 2)}
WEIGHT_MAP = {name: shard for shard, half in zip(SHARDS, HALVES, strict=True) for name in half}
WHOLE: dict[str, bytes] = {
    "config.json": json.dumps(TINY).encode(),
    "model.safetensors": safetensors(TENSORS),
}
SHARDED: dict[str, bytes] = {
    "config.json": WHOLE["config.json"],
    INDEX: json.dumps({"weight_map": WEIGHT_MAP}).encode(),
    **SHARDS,
}


def check(files: Mapping[str, bytes], file: str, tmp_path: Path) -> str:
    store = Store(tmp_path / "store")
    model = []
    for path, data in files.items():
        store.add_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        model.append(
            Artefact(
                path=path,
                name=path,
                version="1",
                size=len(data),
                sha256=digest,
                licence="MIT",
                origin={"kind": "huggingface"},
            )
        )
    read = read_definition(DEFINITION.format(file=file).encode(), "site.yaml")
    return check_locked_model(read, model, store)


def described(**changed: Any) -> bytes:
    return json.dumps({**TINY, **changed}).encode()


@pytest.mark.parametrize("folder", ["", "model/"])
@pytest.mark.parametrize(("files", "file"), [(WHOLE, "model.safetensors"), (SHARDED, INDEX)])
def test_a_model_that_is_what_it_says_is_locked(
    files: dict[str, bytes], file: str, folder: str, tmp_path: Path
) -> None:
    assert check({folder + name: data for name, data in files.items()}, folder + file, tmp_path) == ""


WRONG: dict[str, tuple[dict[str, bytes], str, str]] = {
    "more layers": (
        WHOLE | {"config.json": described(num_hidden_layers=3)},
        "model.safetensors",
        "implies",
    ),
    "more layers than the shards have": (
        SHARDED | {"config.json": described(num_hidden_layers=3)},
        INDEX,
        "implies",
    ),
    "another width": (WHOLE | {"config.json": described(hidden_size=128)}, "model.safetensors", ""),
    "a list": (WHOLE | {"config.json": b"[]"}, "model.safetensors", "does not describe a model"),
    "torn": (WHOLE | {"config.json": b"{"}, "model.safetensors", "does not describe a model"),
    "no description": (
        {"model.safetensors": WHOLE["model.safetensors"]},
        "model.safetensors",
        "has no config.json",
    ),
    "weights cut short": (
        WHOLE | {"model.safetensors": WHOLE["model.safetensors"][:-1]},
        "model.safetensors",
        "",
    ),
}


@pytest.mark.parametrize(("files", "file", "said"), WRONG.values(), ids=WRONG)
def test_a_model_that_is_another_than_it_says_is_refused_where_it_is_named(
    files: dict[str, bytes], file: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelMisdescribed) as caught:
        check(files, file, tmp_path)
    fault = caught.value
    assert fault.exit_code == 4
    assert said in fault.message
    assert fault.message.startswith("weights")
    assert "appliance-model-" not in str(fault.as_dict()), "a folder that is gone again"
    assert str(fault.where).startswith("site.yaml:9:")
    assert fault.found
    assert fault.hint


def test_weights_that_are_not_served_are_not_compared(tmp_path: Path) -> None:
    """Some repositories have the same weights once more, in another layout."""
    other = {"consolidated.safetensors": safetensors({"wq": ("BF16", [4, 4])}), "old.gguf": b"GGUF"}
    assert check(SHARDED | other, INDEX, tmp_path) == ""
    assert check(WHOLE | other, "model.safetensors", tmp_path) == ""


def test_what_nobody_has_worked_out_is_told_and_locked(tmp_path: Path) -> None:
    told = check(WHOLE | {"config.json": described(model_type="mamba2")}, "model.safetensors", tmp_path)
    assert told.startswith("component weights: description and weights are not compared")
    apart = {name: f"shards/{shard}" for name, shard in WEIGHT_MAP.items()}
    moved = {f"shards/{name}": data for name, data in SHARDS.items()}
    index = {INDEX: json.dumps({"weight_map": apart}).encode()}
    assert "other folders" in check(
        {"config.json": WHOLE["config.json"], **index, **moved}, INDEX, tmp_path
    )
