"""A file as parts of a recipe: copies of the base where it is the same, else frames, else its own bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from appliance.bundle.patch.chunks import Chunks, mean_size, require_digest
from appliance.bundle.patch.in_place import compare
from appliance.bundle.patch.matching import Stretch, match, same_from, same_up_to
from appliance.bundle.patch.packing import pack, pack_weights
from appliance.bundle.patch.recipe import MIN_PREFIX, SEGMENT, Part, Range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from appliance.bundle.patch.chunks import Hashed
    from appliance.bundle.patch.whole import WholeFile

#: Up to so many bytes, a file is one frame that looks back to the whole of its base, but for equal ends.
SMALL: Final = SEGMENT
#: What a short file and its base begin or end with alike is copied from so many bytes on: a frame spends
#: some fifteen on every 128 KiB of it, and whoever applies the patch reads the base from a node for that.
_END: Final = 256 << 10
#: Of a shorter match, the recipe's line and the two frames that it parts cost more than it saves.
_SHORTEST: Final = 256


class Encoder:
    """Makes parts of files, and writes what they need beside the base.

    Args:
        write: takes the bytes of the blocks, in order.
        hashed: told every byte of the files, in order, to prove that they are what their bundle says.
    """

    def __init__(self, write: Callable[[bytes], object], hashed: Hashed) -> None:
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
            yield from self._short(file, bases, wanted)
            return
        if not bases:
            yield from self._gap(file, bases, Stretch(0, file.size, False), hashed=True)
            return
        for stretch in _without_short(self._stretches(file, bases, wanted)):
            if stretch.is_same and stretch.base is not None:
                length = stretch.end - stretch.start
                yield Part(length, source=Range(stretch.base, stretch.place, length))
            else:
                yield from self._gap(file, bases, stretch)

    def _short(self, file: WholeFile, bases: Sequence[WholeFile], wanted: Sequence[str]) -> Iterator[Part]:
        """A short file: what it begins and ends with like its base, and one frame that looks back to it."""
        if not bases:
            gap = Stretch(0, file.size, False)
            yield from self._gap(file, bases, gap, thoroughly=True, hashed=True)
            return
        (base,), (digest,) = bases, wanted
        require_digest(base, hashlib.sha256(base.read(0, base.size)).hexdigest(), digest)
        first, last = _same_ends(file, base)
        if first:
            self._hashed(file.read(0, first))
            yield Part(first, source=Range(0, 0, first))
        if first + last < file.size:
            gap = Stretch(first, file.size - last, False, 0, 0, base.size)
            yield from self._gap(file, bases, gap, thoroughly=True, hashed=True)
        if last:
            self._hashed(file.read(file.size - last, last))
            yield Part(last, source=Range(0, base.size - last, last))

    def _stretches(
        self, file: WholeFile, bases: Sequence[WholeFile], wanted: Sequence[str]
    ) -> Iterator[Stretch]:
        """A long file beside long ones; every byte of them all is hashed."""
        chunks = Chunks(bases, mean_size(sum(base.size for base in bases)))
        if len(bases) > 1:
            for number, (base, digest) in enumerate(zip(bases, wanted, strict=True)):
                hashes = hashlib.sha256()
                chunks.add(number, 0, base.size, hashes.update)
                require_digest(base, hashes.hexdigest(), digest)
            yield from match(file, chunks, hashed=self._hashed)
            return
        (base,), (digest,) = bases, wanted
        in_place = compare(file, base, digest, self._hashed)
        # Where nothing moved, what was replaced is looked for in what it replaced.
        is_settled = file.size == base.size and in_place.size * 2 >= file.size
        for start, end in in_place.others(base.size) if is_settled else [(0, base.size)]:
            chunks.add(0, start, end)
        yield from match(file, chunks, in_place)

    def _gap(
        self,
        file: WholeFile,
        bases: Sequence[WholeFile],
        gap: Stretch,
        *,
        thoroughly: bool = False,
        hashed: bool = False,
    ) -> Iterator[Part]:
        """Parts for what is not the same, each against what lies in its place in the base."""
        waiting = 0  # bytes that stay as they are, one part as long as none is packed
        for start in range(gap.start, gap.end, SEGMENT):
            data = file.read(start, min(SEGMENT, gap.end - start))
            if hashed:
                self._hashed(data)
            source = _beside(gap, start - gap.start)
            prefix = bases[source.base].read(source.offset, source.length) if source else b""
            if thoroughly:
                packed = pack(data, prefix)
            else:
                packed, wants_prefix = pack_weights(data, prefix)
                source = source if wants_prefix else None
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


def _same_ends(file: WholeFile, base: WholeFile) -> tuple[int, int]:
    """How many bytes both begin with, and how many behind these the file ends with as the base does."""
    first = same_from(file, 0, base, 0, min(file.size, base.size))
    first = first if first >= _END else 0
    last = same_up_to(file, file.size, base, base.size, min(file.size - first, base.size))
    return first, last if last >= _END else 0


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
