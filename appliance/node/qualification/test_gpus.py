"""The GPUs are cut as the inventory says, and each team is served on its own part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.node.qualification import gpus, service
from appliance.node.qualification.plugin import promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.definition.partition import Partition
    from appliance.node.qualification.finding import Finding
    from appliance.node.qualification.subject import Subject

    Judge = Callable[[Finding], None]
    Read = Callable[[str], str]


@pytest.fixture
def partition(subject: Subject) -> Partition | None:
    """What the inventory says; these tests are left out where it says nothing."""
    return subject.node.partition


@promise("gpus.layout", "The GPUs are cut as the inventory says")
def test_layout(read: Read, partition: Partition, judge: Judge) -> None:
    judge(gpus.judge_layout(read(gpus.LISTING), partition))


@promise("gpus.teams", "Each team's server has its own part of the GPUs, and no other", ["AC-4"])
def test_teams(read: Read, partition: Partition, judge: Judge) -> None:
    services = service.parse_services(read(service.LIVE))
    judge(gpus.judge_teams(read(gpus.LISTING), partition, services))
