"""A switch over a restart: what counts from then on is loaded, proven, and goes back as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.remote.switch import RESTARTED
from tests.unit.node.patching.switched_node import (
    AFTER,
    BEFORE,
    NEW,
    OLD,
    RECORD,
    Cut,
    Node,
    arm,
    is_old,
    new_node,
    of,
    runs_the_old,
)

if TYPE_CHECKING:
    from pathlib import Path

SERVING = "appliance-inference.service"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return new_node(tmp_path, monkeypatch)


def begin(node: Node, **more: Any) -> dict[str, Any]:
    """Phase one: armed, packages installed, and the node asked to restart."""
    arm(node, packages=True, **more)
    node.install()
    return restart(node)


def restart(node: Node, run: str = "run") -> dict[str, Any]:
    return node.runs(of(node), "restart", run)


def back(node: Node, reason: str, run: str = "") -> dict[str, Any]:
    return node.runs(of(node), "back", reason, run)


def due(node: Node) -> dict[str, Any]:
    return node.runs(of(node), "due")


def has_the_old(node: Node) -> bool:
    """Files, packages, and what is loaded."""
    return is_old(node) and (node.packages, node.loaded) == (BEFORE, "1")


def test_it_waits_through_the_restart_it_asked_for_and_is_proven_after_it(node: Node) -> None:
    assert begin(node)["late"] == ["driver"]
    assert (node.boots, node.loaded, node.files()) == (2, "2", OLD)
    assert of(node).status()["pending"] == RECORD
    assert of(node).status()["restart"] is None
    assert of(node).restart("run")["late"] == [], "once is enough"
    node.apply()
    assert of(node).confirm("run")["confirmed"] is True
    node.restarts()
    assert (node.files(), node.packages, node.results()) == (NEW, AFTER, ["done"])


def test_who_serves_is_stopped_in_its_own_time_before(node: Node) -> None:
    arm(node, packages=True)
    node.install()
    answer = of(node).restart("run")
    assert ("stop", SERVING) in node.said
    assert answer["restart"] == {"late": ["driver"], "reboot": True, "for": "new"}


def test_packages_that_count_at_once_need_no_restart_and_never_go_back(node: Node) -> None:
    arm(node, packages=True)
    node.packages["driver-libs"] = "2"
    by = of(node)
    assert (by.restart("run")["late"], by.rebooting) == ([], False)
    node.apply()
    back(node, "it failed")
    assert is_old(node)
    assert node.packages == {**BEFORE, "driver-libs": "2"}
    assert node.boots == 1


def test_without_a_change_of_packages_nobody_asks_for_them(node: Node) -> None:
    arm(node)
    node.install()
    assert of(node).restart("run")["late"] == []


def test_another_run_restarts_nothing(node: Node) -> None:
    arm(node, packages=True)
    node.install()
    assert of(node).restart("another")["error"] == "failed"
    assert of(node).status()["restart"] is None


def test_before_the_restart_packages_go_back_and_nothing_restarts(node: Node) -> None:
    begin(node, reboot=False)
    back(node, "rollback")
    assert has_the_old(node)
    assert runs_the_old(node)
    assert node.boots == 1
    assert of(node).status()["restart"] is None


def test_after_it_packages_go_back_and_the_node_restarts_once_more(node: Node) -> None:
    begin(node)
    node.apply()
    back(node, "QualificationFailed", "run")
    assert has_the_old(node)
    assert runs_the_old(node)
    assert (node.boots, node.results()) == (3, ["went back"])
    assert of(node).history()[-1]["reason"] == "QualificationFailed"


def test_a_station_that_comes_after_that_changes_nothing_more(node: Node) -> None:
    begin(node)
    node.now += 60
    due(node)
    assert node.boots == 3
    back(node, "too late", "run")
    assert has_the_old(node)
    assert (node.boots, node.results()) == (3, ["went back"])


def test_the_time_for_the_proof_begins_with_the_restart(node: Node) -> None:
    arm(node, packages=True)
    node.install()
    node.now += 50
    restart(node)
    node.now += 50
    assert due(node)["pending"] == RECORD
    node.now += 10
    due(node)
    assert has_the_old(node)
    assert "within 60 s" in of(node).history()[-1]["reason"]
    assert node.boots == 3


def test_a_restart_that_does_not_come_is_silence(node: Node) -> None:
    arm(node, packages=True)
    node.install()
    of(node).restart("run")
    node.now += 60
    due(node)
    assert has_the_old(node)
    assert runs_the_old(node), "it was stopped for the restart"
    assert node.boots == 1


def test_a_restart_that_is_somebody_elses_has_no_end(node: Node) -> None:
    begin(node, reboot=False)
    assert of(node).status()["restart"] == {"late": ["driver"], "reboot": False, "for": "new"}
    assert ("stop", SERVING) not in node.said
    node.now += 10**6
    assert due(node)["pending"] == RECORD
    assert of(node).confirm("run")["why"] == "the node was not restarted yet"
    node.restarts()
    assert of(node).status()["restart"] is None
    arm(node, "again", packages=True, reboot=False)
    assert of(node).restart("again")["late"] == []
    node.apply()
    assert of(node).confirm("again")["confirmed"] is True


def test_whoever_restarts_by_himself_is_told_of_the_one_that_is_left(node: Node) -> None:
    """The patch was applied without restarts: going back restarts nothing either, and says so."""
    begin(node, reboot=False)
    node.restarts()
    node.apply()
    assert back(node, "it failed")["restart"] == {"late": ["driver"], "reboot": False, "for": "former"}
    assert (node.packages, node.loaded, node.boots) == (BEFORE, "2", 2)
    node.restarts()
    assert of(node).status()["restart"] is None
    assert has_the_old(node)


def test_a_second_restart_proves_nothing(node: Node) -> None:
    begin(node)
    node.apply()
    node.restarts()
    assert has_the_old(node)
    assert runs_the_old(node)
    assert (node.boots, of(node).history()[-1]["reason"]) == (4, RESTARTED)


def test_a_station_that_was_killed_goes_on(node: Node) -> None:
    """Before the restart was asked for, and after it."""
    arm(node, packages=True)
    node.install()
    arm(node, "again", packages=True)
    assert restart(node, "again")["late"] == ["driver"]
    arm(node, "third", packages=True)
    assert restart(node, "third")["late"] == []
    node.apply()
    assert of(node).confirm("third")["confirmed"] is True
    assert node.boots == 2


def test_a_package_that_does_not_go_back_is_said(node: Node) -> None:
    begin(node)
    node.broken.add("driver-libs")
    back(node, "it failed")
    assert node.packages == {**BEFORE, "driver-libs": "2"}
    assert node.results() == ["went back, but driver-libs is not at 1 again"]
    assert of(node).armed() is None


def prove(node: Node) -> None:
    begin(node)
    assert node.loaded == "2"
    node.apply()
    of(node).confirm("run")


def fail(node: Node) -> None:
    begin(node)
    node.apply()
    back(node, "it failed", "run")


@pytest.mark.parametrize("way", [prove, fail])
@pytest.mark.parametrize("after", ["restart", "silence"])
def test_cut_off_at_any_step_it_is_one_version_or_the_other_and_that_is_loaded(
    way: Any, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for dies_at in range(1, 1000):
        with monkeypatch.context() as patch:
            node = new_node(tmp_path / str(dies_at), patch)
            node.dies_at = dies_at
            try:
                way(node)
            except Cut:
                finish(node, after)
                old = is_old(node)
                assert old or (node.files() == NEW and not node.units_left()), f"cut at {dies_at}"
                wanted = (BEFORE, "1") if old else (AFTER, "2")
                owed = of(node).status()["restart"]
                if owed:  # whoever went back was killed before it could restart: it is told
                    assert owed["for"] == "former"
                    node.restarts()
                assert (node.packages, node.loaded) == wanted, f"cut at {dies_at}"
                assert not old or runs_the_old(node), f"cut at {dies_at}"
                assert of(node).armed() is None
                assert node.results() in ([["went back"], []] if old else [["done"]]), f"cut at {dies_at}"
                seen.add(old)
                continue
        assert seen == ({True, False} if way is prove else {True})
        assert dies_at > 20
        return
    pytest.fail("it never came to its end")


def finish(node: Node, after: str) -> None:
    """What systemd does then; after a restart that was asked for, silence ends it."""
    node.dies_at = -1
    if node.jobs is not None or after == "restart":
        node.jobs = None
        node.restarts()
    for _ in range(3):
        node.now += 60
        due(node)
