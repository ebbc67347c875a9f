"""What a description says of quantisation: bits of matrices, and of the cache that an engine then keeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.cli.plan_text import size_text
from appliance.errors import ModelMisdescribed, PrecisionRefused
from appliance.planning.model_files import open_model
from appliance.planning.precision import find_policy
from appliance.planning.size_plan import SizeRequest, plan_size
from tests.unit.planning.conftest import TINY, tensors_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Describe = Callable[..., Path]

FLOAT_8 = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}


def compressed(*weights: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A configuration as llm-compressor writes it."""
    groups = {
        f"group_{index}": {"targets": ["Linear"], "weights": each} for index, each in enumerate(weights)
    }
    return {"quant_method": "compressed-tensors", "config_groups": groups, **more}


@pytest.mark.parametrize(
    ("quantised", "stated"),
    [
        (compressed({"num_bits": 8, "type": "float"}), "fp8"),
        (compressed({"num_bits": 8, "type": "int"}), "int8"),
        (compressed({"num_bits": 4, "type": "int"}), "int4"),
        (compressed({"num_bits": 8, "type": "int"}, {"num_bits": 4, "type": "int"}), None),
        (compressed({"num_bits": 4, "type": "float"}), None),
        (compressed(kv_cache_scheme=FLOAT_8), "bfloat16"),  # the weights are as they were
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, None),
        ({"quant_method": "fbgemm_fp8"}, "fp8"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "awq", "bits": 3}, None),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, None),
    ],
)
def test_the_precision_that_a_method_states(
    described: Describe, quantised: dict[str, Any], stated: str | None
) -> None:
    assert open_model(described({**TINY, "quantization_config": quantised})).stated == stated


@pytest.mark.parametrize(
    ("quantised", "dtype", "bits"),
    [
        (compressed({"num_bits": 8, "type": "int"}), "I8", 8),  # as they are, and not two in one
        (compressed({"num_bits": 4, "type": "int"}), "I32", 4),
        (compressed({"num_bits": 8, "type": "int"}, {"num_bits": 4, "type": "int"}), "I32", 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "I8", 8),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "U8", 4),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "U8", 4),
    ],
)
def test_bits_of_packed_numbers_are_those_of_the_method(
    described: Describe, quantised: dict[str, Any], dtype: str, bits: int
) -> None:
    tensors = {
        name: (dtype if name.endswith("_proj.weight") else kind, shape)
        for name, (kind, shape) in tensors_of(TINY).items()
    }
    model = open_model(described({**TINY, "quantization_config": quantised}, tensors))
    assert model.weights is not None
    assert model.weights.bits == bits


CACHES = [
    compressed(kv_cache_scheme=FLOAT_8),
    {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
    {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": FLOAT_8},
    {"quant_method": "modelopt", "quantization": {"kv_cache_quant_algo": "fp8"}},
]


@pytest.mark.parametrize("quantised", CACHES)
def test_an_engine_keeps_the_cache_that_the_description_says(
    described: Describe, quantised: dict[str, Any]
) -> None:
    """Weights of 16 bits, and still a cache of 8: nobody asked for it, and a policy must see it."""
    folder = described({**TINY, "quantization_config": quantised}, tensors_of(TINY))
    plan = plan_size(SizeRequest(model=folder, gpu="h100-sxm"))
    assert plan.cache_bits == 8
    assert "cache in 8 bits, as the model's own description says; longest" in size_text(plan, explain=False)
    whole = plan_size(SizeRequest(model=described(TINY, tensors_of(TINY)), gpu="h100-sxm"))
    assert whole.cache_bits == 16
    assert "cache in 16 bits; longest" in size_text(whole, explain=False)
    assert plan.sizings[0].cache.each_token * 2 == whole.sizings[0].cache.each_token
    described({**TINY, "quantization_config": quantised}, tensors_of(TINY))
    with pytest.raises(PrecisionRefused, match="does not allow cache") as caught:
        plan_size(SizeRequest(model=folder, gpu="h100-sxm", policy=find_policy("clinical")))
    assert "quantization_config" in (caught.value.found or "")


def test_a_cache_that_is_said_beside_the_description(described: Describe) -> None:
    """Older ones of modelopt have a file of their own, which an engine reads where there is no other."""
    folder = described(TINY, tensors_of(TINY))
    beside = folder / "hf_quant_config.json"
    beside.write_text(json.dumps({"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}))
    assert open_model(folder).cache_bits == 8
    described({**TINY, "quantization_config": {"quant_method": "fp8"}}, tensors_of(TINY))
    assert open_model(folder).cache_bits is None
    described(TINY, tensors_of(TINY))
    for wrong in ("", "[]", '{"quantization": 3}'):
        beside.write_text(wrong)
        with pytest.raises(ModelMisdescribed, match=r"hf_quant_config\.json"):
            open_model(folder)


@pytest.mark.parametrize(
    ("quantised", "said"),
    [
        (compressed(kv_cache_scheme={"num_bits": 4, "type": "float"}), "num_bits"),
        (compressed(kv_cache_scheme="fp8"), "kv_cache_scheme is no object"),
        (compressed(kv_cache_scheme={}), "num_bits is missing"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "NVFP4"}, "kv_cache_quant_algo"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": 8}, "kv_cache_quant_algo is no text"),
        (compressed({"num_bits": "8", "type": "int"}), "num_bits is no possible number"),
        (compressed({"num_bits": -8, "type": "int"}), "num_bits is no possible number"),
        ({"quant_method": "compressed-tensors", "config_groups": []}, "config_groups is no object"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": 1}}, "a is no object"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": 1}, "neither true nor false"),
        ({"quant_method": 8}, "quant_method is no text"),
    ],
)
def test_what_cannot_be_or_nobody_has_worked_out(
    described: Describe, quantised: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelMisdescribed, match=said) as caught:
        open_model(described({**TINY, "quantization_config": quantised}))
    assert caught.value.found
    assert caught.value.wanted


def test_a_cache_that_is_not_quantised_is_as_asked(described: Describe) -> None:
    for scheme in (
        compressed(kv_cache_scheme=None),
        {"quant_method": "modelopt", "kv_cache_quant_algo": None},
    ):
        assert open_model(described({**TINY, "quantization_config": scheme})).cache_bits is None
