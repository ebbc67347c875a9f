"""What an engine takes besides weights and cache, and how it hands out its cache.

None of this can be read from a model: these are assumptions, printed with every result, and each can be
given.  vLLM logs the true figures when it starts ("GPU KV cache size").
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from appliance.errors import PlanInvalid
from appliance.planning.figures import GIB


@dataclass(frozen=True)
class Engine:
    """Assumptions about an engine.

    Args:
        name: as people call it.
        utilisation: the part of a GPU's memory that it uses at all.
        overhead: bytes on each GPU for activations, graphs and libraries.
        block: tokens that the cache is handed out in.
        latent_block: the same for latent attention.
        batched: tokens that are read in one step at most; meanwhile, layers with a window keep them all.
        joins: whether it shares one model among GPUs by tensor parallelism.
    """

    name: str
    utilisation: Decimal
    overhead: int
    block: int
    latent_block: int
    batched: int
    joins: bool
    utilisation_source: str = "assumed"
    overhead_source: str = "assumed"


VLLM: Final = Engine(
    "vLLM",
    Decimal("0.92"),
    GIB * 3 // 2,
    16,
    64,  # FlashMLA's, which Hopper gets (vllm/platforms/cuda.py); a GPU of another kind may have less
    8192,
    joins=True,
    utilisation_source="assumed: gpu_memory_utilization, the default of vLLM 0.32",
    overhead_source="assumed: activations, CUDA graphs, NCCL; vLLM's own profile run says the true figure",
)
LLAMA_CPP: Final = Engine(
    "llama.cpp",
    Decimal(1),
    GIB,
    256,
    256,
    512,
    joins=False,
    utilisation_source="assumed: it takes what it needs and keeps no reserve",
    overhead_source="assumed: compute buffers and CUDA context",
)


def adjusted(engine: Engine, *, utilisation: str | None = None, overhead_gib: str | None = None) -> Engine:
    """The engine with what somebody knows better.

    Raises:
        PlanInvalid: no part of a GPU, or no amount of memory.
    """
    share = _decimal("--utilisation", utilisation, "above 0 and at most 1") if utilisation else None
    if share is not None and not 0 < share <= 1:
        raise _impossible("--utilisation", utilisation, "above 0 and at most 1")
    gib = _decimal("--overhead", overhead_gib, "GiB from 0 on") if overhead_gib else None
    if gib is not None and not 0 <= gib <= 1024:  # noqa: PLR2004 - more than any GPU has
        raise _impossible("--overhead", overhead_gib, "GiB from 0 on")
    return Engine(
        engine.name,
        engine.utilisation if share is None else share,
        engine.overhead if gib is None else int(gib * GIB),
        engine.block,
        engine.latent_block,
        engine.batched,
        engine.joins,
        engine.utilisation_source if share is None else "given: --utilisation",
        engine.overhead_source if gib is None else "given: --overhead",
    )


def _decimal(option: str, text: str | None, wanted: str) -> Decimal:
    try:
        value = Decimal(text or "")
    except InvalidOperation as fault:
        raise _impossible(option, text, wanted) from fault
    if not value.is_finite():
        raise _impossible(option, text, wanted)
    return value


def _impossible(option: str, text: str | None, wanted: str) -> PlanInvalid:
    return PlanInvalid(f"{option} is no possible number", found=text, wanted=wanted)
