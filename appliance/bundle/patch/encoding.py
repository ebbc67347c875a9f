"""A file as parts of a recipe: copies of the base where it is the same, else frames, else its own bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from appliance.bundle.patch.chunks import Chunks, mean_size, require_digest
from appliance.bundle.patch.matching import Stretch, match
from appliance.bundle.patch.packing import pack
from appliance.bundle.patch.recipe import MIN_PREFIX, SEGMENT, Part, Range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from appliance.bundle.patch.whole import WholeFile

#: Up to so many bytes, a file is one frame that looks back to the whole of its base.
SMALL: Final = SEGMENT
#: Of a shorter match, the recipe's line and the two frames that it parts cost more than it saves.
_SHORTEST: Final = 256


class Encoder:
    """Makes parts of files, and writes what they need beside the base.

    Args:
        write: takes the bytes of the blocks, in order.
        hashed: told every byte of the files, in order, to prove that they are what their bundle says.
    """

    def __init__(self, write: Callable[[bytes], object], hashed: Callable[[bytes], object]) -> None:
        self._write, self._hashed = write, hashed

    def parts(self, file: WholeFile, bases: Sequence[WholeFile], wanted: Sequence[str]) -> Iterator[Part]:
        """The parts of a file; numbers of base files are those of ``bases``.

        Args:
            file: open.
            bases: open; may be none.
            wanted: the SHA-256 (hex) that each of these must have.

        Raises:
            DigestMismatch: a base file has another.
        """
        if not file.size:
            return
        if file.size <= SMALL and len(bases) <= 1 and all(base.size <= SMALL for base in bases):
            size = bases[0].size if bases else 0
            for base, digest in zip(bases, wanted, strict=True):
                require_digest(base, hashlib.sha256(base.read(0, size)).hexdigest(), digest)
            gap = Stretch(0, file.size, False, 0 if bases else None, 0, size)
            yield from self._gap(file, bases, gap, thoroughly=True)
            return
        chunks = Chunks(bases, wanted, mean_size(sum(base.size for base in bases)))
        for stretch in _without_short(match(file, chunks)) if bases else [Stretch(0, file.size, False)]:
            if stretch.is_same and stretch.base is not None:
                self._read(file, stretch.start, stretch.end)
                length = stretch.end - stretch.start
                yield Part(length, source=Range(stretch.base, stretch.place, length))
            else:
                yield from self._gap(file, bases, stretch)

    def _read(self, file: WholeFile, start: int, end: int) -> None:
        for position in range(start, end, SEGMENT):
            self._hashed(file.read(position, min(SEGMENT, end - position)))

    def _gap(
        self, file: WholeFile, bases: Sequence[WholeFile], gap: Stretch, *, thoroughly: bool = False
    ) -> Iterator[Part]:
        """Parts for what is not the same, each against what lies in its place in the base."""
        waiting = 0  # bytes that stay as they are, one part as long as none is packed
        for start in range(gap.start, gap.end, SEGMENT):
            data = file.read(start, min(SEGMENT, gap.end - start))
            self._hashed(data)
            source = _beside(gap, start - gap.start)
            prefix = bases[source.base].read(source.offset, source.length) if source else b""
            packed = pack(data, prefix, thoroughly=thoroughly)
            if packed is None:
                self._write(data)
                waiting += len(data)
                continue
            if waiting:
                yield Part(waiting, waiting)
                waiting = 0
            self._write(packed)
            yield Part(len(data), len(packed), source, compressed=True)
        if waiting:
            yield Part(waiting, waiting)


def _beside(gap: Stretch, offset: int) -> Range | None:
    """The bytes of the base that a part of a gap is likely to be like."""
    if gap.base is None:
        return None
    place = min(gap.place + offset, max(gap.place, gap.limit - SEGMENT))
    length = min(SEGMENT, gap.limit - place)
    return Range(gap.base, place, length) if length >= MIN_PREFIX else None


def _without_short(stretches: Iterator[Stretch]) -> Iterator[Stretch]:
    """Very short matches become part of the gaps around them."""
    gap: Stretch | None = None
    for each in stretches:
        if each.is_same and each.end - each.start >= _SHORTEST:
            if gap is not None:
                yield gap
            gap = None
            yield each
        elif gap is None:
            gap = Stretch(each.start, each.end, False, each.base, each.place, each.limit or each.place)
        else:
            gap.end = each.end
            gap.limit = max(gap.limit, each.limit) if each.base == gap.base else gap.limit
    if gap is not None:
        yield gap
