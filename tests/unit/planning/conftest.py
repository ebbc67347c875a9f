"""Models to plan for: public descriptions as files, and tiny models with real headers."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from appliance.planning.architectures import read_config, shape_of
from appliance.planning.weights import DTYPE_BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: A Llama small enough to write whole.
TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "vocab_size": 96,
    "torch_dtype": "bfloat16",
}


def tensors_of(values: Mapping[str, Any], dtype: str = "BF16") -> dict[str, tuple[str, list[int]]]:
    """What the weights of a model are by its description: name -> type and shape."""
    shape = shape_of(read_config(json.dumps(values).encode(), "config.json"))
    return {name: (dtype, list(group.shape)) for group in shape.tensors for name in group.names()}


def safetensors(tensors: Mapping[str, tuple[str, list[int]]]) -> bytes:
    """A safetensors file of zeros."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    reached = 0
    for name, (dtype, shape) in tensors.items():
        size = -(-math.prod(shape) * DTYPE_BITS.get(dtype, 8) // 8)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [reached, reached + size]}
        reached += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(reached)


@pytest.fixture
def described(tmp_path: Path) -> Callable[..., Path]:
    """A model's folder with its description, and its weights if there are any."""

    def write(
        values: Mapping[str, Any], tensors: Mapping[str, tuple[str, list[int]]] | None = None
    ) -> Path:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(values))
        if tensors is not None:
            (folder / "model.safetensors").write_bytes(safetensors(tensors))
        return folder

    return write
