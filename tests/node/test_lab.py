"""A practice node is what it claims to be, and nothing of it stays behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import PracticeNode

pytestmark = pytest.mark.node


def test_root_can_log_in_over_ssh(practice_node: PracticeNode) -> None:
    assert practice_node.run("hostname").stdout == f"{practice_node.name}\n"


def test_a_node_boots_without_a_failed_unit(practice_node: PracticeNode) -> None:
    assert practice_node.run("systemctl is-system-running").stdout == "running\n"
    assert practice_node.inside("systemctl list-units --failed --plain --no-legend").stdout == ""
