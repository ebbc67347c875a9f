"""Zero packets: ten minutes in which nobody touched the machine, and all it has sent since it is isolated.

This module comes late by its name, so that the machine idles while other tests run; what is waited for
here is the rest of the ten minutes.  Only ``test_zero_way_back`` comes later, and makes an exporter of it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.vm.isolated import IDLE_SECONDS

if TYPE_CHECKING:
    from tests.vm.isolated import Isolated

pytestmark = [pytest.mark.vm, pytest.mark.archive]


def test_ten_minutes_of_idling_send_nothing_beyond(isolated: Isolated) -> None:
    isolated.idle()
    assert isolated.idle_since is not None
    time.sleep(max(0.0, isolated.idle_since + IDLE_SECONDS - time.monotonic()))
    judged = isolated.judged(since="idle")
    assert sum(each.beyond for each in judged) == 0
    # It was there all the time, and its cables were: it answers at once, and is heard doing so.
    before = sum(each.sent for each in judged)
    uptime = float(isolated.node.run("cat /proc/uptime").stdout.split()[0])
    assert uptime > IDLE_SECONDS
    assert sum(each.sent for each in isolated.judged(since="idle")) > before


def test_not_one_frame_was_beyond_since_the_machine_is_isolated(isolated: Isolated) -> None:
    """From the isolation on, over every boot, on every card, to this moment."""
    first = isolated.judged(1, since="applied")
    later = isolated.judged(*range(2, isolated.boots + 1))
    assert len(first) == 4
    assert len(later) >= 4
    strays = [str(stray) for each in (*first, *later) for stray in each.strays]
    assert strays == []
