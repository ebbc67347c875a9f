"""``appliance status``: what is asked of it and what it ends with; real nodes are for tests/node."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import NodeUnreachable
from appliance.node import status
from appliance.node.patching.switch import Waits
from appliance.node.status import NodeStatus
from appliance.trust.node_inventory import parse_inventory
from tests.unit.cli.inventories import DIGEST, EXAMPLE, SignedBy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.cli.conftest import Outcome


@pytest.fixture
def site(tmp_path: Path) -> SignedBy:
    return SignedBy(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, site: SignedBy, tmp_path: Path) -> dict[str, Any]:
    """What the command asked for; ``answer`` is what it gets."""
    data = site.write(tmp_path / "said").read_bytes()
    seen: dict[str, Any] = {"answer": [NodeStatus("gpu-01", parse_inventory(data), data, "SHA256:key")]}

    def ask_nodes(site: Any, nodes: Any, **options: Any) -> list[NodeStatus]:
        seen.update(site=site.site, nodes=[node.name for node in nodes], **options)
        answer: list[NodeStatus] = seen["answer"]
        return answer

    monkeypatch.setattr(status, "ask_nodes", ask_nodes)
    return seen


def test_what_runs_and_what_is_held_is_told(
    asked: dict[str, Any], appliance: Callable[..., Outcome]
) -> None:
    done = appliance("status", "-i", EXAMPLE)
    assert (done.code, asked["nodes"], asked["short"], asked["recheck"]) == (
        0,
        ["gpu-01", "gpu-02"],
        False,
        False,
    )
    for said in ("demo 1.0.0", "active", "sequence 1", "2, revocation 5", "8 remembered", "SHA256:key"):
        assert said in done.out
    values = appliance("status", "-i", EXAMPLE, "--json").json
    assert values["nodes"][0]["inventory"]["installed"]["bundle"] == DIGEST


def test_what_a_node_waits_for_is_told_beside_what_it_signed(
    asked: dict[str, Any], appliance: Callable[..., Outcome]
) -> None:
    (said,) = asked["answer"]
    to = {"to": {"version": "2.0.0"}}
    for waits, words in (
        (Waits(to), "  not proven yet: 2.0.0; it goes back by itself"),
        (
            Waits(to, ("driver",), reboot=True),
            "  pending restart: the new version counts from then on (driver)",
        ),
    ):
        asked["answer"] = [replace(said, waits=waits)]
        assert words in appliance("status", "-i", EXAMPLE).out
        values = appliance("status", "-i", EXAMPLE, "--json").json["nodes"][0]
        assert (values["pending"], values["restart"]) == (to, list(waits.late))
    asked["answer"] = [replace(said, waits=Waits())]
    assert "pending" not in appliance("status", "-i", EXAMPLE).out


def test_an_inventory_is_exported_as_it_was_signed(
    asked: dict[str, Any], appliance: Callable[..., Outcome], tmp_path: Path
) -> None:
    appliance("status", "-i", EXAMPLE, "--limit", "gpu-01", "--export", tmp_path / "stick")
    assert (tmp_path / "stick/gpu-01.inventory.json").read_bytes() == asked["answer"][0].data
    done = appliance(
        "status", "-i", EXAMPLE, "--short", "--recheck", "--export", tmp_path / "stick", "--json"
    )
    assert done.json["nodes"][0]["written"] == str(tmp_path / "stick/gpu-01.short.json")
    assert (asked["short"], asked["recheck"]) == (True, True)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("where", ["a file", "a link to nothing", "within a file"])
def test_where_no_folder_can_be_nothing_is_exported(
    where: str, appliance: Callable[..., Outcome], tmp_path: Path
) -> None:
    """The place where a stick is mounted, say, while it is not."""
    stick = tmp_path / "stick"
    if where == "a link to nothing":
        stick.symlink_to(tmp_path / "nothing")
    else:
        stick.touch()
    out = stick / "more" if where == "within a file" else stick
    done = appliance("status", "-i", EXAMPLE, "--export", out)
    assert (done.code, "can be no folder" in done.err) == (2, True)
    known = ("--product", "demo", "--version", "1", "--sequence", "1", "--every-node")
    done = appliance("trust", "admit", "1" * 64, *known, "--out", out)
    assert (done.code, "can be no folder" in done.err) == (2, True)


def test_a_node_that_cannot_be_reached_is_the_exit_code(
    asked: dict[str, Any], appliance: Callable[..., Outcome], tmp_path: Path
) -> None:
    trouble = NodeUnreachable(
        "gpu-02 did not say what it holds", found="timeout", hint="look at its console"
    )
    asked["answer"].append(NodeStatus("gpu-02", trouble=trouble))
    done = appliance("status", "-i", EXAMPLE)
    assert done.code == 6
    for said in ("gpu-02 did not say what it holds", "timeout", "look at its console", "demo 1.0.0"):
        assert said in done.out
    asked["answer"] = [NodeStatus("gpu-02", trouble=trouble)]
    assert appliance("status", "-i", EXAMPLE, "--export", tmp_path / "stick").code == 6
    assert not (tmp_path / "stick").exists(), "no folder for nothing"


def test_an_exported_inventory_is_read_and_judged(
    site: SignedBy, appliance: Callable[..., Outcome], tmp_path: Path
) -> None:
    file = site.write(tmp_path / "gpu-01.short.json")
    done = appliance("status", "-i", site.folder, "--read", file)
    assert (done.code, "SHA256:" in done.out) == (0, True)
    done = appliance("status", "-i", EXAMPLE, "--read", file)
    assert (done.code, "not signed with the node's pinned host key" in done.err) == (4, True)
    done = appliance("status", "-i", site.folder, "--read", site.write(tmp_path / "other", node="gpu-07"))
    assert (done.code, "no node gpu-07" in done.err) == (3, True)
    assert "name the folder of the site" in done.err
    file.write_bytes(b"{}")
    assert appliance("status", "-i", site.folder, "--read", file).code == 4


def test_what_was_shown_can_be_typed(
    site: SignedBy, appliance: Callable[..., Outcome], tmp_path: Path
) -> None:
    file = site.write(tmp_path / "gpu-01.short.json")
    typed = tmp_path / "typed.txt"
    typed.write_text(appliance("trust", "show", file).out.lower())
    assert appliance("trust", "read", typed, "--out", tmp_path / "station").code == 0
    done = appliance("status", "-i", site.folder, "--read", tmp_path / "station/gpu-01.short.json")
    assert done.code == 0
