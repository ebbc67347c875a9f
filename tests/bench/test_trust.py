"""How long the decision takes: twenty roots followed, then a list judged by five of nine holders.

CPU of this process alone, with nothing remembered from before; the median of several runs.  Each root
changes something, as roots do.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import pytest

from appliance.trust.chain import Link, follow
from appliance.trust.founding import compose, next_root
from appliance.trust.keys import parse_blob
from appliance.trust.mldsa import parse_post_quantum
from appliance.trust.policy import decide
from appliance.trust.root import Policy, root_bytes
from tests.unit.trust.people import Person, signed

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.bench

ROOTS, HOLDERS, NEEDED = 20, 9, 5
RUNS = 9
LIST = b"the list\n"


def decision(pq: str) -> Callable[[], None]:
    """The whole of it, ready to be run: bytes in, a verdict out."""
    second = pq == "require"
    people = [Person(f"holder{number}") for number in range(HOLDERS)]
    enrolments = [each for person in people for each in person.enrolled(second=second)]
    thresholds = {"root": NEEDED, "release": NEEDED}
    roots = [compose(enrolments, thresholds, policy=Policy(pq))]
    while len(roots) < ROOTS:
        guest = Person(f"guest{len(roots)}").enrolled("release", second=second)
        roots.append(next_root(roots[-1], [*enrolments, *guest], {}))
    links = {}
    for root in roots:
        data = root_bytes(root)
        links[root.version] = Link(data, signed(data, "root", *people[:NEEDED], second=second))
    over_list = signed(LIST, "release", *people[:NEEDED], second=second)
    trusted = root_bytes(roots[0])

    def run() -> None:
        root = follow(trusted, links).root
        assert root.version == ROOTS
        verdict = decide(LIST, over_list.ssh, root, "release", post_quantum=over_list.post_quantum)
        assert len(verdict.signers) == NEEDED
        verdict.require()

    return run


def milliseconds(run: Callable[[], None]) -> float:
    spent = []
    for _ in range(RUNS):
        parse_blob.cache_clear()
        parse_post_quantum.cache_clear()
        before = time.process_time()
        run()
        spent.append(time.process_time() - before)
    return statistics.median(spent) * 1000


@pytest.mark.parametrize(("pq", "most"), [("off", 20), ("require", 120)])
def test_a_chain_of_twenty_roots(pq: str, most: float) -> None:
    """With ML-DSA required, 27 ms go into a hundred of its signatures alone; that bound is no promise."""
    took = milliseconds(decision(pq))
    print(f"\n{ROOTS} roots, {NEEDED} of {HOLDERS}, ML-DSA {pq}: {took:.1f} ms CPU (at most {most})")
    assert took <= most
