"""How hard a frame is tried for: as hard as it pays."""

from __future__ import annotations

import random
import zlib

import pytest

from appliance.bundle.patch.packing import level_for, pack, unpack
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
        (TOKENS, False, 5),
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
    packed = pack(NEW, OLD, thoroughly=True)
    assert packed is not None
    assert len(packed) < 21_000 + 500
    assert unpack(packed, len(NEW), OLD) == NEW
