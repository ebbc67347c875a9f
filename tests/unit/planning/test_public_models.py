"""Public models, with the arithmetic done by hand.

The numbers on the right are computed here from the models' published descriptions, step by step, and not
by the code that is tested.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ModelTooLarge
from appliance.hardware.gpus import find_gpu, find_slice
from appliance.planning.architectures import read_config, shape_of
from appliance.planning.cache import Cache
from appliance.planning.engine import VLLM
from appliance.planning.precision import find_precision
from appliance.planning.sizing import Demand, Sizing, size, slices, whole_gpus
from appliance.planning.weights import computed
from tests.unit.planning.public_models import PARAMETERS, PUBLIC

if TYPE_CHECKING:
    from appliance.planning.shapes import ModelShape

MIB = 1024 * 1024
#: An H100 SXM: 81,559 MiB, of which the driver keeps 480; vLLM uses 0.92 of what is left.
H100_BUDGET = int(81_079 * MIB * 92 // 100)
OVERHEAD = 1536 * MIB


def shape(name: str) -> ModelShape:
    return shape_of(read_config(json.dumps(PUBLIC[name]).encode(), name))


def on_h100(name: str, *, together: int = 1, weights: str = "bf16", bits: int = 16) -> Sizing:
    model = shape(name)
    place = whole_gpus(find_gpu("h100-sxm"), gpus=together, together=together)
    return size(model, computed(model, find_precision(weights)), place, VLLM, cache_bits=bits)


@pytest.mark.parametrize("name", PUBLIC)
def test_parameters_come_to_what_the_makers_publish(name: str) -> None:
    assert shape(name).parameters == PARAMETERS[name]


def test_llama_8b_on_one_h100() -> None:
    layer = (
        2 * 4096 * 4096  # queries and output: 32 heads of 128
        + 2 * 1024 * 4096  # keys and values: 8 heads of 128
        + 3 * 14336 * 4096  # gate, up, down
        + 2 * 4096  # norms
    )
    parameters = 32 * layer + 2 * 128256 * 4096 + 4096
    assert shape("llama-3.1-8b").parameters == parameters

    token = 32 * 2 * 8 * 128 * 2  # layers, keys and values, heads, width, bytes: 128 KiB
    room = H100_BUDGET - 2 * parameters - OVERHEAD
    sizing = on_h100("llama-3.1-8b")
    assert (sizing.cache.each_token, sizing.room) == (token, room)
    assert sizing.tokens == room // (16 * token) * 16 == 461_920
    assert dict(sizing.lengths)[8192] == room // (8192 * token) == 56
    assert sizing.longest == 131072


def test_llama_70b_weights_by_precision() -> None:
    """The table of the project's study: 141.1, 70.6, 36.7 GB; 39.8 with embedding and head in 16 bits."""
    model = shape("llama-3.1-70b")
    norms, ends = (2 * 80 + 1) * 8192, 2 * 128256 * 8192
    matrices = 70_553_706_496 - norms - ends
    assert computed(model, find_precision("bf16")).total == 2 * 70_553_706_496 == 141_107_412_992

    rows = 80 * (8192 + 1024 + 1024 + 8192 + 2 * 28672 + 8192)
    int8 = computed(model, find_precision("int8"))
    assert int8.total == matrices + 2 * (norms + ends) + 2 * rows  # a 16-bit scale for each row
    whole = computed(model, find_precision("int8"), throughout=True).total
    assert round(whole / 10**9, 1) == 70.6

    int4 = computed(model, find_precision("int4"))
    assert int4.total == matrices // 2 + matrices // 128 * 20 // 8 + 2 * (norms + ends)
    assert round(int4.total / 10**9, 1) == 39.8
    assert round(computed(model, find_precision("int4"), throughout=True).total / 10**9, 1) == 36.7


