"""How hard a frame is tried for: as hard as it pays."""

from __future__ import annotations

import random
import zlib

import pytest

from appliance.bundle.patch.packing import level_for, pack, pack_weights, unpack
from tests.unit.bundle.patch.conftest import TOKENS

#: A member that changed between two that did not, as in two versions of a wheel.
SAME = random.Random(86).randbytes(200_000)  # noqa: S311 - the same bytes each time
OLD = SAME[:90_000] + random.Random(1).randbytes(20_000) + SAME[90_000:]  # noqa: S311 - likewise
NEW = SAME[:90_000] + random.Random(2).randbytes(21_000) + SAME[90_000:]  # noqa: S311 - likewise


@pytest.mark.parametrize(
    ("data", "thoroughly", "level"),
    [
        (TOKENS, True, 19),
        (zlib.compress(SAME), True, 3),
        (NEW, True, 3),
        (NEW[: 64 << 10], True, 19),
        (TOKENS * 40, True, 5),
        (TOKENS, False, 3),
        (NEW[:1000], False, 19),
    ],
    ids=[
        "text",
        "deflated",
        "much like a wheel",
        "too short to tell",
        "long text",
        "of weights",
        "of few bytes",
    ],
)
def test_what_is_packed_already_is_not_tried_hard(data: bytes, thoroughly: bool, level: int) -> None:
    assert level_for(data, thoroughly=thoroughly) == level


def test_what_is_the_same_is_found_in_it_all_the_same() -> None:
    packed = pack(NEW, OLD)
    assert packed is not None
    assert len(packed) < 21_000 + 500
    assert unpack(packed, len(NEW), OLD) == NEW


def test_of_weights_the_base_is_asked_for_only_where_that_saves_bytes() -> None:
    """Whoever applies the patch reads it from a node."""
    packed, wants_prefix = pack_weights(NEW, OLD)
    assert wants_prefix
    assert packed is not None
    assert len(packed) < 21_000 + 500
    assert unpack(packed, len(NEW), OLD) == NEW
    packed, wants_prefix = pack_weights(TOKENS, random.Random(3).randbytes(200_000))  # noqa: S311
    assert not wants_prefix
    assert packed is not None
    assert unpack(packed, len(TOKENS)) == TOKENS


@pytest.mark.parametrize("prefix", [b"", bytes(40)], ids=["alone", "with a prefix"])
def test_what_saves_less_than_its_line_costs_stays_as_it_is(prefix: bytes) -> None:
    data = bytes(40)
    assert pack(data, prefix) is None
    assert pack_weights(data, prefix) == (None, False)
    assert pack(bytes(60), prefix) is not None
