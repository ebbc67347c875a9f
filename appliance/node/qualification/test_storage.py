"""Nothing of what the node works on reaches a disk in the clear, and its volumes open as declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.node.qualification import storage
from appliance.node.qualification.plugin import promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.definition.disks import Disk
    from appliance.node.qualification.finding import Finding
    from appliance.node.qualification.subject import Subject
    from appliance.node.qualification.tries import Tries

    Judge = Callable[[Finding], None]
    Read = Callable[[str], str]


@pytest.fixture
def said(read: Read) -> storage.Storage:
    """What the node says of its disks and memory."""
    return storage.parse_storage(read(storage.LISTING))


@pytest.fixture
def volumes(subject: Subject) -> tuple[Disk, ...]:
    """What the inventory names; these tests are left out where it names nothing."""
    return subject.node.disks


@promise("storage.swap", "Memory is swapped to nothing, or encrypted", ["SC-28"])
def test_swap(said: storage.Storage, tries: Tries, judge: Judge) -> None:
    judge(storage.judge_swap(said, tries.container))


@promise("storage.temporary", "What is in /tmp is in memory, or encrypted", ["SC-28"])
def test_temporary(said: storage.Storage, tries: Tries, judge: Judge) -> None:
    judge(storage.judge_temporary(said, tries.container))


@promise("storage.dumps", "Memory of what crashes is kept nowhere, or encrypted", ["SC-28", "SI-11"])
def test_dumps(said: storage.Storage, tries: Tries, judge: Judge) -> None:
    judge(storage.judge_dumps(said, tries.container))


@promise("storage.hibernation", "The node does not sleep on a disk", ["SC-28"])
def test_hibernation(said: storage.Storage, tries: Tries, judge: Judge) -> None:
    judge(storage.judge_hibernation(said, tries.container))


@promise("storage.mounted", "Every place that the inventory names lies on its encrypted drive", ["SC-28"])
def test_mounted(said: storage.Storage, volumes: tuple[Disk, ...], judge: Judge) -> None:
    judge(storage.judge_mounted(said, volumes))


@promise("storage.opening", "Volumes open as the inventory says, and in no other way", ["SC-28", "AC-3"])
def test_opening(said: storage.Storage, volumes: tuple[Disk, ...], judge: Judge) -> None:
    judge(storage.judge_opening(said, volumes))