def test_llama_70b_on_two_h100() -> None:
    """In 16 bits it fits on two, with 320 KiB for a token and room for 36,928: nine sequences of 4,096."""
    norms = (2 * 80 + 1) * 8192
    each = 2 * norms + (70_553_706_496 - norms)  # norms whole on both, half of all else, two bytes each
    room = H100_BUDGET - each - OVERHEAD
    sizing = on_h100("llama-3.1-70b", together=2)
    assert (sizing.weights, sizing.room) == (each, room)
    token = 80 * 2 * 8 * 128 * 2
    assert token == 320 * 1024
    assert sizing.cache.each_token == token // 2
    assert sizing.tokens == room // (16 * token // 2) * 16 == 36_928
    assert dict(sizing.lengths)[4096] == 9
    assert dict(sizing.lengths)[65536] == 0


def test_llama_70b_fits_one_h100_in_8_bits_only_and_hardly() -> None:
    with pytest.raises(ModelTooLarge) as caught:
        on_h100("llama-3.1-70b")
    assert caught.value.found == "131.42 GiB of weights, 1.50 GiB for vLLM"
    assert "72.84 GiB" in (caught.value.wanted or "")
    sizing = on_h100("llama-3.1-70b", weights="int8")
    weights = computed(shape("llama-3.1-70b"), find_precision("int8")).total
    assert sizing.tokens == (H100_BUDGET - weights - OVERHEAD) // (16 * 320 * 1024) * 16 == 12_000


def test_qwen_7b_keeps_every_token_though_it_names_a_window() -> None:
    sizing = on_h100("qwen2.5-7b")
    token = 28 * 2 * 4 * 128 * 2  # 56 KiB
    room = H100_BUDGET - 2 * 7_615_616_512 - OVERHEAD
    assert sizing.cache.each_token == token == 56 * 1024
    assert dict(sizing.lengths)[131072] == room // (131072 * token) == 8


def test_qwen_looks_through_a_window_where_it_says_so() -> None:
    for used, sliding in ((False, 0), (True, 7)):
        values = {**PUBLIC["qwen2.5-7b"], "use_sliding_window": used, "max_window_layers": 21}
        parts = shape_of(read_config(json.dumps(values).encode(), "config.json")).cache
        assert sum(part.layers for part in parts if part.window == 131072) == sliding
        assert sum(part.layers for part in parts if part.window is None) == 28 - sliding


def test_mistral_7b_keeps_its_window() -> None:
    """Beyond the window a sequence takes no more; while prompts are read, 8,192 tokens do once."""
    sizing = on_h100("mistral-7b-v0.1")
    token = 32 * 2 * 8 * 128 * 2
    room = H100_BUDGET - 2 * 7_241_732_096 - OVERHEAD
    assert dict(sizing.lengths)[4096] == room // (4096 * token) == 115
    assert sizing.cache.sequence_bytes(8192) == (4096 + 16) * token
    beyond = (room - 8192 * token) // ((4096 + 16) * token)
    assert dict(sizing.lengths)[8192] == dict(sizing.lengths)[32768] == beyond == 113


def test_mixtral_keeps_all_experts_resident() -> None:
    model = shape("mixtral-8x7b")
    experts = 32 * 8 * 3 * 4096 * 14336
    assert sum(group.parameters for group in model.tensors if group.experts) == experts
    with pytest.raises(ModelTooLarge):
        on_h100("mixtral-8x7b")
    assert on_h100("mixtral-8x7b", together=2).longest == 32768


