"""``plan size`` as one call: places, GGUF files, policies and settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from appliance.errors import (
    ArchitectureUnsupported,
    GpusTooFew,
    MigLayoutInvalid,
    ModelMisdescribed,
    ModelTooLarge,
    ParallelismImpossible,
    PlanInvalid,
    PrecisionRefused,
)
from appliance.planning.precision import find_policy
from appliance.planning.settings import read_settings
from appliance.planning.size_plan import SizePlan, SizeRequest, plan_size
from appliance.sources.tiny_gguf import generate
from tests.unit.planning.conftest import TINY, tensors_of
from tests.unit.planning.public_models import (
    DEEPSEEK_V3,
    LLAMA_8B,
    LLAMA_70B,
    MISTRAL_7B,
    WHISPER_LARGE_V3,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Describe = Callable[..., Path]

PLANS = Path(__file__).parents[3] / "bundles/plans"


def planned(folder: Path, gpu: str = "h100-sxm", **asked: Any) -> SizePlan:
    return plan_size(SizeRequest(model=folder, gpu=gpu, **asked))


def test_as_few_gpus_as_will_do(described: Describe) -> None:
    folder = described(LLAMA_70B)
    assert planned(folder, gpus=8).sizings[0].place.together == 2
    many = planned(folder, gpus=8, sequences=100, context=8192)
    assert (many.sizings[0].place.together, many.sizings[0].place.instances) == (4, 2)
    assert many.fits
    assert many.served >= 100


def test_a_model_larger_than_its_slice_is_refused_with_what_would_do(described: Describe) -> None:
    with pytest.raises(ModelTooLarge, match="larger than its slice") as caught:
        planned(described(LLAMA_70B), mig="2*3g.40gb", slice="3g.40gb")
    assert "131.42 GiB" in (caught.value.found or "")
    assert "36.34 GiB" in (caught.value.wanted or "")  # 0.92 of 39.50
    assert "2 x NVIDIA H100" in (caught.value.hint or "")
    with pytest.raises(ModelTooLarge) as caught:
        planned(described({**DEEPSEEK_V3, "quantization_config": None}), gpus=8)
    assert caught.value.hint == "no layout of up to 8 x NVIDIA H100 SXM5 80GB holds it"


def test_every_slice_of_a_layout_is_judged(described: Describe) -> None:
    plan = planned(described(LLAMA_8B), mig="all-balanced", gpus=2)
    assert [each.place.name.split()[0] for each in plan.sizings] == ["2g.20gb", "3g.40gb"]
    assert [each.place.instances for each in plan.sizings] == [2, 2]
    assert [name.split()[0] for name, _ in plan.too_large] == ["1g.10gb"]
    asked = planned(described(LLAMA_8B), mig="all-balanced", gpus=2, sequences=1, context=8192)
    assert asked.served == 2 * (1 + 19)


def test_a_demand_that_is_not_met_is_told_with_what_would_do(described: Describe) -> None:
    plan = planned(described(MISTRAL_7B), slice="3g.40gb", sequences=100, context=16384)
    assert not plan.fits
    assert plan.served == 40
    assert [each.text for each in plan.suggestions][-1] == (
        "NVIDIA H100 SXM5 80GB: 113 sequences of 16,384 tokens"
    )
    assert planned(described(MISTRAL_7B), sequences=100, context=16384).suggestions == ()


def test_memory_of_the_machine_itself(described: Describe) -> None:
    folder = described(LLAMA_8B)
    listed = planned(folder).sizings[0]
    assert planned(folder, memory_mib=81079).sizings[0].room == listed.room
    assert planned(folder, memory_mib=81078).sizings[0].room < listed.room
    source = {each.name: each.source for each in planned(folder, memory_mib=81079).sizings[0].figures}
    assert source["memory"] == "given: --memory"


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"gpus": 2, "tensor_parallel": 4}, GpusTooFew),
        ({"gpus": 0}, PlanInvalid),
        ({"mig": "3*3g.40gb"}, MigLayoutInvalid),
        ({"mig": "all-3g.40gb", "gpu": "l40s"}, MigLayoutInvalid),
        ({"mig": "all-3g.40gb", "slice": "2g.20gb"}, PlanInvalid),
        ({"slice": "3g.71gb"}, MigLayoutInvalid),
        ({"slice": "3g.40gb", "tensor_parallel": 2}, ParallelismImpossible),
        ({"mig": "all-balanced", "memory_mib": 40000}, PlanInvalid),
        ({"weights": "q4"}, PlanInvalid),
        ({"cache": "int4"}, PlanInvalid),
        ({"context": 200_000}, PlanInvalid),
    ],
)
def test_questions_that_contradict_themselves(
    described: Describe, asked: dict[str, Any], kind: type[PlanInvalid]
) -> None:
    with pytest.raises(kind) as caught:
        planned(described(LLAMA_8B), **{"gpu": "h100-sxm", **asked})
    assert caught.value.found
    assert caught.value.wanted
    assert caught.value.exit_code == 3


def test_a_policy_looks_at_what_files_hold(described: Describe) -> None:
    clinical = find_policy("clinical")
    assert planned(described(TINY, tensors_of(TINY)), policy=clinical).fits
    eight = described(TINY, tensors_of(TINY, "F8_E4M3"))
    with pytest.raises(PrecisionRefused, match="weights") as caught:
        planned(eight, policy=clinical)
    assert caught.value.found == "F8_E4M3, 8 bits"
    with pytest.raises(PrecisionRefused, match="cache"):
        planned(described(TINY, tensors_of(TINY)), policy=clinical, cache="fp8")
    mixed = {**tensors_of(TINY), "model.layers.1.mlp.up_proj.weight": ("F8_E4M3", [128, 64])}
    with pytest.raises(PrecisionRefused, match="weights") as caught:  # one matrix is enough
        planned(described(TINY, mixed), policy=clinical)
    assert caught.value.found == "BF16 and F8_E4M3, 8 bits"
    (eight / "model.safetensors").unlink()
    with pytest.raises(PrecisionRefused, match="weights"):
        planned(described(DEEPSEEK_V3), gpu="h200", gpus=8, policy=clinical)
    rows = {each.name: each.allowed for each in planned(described(LLAMA_8B), policy=clinical).precisions}
    assert rows == {"bf16": True, "fp8": False, "int8": False, "int4": False}


def small_gguf(path: Path, **change: Any) -> Path:
    """A GGUF file of the llama architecture; ``change`` lies about it."""
    says = {"blocks": 2, "heads": 4, "kv": 2, "hidden": 256, "arch": "llama", **change}
    writer = gguf.GGUFWriter(path, says["arch"])
    writer.add_block_count(says["blocks"])
    writer.add_embedding_length(says["hidden"])
    writer.add_head_count(says["heads"])
    if says["kv"] is not None:
        writer.add_head_count_kv(says["kv"])
    writer.add_context_length(4096)
    kind = gguf.GGMLQuantizationType.Q8_0
    for layer in range(2):
        for name, rows in (("attn_q", 256), ("attn_k", 128), ("attn_v", 128), ("attn_output", 256)):
            data = gguf.quantize(np.zeros((rows, 256), np.float32), kind)
            writer.add_tensor(f"blk.{layer}.{name}.weight", data, raw_dtype=kind)
    writer.add_tensor("token_embd.weight", np.zeros((32, 256), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file(tmp_path: Path) -> None:
    plan = planned(small_gguf(tmp_path / "small.gguf"), sequences=4, context=1000)
    assert plan.engine.name == "llama.cpp"
    assert plan.weights.precision == "Q8_0"
    assert plan.weights.bits == 8
    matrices = 2 * (256 + 128 + 128 + 256) * 256
    assert plan.weights.parameters == matrices + 32 * 256
    assert plan.weights.total == matrices // 32 * 34 + 2 * 32 * 256
    assert plan.sizings[0].cache.each_token == 2 * 2 * 2 * 64 * 2
    assert plan.sizings[0].cache.sequence_bytes(1000) == 1024 * 2 * 2 * 2 * 64 * 2  # in cells of 256
    assert planned(tmp_path).weights == plan.weights  # the folder that holds it alone
    (tmp_path / "config.json").write_text("{}")  # as repositories of GGUF files have it beside them
    assert planned(tmp_path).weights == plan.weights
    small_gguf(tmp_path / "other.gguf")
    with pytest.raises(ModelMisdescribed, match="several"):
        planned(tmp_path)
    (tmp_path / "other.gguf").unlink()
    assert plan.precisions == ()
    with pytest.raises(PlanInvalid, match="another precision"):
        planned(tmp_path, weights="int4")
    with pytest.raises(ParallelismImpossible, match=r"llama\.cpp"):
        planned(tmp_path, gpus=2, tensor_parallel=2)
    with pytest.raises(PrecisionRefused):
        planned(tmp_path, policy=find_policy("clinical"))


def test_the_generated_model_of_the_demonstration(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(generate("This answer was computed on this node, with no way out."))
    plan = planned(path, gpu="l40s", sequences=1, context=8192)
    assert plan.fits
    assert plan.weights.bits == 16


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"kv": 4}, ModelMisdescribed),
        ({"kv": 1}, ModelMisdescribed),
        ({"kv": 3}, ModelMisdescribed),
        ({"kv": None}, ModelMisdescribed),  # then as many as heads
        ({"blocks": 1}, ModelMisdescribed),
        ({"blocks": 3}, ModelMisdescribed),
        ({"hidden": 128}, ModelMisdescribed),
        ({"heads": 8}, ModelMisdescribed),
        ({"arch": "mamba"}, ArchitectureUnsupported),
        ({"arch": "deepseek2"}, ArchitectureUnsupported),
    ],
)
def test_a_gguf_file_that_lies(tmp_path: Path, change: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        planned(small_gguf(tmp_path / "small.gguf", **change))


def test_a_gguf_file_that_is_none(tmp_path: Path) -> None:
    path = small_gguf(tmp_path / "small.gguf")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelMisdescribed, match="cut short"):
        planned(path)


@pytest.mark.parametrize(
    ("name", "model"),
    [("8b", LLAMA_8B), ("70b", LLAMA_70B), ("speech", WHISPER_LARGE_V3), ("ollama", LLAMA_8B)],
)
def test_the_plans_that_ship_are_kept_by_public_models(
    described: Describe, name: str, model: dict[str, Any]
) -> None:
    path = PLANS / f"{name}.yaml"
    written = read_settings(path.read_bytes(), path)
    assert written.gpu is not None
    assert written.precision is not None
    request = SizeRequest(
        model=described(model),
        gpu=written.gpu,
        gpus=written.gpus or 1,
        tensor_parallel=written.tensor_parallel,
        mig=written.mig,
        slice=written.slice,
        sequences=written.sequences,
        context=written.context,
        policy=written.precision.resolved(),
    )
    assert request.policy is not None
    assert request.policy.weight_bits == 16
    assert plan_size(request).fits
    with pytest.raises(PrecisionRefused):
        plan_size(SizeRequest(**{**vars(request), "weights": "fp8"}))


def test_every_plan_that_ships_is_tried() -> None:
    assert sorted(each.stem for each in PLANS.iterdir()) == ["70b", "8b", "ollama", "speech"]


@pytest.mark.parametrize(
    ("text", "said", "where"),
    [
        ("format: 2\n", "format 1", "1:9"),
        ("format: 1\ngpux: h100\n", "gpux", "2:1"),
        ("format: 1\ngpus: 0\n", "gpus", "2:7"),
        ("format: 1\ngpus: two\n", "gpus", "2:7"),
        ("format: 1\nprecision: {weight_bits: 16}\n", "reason", "2:12"),
        ("format: 1\nprecision: {policy: clinical, weight_bits: 4}\n", "not both", "2:12"),
        ("format: 1\nformat: 1\n", "twice", "2:1"),
    ],
)
def test_settings_that_are_wrong_are_shown_by_line(text: str, said: str, where: str) -> None:
    with pytest.raises(PlanInvalid) as caught:
        read_settings(text.encode(), "plan.yaml")
    shown = f"{caught.value.message} {caught.value.found} {caught.value.wanted}"
    assert said in shown
    assert str(caught.value.where) == f"plan.yaml:{where}"


def test_settings_name_a_policy_that_exists() -> None:
    written = read_settings(b"format: 1\nprecision: {policy: legal}\n", "plan.yaml")
    assert written.precision is not None
    with pytest.raises(PlanInvalid, match="no such precision policy"):
        written.precision.resolved()
