"""Layouts that would serve what is asked for: the smallest slice, the fewest GPUs, of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.counting import counted
from appliance.errors import ModelTooLarge, ParallelismImpossible
from appliance.planning.sizing import Demand, Sizing, size, slices, whole_gpus

if TYPE_CHECKING:
    from appliance.hardware.gpu_table import Gpu
    from appliance.planning.engine import Engine
    from appliance.planning.shapes import ModelShape
    from appliance.planning.weights import Weights

_TOGETHER: Final = (1, 2, 4, 8)  # of one node: across nodes there is no NVLink


@dataclass(frozen=True)
class Suggestion:
    """A layout that fits: what an instance runs on, and how many instances serve the demand."""

    part: str
    together: int
    instances: int
    sequences: int
    context: int

    @property
    def text(self) -> str:
        """For people."""
        part = f"{self.together} x {self.part}" if self.together > 1 else self.part
        several = f"{self.instances} instances, each on {part}" if self.instances > 1 else part
        return f"{several}: {counted(self.sequences, 'sequence')} of {self.context:,} tokens"


def suggest(
    shape: ModelShape,
    weights: Weights,
    gpu: Gpu,
    engine: Engine,
    *,
    cache_bits: int,
    demand: Demand,
) -> tuple[Suggestion, ...]:
    """What would fit on this kind of GPU: the smallest slice, and whole GPUs, fewest first.

    Slices are tried for one instance: how many of them a GPU has room for is a question of its layout.
    """
    found: list[Suggestion] = []

    def tried(sizing: Sizing, part: str) -> Suggestion | None:
        one = sizing.cache.sequences(sizing.room, demand.context)
        if not one:
            return None
        needed = -(-demand.sequences // one)
        return Suggestion(part, sizing.place.together, needed, needed * one, demand.context)

    for each in sorted(gpu.slices, key=lambda slice_: slice_.memory_mib):
        place = slices(gpu, each, number=1, together=1)
        try:
            sizing = size(shape, weights, place, engine, cache_bits=cache_bits)
        except ModelTooLarge:
            continue
        one = tried(sizing, f"a slice {each.name} of {gpu.product}")
        if one is not None and one.instances == 1:
            found.append(one)
            break
    for together in _TOGETHER:
        place = whole_gpus(gpu, gpus=together, together=together)
        try:
            sizing = size(shape, weights, place, engine, cache_bits=cache_bits)
        except (ModelTooLarge, ParallelismImpossible):
            continue
        one = tried(sizing, gpu.product)
        if one is not None:
            found.append(one)
            if one.instances == 1:
                break
    return tuple(found)
