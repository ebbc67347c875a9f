"""``appliance audit``: what is asked of it and what it ends with; real nodes are for tests/node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.audit import run
from appliance.node.audit.drift import Drift, NodeAudit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.cli.conftest import Outcome

EXAMPLE = Path(__file__).resolve().parents[3] / "inventory.example"
DIGEST = "d" * 64


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asked for; ``answer`` is what it gets."""
    seen: dict[str, Any] = {"answer": [NodeAudit("gpu-01")]}

    def audit_nodes(inventory: Any, nodes: Any, state: Path, **options: Any) -> list[NodeAudit]:
        seen.update(site=inventory.site, nodes=[node.name for node in nodes], state=state, **options)
        answer: list[NodeAudit] = seen["answer"]
        return answer

    monkeypatch.setattr(run, "audit_nodes", audit_nodes)
    return seen


def test_all_nodes_are_audited_unless_some_are_named(
    audited: dict[str, Any], appliance: Callable[..., Outcome], tmp_path: Path
) -> None:
    done = appliance("audit", "-i", EXAMPLE, "--state", tmp_path)
    assert (done.code, audited["nodes"]) == (0, ["gpu-01", "gpu-02"])
    assert (audited["state"], audited["recheck"], audited["baseline"]) == (tmp_path, False, None)
    assert done.out.splitlines()[-1] == "no difference (1 node audited)"
    appliance("audit", "-i", EXAMPLE, "--limit", "gpu-02", "--recheck", "--baseline", DIGEST.upper())
    assert (audited["nodes"], audited["recheck"], audited["baseline"]) == (["gpu-02"], True, DIGEST)


def test_a_drift_is_the_result_and_ends_with_8(
    audited: dict[str, Any], appliance: Callable[..., Outcome]
) -> None:
    audited["answer"] = [NodeAudit("gpu-01", (Drift("users", "evil\x1b[1m", "uid 0", "not there"),))]
    done = appliance("audit", "-i", EXAMPLE)
    assert done.code == 8
    assert "users: evil\\x1b[1m" in done.out
    done = appliance("audit", "-i", EXAMPLE, "--json")
    assert done.code == 8
    assert json.loads(done.out)["nodes"]["gpu-01"]["drift"][0]["what"] == "evil\x1b[1m"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--limit", "gpu-09"], 3),
        (["--baseline", "d" * 63, "--limit", "gpu-01"], 2),
        (["--baseline", "g" * 64, "--limit", "gpu-01"], 2),
        (["--baseline", DIGEST], 2),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_node_is_asked(
    audited: dict[str, Any], appliance: Callable[..., Outcome], options: list[str], code: int
) -> None:
    assert appliance("audit", "-i", EXAMPLE, *options).code == code
    assert "nodes" not in audited
