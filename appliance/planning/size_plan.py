"""``plan size`` as one call: read a model, judge every place it could run in, suggest what would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.errors import ModelTooLarge, ParallelismImpossible, PlanInvalid
from appliance.hardware.gpus import find_gpu, find_slice, parse_layout
from appliance.hardware.mig_parted import mig_parted_text
from appliance.planning.engine import LLAMA_CPP, VLLM, Engine, adjusted
from appliance.planning.model_files import Model, open_model
from appliance.planning.precision import PRECISIONS, PrecisionPolicy, cache_bits, check_policy
from appliance.planning.sizing import Demand, Place, Sizing, size, slices, whole_gpus
from appliance.planning.suggestion import Suggestion, suggest
from appliance.planning.weights import Weights, computed

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.hardware.gpu_table import Gpu

_CHOSEN: Final = (1, 2, 4, 8)  # numbers of GPUs for one instance, where nobody says one


@dataclass(frozen=True)
class SizeRequest:
    """What is asked.  None: not said.

    ``memory_mib`` is that of one GPU or slice, as nvidia-smi on the machine has it.
    """

    model: Path
    gpu: str
    gpus: int = 1
    tensor_parallel: int | None = None
    mig: str | None = None
    slice: str | None = None
    sequences: int | None = None
    context: int | None = None
    weights: str | None = None
    cache: str = "bf16"
    memory_mib: int | None = None
    utilisation: str | None = None
    overhead_gib: str | None = None
    policy: PrecisionPolicy | None = None


@dataclass(frozen=True)
class PrecisionRow:
    """What the weights take in one precision; ``throughout``: if embedding and head were quantised too."""

    name: str
    total: int
    throughout: int
    allowed: bool


@dataclass(frozen=True)
class SizePlan:
    """The answer.  ``too_large`` are slices of the layout that cannot hold the model, with the reason."""

    model: Model
    weights: Weights
    engine: Engine
    cache_bits: int
    policy: PrecisionPolicy | None
    demand: Demand | None
    sizings: tuple[Sizing, ...]
    too_large: tuple[tuple[str, ModelTooLarge], ...]
    precisions: tuple[PrecisionRow, ...]
    suggestions: tuple[Suggestion, ...]

    @property
    def served(self) -> int:
        """Sequences of the asked length in all places together."""
        context = self.demand.context if self.demand else 0
        return sum(each.sequences(context) for each in self.sizings) if context else 0

    @property
    def fits(self) -> bool:
        """Whether the demand is met; without one, whether anything can be served at all."""
        if self.demand is None:
            return any(each.longest for each in self.sizings)
        return self.served >= self.demand.sequences


def plan_size(request: SizeRequest) -> SizePlan:
    """Plan a model on GPUs.

    Raises:
        PlanInvalid: and its kinds: the question contradicts itself.
        ModelMisdescribed: the model's description is missing, wrong, or not that of its weights.
        ModelTooLarge: no place holds the weights.
    """
    gpu = find_gpu(request.gpu)
    bits = cache_bits(request.cache)
    model = open_model(request.model)
    engine = adjusted(
        LLAMA_CPP if model.gguf else VLLM,
        utilisation=request.utilisation,
        overhead_gib=request.overhead_gib,
    )
    weights = model.weights_in(request.weights)
    cached = f"{bits} bits"
    if model.cache_bits is not None and model.cache_bits < bits:
        bits = model.cache_bits
        cached = f"{bits} bits: the model's own quantization_config, which {engine.name} follows"
    if request.policy is not None:
        held = f"{weights.precision}, {weights.bits} bits"
        check_policy(request.policy, weight_bits=weights.bits, cache_bits=bits, held=held, cached=cached)
    demand = _demand(request, model)
    places = _places(request, gpu)
    sizings: list[Sizing] = []
    too_large: list[tuple[str, ModelTooLarge]] = []
    asked = _Asked(request, gpu, model, weights, engine, bits, demand)
    for place in places or (None,):
        try:
            sizings.append(asked.best() if place is None else asked.size(place))
        except ModelTooLarge as wrong:
            too_large.append((place.name if place else gpu.product, wrong))
    wanted = demand or Demand(1, min(4096, model.shape.context))
    suggestions = suggest(model.shape, weights, gpu, engine, cache_bits=bits, demand=wanted)
    if not sizings:
        _, fault = too_large[0]
        would = "; or ".join(each.text for each in suggestions)
        fault.hint = (
            f"this would do: {would}" if would else f"no layout of up to 8 x {gpu.product} holds it"
        )
        raise fault
    plan = SizePlan(
        model=model,
        weights=weights,
        engine=engine,
        cache_bits=bits,
        policy=request.policy,
        demand=demand,
        sizings=tuple(sizings),
        too_large=tuple(too_large),
        precisions=() if model.gguf else _precisions(model, request.policy),
        suggestions=(),
    )
    return plan if plan.fits else SizePlan(**{**vars(plan), "suggestions": suggestions})


def layout_file(request: SizeRequest) -> str:
    """The layout that was asked for, of every GPU, as mig-parted reads it.

    Raises:
        MigLayoutInvalid: the GPU cannot be cut like this.
    """
    gpu = find_gpu(request.gpu)
    slices = parse_layout(gpu, request.mig or request.slice or "")
    return mig_parted_text([[each.name for each in slices]] * request.gpus)


def _demand(request: SizeRequest, model: Model) -> Demand | None:
    if request.sequences is None and request.context is None:
        return None
    context = request.context if request.context is not None else model.shape.context
    return Demand(request.sequences if request.sequences is not None else 1, context)


def _places(request: SizeRequest, gpu: Gpu) -> list[Place] | None:
    """The places that were asked for; None: whole GPUs, and how many for an instance is for us to say."""
    together, memory = request.tensor_parallel, request.memory_mib
    if request.mig is None and request.slice is None:
        if together is None:
            return None
        return [whole_gpus(gpu, gpus=request.gpus, together=together, memory_mib=memory)]
    whole_gpus(gpu, gpus=request.gpus, together=1)  # says what is wrong with the number
    asked = find_slice(gpu, request.slice) if request.slice else None
    layout = parse_layout(gpu, request.mig) if request.mig else (asked,) if asked else ()
    kinds = dict.fromkeys(each for each in layout if asked in {None, each})
    if not kinds:
        raise PlanInvalid(
            "the layout has no such slice",
            found=", ".join(each.name for each in layout if each),
            wanted=request.slice,
        )
    if memory is not None and len(kinds) > 1:
        raise PlanInvalid(
            "--memory is that of one kind of slice, and the layout has several",
            found=", ".join(each.name for each in kinds if each),
            wanted="--slice with the one that is meant",
        )
    return [
        slices(
            gpu, each, number=layout.count(each) * request.gpus, together=together or 1, memory_mib=memory
        )
        for each in kinds
        if each
    ]


@dataclass(frozen=True)
class _Asked:
    """A question with all that was looked up for it."""

    request: SizeRequest
    gpu: Gpu
    model: Model
    weights: Weights
    engine: Engine
    bits: int
    demand: Demand | None

    def size(self, place: Place) -> Sizing:
        return size(
            self.model.shape, self.weights, place, self.engine, cache_bits=self.bits, demand=self.demand
        )

    def best(self) -> Sizing:
        """The fewest GPUs for an instance that meet the demand; where none do, those that serve the most.

        Raises:
            ModelTooLarge: it fits on none of these numbers.
        """
        gpus, memory = self.request.gpus, self.request.memory_mib
        fault: ModelTooLarge | ParallelismImpossible | None = None
        found: list[Sizing] = []
        for together in _CHOSEN:
            if together > max(1, gpus):
                break
            place = whole_gpus(self.gpu, gpus=gpus, together=together, memory_mib=memory)
            try:
                sizing = self.size(place)
            except ModelTooLarge as wrong:
                fault = wrong
                continue
            except ParallelismImpossible as wrong:
                fault = fault or wrong
                continue
            if sizing.fits:
                return sizing
            found.append(sizing)
        if found:
            context = self.demand.context if self.demand else 1
            return max(found, key=lambda each: (each.sequences(context), each.longest))
        raise fault or PlanInvalid("no GPU to plan for", found=str(gpus), wanted="1 or more")


def _precisions(model: Model, policy: PrecisionPolicy | None) -> tuple[PrecisionRow, ...]:
    return tuple(
        PrecisionRow(
            each.name,
            computed(model.shape, each).total,
            computed(model.shape, each, throughout=True).total,
            policy is None or each.bits >= policy.weight_bits,
        )
        for each in PRECISIONS
        if each.name not in {"fp32", "fp16"}  # the one no engine serves, the other as bf16
    )
