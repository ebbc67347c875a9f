"""Where a node exports its logs: nothing comes in on that way, and nothing else goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.qualification import one_way
from appliance.node.qualification.plugin import promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.definition.export import Export
    from appliance.node.qualification.finding import Finding
    from appliance.node.qualification.subject import Subject

    Judge = Callable[[Finding], None]


@pytest.fixture
def export(subject: Subject) -> Export:
    """What the inventory says; these tests are left out where it says nothing."""
    return _export(subject)


@pytest.fixture(scope="module")
def line(subject: Subject) -> dict[str, Any]:
    """The line as it is, and what was tried on it."""
    return one_way.look_at_line(subject, _export(subject))


def _export(subject: Subject) -> Export:
    if subject.node.export is None:
        raise RuntimeError("the node exports nothing")
    return subject.node.export


@promise("export.running", "The export runs, confined, and starts with the node")
def test_running(line: dict[str, Any], judge: Judge) -> None:
    judge(one_way.judge_running(line))


@promise("export.walls", "Whatever comes in at the export's card is dropped, twice over")
def test_walls(line: dict[str, Any], export: Export, judge: Judge) -> None:
    judge(one_way.judge_walls(line, export))


@promise("export.out", "Nothing leaves on that way but datagrams to the receiver, root's neither")
def test_out(line: dict[str, Any], export: Export, judge: Judge) -> None:
    judge(one_way.judge_out(line, export))


@promise("export.card", "The card does nothing by itself below the kernel's rules")
def test_card(line: dict[str, Any], judge: Judge) -> None:
    judge(one_way.judge_card(line))
