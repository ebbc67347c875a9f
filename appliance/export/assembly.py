"""Symbols to blocks and checkpoints, as packets come in: in any order, some twice, some never.

Pure and bounded: what is still incomplete takes at most so many bytes, and what has not been added to for
longest gives way, of the node that holds most.  Nothing is lost by that which was not lost already: a block
that never became whole is a gap in the ledger.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.export.refusal import RefusedError
from appliance.export.symbols import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.export.packet import CodedId

#: Bytes of symbols that are held; the objects around them take about as much again at their smallest.
DEFAULT_BOUND: Final = 32 << 20
_OVERHEAD: Final = 200  # bytes of a symbol's own objects, about
#: Blocks that were done with, so that their late symbols are told from new ones: some seconds' worth.
_REMEMBERED: Final = 8192


@dataclass(frozen=True, slots=True)
class Assembled:
    """What became of some symbols: if they complete something, its bytes and whether repair was needed.

    ``symbols`` of it were sent until then, by their numbers, of which ``lost`` did not come;
    ``duplicates`` of those that were given were there already.
    """

    data: bytes | None = None
    repaired: bool = False
    symbols: int = 0
    lost: int = 0
    duplicates: int = 0


@dataclass(slots=True)
class _Partial:
    symbols: dict[int, bytes] = field(default_factory=dict)
    size: int = 0


class Assembler:
    """Collects symbols for all nodes; ``bound`` in bytes."""

    def __init__(self, bound: int = DEFAULT_BOUND) -> None:
        self._bound = bound
        self._nodes: dict[bytes, OrderedDict[CodedId, _Partial]] = {}
        self._sizes: dict[bytes, int] = {}
        self._size = 0
        self._done: OrderedDict[CodedId, None] = OrderedDict()
        self.given_up = 0

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    @property
    def incomplete(self) -> int:
        """How many blocks and checkpoints have some symbols and not enough."""
        return sum(map(len, self._nodes.values()))

    def wanted(self, coded: CodedId) -> int:
        """How many more symbols of it are enough, mostly; none of what was done with."""
        if coded in self._done:
            return 0
        partials = self._nodes.get(coded.node)
        partial = partials.get(coded) if partials else None
        held = len(partial.symbols) if partial else 0
        return max(1, coded.source_symbols - held)

    def add(self, coded: CodedId, symbols: Mapping[int, bytes]) -> Assembled:
        """Take some of its symbols, by index, whose tags are right.

        Raises:
            RefusedError: ``CONTRADICTORY``; the symbols are forgotten, so that later ones get their chance.
        """
        if coded in self._done:
            return Assembled(duplicates=len(symbols))
        partials = self._nodes.get(coded.node)
        if partials is None:
            partials = self._nodes[coded.node] = OrderedDict()
            self._sizes[coded.node] = 0
        partial = partials.get(coded)
        if partial is None:
            partial = partials[coded] = _Partial()
        else:
            partials.move_to_end(coded)
        fresh = {index: each for index, each in symbols.items() if index not in partial.symbols}
        partial.symbols |= fresh
        added = len(fresh) * (coded.symbol_bytes + _OVERHEAD)
        partial.size += added
        self._sizes[coded.node] += added
        self._size += added
        duplicates = len(symbols) - len(fresh)
        if not fresh or len(partial.symbols) < coded.source_symbols:
            self._shrink()
            return Assembled(duplicates=duplicates)
        try:
            data = decode(coded, partial.symbols)
        except RefusedError:
            self._forget(coded)
            raise
        if data is None:
            self._shrink()
            return Assembled(duplicates=duplicates)
        repaired = not all(index in partial.symbols for index in range(coded.source_symbols))
        sent = max(partial.symbols) + 1
        self._forget(coded)
        return Assembled(data, repaired, sent, sent - len(partial.symbols), duplicates)

    def done_with(self, coded: CodedId) -> None:
        """Take no more symbols of it: it was believed, or is known already."""
        if coded in self._nodes.get(coded.node, ()):
            self._forget(coded)
        self._done[coded] = None
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)

    def again(self, coded: CodedId) -> None:
        """Take its symbols again: it could not be kept."""
        self._done.pop(coded, None)

    def _forget(self, coded: CodedId) -> None:
        partials = self._nodes[coded.node]
        size = partials.pop(coded).size
        self._sizes[coded.node] -= size
        self._size -= size
        if not partials:
            del self._nodes[coded.node], self._sizes[coded.node]

    def _shrink(self) -> None:
        while self._size > self._bound:
            node = max(self._sizes, key=lambda each: self._sizes[each])
            self._forget(next(iter(self._nodes[node])))
            self.given_up += 1
