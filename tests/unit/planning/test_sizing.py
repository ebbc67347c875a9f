"""What fits: rules that hold whatever the numbers are, and demands that cannot be met."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import (
    ApplianceError,
    GpusTooFew,
    ModelTooLarge,
    ParallelismImpossible,
    PlanInvalid,
    PrecisionRefused,
)
from appliance.hardware.gpus import find_gpu, find_slice
from appliance.planning.architectures import read_config, shape_of
from appliance.planning.cache import Cache
from appliance.planning.engine import LLAMA_CPP, VLLM, adjusted
from appliance.planning.precision import cache_bits, check_policy, find_policy, find_precision
from appliance.planning.sizing import Demand, size, slices, whole_gpus
from appliance.planning.suggestion import suggest
from appliance.planning.weights import computed
from tests.unit.planning.public_models import PUBLIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.planning.shapes import ModelShape

H100 = find_gpu("h100-sxm")
SHAPES = {name: shape_of(read_config(json.dumps(values).encode(), name)) for name, values in PUBLIC.items()}
shapes = st.sampled_from(sorted(SHAPES)).map(SHAPES.__getitem__)
rooms = st.integers(0, 1 << 41)
contexts = st.integers(1, 1 << 18)
gpus = st.sampled_from([1, 2, 4, 8])
bits = st.sampled_from([8, 16])
lenient = settings(deadline=None, max_examples=60)  # a loaded machine is no fault


@lenient
@given(shape=shapes, one=rooms, other=rooms, context=contexts, gpus=gpus, bits=bits)
def test_more_memory_never_fits_fewer_sequences(
    *, shape: ModelShape, one: int, other: int, context: int, gpus: int, bits: int
) -> None:
    cache = Cache(shape.cache, bits, gpus, VLLM)
    less, more = sorted((one, other))
    assert cache.sequences(less, context) <= cache.sequences(more, context)
    assert cache.longest(less, shape.context) <= cache.longest(more, shape.context)


@lenient
@given(shape=shapes, room=rooms, one=contexts, other=contexts, gpus=gpus, bits=bits)
def test_longer_sequences_are_never_more(
    *, shape: ModelShape, room: int, one: int, other: int, gpus: int, bits: int
) -> None:
    cache = Cache(shape.cache, bits, gpus, VLLM)
    short, long = sorted((one, other))
    assert cache.sequences(room, short) >= cache.sequences(room, long)


@lenient
@given(shapes, rooms, contexts, bits)
def test_more_gpus_for_an_instance_never_hold_less(
    shape: ModelShape, room: int, context: int, bits: int
) -> None:
    numbers = [Cache(shape.cache, bits, each, VLLM).sequences(room, context) for each in (1, 2, 4, 8)]
    assert numbers == sorted(numbers)


@lenient
@given(shapes, rooms, contexts, gpus, bits)
def test_what_is_said_to_fit_fits_and_one_more_does_not(
    shape: ModelShape, room: int, context: int, gpus: int, bits: int
) -> None:
    cache = Cache(shape.cache, bits, gpus, VLLM)
    number = cache.sequences(room, context)

    def takes(sequences: int) -> int:
        return sequences * cache.sequence_bytes(context) + cache.batch_bytes(context)

    assert number == 0 or takes(number) <= room
    assert takes(number + 1) > room


@lenient
@given(shapes, rooms, gpus)
def test_the_longest_sequence_fits_and_a_longer_does_not(shape: ModelShape, room: int, gpus: int) -> None:
    cache = Cache(shape.cache, 16, gpus, VLLM)
    longest = cache.longest(room, shape.context)
    assert longest == 0 or cache.sequences(room, longest) >= 1
    assert longest == shape.context or cache.sequences(room, longest + 1) == 0


@lenient
@given(shapes, gpus)
def test_gpus_together_hold_at_least_the_weights(shape: ModelShape, gpus: int) -> None:
    for name in ("bf16", "fp8", "int4"):
        weights = computed(shape, find_precision(name))
        assert weights.on_each(1, shape.kv_heads) == weights.total
        assert gpus * weights.on_each(gpus, shape.kv_heads) >= weights.total
        assert weights.on_each(gpus, shape.kv_heads) <= weights.total


@lenient
@given(shapes, st.integers(1, 200_000))
def test_memory_is_accounted_for_to_the_byte(shape: ModelShape, mib: int) -> None:
    """Weights, engine, cache and what the engine leaves free are the memory; or it is refused."""
    weights = computed(shape, find_precision("fp8"))
    place = whole_gpus(H100, gpus=1, together=1, memory_mib=mib)
    try:
        sizing = size(shape, weights, place, VLLM, cache_bits=16)
    except ModelTooLarge:
        assert weights.total + VLLM.overhead > mib * (1 << 20) * 92 // 100
        return
    figures = {each.name: each.value for each in sizing.figures}
    assert figures["budget"] == mib * (1 << 20) * 92 // 100
    assert figures["weights_on_each"] + figures["overhead"] + figures["cache"] == figures["budget"]
    assert sizing.room >= 0


def test_every_number_says_where_it_comes_from() -> None:
    shape = SHAPES["llama-3.1-8b"]
    weights = computed(shape, find_precision("bf16"))
    sizing = size(
        shape, weights, whole_gpus(H100, gpus=1, together=1), VLLM, cache_bits=16, demand=Demand(1, 5000)
    )
    assert all(each.how and each.source for each in sizing.figures)
    named = {each.name for each in sizing.figures}
    assert {f"sequences_of_{context}" for context, _ in sizing.lengths} <= named
    assert "sequences_of_5000" in named
    by_name = {each.name: each for each in sizing.figures}
    assert by_name["cache_of_token_1"].how == "32 layers * 2 (keys, values) * 8 heads * 128 * 16 bits / 8"
    assumed = {each.name for each in sizing.figures if each.source.startswith("assumed")}
    assert assumed == {"budget", "overhead"}


def test_gpus_beyond_one_instance_serve_more() -> None:
    shape = SHAPES["llama-3.1-8b"]
    weights = computed(shape, find_precision("bf16"))
    place = whole_gpus(H100, gpus=7, together=2)
    assert (place.instances, place.spare) == (3, 1)
    sizing = size(shape, weights, place, VLLM, cache_bits=16)
    assert sizing.sequences(8192) == 3 * dict(sizing.lengths)[8192]


def llama(**change: Any) -> ModelShape:
    values = {**PUBLIC["llama-3.1-8b"], **change}
    return shape_of(read_config(json.dumps(values).encode(), "config.json"))


def judged(shape: ModelShape, *, together: int = 1, gpus: int = 8, **options: Any) -> None:
    weights = computed(shape, find_precision("bf16"))
    size(shape, weights, whole_gpus(H100, gpus=gpus, together=together), VLLM, cache_bits=16, **options)


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: whole_gpus(H100, gpus=2, together=4), GpusTooFew, "at least 4"),
        (lambda: whole_gpus(H100, gpus=0, together=1), PlanInvalid, "1 or more"),
        (lambda: whole_gpus(H100, gpus=1, together=-1), PlanInvalid, "1 or more"),
        (lambda: whole_gpus(H100, gpus=1, together=1, memory_mib=0), PlanInvalid, "MiB"),
        (
            lambda: slices(H100, find_slice(H100, "3g.40gb"), number=2, together=2),
            ParallelismImpossible,
            "one slice",
        ),
        (lambda: judged(llama(), together=3), ParallelismImpossible, "divide without rest"),
        (lambda: judged(SHAPES["qwen2.5-7b"], together=8), ParallelismImpossible, "divide without rest"),
        (lambda: judged(llama(), demand=Demand(1, 131073)), PlanInvalid, "at most 131,072"),
        (lambda: judged(llama(), demand=Demand(0, 1)), PlanInvalid, "at least one"),
        (lambda: judged(llama(), demand=Demand(1, 0)), PlanInvalid, "at least one"),
        (lambda: judged(SHAPES["llama-3.1-70b"]), ModelTooLarge, "72.84 GiB"),
        (lambda: find_precision("q4"), PlanInvalid, "int4"),
        (lambda: cache_bits("int4"), PlanInvalid, "fp8"),
        (lambda: find_policy("legal"), PlanInvalid, "clinical"),
        (lambda: adjusted(VLLM, utilisation="1.1"), PlanInvalid, "at most 1"),
        (lambda: adjusted(VLLM, utilisation="0"), PlanInvalid, "at most 1"),
        (lambda: adjusted(VLLM, utilisation="NaN"), PlanInvalid, "at most 1"),
        (lambda: adjusted(VLLM, utilisation="much"), PlanInvalid, "at most 1"),
        (lambda: adjusted(VLLM, overhead_gib="-1"), PlanInvalid, "from 0"),
        (lambda: adjusted(VLLM, overhead_gib="Infinity"), PlanInvalid, "from 0"),
    ],
)
def test_what_cannot_be(call: Callable[[], object], kind: type[ApplianceError], said: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert said in (caught.value.wanted or "")
    assert caught.value.found


def test_key_value_heads_are_divided_or_copied_and_nothing_between() -> None:
    odd = llama(num_attention_heads=24, num_key_value_heads=4, head_dim=128, intermediate_size=43008)
    judged(odd, together=12, gpus=12)  # three copies of each head
    with pytest.raises(ParallelismImpossible) as caught:
        judged(odd, together=6)
    assert caught.value.found == "6 GPUs; key-value heads: 4"


def test_a_number_of_gpus_that_divides_is_named() -> None:
    """28 heads and 4 key-value heads: 7 divides the first, 4 all of them."""
    with pytest.raises(ParallelismImpossible) as caught:
        judged(SHAPES["qwen2.5-7b"], together=8)
    assert caught.value.hint == "--tensor-parallel 4"


@pytest.mark.parametrize(("words", "divides"), [(32_064, False), (32_000, True), (31_999, True)])
def test_the_vocabulary_divides_in_whole_pads(*, words: int, divides: bool) -> None:
    """Phi-3-medium: heads and widths divide by 5, and vLLM ends where the padded vocabulary does not."""
    medium = llama(
        hidden_size=5120,
        num_attention_heads=40,
        num_key_value_heads=10,
        intermediate_size=17920,
        num_hidden_layers=40,
        vocab_size=words,
    )
    if divides:
        judged(medium, together=5)
        return
    with pytest.raises(ParallelismImpossible) as caught:
        judged(medium, together=5)
    assert caught.value.found == "5 GPUs; vocabulary in pads of 64: 32064"


@pytest.mark.parametrize("name", ["deepseek-v3", "whisper-large-v3"])
def test_every_kind_of_model_has_a_vocabulary_to_divide(name: str) -> None:
    assert [each for each in SHAPES[name].widths if each.startswith("vocabulary")]


def test_llama_cpp_is_not_planned_across_gpus() -> None:
    shape = llama()
    with pytest.raises(ParallelismImpossible, match="layers of its own"):
        size(
            shape,
            computed(shape, find_precision("bf16")),
            whole_gpus(H100, gpus=2, together=2),
            LLAMA_CPP,
            cache_bits=16,
        )


def test_policies() -> None:
    clinical = find_policy("clinical")
    check_policy(clinical, weight_bits=16, cache_bits=16, held="bf16")
    for weight, cache, what in ((8, 16, "weights"), (16, 8, "cache")):
        with pytest.raises(PrecisionRefused, match=what) as caught:
            check_policy(clinical, weight_bits=weight, cache_bits=cache, held="fp8, 8 bits")
        assert "16 bits" in (caught.value.wanted or "")
        assert clinical.reason in (caught.value.wanted or "")
    check_policy(find_policy("general"), weight_bits=4, cache_bits=8, held="int4")
    with pytest.raises(PrecisionRefused):
        check_policy(find_policy("general"), weight_bits=3, cache_bits=8, held="Q3_K")


def test_suggestions_fit_when_they_are_tried() -> None:
    for name, demand in (
        ("llama-3.1-8b", Demand(8, 8192)),
        ("llama-3.1-70b", Demand(100, 8192)),
        ("mistral-7b-v0.1", Demand(200, 16384)),
        ("whisper-large-v3", Demand(10, 448)),
    ):
        shape = SHAPES[name]
        weights = computed(shape, find_precision("bf16"))
        found = suggest(shape, weights, H100, VLLM, cache_bits=16, demand=demand)
        assert found
        for each in found:
            assert each.sequences >= demand.sequences
            if each.part.startswith("a slice"):
                slice_ = find_slice(H100, each.part.split()[2])
                place = slices(H100, slice_, number=1, together=1)
            else:
                place = whole_gpus(H100, gpus=each.together * each.instances, together=each.together)
            sizing = size(shape, weights, place, VLLM, cache_bits=16, demand=demand)
            assert sizing.fits
            assert sizing.sequences(demand.context) == each.sequences


def test_the_smallest_slice_is_suggested() -> None:
    shape = SHAPES["llama-3.1-8b"]
    weights = computed(shape, find_precision("bf16"))
    first, second = suggest(shape, weights, H100, VLLM, cache_bits=16, demand=Demand(1, 8192))
    assert "1g.20gb" in first.part
    assert (second.together, second.instances) == (1, 1)


def test_fewer_copies_for_larger_overhead() -> None:
    shape = SHAPES["llama-3.1-8b"]
    weights = computed(shape, find_precision("bf16"))
    place = whole_gpus(H100, gpus=1, together=1)
    greedy = replace(VLLM, overhead=20 << 30)
    usual = size(shape, weights, place, VLLM, cache_bits=16)
    assert size(shape, weights, place, greedy, cache_bits=16).room == usual.room + VLLM.overhead - (
        20 << 30
    )
