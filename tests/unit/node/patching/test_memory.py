"""What a patch's parts hold in memory, here and where it is built: so much for each, never for each byte.

A terabyte may be a million parts (every other mebibyte changed), and is as many chunks.  The bench builds
one of holes (``tests/bench/test_patch_memory.py``), which has few parts; what each of many costs is seen
here.
"""

from __future__ import annotations

import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

from appliance.bundle.patch.chunks import Places, chunk_count, mean_size
from appliance.bundle.patch.in_place import STEP, InPlace
from appliance.bundle.patch.recipe import Part, Range
from appliance.node.patching.parts import FileParts
from appliance.node.patching.transfer import PatchTransfer
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.unit.node.patching.conftest import NodeHere

TERABYTE = 10**12
#: As many parts as make a difference, and do not take long.
PARTS = 20_000


def held_by(make: Callable[[], object]) -> int:
    """Bytes at the most, while this runs and what it gives is kept."""
    tracemalloc.start()
    try:
        kept = make()
        peak = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    return peak


def many_parts() -> FileParts:
    parts = FileParts(0)
    for number in range(PARTS):
        parts.add(Part(STEP, source=Range(0, 2 * number * STEP, STEP)))
    return parts


def test_the_parts_of_a_file_are_sent_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, sent = many_parts(), 0

    def note(_: Part, __: int, ___: int) -> None:
        nonlocal sent
        sent += 1

    monkeypatch.setattr(PatchTransfer, "_frame", lambda _self, _message: None)
    transfer: Any = object.__new__(PatchTransfer)
    peak = held_by(lambda: transfer._send_parts(0, 0, parts, 0, note, Silent()))
    assert sent == PARTS
    assert peak < 100_000


def test_they_are_not_made_a_list_of_before(node: NodeHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """As objects, those of a terabyte would be 160 MB and more."""
    target, sent = node.target(), []
    send = PatchTransfer._send_parts

    def noted(self: PatchTransfer, index: int, offset: int, parts: FileParts, *rest: Any) -> None:
        sent.append(parts)
        send(self, index, offset, parts, *rest)

    monkeypatch.setattr(PatchTransfer, "_send_parts", noted)
    node.begin(target).send(Silent())
    assert sent
    assert all(any(each is known for known in target.parts.values()) for each in sent)


def test_a_part_is_six_numbers() -> None:
    """48 MB for a terabyte in steps of which every other changed."""
    parts = many_parts()
    assert sys.getsizeof(parts.numbers) / PARTS < 56
    assert [*parts][-1] == Part(STEP, source=Range(0, 2 * (PARTS - 1) * STEP, STEP))


def test_what_lies_in_its_place_is_two_numbers_a_range() -> None:
    """8 MB for a terabyte of which every other step changed; looking through them copies them once."""
    ranges = InPlace()
    for number in range(PARTS):
        ranges.add(2 * number * STEP, (2 * number + 1) * STEP)
    assert sys.getsizeof(ranges.numbers) / PARTS < 20
    assert held_by(lambda: sum(end - start for start, end in ranges)) / PARTS < 20


def test_the_table_of_a_terabyte_has_room_for_all_its_chunks_in_32_mebibytes() -> None:
    count = chunk_count(TERABYTE, 1, mean_size(TERABYTE))
    assert count >= TERABYTE >> 20
    assert held_by(lambda: Places(count)) < 33 << 20
    places = Places(PARTS)
    for key in range(PARTS):
        places.add(key, key)
    assert held_by(lambda: places.add(PARTS, PARTS)) < 1 << 10, "none of what was expected makes it grow"
