"""What of a file lies in the base, and where: chunks that are the same, made as long as they go.

What lies where it lay is known (``in_place``); for what lies between, chunks find out where to look.  What
is told is exact to the byte, since where a match ends the bytes are compared on, forwards and backwards.
Several changed tensors in a file of weights cost no more than their own bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.patch.chunks import cut
from appliance.bundle.patch.in_place import InPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.bundle.patch.chunks import Chunks, Hashed
    from appliance.bundle.patch.whole import WholeFile

#: Bytes that are compared at once where a match is made longer.
_STEP: Final = 256 << 10


@dataclass(slots=True)
class Stretch:
    """Bytes of the file from ``start`` to ``end``.

    ``base`` and ``place`` say where the same lie.  Of a gap (``is_same`` False), what lies from there up to
    ``limit`` is likely to be much like it; None: nothing is known.
    """

    start: int
    end: int
    is_same: bool
    base: int | None = None
    place: int = 0
    limit: int = 0


def match(
    file: WholeFile, chunks: Chunks, in_place: InPlace | None = None, hashed: Hashed | None = None
) -> Iterator[Stretch]:
    """The whole file as stretches, in order; two gaps never follow one another.

    Args:
        file: open.
        chunks: of the base files, which are open.
        in_place: what the only base file is known to have at the same positions.
        hashed: told every byte of what is not, in order.
    """
    run: Stretch | None = None
    for new in _runs(file, chunks, in_place or InPlace(), hashed):
        yield from _settled(file, chunks, run, new)
        run = new
    yield from _settled(file, chunks, run, None)


def _runs(file: WholeFile, chunks: Chunks, in_place: InPlace, hashed: Hashed | None) -> Iterator[Stretch]:
    """What is the same, in order: what is known, and what is found between."""
    done = 0
    for start, end in in_place:
        yield from _found(file, chunks, done, start, hashed)
        yield Stretch(start, end, is_same=True, base=0, place=start)
        done = end
    yield from _found(file, chunks, done, file.size, hashed)


def _found(
    file: WholeFile, chunks: Chunks, start: int, end: int, hashed: Hashed | None
) -> Iterator[Stretch]:
    """What of a range is the same somewhere in the base, chunk by chunk."""
    run: Stretch | None = None
    for position, data in cut(file, chunks.mean, start, end, hashed) if start < end else ():
        if run is not None and run.end == position and _goes_on(run, data, chunks):
            run.end += len(data)
            continue
        place = chunks.find(data)
        if place is None or not _is_same(chunks, *place, data):
            continue
        if run is not None:
            yield run
        run = Stretch(position, position + len(data), is_same=True, base=place[0], place=place[1])
    if run is not None:
        yield run


def _settled(
    file: WholeFile, chunks: Chunks, run: Stretch | None, new: Stretch | None
) -> Iterator[Stretch]:
    """A run that is over, and the gap up to the next; both grow into the gap while bytes are the same."""
    start = run.end if run else 0
    end = new.start if new else file.size
    if run is not None:
        start = run.end = run.end + _same_after(file, chunks, run, end - start)
        yield run
    if new is not None:
        grown = _same_before(file, chunks, new, end - start)
        new.start -= grown
        new.place -= grown
        end = new.start
    if start < end:
        yield _gap(chunks, run, new, start, end)


def _gap(chunks: Chunks, run: Stretch | None, new: Stretch | None, start: int, end: int) -> Stretch:
    if run is not None and run.base is not None:
        place = run.place + run.end - run.start
        is_between = new is not None and new.base == run.base and new.place >= place
        limit = new.place if new and is_between else chunks.files[run.base].size
        return Stretch(start, end, is_same=False, base=run.base, place=place, limit=limit)
    if new is not None and new.base is not None:
        place = max(0, new.place - (end - start))
        return Stretch(start, end, is_same=False, base=new.base, place=place, limit=new.place)
    if chunks.files:
        return Stretch(start, end, is_same=False, base=0, place=0, limit=chunks.files[0].size)
    return Stretch(start, end, is_same=False)


def _goes_on(run: Stretch, data: memoryview, chunks: Chunks) -> bool:
    place = run.place + run.end - run.start
    return run.base is not None and _is_same(chunks, run.base, place, data)


def _is_same(chunks: Chunks, base: int, place: int, data: memoryview) -> bool:
    file = chunks.files[base]
    # startswith() compares as memory does; == with a view compares item by item.
    return place + len(data) <= file.size and file.read(place, len(data)).startswith(data)


def _same_after(file: WholeFile, chunks: Chunks, run: Stretch, most: int) -> int:
    """How many bytes behind a run are still the same, at most ``most``."""
    if run.base is None:
        return 0
    base, place = chunks.files[run.base], run.place + run.end - run.start
    return same_from(file, run.end, base, place, min(most, base.size - place))


def _same_before(file: WholeFile, chunks: Chunks, new: Stretch, most: int) -> int:
    """How many bytes before a run are the same already, at most ``most``."""
    if new.base is None:
        return 0
    return same_up_to(file, new.start, chunks.files[new.base], new.place, min(most, new.place))


def same_from(file: WholeFile, start: int, base: WholeFile, place: int, most: int) -> int:
    """How many bytes from there on are the same, at most ``most``, which both have."""
    for done in range(0, most, _STEP):
        step = min(_STEP, most - done)
        one, other = file.read(start + done, step), base.read(place + done, step)
        if one != other:
            return done + _common(one, other)
    return most


def same_up_to(file: WholeFile, end: int, base: WholeFile, place: int, most: int) -> int:
    """How many bytes up to there are the same, at most ``most``, which both have."""
    for done in range(0, most, _STEP):
        step = min(_STEP, most - done)
        one, other = file.read(end - done - step, step), base.read(place - done - step, step)
        if one != other:
            return done + _common(one[::-1], other[::-1])
    return most


def _common(one: bytes, other: bytes) -> int:
    """How many first bytes of two different texts of one length are the same."""
    same, wrong = 0, len(one)  # so many are the same; so many are not
    while wrong - same > 1:
        middle = (same + wrong) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            wrong = middle
    return same