def test_deepseek_v3_keeps_one_compressed_vector_on_every_gpu() -> None:
    model = shape("deepseek-v3")
    token = 61 * (512 + 64) * 2
    assert token == 70_272
    for gpus in (1, 8):
        assert Cache(model.cache, 16, gpus, VLLM).each_token == token
    weights = computed(model, find_precision("fp8"))
    place = whole_gpus(find_gpu("h200"), gpus=8, together=8)
    sizing = size(model, weights, place, VLLM, cache_bits=16)
    # On each GPU whole: what compresses queries and keys (with scales), norms, routers and their biases.
    shares = 61 * (1536 * 7168 + 576 * 7168 + 4 * (12 * 56 + 5 * 56))
    copies = 2 * (61 * (2 * 7168 + 1536 + 512) + 7168 + 58 * (256 * 7168 + 256)) + shares
    assert weights.by_split["whole"] == copies
    assert sizing.weights == copies + -(-(weights.total - copies) // 8)
    budget = (143_771 - 640) * MIB * 92 // 100
    assert sizing.tokens == (budget - sizing.weights - OVERHEAD) // (64 * token) * 64 == 730_368
    assert sizing.cache.sequence_bytes(65) == 2 * 64 * token, "FlashMLA's blocks, not those of heads"
    said = [each.how for each in sizing.figures]
    assert f"{copies:,} copied + {weights.total - copies:,} / 8" in said
    assert "61 layers * (512 compressed + 64 position) * 16 bits / 8" in said
    assert any("num_nextn_predict_layers" in note for note in model.notes)


def test_whisper_keeps_the_sound_once_for_each_sequence() -> None:
    model = shape("whisper-large-v3")
    gpu = find_gpu("h100-sxm")
    place = slices(gpu, find_slice(gpu, "1g.10gb"), number=7, together=1)
    weights = computed(model, find_precision("fp16"))
    sizing = size(model, weights, place, VLLM, cache_bits=16, demand=Demand(100, 448))
    position = 32 * 2 * 1280 * 2
    one = 448 * position + 1504 * position  # 1,500 positions of sound, in blocks of 16
    room = 9984 * MIB * 92 // 100 - 2 * 1_543_490_560 - OVERHEAD  # 9.75 GiB
    assert sizing.cache.sequence_bytes(448) == one
    assert dict(sizing.lengths) == {448: room // one}
    assert room // one == 15
    assert sizing.sequences(448) == 105
    assert sizing.fits


def test_fewer_key_value_heads_than_gpus_are_copied() -> None:
    """Qwen3-30B has 4: on 8 GPUs each keeps one whole head, so the cache of a GPU is that of 4 GPUs."""
    model = shape("qwen3-30b-a3b")
    token = 48 * 2 * 4 * 128 * 2
    assert [Cache(model.cache, 16, gpus, VLLM).each_token for gpus in (1, 2, 4, 8)] == [
        token,
        token // 2,
        token // 4,
        token // 4,
    ]
    weights = computed(model, find_precision("bf16"))
    kv = 2 * 48 * 2 * 512 * 2048
    assert weights.by_split["kv"] == kv
    whole, even = weights.by_split["whole"], weights.by_split["even"]
    assert weights.on_each(8, 4) == whole + even // 8 + kv // 4


def test_a_cache_of_8_bits_holds_twice_as_much() -> None:
    assert on_h100("llama-3.1-8b", bits=8).tokens == 923_840


def test_the_sums_that_the_page_writes_out_are_right_and_the_programs() -> None:
    page = (Path(__file__).parents[3] / "docs/plan.md").read_text(encoding="utf-8")
    block = page.partition("### The sums of five of them")[2].split("```")[1]
    sums = [line.split(" = ") for line in block.splitlines() if " = " in line]
    assert len(sums) == 31
    for name, sum_, value in sums:
        worked_out = eval(sum_.replace(",", ""))  # noqa: S307 - sums of our own page
        assert f"{worked_out:,}" == value, name
    models = [part.splitlines() for part in block.split("\n\n")[1:]]
    last = [int(lines[-1].rpartition(" = ")[2].replace(",", "")) for lines in models]
    slice_ = find_slice(find_gpu("h100-sxm"), "1g.10gb")
    whisper = shape("whisper-large-v3")
    assert last == [
        dict(on_h100("llama-3.1-8b").lengths)[8192],
        dict(on_h100("llama-3.1-70b", together=2).lengths)[4096],
        dict(on_h100("qwen2.5-7b").lengths)[131072],
        dict(on_h100("mistral-7b-v0.1").lengths)[32768],
        size(
            whisper,
            computed(whisper, find_precision("fp16")),
            slices(find_gpu("h100-sxm"), slice_, number=7, together=1),
            VLLM,
            cache_bits=16,
            demand=Demand(1, 448),
        ).sequences(448),
    ]
    assert [lines[0][:2] for lines in models] == ["1.", "2.", "3.", "4.", "5."]
