"""What a model is made of, as far as memory goes: its tensors, and what its cache keeps.

Tensors are kept in groups: one pattern of a name, one shape, and the layers and experts that have it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Role = Literal["matrix", "embedding", "small"]
"""What quantisation touches: matrices; not embedding and output head, nor norms, biases, routers."""

Split = Literal["whole", "even", "kv"]
"""What tensor parallelism does: a copy on each GPU; a part; some key-value heads, which may be copies."""

_PAD: Final = 64


@dataclass(frozen=True)
class TensorGroup:
    """Tensors of one shape: one for each of ``layers`` and of ``experts`` (None: the name has none).

    ``name`` is that of the published files, with ``{layer}`` and ``{expert}``; ``shape`` as written there,
    rows (outputs) first.
    """

    name: str
    shape: tuple[int, ...]
    role: Role = "matrix"
    split: Split = "even"
    layers: range | None = None
    experts: int | None = None

    @property
    def count(self) -> int:
        return len(self.layers or range(1)) * (self.experts or 1)

    @property
    def parameters(self) -> int:
        """Of all tensors of the group."""
        return self.count * math.prod(self.shape)

    def names(self) -> Iterator[str]:
        """The names of all its tensors."""
        for layer in self.layers or range(1):
            for expert in range(self.experts or 1):
                yield self.name.format(layer=layer, expert=expert)


@dataclass(frozen=True)
class CacheLayers:
    """Layers that keep the same for each token.

    Args:
        layers: how many of them.
        elements: numbers kept for one token in one layer, keys and values together.
        heads: key-value heads these belong to, which tensor parallelism divides; 0: every GPU keeps all
            of them (the compressed vector of latent attention belongs to no head).
        window: only so many last tokens are kept; None: all.
        positions: kept once for a sequence, whatever its length (what a decoder keeps of an encoder's
            output); None: for each token.
        says: the sum behind ``elements``, for people.
    """

    layers: int
    elements: int
    heads: int
    says: str
    window: int | None = None
    positions: int | None = None


@dataclass(frozen=True)
class ModelShape:
    """A model as its description has it.

    ``heads`` are the attention heads, ``kv_heads`` those of the cache (0: latent), ``widths`` further
    numbers that tensor parallelism must divide, by name.  ``context`` is the longest sequence in tokens.
    """

    family: str
    architecture: str
    tensors: tuple[TensorGroup, ...]
    cache: tuple[CacheLayers, ...]
    heads: int
    kv_heads: int
    widths: Mapping[str, int]
    context: int
    layers: int
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        return sum(group.parameters for group in self.tensors)


def padded_vocabulary(words: int) -> dict[str, int]:
    """Rows of embedding and output head that vLLM divides among GPUs, as one of ``ModelShape.widths``.

    It fills them up to whole pads and then divides without a rest, or ends (its
    ``vocab_parallel_embedding.py``).
    """
    return {f"vocabulary in pads of {_PAD}": -(-words // _PAD) * _PAD}
