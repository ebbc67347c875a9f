"""Models on a disk: what is read of them, and descriptions that are not those of their weights."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import (
    ApplianceError,
    ArchitectureUnsupported,
    FormatRefused,
    ModelMisdescribed,
    PlanInvalid,
)
from appliance.planning.model_files import open_model
from tests.unit.planning.conftest import TINY, safetensors, tensors_of
from tests.unit.planning.public_models import DEEPSEEK_V3, LLAMA_8B

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Describe = Callable[..., Path]

KEYS = "model.layers.0.self_attn.k_proj.weight"
#: DeepSeek-V3 in small: latent attention, one dense layer, one with experts, one for further tokens.
LATENT: dict[str, Any] = {
    **DEEPSEEK_V3,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "first_k_dense_replace": 1,
    "num_attention_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 4,
    "v_head_dim": 4,
    "intermediate_size": 64,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "vocab_size": 40,
    "quantization_config": None,
}


def refused(path: Path, kind: type[ApplianceError] = ModelMisdescribed) -> ApplianceError:
    with pytest.raises(kind) as caught:
        open_model(path)
    assert caught.value.found
    return caught.value


def test_weights_are_what_their_headers_say(described: Describe) -> None:
    folder = described(TINY, tensors_of(TINY))
    for path in (folder, folder / "model.safetensors"):
        model = open_model(path)
        assert model.weights is not None
        assert model.weights.total == 2 * model.shape.parameters
        assert (model.weights.bits, model.weights.precision) == (16, "BF16")
    alone = open_model(folder / "config.json")  # the description was given, so the description is read
    assert alone.weights is None
    assert alone.weights_in(None).total == model.weights.total


def test_numbers_are_not_read(described: Describe) -> None:
    """A sparse file of a hundred gigabytes is planned as quickly as any."""
    huge = {**TINY, "vocab_size": 400_000_000}
    folder = described(huge)
    data = safetensors({})
    header: dict[str, Any] = {}
    reached = 0
    for name, (dtype, shape) in tensors_of(huge).items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [reached, reached + size]}
        reached += size
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text
    with (folder / "model.safetensors").open("wb") as opened:
        opened.write(data)
        opened.truncate(len(data) + reached)
    model = open_model(folder)
    assert model.weights is not None
    assert model.weights.total == reached > 100 * 10**9


def test_slices_of_a_bundle_are_one_file(described: Describe) -> None:
    folder = described(TINY, tensors_of(TINY))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    cut = len(whole) - 1000
    (folder / "model.safetensors.slice-0000").write_bytes(whole[:cut])
    (folder / "model.safetensors.slice-0001").write_bytes(whole[cut:])
    model = open_model(folder)
    assert model.weights is not None
    assert model.weights.total == 2 * model.shape.parameters
    assert open_model(folder / "model.safetensors.slice-0000").weights == model.weights
    (folder / "model.safetensors.slice-0001").unlink()
    assert "describes" in refused(folder).message
    (folder / "model.safetensors.slice-0002").write_bytes(whole[cut:])
    assert "not whole" in refused(folder).message


def test_layers_for_further_tokens_are_not_loaded(described: Describe) -> None:
    tensors = tensors_of(LATENT)
    further = {"model.layers.2.eh_proj.weight": ("BF16", [32, 64])}
    model = open_model(described(LATENT, {**tensors, **further}))
    assert model.weights is not None
    assert model.weights.total == 2 * model.shape.parameters
    again = {**LATENT, "num_nextn_predict_layers": 0}
    assert "more layers" in refused(described(again, {**tensors, **further})).message


def test_quantised_weights_are_summed_and_not_compared(described: Describe) -> None:
    """AWQ packs eight numbers of 4 bits into one of 32, under other names; the policy sees 4 bits."""
    values = {**TINY, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 32}}
    tensors: dict[str, tuple[str, list[int]]] = {}
    for name, (dtype, shape) in tensors_of(TINY).items():
        if name.endswith("_proj.weight"):
            module = name.removesuffix(".weight")
            rows, columns = shape
            tensors[f"{module}.qweight"] = ("I32", [columns, rows // 8])
            tensors[f"{module}.scales"] = ("F16", [columns // 32, rows])
        else:
            tensors[name] = (dtype, shape)
    model = open_model(described(values, tensors))
    assert model.weights is not None
    assert model.weights.bits == 4
    matrices = sum(s[0] * s[1] for n, (_, s) in tensors_of(TINY).items() if n.endswith("_proj.weight"))
    others = model.shape.parameters - matrices
    assert model.weights.total == matrices // 2 + matrices // 32 * 2 + 2 * others
    assert model.stated == "int4"
    for change in ({"num_key_value_heads": 1}, {"num_hidden_layers": 3}, {"head_dim": 8}):
        refused(described({**values, **change}, tensors))
    without = {name: each for name, each in tensors.items() if ".1.mlp.up_proj." not in name}
    assert "up_proj" in refused(described(values, without)).message


def test_the_precision_that_is_stated(described: Describe) -> None:
    assert open_model(described(LLAMA_8B)).stated == "bfloat16"
    assert open_model(described(DEEPSEEK_V3)).weights_in(None).precision == "fp8"
    silent = open_model(described({k: v for k, v in TINY.items() if k != "torch_dtype"}))
    with pytest.raises(PlanInvalid, match="does not say in which precision"):
        silent.weights_in(None)
    assert silent.weights_in("fp8").bits == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_key_value_heads": 4}, KEYS),  # twice the cache
        ({"num_key_value_heads": 1}, KEYS),  # half the cache: more would seem to fit
        ({"head_dim": 8}, "q_proj"),
        ({"hidden_size": 32}, "embed_tokens"),
        ({"num_hidden_layers": 1}, "more layers"),
        ({"num_hidden_layers": 3}, "have no"),
        ({"intermediate_size": 64}, "mlp"),
        ({"vocab_size": 48}, "embed_tokens"),
        ({"attention_bias": True}, "have no 'model.layers.0.self_attn.q_proj.bias'"),
        ({"model_type": "qwen3"}, "q_norm"),
    ],
)
def test_a_description_of_another_model(described: Describe, change: dict[str, Any], said: str) -> None:
    folder = described({**TINY, **change}, tensors_of(TINY))
    fault = refused(folder)
    assert said in fault.message
    assert fault.wanted
    assert fault.hint
    assert fault.exit_code == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": 0}, "no possible number"),
        ({"num_hidden_layers": -1}, "no possible number"),
        ({"num_hidden_layers": 2.0}, "no possible number"),
        ({"num_hidden_layers": True}, "no possible number"),
        ({"num_hidden_layers": "2"}, "no possible number"),
        ({"num_hidden_layers": 1 << 40}, "no possible number"),
        ({"num_hidden_layers": None}, "num_hidden_layers is missing"),
        ({"num_key_value_heads": 3}, "does not divide"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "does not divide"),
        ({"max_position_embeddings": None}, "max_position_embeddings is missing"),
        ({"tie_word_embeddings": "no"}, "neither true nor false"),
        ({"model_type": None}, "model_type is missing"),
        ({"model_type": 7}, "no text"),
        ({"quantization_config": "fp8"}, "no object"),
        ({"sliding_window": 16, "layer_types": ["full_attention"]}, "layer_types"),
        ({"sliding_window": 16, "layer_types": ["full_attention", "linear"]}, "layer_types"),
    ],
)
def test_a_description_that_cannot_be(described: Describe, change: Mapping[str, Any], said: str) -> None:
    assert said in refused(described({**TINY, **change})).message


def test_a_key_that_is_written_twice(described: Describe) -> None:
    folder = described(TINY)
    text = json.dumps(TINY)
    (folder / "config.json").write_text('{"num_key_value_heads": 4, ' + text[1:])
    assert "twice" in (refused(folder).found or "")


def test_what_nobody_has_worked_out_is_not_guessed(described: Describe) -> None:
    for kind in ("mamba2", "qwen3_next", "gemma3", "deepseek_v32"):
        fault = refused(described({**TINY, "model_type": kind}), ArchitectureUnsupported)
        assert fault.found == kind
    mixed = {**TINY, "model_type": "qwen3_moe", "num_experts": 2, "moe_intermediate_size": 8}
    assert "no experts" in refused(described({**mixed, "mlp_only_layers": [0]})).message


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"{", b'{"model_type": "llama", "model_type": "qwen2"}', b"[" * 100_000, b"\xff"],
)
def test_a_description_that_is_none(described: Describe, data: bytes) -> None:
    folder = described(TINY)
    (folder / "config.json").write_bytes(data)
    refused(folder)


def test_a_description_that_is_too_long(described: Describe) -> None:
    folder = described(TINY)
    os.truncate(folder / "config.json", (64 << 20) + 1)
    assert "too long" in refused(folder).message


def test_nothing_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    assert "is no file" in refused(tmp_path).message
    assert "is no file" in refused(tmp_path / "config.json").message


def test_a_missing_description(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors(tensors_of(TINY)))
    assert "no config.json" in refused(tmp_path).message
    assert "cannot be read" in refused(tmp_path / "nothing" / "model.safetensors").message
    assert "is no model" in refused(tmp_path / "model.onnx").message


def test_weights_that_can_run_code(described: Describe) -> None:
    folder = described(TINY)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert refused(folder, FormatRefused).found == "pytorch_model.bin"
    refused(folder / "pytorch_model.bin", FormatRefused)


def test_weights_that_are_not_all_there(described: Describe) -> None:
    folder = described(TINY, tensors_of(TINY))
    names = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    fault = refused(folder)
    assert "model-00002-of-00002.safetensors" in (fault.found or "")
    for wrong in ("[]", "{}", '{"weight_map": 3}', "{"):
        index.write_text(wrong)
        assert "no index" in refused(folder).message


def test_headers_that_lie(described: Describe) -> None:
    right = tensors_of(TINY)
    folder = described(TINY, right)
    path = folder / "model.safetensors"
    data = path.read_bytes()
    for wrong in (
        data[:-1],
        data + b"x",
        data[:4],
        b"",
        data.replace(b'"BF16"', b'"F999"', 1),
        data.replace(b'"BF16"', b'"F32" ', 1),  # a type that would need twice the bytes
        data.replace(b"[96, 64]", b"[96, 65]", 1),
        data.replace(b"[96, 64]", b'["96",4]', 1),
        data.replace(b'"shape"', b'"shapf"', 1),
    ):
        assert wrong != data
        path.write_bytes(wrong)
        refused(folder)
    shutil.copy(folder / "config.json", folder / "copy.json")
    path.write_bytes(data)
    (folder / "again.safetensors").write_bytes(data)
    assert "twice" in refused(folder).message
