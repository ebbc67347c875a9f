"""Precisions of weights and cache, and which of them a kind of work allows.

A policy is a setting with a reason, checked against what the files hold, not against a model's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.errors import PlanInvalid, PrecisionRefused


@dataclass(frozen=True)
class Precision:
    """How a matrix is kept.

    Args:
        bits: of each number.
        block: rows and columns that share a scale; None: none do.  0 rows: one row alone.
        shared_bits: of the scale (and zero point) of such a block.
        says: what is assumed of the scales, for people.
    """

    name: str
    bits: int
    block: tuple[int, int] | None = None
    shared_bits: int = 0
    says: str = ""

    def matrix_bytes(self, rows: int, columns: int) -> int:
        """Bytes of a matrix, with its scales."""
        numbers = -(-rows * columns * self.bits // 8)
        if self.block is None:
            return numbers
        high, wide = self.block
        blocks = -(-rows // high) * -(-columns // wide)
        return numbers + -(-blocks * self.shared_bits // 8)


PRECISIONS: Final = (
    Precision("fp32", 32),
    Precision("bf16", 16),
    Precision("fp16", 16),
    Precision("fp8", 8, (128, 128), 32, "a 32-bit scale for each block of 128 x 128"),
    Precision("int8", 8, (1, 1 << 31), 16, "a 16-bit scale for each row"),
    Precision("int4", 4, (1, 128), 20, "a 16-bit scale and a 4-bit zero point for each 128 of a row"),
)
OUTSIDE_BITS: Final = 16
"""Embedding, output head, norms and routers stay in 16 bits when matrices are quantised."""

#: What config.json and headers call them.
_ALIASES: Final = {
    "float32": "fp32",
    "float": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
}
CACHE_PRECISIONS: Final = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8}


def find_precision(name: str) -> Precision:
    """The precision of this name, ours or that of config.json.

    Raises:
        PlanInvalid: there is none.
    """
    wanted = _ALIASES.get(name.lower().removeprefix("torch."), name.lower())
    for each in PRECISIONS:
        if each.name == wanted:
            return each
    raise PlanInvalid(
        "there is no such precision",
        found=name,
        wanted=f"one of: {', '.join(each.name for each in PRECISIONS)}",
    )


def cache_bits(name: str) -> int:
    """Bits of a number in the cache.

    Raises:
        PlanInvalid: engines have no cache of this precision.
    """
    wanted = _ALIASES.get(name.lower(), name.lower())
    if wanted not in CACHE_PRECISIONS:
        raise PlanInvalid(
            "there is no cache of this precision",
            found=name,
            wanted=f"one of: {', '.join(CACHE_PRECISIONS)}",
        )
    return CACHE_PRECISIONS[wanted]


@dataclass(frozen=True)
class PrecisionPolicy:
    """The least precision a kind of work allows, and why."""

    name: str
    weight_bits: int
    cache_bits: int
    reason: str


POLICIES: Final = (
    PrecisionPolicy(
        "clinical",
        16,
        16,
        "clinical work runs what was evaluated, weights as published; what quantisation changes shows in "
        "rare answers first, and nobody has measured it on this work",
    ),
    PrecisionPolicy(
        "general",
        4,
        8,
        "drafts and search, read by a person: 4 bits are allowed, fewer are not",
    ),
)


def find_policy(name: str) -> PrecisionPolicy:
    """The policy of this name.

    Raises:
        PlanInvalid: there is none.
    """
    for each in POLICIES:
        if each.name == name.lower():
            return each
    raise PlanInvalid(
        "there is no such precision policy",
        found=name,
        wanted=f"one of: {', '.join(each.name for each in POLICIES)}",
        hint="or write one into the settings: precision: {weight_bits: 16, cache_bits: 16, reason: ...}",
    )


def check_policy(
    policy: PrecisionPolicy, *, weight_bits: int, cache_bits: int, held: str, cached: str = ""
) -> None:
    """Refuse what is less precise than a policy allows.

    ``held`` says what the weights are and ``cached`` what the cache is and why, for people.

    Raises:
        PrecisionRefused: weights or cache.
    """
    for what, found, least, said in (
        ("weights", weight_bits, policy.weight_bits, held),
        ("cache", cache_bits, policy.cache_bits, cached or f"{cache_bits} bits"),
    ):
        if found < least:
            raise PrecisionRefused(
                f"the policy {policy.name} does not allow {what} of this precision",
                found=said,
                wanted=f"at least {least} bits: {policy.reason}",
                hint=f"take {what} of {least} bits, or another policy if the work is of another kind",
            )
