"""What weights take: computed from shapes, or as the files hold them; and what of it is on each GPU."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.planning.figures import bytes_text, decimal_text
from appliance.planning.precision import OUTSIDE_BITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.planning.precision import Precision
    from appliance.planning.shapes import ModelShape, Split, TensorGroup
    from appliance.sources.safetensors import Stored

#: Bits of the types a safetensors header may name (its format description), with those of packed numbers.
DTYPE_BITS: Final = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
#: Types that hold smaller numbers in larger ones, or integers with scales: shapes are not the matrices'.
PACKED: Final = frozenset({"I32", "U32", "I8", "U8", "I64", "U64", "F4"})


_SHAPES: Final = "the shapes that config.json gives"


@dataclass(frozen=True)
class Weights:
    """Weights of a model in bytes, by what tensor parallelism does with them.

    Args:
        by_split: bytes of tensors of which every GPU has a copy, or a part, or key-value heads.
        bits: of the least precise matrices.
        precision: how they are called, for people.
        how: the sum.
        source: whose numbers these are.
        parameters: how many numbers the model has.
    """

    by_split: Mapping[Split, int]
    bits: int
    precision: str
    how: str
    source: str
    parameters: int

    @property
    def total(self) -> int:
        return sum(self.by_split.values())

    def on_each(self, gpus: int, kv_heads: int) -> int:
        """Bytes on each of ``gpus`` GPUs that share the model.

        Key-value heads are divided as far as there are any, and then copied.
        """
        return sum(-(-size // parts) for size, parts in self._divided(gpus, kv_heads))

    def shares(self, gpus: int, kv_heads: int) -> str:
        """The sum behind ``on_each``, for people."""
        if gpus == 1:
            return "all of them, on one"
        return " + ".join(
            f"{size:,} / {parts}" if parts > 1 else f"{size:,} copied"
            for size, parts in self._divided(gpus, kv_heads)
            if size
        )

    def _divided(self, gpus: int, kv_heads: int) -> list[tuple[int, int]]:
        """Bytes, and by how many GPUs they are divided."""
        parts: dict[Split, int] = {
            "whole": 1,
            "even": gpus,
            "kv": min(gpus, kv_heads) if kv_heads else gpus,
        }
        return [(self.by_split.get(split, 0), number) for split, number in parts.items()]


def computed(shape: ModelShape, precision: Precision, *, throughout: bool = False) -> Weights:
    """What weights take by their shapes.

    Args:
        shape: the model.
        precision: of the matrices.
        throughout: whether embedding and output head are quantised too; else they stay in 16 bits.
    """
    by_split: dict[Split, int] = defaultdict(int)
    matrices = 0
    for group in shape.tensors:
        found = group.count * _tensor_bytes(group, precision, throughout=throughout)
        by_split[group.split] += found
        if group.role == "matrix" or (throughout and group.role == "embedding"):
            matrices += group.parameters
    others = shape.parameters - matrices
    outside = max(precision.bits, OUTSIDE_BITS)
    scales = sum(by_split.values()) - -(-matrices * precision.bits // 8) - others * outside // 8
    how = f"{matrices:,} * {precision.bits} bits"
    if outside != precision.bits:
        how += f" + {others:,} * {outside} bits (embedding, head, norms)"
    else:
        how = f"{shape.parameters:,} * {precision.bits} bits"
    if precision.says and scales > 0:
        how += f" + {bytes_text(scales)} of scales (assumed: {precision.says})"
    return Weights(dict(by_split), precision.bits, precision.name, how, _SHAPES, shape.parameters)


def _tensor_bytes(group: TensorGroup, precision: Precision, *, throughout: bool) -> int:
    if group.role == "matrix" or (throughout and group.role == "embedding"):
        *rows, columns = group.shape
        return precision.matrix_bytes(math.prod(rows), columns)
    return math.prod(group.shape) * max(precision.bits, OUTSIDE_BITS) // 8


def measured(
    shape: ModelShape, tensors: Sequence[Stored], *, packed_bits: int, source: str, parameters: int
) -> Weights:
    """What weights take by the headers of their files.

    Args:
        shape: the model, which says what is divided among GPUs.
        tensors: all that an engine loads.
        packed_bits: of numbers that are packed into larger ones, by the model's description.
        source: which files these are.
        parameters: how many numbers the model has.
    """
    groups = {_module(name): group for group in shape.tensors for name in group.names()}
    by_split: dict[Split, int] = defaultdict(int)
    bits: dict[str, int] = defaultdict(int)
    for each in tensors:
        group = groups.get(_module(each.name))
        by_split[group.split if group else "whole"] += each.size
        if group and group.role == "matrix" and each.name.rpartition(".")[2] in _NUMBERS:
            bits[str(each.dtype)] += each.size
    least = min((stored_bits(dtype, packed_bits) for dtype in bits), default=OUTSIDE_BITS)
    held = ", ".join(f"{dtype} {decimal_text(size)}" for dtype, size in sorted(bits.items()))
    how = f"{len(tensors):,} tensors as their headers say; matrices: {held or 'none'}"
    return Weights(dict(by_split), least, " and ".join(sorted(bits)) or "unknown", how, source, parameters)


#: Last parts of names under which matrices keep their numbers; the rest are scales, biases, orders.
_NUMBERS: Final = frozenset({"weight", "qweight", "weight_packed"})


def stored_bits(dtype: str, packed_bits: int) -> int:
    """How many bits of precision a stored type has; GGUF's are named by it."""
    if dtype in PACKED:
        return packed_bits
    if dtype in DTYPE_BITS:
        return DTYPE_BITS[dtype]
    digits = "".join(letter for letter in dtype.partition("_")[0] if letter.isdigit())
    return int(digits) if digits else OUTSIDE_BITS


def _module(name: str) -> str:
    """The module a tensor belongs to: quantised ones have several tensors where there was one."""
    return name.rpartition(".")[0]
