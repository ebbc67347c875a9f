"""The node's own switch between two versions: proven it stays, else it goes back, wherever cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.node.remote import history_log
from appliance.node.remote.switch import RESTARTED, Switch
from appliance.node.remote.switch_units import BOOT, SERVICE, TIMER
from tests.unit.node.patching.switched_node import (
    NEW,
    OLD,
    RECORD,
    SETTINGS,
    Apart,
    Cut,
    Node,
    arm,
    is_old,
    new_node,
    of,
    runs_the_old,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return new_node(tmp_path, monkeypatch)


def test_a_version_that_is_proven_stays(node: Node) -> None:
    assert arm(node)["pending"] == RECORD
    assert {TIMER, BOOT} <= node.enabled
    assert node.units_left() == [TIMER, SERVICE, BOOT]
    node.apply()
    assert of(node).confirm("run")["confirmed"] is True
    assert node.files() == NEW
    assert node.units_left() == []
    assert not {TIMER, BOOT} & node.enabled
    node.boot = "second"
    assert of(node).boot()["restored"] is False
    assert node.files() == NEW
    assert node.results() == ["done"]


def test_one_that_is_not_goes_and_what_ran_before_runs(node: Node) -> None:
    arm(node)
    node.apply()
    assert of(node).back("QualificationFailed")["restored"] is True
    assert is_old(node)
    assert node.active == {"appliance-inference.service", "appliance-audit.timer"}
    assert node.enabled == node.active
    assert ("restart", "appliance-inference.service") in node.said
    line = of(node).history()[-1]
    assert (line["result"], line["reason"], line["to"]) == (
        "went back",
        "QualificationFailed",
        {"digest": "b"},
    )
    assert (node.root / "etc/systemd/system/appliance-revert.timer").exists(), "is of no version"


def test_silence_is_an_answer_once_the_time_is_over(node: Node) -> None:
    arm(node)
    node.apply()
    node.now += 30
    assert of(node).due()["pending"] == RECORD
    assert node.files() == NEW
    node.now += 30
    assert of(node).due()["restored"] is True
    assert is_old(node)
    assert "within 60 s" in of(node).history()[-1]["reason"]


def test_arming_again_keeps_what_was_saved_and_gives_the_full_time(node: Node) -> None:
    arm(node)
    node.apply()
    node.now += 50
    assert arm(node)["over"] == ""
    assert arm(node, "again")["over"] == "root at desk"
    assert of(node).confirm("run")["why"] == "another run has begun the switch anew"
    node.now += 50
    assert of(node).due()["pending"] == RECORD
    of(node).back("enough")
    assert is_old(node)


def test_one_switch_at_a_time(node: Node) -> None:
    arm(node)
    other = {**RECORD, "to": {"digest": "c"}}
    assert arm(node, record=other) == {"error": "pending", "to": {"digest": "b"}}


def test_a_proof_that_comes_too_late_does_not_count(node: Node) -> None:
    arm(node)
    node.apply()
    node.now += 60
    of(node).due()
    answer = of(node).confirm("run")
    assert (answer["confirmed"], answer["why"]) == (False, "it went back before, or was never begun")


def test_a_run_that_changed_more_after_its_time_is_undone_again(node: Node) -> None:
    arm(node)
    node.now += 60
    of(node).due()
    node.apply()
    assert of(node).back("too late", "another run")["restored"] is False
    assert of(node).back("too late", "run")["restored"] is True
    assert is_old(node)
    assert node.results() == ["went back"]


def test_what_such_a_run_left_is_not_taken_for_what_ran_before(node: Node) -> None:
    """The run was killed after its time, having changed something; then the patch is tried again."""
    arm(node)
    node.now += 60
    of(node).due()
    node.apply()
    arm(node, "again")
    of(node).back("it failed")
    assert is_old(node)
    assert node.results() == ["went back", "went back"]


def test_what_ran_before_another_version_is_another_matter(node: Node) -> None:
    go_back(node)
    node.put({**OLD, SETTINGS: "changed since"})
    arm(node, "again", record={**RECORD, "from": {"digest": "c"}})
    node.apply()
    of(node).back("it failed")
    assert node.files() == {**OLD, SETTINGS: "changed since"}


def test_a_restart_proves_nothing(node: Node) -> None:
    arm(node)
    node.apply()
    node.boot = "second"
    assert of(node).confirm("run")["why"] == RESTARTED
    of(node).boot()
    of(node).due()  # as systemd starts it then, for what follows of files
    assert is_old(node)
    assert ("restart", "appliance-inference.service") not in node.said, "systemd starts everything itself"


def test_the_unit_for_restarts_does_nothing_in_the_boot_that_armed(node: Node) -> None:
    arm(node)
    node.apply()
    assert of(node).boot()["pending"] == RECORD
    assert node.files() == NEW


def test_a_systemd_that_refuses_the_timer_leaves_nothing_pending(node: Node) -> None:
    real = node.control
    refusing = Switch(
        str(node.root), lambda *said: (1, "no") if said[0] == "enable" else real(*said), policy=Apart()
    )
    answer = refusing.arm({"run": "run", "after": 60, "record": RECORD, "program": "p"})
    assert answer == {"error": "failed", "text": f"systemctl enable {TIMER} {BOOT}: no"}
    assert is_old(node)


def test_the_history_is_bounded_and_survives_damage(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_log, "LONGEST", 2000)
    log = node.root / "var/lib/appliance/history.jsonl"
    for number in range(100):
        history_log.add_line(of(node).log, {"run": str(number), "result": "done"})
    assert log.stat().st_size <= 2000
    assert of(node).history()[-1]["run"] == "99"
    log.write_text("damaged\n" + log.read_text() + "[1]\n")
    history_log.add_line(of(node).log, {"run": "100", "result": "done"})
    assert [line["run"] for line in of(node).history()[-2:]] == ["99", "100"]


def prove(node: Node) -> None:
    """A switch from arming to its proof."""
    arm(node)
    node.apply()
    of(node).confirm("run")


def go_back(node: Node) -> None:
    """A switch that fails."""
    arm(node)
    node.apply()
    of(node).back("it failed")


@pytest.mark.parametrize("way", [prove, go_back])
@pytest.mark.parametrize("after", ["restart", "silence"])
def test_cut_off_at_any_step_it_is_one_version_or_the_other(
    way: Callable[[Node], None],
    after: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
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
                whole = node.files() == NEW and not node.units_left() and of(node).armed() is None
                assert old or (whole and way is prove), f"cut at {dies_at}"
                assert not old or runs_the_old(node), f"cut at {dies_at}"
                assert node.results() in ([["went back"], []] if old else [["done"]]), f"cut at {dies_at}"
                seen.add(old)
                prove(node)
                assert node.files() == NEW
                continue
        assert seen == ({True, False} if way is prove else {True})
        assert dies_at > 15
        return
    pytest.fail("it never came to its end")


def finish(node: Node, after: str) -> None:
    """What systemd does then."""
    node.dies_at = -1
    if after == "restart":
        node.restarts()
    else:
        node.now += 60
        of(node).due()
