"""Which sets are mended, in which order: from counts alone."""

from __future__ import annotations

import pytest

from appliance.bundle.parity.deciding import Lack, decide_order

CASES = {
    "nothing to do": ([Lack({"a": 3}, 9)], set(), (), ()),
    "enough": ([Lack({"a": 3}, 3)], {"a"}, (0,), ()),
    "one too few": ([Lack({"a": 4}, 3)], {"a"}, (), ("a",)),
    "lost together": ([Lack({"a": 2, "b": 2}, 3)], {"a"}, (), ("a",)),
    "in no set": ([Lack({"b": 1}, 3)], {"a"}, (), ("a",)),
    "two sets, each its own": ([Lack({"a": 1}, 3), Lack({"b": 1}, 3)], {"a", "b"}, (0, 1), ()),
    "only the set that is wanted": ([Lack({"a": 1}, 3), Lack({"b": 1}, 3)], {"b"}, (1,), ()),
    "the cheaper of two": ([Lack({"a": 5}, 9), Lack({"a": 2}, 9)], {"a"}, (1,), ()),
    "one set helps another": (
        [Lack({"a": 4, "b": 4}, 5), Lack({"b": 4, "c": 1}, 9)],
        {"a"},
        (1, 0),
        (),
    ),
    "a helper that is not needed": (
        [Lack({"a": 3, "b": 3}, 6), Lack({"b": 3}, 9)],
        {"a"},
        (0,),
        (),
    ),
    "as much as can be": ([Lack({"a": 1}, 3), Lack({"b": 9}, 3)], {"a", "b"}, (0,), ("b",)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_order(name: str) -> None:
    lacks, goals, order, unmended = CASES[name]
    decision = decide_order(lacks, goals)
    assert (decision.order, decision.unmended) == (order, unmended)
