"""What a node says of itself in another shape than was asked for: its own trouble, nobody's traceback."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.node.checks import Wanted
from appliance.node.preflight import look_at_nodes
from tests.unit.node.test_checks import FACTS, INVENTORY, NODE

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.node.connection import Connection

ODD: list[object] = [None, True, -1, 1e999, "text", [], [[]], [None], {}, {"a": {"b": []}}, [{"name": 3}]]


@dataclass
class Saying:
    """A connection to a node that says this."""

    said: object
    node: Any = NODE

    def run(self, command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], 0, json.dumps(self.said).encode() + b"\n", b"")


def stops(said: object, bundle: Path) -> set[str]:
    """The names of what stops."""
    connections = {NODE.name: cast("Connection", Saying(said))}
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    wanted = Wanted(manifest, "d" * 64, 1000, INVENTORY, 1_000_000.0)
    (seen,) = look_at_nodes(connections, INVENTORY.ssh, wanted)
    return {check.name for check in seen.checks if check.stops}


@pytest.mark.parametrize("key", FACTS)
def test_no_odd_value_ends_more_than_its_node(key: str, pristine_bundle: Path) -> None:
    for odd in ODD:
        stops({**FACTS, key: odd}, pristine_bundle)
    left = {name: value for name, value in FACTS.items() if name != key}
    stops(left, pristine_bundle)


@pytest.mark.parametrize("said", [[], None, "text", 7, {}, [[]]])
def test_no_odd_answer_does(said: object, pristine_bundle: Path) -> None:
    assert stops(said, pristine_bundle) == {"facts"}
