"""What a report says of the management controller below a node."""

from __future__ import annotations

import subprocess

import pytest

from appliance.node.qualification import bmc


@pytest.mark.parametrize(
    ("listing", "told"),
    [
        ("/dev/ipmi0\nnetwork card enx0200\n", "(/dev/ipmi0, network card enx0200)"),
        ("", "no way from the node to a BMC was seen"),
        (None, "could not be asked"),
    ],
)
def test_ways_to_the_bmc_are_told(listing: str | None, told: str) -> None:
    assert told in bmc.note(listing)


def test_the_question_can_be_asked_of_any_machine() -> None:
    done = subprocess.run(["sh", "-c", bmc.WAYS], capture_output=True, text=True, check=True)
    assert all(line.startswith(("/dev/ipmi", "network card ")) for line in done.stdout.splitlines())
