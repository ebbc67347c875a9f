"""Whether a model fits, and with how many sequences of which length: values in, values out.

For each GPU (or slice) of an instance::

    cache = memory * utilisation - weights on it - overhead
    N     = (cache - what windows keep once) / cache of one sequence, in whole blocks

A slice stands alone: tensor parallelism does not reach across slices, so a model larger than its slice is
refused.  GPUs beyond one instance serve further instances of the same model, each with its own weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.errors import GpusTooFew, ModelTooLarge, ParallelismImpossible, PlanInvalid
from appliance.planning.cache import Cache
from appliance.planning.figures import MIB, Figure, bytes_text

if TYPE_CHECKING:
    from appliance.hardware.gpu_table import Gpu, Slice
    from appliance.planning.engine import Engine
    from appliance.planning.shapes import ModelShape
    from appliance.planning.weights import Weights

#: Lengths that are shown where nobody asked for one, in tokens.
LENGTHS: Final = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_MOST_GPUS: Final = 1024


@dataclass(frozen=True)
class Place:
    """Where instances of the model run: whole GPUs, ``together`` for each instance, or slices of GPUs.

    ``memory`` is what a process sees of one of them, in bytes.
    """

    gpu: Gpu
    slice: Slice | None
    memory: int
    together: int
    instances: int
    spare: int
    source: str

    @property
    def name(self) -> str:
        """One of its parts, for people."""
        return f"{self.slice.name} of {self.gpu.product}" if self.slice else self.gpu.product


@dataclass(frozen=True)
class Demand:
    """What is to be served by all instances together."""

    sequences: int
    context: int


@dataclass(frozen=True)
class Sizing:
    """The result for one place.  Bytes are those of one GPU or slice; sequences those of one instance."""

    place: Place
    cache: Cache
    weights: int
    room: int
    lengths: tuple[tuple[int, int], ...]
    longest: int
    tokens: int | None
    demand: Demand | None
    fits: bool
    figures: tuple[Figure, ...]

    def sequences(self, context: int) -> int:
        """Sequences of ``context`` tokens in all instances together."""
        return self.place.instances * self.cache.sequences(self.room, context)


def whole_gpus(gpu: Gpu, *, gpus: int, together: int, memory_mib: int | None = None) -> Place:
    """``gpus`` GPUs, of which each instance takes ``together``.

    Raises:
        GpusTooFew: an instance wants more than there are.
        PlanInvalid: no possible number.
    """
    for option, number in (("--gpus", gpus), ("--tensor-parallel", together)):
        if not 1 <= number <= _MOST_GPUS:
            raise PlanInvalid(f"{option} is no possible number", found=str(number), wanted="1 or more")
    if together > gpus:
        raise GpusTooFew(
            "tensor parallelism asks for more GPUs than there are",
            found=f"{gpus} x {gpu.product}",
            wanted=f"at least {together}",
            hint=f"--gpus {together}, or --tensor-parallel {gpus} if the model fits",
        )
    memory, source = _memory(gpu.visible_mib, memory_mib, gpu.source)
    return Place(gpu, None, memory, together, gpus // together, gpus % together, source)


def slices(gpu: Gpu, slice_: Slice, *, number: int, together: int, memory_mib: int | None = None) -> Place:
    """``number`` slices of one kind, each with an instance of its own.

    Raises:
        ParallelismImpossible: an instance was to stretch over several.
    """
    if together > 1:
        raise ParallelismImpossible(
            "slices cannot be joined: tensor parallelism does not reach across MIG instances",
            found=f"--tensor-parallel {together} on {slice_.name}",
            wanted="one slice for an instance",
            hint="take a larger slice, or whole GPUs",
        )
    memory, source = _memory(slice_.memory_mib, memory_mib, slice_.source)
    return Place(gpu, slice_, memory, 1, number, 0, source)


def _memory(listed: int, given: int | None, source: str) -> tuple[int, str]:
    if given is None:
        return listed * MIB, source
    if not 0 < given <= 1 << 24:
        raise PlanInvalid(
            "--memory is no possible number", found=str(given), wanted="MiB of one GPU or slice"
        )
    return given * MIB, "given: --memory"


def size(
    shape: ModelShape,
    weights: Weights,
    place: Place,
    engine: Engine,
    *,
    cache_bits: int,
    demand: Demand | None = None,
) -> Sizing:
    """How many sequences fit.

    Args:
        shape: the model.
        weights: what it weighs.
        place: where it runs.
        engine: what is assumed of the engine.
        cache_bits: of a number in the cache.
        demand: what is to be served; without it the result only tells.

    Raises:
        ModelTooLarge: the weights alone do not fit.
        ParallelismImpossible: the model does not divide by this number of GPUs.
        PlanInvalid: sequences longer than the model's own.
    """
    check_divides(shape, place.together, engine)
    if demand is not None:
        _check_demand(shape, demand)
    budget = int(place.memory * engine.utilisation)
    weigh = weights.on_each(place.together, shape.kv_heads)
    room = budget - weigh - engine.overhead
    if room < 0:
        raise _too_large(place, weigh, budget, engine)
    cache = Cache(shape.cache, cache_bits, place.together, engine)
    lengths = sorted({*(each for each in LENGTHS if each <= shape.context), shape.context})
    fixed = any(part.window is not None or part.positions is not None for part in shape.cache)
    tokens = None if fixed else room // (cache.each_token * cache.block) * cache.block
    sizing = Sizing(
        place=place,
        cache=cache,
        weights=weigh,
        room=room,
        lengths=tuple((each, cache.sequences(room, each)) for each in lengths),
        longest=cache.longest(room, shape.context),
        tokens=tokens,
        demand=demand,
        fits=True,
        figures=(),
    )
    fits = sizing.longest > 0 if demand is None else sizing.sequences(demand.context) >= demand.sequences
    figures = _figures(sizing, weights, budget, engine)
    return Sizing(**{**vars(sizing), "fits": fits, "figures": figures})


def check_divides(shape: ModelShape, together: int, engine: Engine) -> None:
    """Whether the model can be shared by this number of GPUs.

    Raises:
        ParallelismImpossible: it cannot.
    """
    if together == 1:
        return
    if not engine.joins:
        raise ParallelismImpossible(
            f"{engine.name} gives each GPU layers of its own; what that takes has not been worked out here",
            found=f"--tensor-parallel {together}",
            wanted="one GPU for an instance",
            hint="take one larger GPU or a smaller quantisation, or safetensors and vLLM",
        )
    if wrong := _undivided(shape, together):
        possible = [each for each in range(1, together) if not _undivided(shape, each)]
        raise ParallelismImpossible(
            "the model does not divide by this number of GPUs",
            found=f"{together} GPUs; {', '.join(wrong)}",
            wanted="numbers that divide without rest",
            hint=f"--tensor-parallel {possible[-1]}",
        )


def _undivided(shape: ModelShape, together: int) -> list[str]:
    """What of a model does not divide by this number of GPUs."""
    numbers = {"attention heads": shape.heads, **shape.widths}
    wrong = [f"{what}: {number}" for what, number in numbers.items() if number % together]
    heads = shape.kv_heads
    if heads and heads % together and together % heads:
        wrong.append(f"key-value heads: {heads}")
    return wrong


def _check_demand(shape: ModelShape, demand: Demand) -> None:
    if demand.sequences < 1 or demand.context < 1:
        raise PlanInvalid(
            "nothing is to be served",
            found=f"{demand.sequences} sequences of {demand.context} tokens",
            wanted="at least one of at least one token",
        )
    if demand.context > shape.context:
        raise PlanInvalid(
            "sequences are longer than the model can read",
            found=f"{demand.context:,} tokens",
            wanted=f"at most {shape.context:,}: the model's own description",
            hint="a longer context needs a model made for it",
        )


def _too_large(place: Place, weigh: int, budget: int, engine: Engine) -> ModelTooLarge:
    what = "slice" if place.slice else "GPU"
    also = f" on each of {place.together}" if place.together > 1 else ""
    return ModelTooLarge(
        f"the model is larger than its {what}",
        found=f"{bytes_text(weigh)} of weights{also}, {bytes_text(engine.overhead)} for {engine.name}",
        wanted=f"at most {bytes_text(budget)}: {engine.utilisation} of the {bytes_text(place.memory)} "
        f"of {place.name}",
    )


def _figures(sizing: Sizing, weights: Weights, budget: int, engine: Engine) -> tuple[Figure, ...]:
    """Every number of the result, with its arithmetic."""
    place, cache = sizing.place, sizing.cache
    own = "the model's own description"
    shared = f" on each of {place.together} GPUs" if place.together > 1 else ""
    found = [
        Figure("parameters", weights.parameters, "numbers", "sum over all tensors by their shapes", own),
        Figure("weights", weights.total, "bytes", weights.how, weights.source),
        Figure(
            "weights_on_each",
            sizing.weights,
            "bytes",
            weights.shares(place.together, cache.heads),
            weights.source,
        ),
        Figure("memory", place.memory, "bytes", f"{place.name}: {place.memory // MIB:,} MiB", place.source),
        Figure(
            "budget",
            budget,
            "bytes",
            f"{place.memory:,} * {engine.utilisation}",
            engine.utilisation_source,
        ),
        Figure("overhead", engine.overhead, "bytes", bytes_text(engine.overhead), engine.overhead_source),
        Figure(
            "cache",
            sizing.room,
            "bytes",
            f"{budget:,} - {sizing.weights:,} - {engine.overhead:,}{shared}",
            "the lines above",
        ),
    ]
    for number, part in enumerate(cache.layers, 1):
        # Of heads that there are more GPUs than, each GPU has a whole copy.
        parts = min(cache.gpus, part.heads) if part.heads else 1
        divided = f" / {parts} GPUs" if parts > 1 else ""
        kept = "" if part.window is None else f", of the last {part.window:,} tokens only"
        if part.positions is not None:
            kept = f", for {part.positions:,} positions once in a sequence"
        how = f"{part.layers} layers * {part.says} * {cache.bits} bits / 8{divided}{kept}"
        found.append(Figure(f"cache_of_token_{number}", cache.token_bytes(part), "bytes", how, own))
    if sizing.tokens is not None:
        how = f"{sizing.room:,} / {cache.each_token:,}, in whole blocks of {cache.block}"
        found.append(Figure("tokens_in_cache", sizing.tokens, "tokens", how, "the lines above"))
    contexts = [context for context, _ in sizing.lengths]
    if sizing.demand is not None and sizing.demand.context not in contexts:
        contexts.append(sizing.demand.context)
    for context in contexts:
        one, once = cache.sequence_bytes(context), cache.batch_bytes(context)
        room = f"{sizing.room:,}"
        if once:
            room = f"({room} - {once:,} while {engine.batched:,} tokens are read)"
        how = f"{room} / {one:,} for one, in whole blocks of {cache.block}"
        found.append(
            Figure(
                f"sequences_of_{context}",
                cache.sequences(sizing.room, context),
                "sequences",
                how,
                "the lines above",
            )
        )
    return tuple(found)
