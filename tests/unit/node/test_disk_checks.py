"""Preflight of a node with encrypted drives: what an installation writes first lies where it shall lie."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.definition.inventory_schema import parse_inventory
from appliance.node.disk_checks import disk_checks
from appliance.node.plan import volume_words
from tests.unit.definition.test_inventory_disks import PATH, VALID

NODE = parse_inventory(VALID, PATH)[0].node("gpu-01")


def stopping(*mounts: str, places: tuple[str, ...] = ("/var/lib/appliance", "/var/log/audit")) -> list[str]:
    node = replace(NODE, disks=(replace(NODE.disks[0], mounts=places), NODE.disks[1]))
    return [each.found for each in disk_checks(node, {"mounts": list(mounts)}) if each.stops]


def test_a_bundle_is_not_staged_beside_its_volume() -> None:
    assert stopping("/") == ["data: not mounted: /var/lib/appliance"]
    assert stopping("/", "/var/lib/appliance") == []
    (check, *_) = disk_checks(NODE, {"mounts": ["/"]})
    assert "appliance disk unlock --node gpu-01, then appliance disk mount" in (check.hint or "")


@pytest.mark.parametrize("place", ["/var/lib/appliance/staged", "/var/lib/appliance"])
def test_below_it_counts_too(place: str) -> None:
    assert stopping("/", places=(place,)) == [f"data: not mounted: {place}"]


def test_other_places_are_mounted_by_the_installation_itself() -> None:
    assert stopping("/", places=("/var/lib/appliance-export", "/srv/a")) == []


def test_the_plan_says_what_lies_on_which_drive_and_how_it_opens() -> None:
    assert volume_words(NODE) == [
        "gpu-01 data (drive S6CVNG0T1, opened by the TPM): /var/lib/appliance, /var/log/audit",
        "gpu-01 dns (drive 0042, opened over SSH): /srv/more",
    ]
