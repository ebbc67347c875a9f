"""What the cache of keys and values takes on one GPU, for sequences of a length.

Exact whole numbers: bits of one element, elements of one token, tokens in whole blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.planning.engine import Engine
    from appliance.planning.shapes import CacheLayers


@dataclass(frozen=True)
class Cache:
    """The cache of a model on each of ``gpus`` GPUs that share it, with ``bits`` for each number."""

    layers: Sequence[CacheLayers]
    bits: int
    gpus: int
    engine: Engine

    def token_bytes(self, part: CacheLayers) -> int:
        """Of one token in all layers of ``part``, on one GPU.

        Heads are divided among GPUs as far as there are any; then they are copied.
        """
        parts = min(self.gpus, part.heads) if part.heads else 1
        return -(-part.layers * part.elements * self.bits // (8 * parts))

    @property
    def heads(self) -> int:
        """Key-value heads that are divided among GPUs; 0: there are none."""
        return max(part.heads for part in self.layers)

    @property
    def block(self) -> int:
        """Tokens that it is handed out in."""
        return self.engine.block if self.heads else self.engine.latent_block

    @property
    def each_token(self) -> int:
        """Of one token in all layers, within every window."""
        return sum(self.token_bytes(part) for part in self.layers if part.positions is None)

    def sequence_bytes(self, context: int) -> int:
        """Of one sequence of ``context`` tokens, on one GPU."""
        block, total = self.block, 0
        for part in self.layers:
            if part.positions is not None:
                blocks = -(-part.positions // block)
            elif part.window is not None and part.window < context:
                blocks = -(-part.window // block) + 1  # the oldest block is let go of as a whole
            else:
                blocks = -(-context // block)
            total += blocks * block * self.token_bytes(part)
        return total

    def batch_bytes(self, context: int) -> int:
        """Once for all sequences: what layers with a window keep of a prompt while it is read."""
        reading = [part for part in self.layers if part.window is not None and part.window < context]
        return sum(self.engine.batched * self.token_bytes(part) for part in reading)

    def sequences(self, room: int, context: int) -> int:
        """How many sequences of ``context`` tokens ``room`` bytes hold."""
        left = room - self.batch_bytes(context)
        return max(0, left) // self.sequence_bytes(context)

    def longest(self, room: int, most: int) -> int:
        """How long one sequence can be in ``room`` bytes, up to ``most`` tokens."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self.sequences(room, middle) >= 1:
                low = middle
            else:
                high = middle - 1
        return low
