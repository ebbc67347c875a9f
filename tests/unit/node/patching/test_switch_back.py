"""What a switch back leaves: what is at work and enabled, whom it listens to, and what it has room for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from appliance.node.patching.switch import SECONDS
from appliance.node.remote import history_log, saved_version, switch
from appliance.node.remote.switch import Switch
from appliance.node.remote.switch_units import BOOT, TEXTS, TIMER
from tests.unit.node.patching.switched_node import (
    NEW,
    OLD,
    RECORD,
    SETTINGS,
    UNIT,
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
    from pathlib import Path

SERVING = "appliance-inference.service"
TIMED = "appliance-audit.timer"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return new_node(tmp_path, monkeypatch)


def pending(node: Node) -> Path:
    return node.root / "var/lib/appliance/switch/pending"


def test_going_back_cut_off_after_the_files_starts_what_they_changed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm(node)
    node.apply()

    def cut(*_: object, **__: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(saved_version.Running, "run_as_before", cut)
        with pytest.raises(Cut):
            of(node).back("it failed")
    assert node.files() == OLD
    assert node.process[SERVING] == NEW[UNIT]
    of(node).due()
    assert is_old(node)
    assert runs_the_old(node)


@pytest.mark.parametrize("word", ["activating", "reloading", "failed"])
def test_what_had_not_come_to_its_end_is_started_by_the_old_file(word: str, node: Node) -> None:
    node.states[SERVING] = word
    arm(node)
    node.apply()
    of(node).back("it failed")
    assert node.process[SERVING] == OLD[UNIT]


def test_what_was_off_is_off_again(node: Node) -> None:
    node.enabled.discard(TIMED)
    node.active.discard(TIMED)
    arm(node)
    node.enabled.add(TIMED)
    node.start(TIMED)
    of(node).back("it failed")
    assert (node.enabled, node.active) == ({SERVING}, {SERVING})


def test_what_was_off_is_off_again_after_a_restart(node: Node) -> None:
    node.enabled.discard(TIMED)
    node.active.discard(TIMED)
    arm(node)
    node.enabled.add(TIMED)
    node.restarts()
    assert (node.enabled, node.active) == ({SERVING}, {SERVING})


def test_going_back_that_was_cut_off_by_a_restart_waits_for_no_unit(
    node: Node,
) -> None:
    """Systemd would wait for us, and we for systemd: ``Node`` refuses that."""
    arm(node)
    node.apply()
    node.dies_at = node.steps + 5
    with pytest.raises(Cut):
        of(node).back("it failed")
    assert (pending(node) / "begun.json").exists()
    node.dies_at = -1
    node.restarts()
    assert is_old(node)
    assert runs_the_old(node)


def test_our_unit_runs_before_all_that_the_versions_bring() -> None:
    lines = [
        line.removeprefix("Before=") for line in TEXTS[BOOT].splitlines() if line.startswith("Before=")
    ]
    early = {"sysinit.target", "network-pre.target", "appliance-export-line.service"}
    assert early | {"ufw.service", "systemd-networkd.service"} <= {*" ".join(lines).split()}
    assert "appliance-revert-boot.service" in TEXTS[BOOT], "what nobody confirmed goes back first"


def test_a_start_waits_for_our_unit_as_long_as_a_station_does_and_no_longer() -> None:
    """Stopped before, it would leave a version half put back; without an end, a node that never starts."""
    assert f"TimeoutStartSec={SECONDS}" in TEXTS[BOOT].splitlines()


def test_systemd_has_nothing_to_say_against_our_units(node: Node) -> None:
    """At each reload it warns of files that not everybody may read."""
    arm(node)
    places = [node.root / "etc/systemd/system" / name for name in TEXTS]
    assert [place.stat().st_mode & 0o777 for place in places] == [0o644] * 3


def test_what_does_not_run_afterwards_is_said(node: Node) -> None:
    arm(node)
    node.apply()
    node.broken.add(SERVING)
    answer = of(node).back("it failed")
    assert answer["ill"] == [f"{SERVING} does not run"]
    assert node.results() == [f"went back, but {SERVING} does not run"]


def test_a_full_disk_leaves_the_way_back_open(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written but what was set aside."""
    arm(node)
    node.apply()
    room = pending(node) / "room"
    assert room.stat().st_blocks * 512 >= saved_version.ROOM
    for name in ("write", "replace"):
        real = getattr(saved_version, name)

        def full(*given: object, real: object = real) -> None:
            if room.exists():
                raise OSError(28, "No space left on device")
            real(*given)  # type: ignore[operator]

        monkeypatch.setattr(saved_version, name, full)
    of(node).back("it failed")
    assert is_old(node)


def test_another_run_does_not_undo_a_switch_that_is_not_its_own(node: Node) -> None:
    arm(node)
    node.apply()
    assert of(node).back("I was refused", "another")["restored"] is False
    assert of(node).armed() is not None
    assert node.files() == NEW


def test_arming_anew_that_systemd_refuses_leaves_the_switch_as_it_was(node: Node) -> None:
    arm(node)
    node.apply()
    before = of(node).armed()
    real = node.control
    refusing = Switch(
        str(node.root), lambda *said: (1, "no") if said[0] == "restart" else real(*said), policy=Apart()
    )
    asked = {"run": "again", "after": 900, "record": RECORD, "program": "p"}
    assert refusing.arm(asked)["error"] == "failed"
    assert of(node).armed() == before
    assert len(node.units_left()) == len(TEXTS)
    assert "OnActiveSec=60s" in (node.root / "etc/systemd/system" / TIMER).read_text()
    assert (node.root / "var/lib/appliance/switch/program.py").exists()


def test_a_timer_that_was_early_is_started_anew(node: Node) -> None:
    """Whoever armed anew was stopped before the timer was; nothing else would ever go back."""
    arm(node)
    node.now += 30
    node.said.clear()
    assert of(node).due()["pending"] == RECORD
    assert ("restart", "--no-block", TIMER) in node.said


def test_an_installation_waits_for_the_switch(node: Node) -> None:
    arm(node)
    assert of(node).begin() == {"error": "pending", "to": RECORD["to"]}
    of(node).confirm("run")
    assert "error" not in of(node).begin()


def test_an_installation_that_was_proven_is_not_undone_later(node: Node) -> None:
    arm(node)
    node.apply()
    of(node).installed({"run": "1", "action": "install", "result": "done"})
    assert of(node).armed() is None
    assert node.units_left() == []
    assert node.results() == ["overtaken by an installation", "done"]
    node.restarts()
    assert node.files() == NEW
    assert (node.root / "opt/appliance/inference/new").exists()


def test_an_installation_outdates_what_was_saved_before_it(node: Node) -> None:
    arm(node)
    of(node).back("it failed")
    of(node).begin()
    node.put({**OLD, SETTINGS: "installed since"})
    arm(node, "again")
    node.apply()
    of(node).back("it failed")
    assert node.files() == {**OLD, SETTINGS: "installed since"}


def test_after_a_proof_without_a_record_the_new_version_is_what_ran_before(node: Node) -> None:
    arm(node)
    node.apply()
    of(node).confirm("run")
    answer = arm(node, "again")
    assert answer["pending"]["from"] == RECORD["to"]
    of(node).back("it failed")
    assert of(node).history()[-1]["from"] == RECORD["to"]
    assert node.files() == NEW


def test_what_is_pending_and_cannot_be_read_goes_back(node: Node) -> None:
    arm(node)
    node.apply()
    (pending(node) / "armed.json").write_text("damaged")
    other = {**RECORD, "to": {"digest": "c"}}
    assert arm(node, record=other)["error"] == "pending"
    of(node).due()
    assert node.files() == OLD
    assert node.process[SERVING] == OLD[UNIT]
    assert arm(node, record=other)["pending"] == other


def test_sockets_and_folders_of_settings_go_back_too(node: Node) -> None:
    kept = ["etc/appliance/more/deep.json", "etc/systemd/system/appliance-x.socket"]
    for path in kept:
        (node.root / path).parent.mkdir(parents=True, exist_ok=True)
        (node.root / path).write_text("old")
    arm(node)
    for path in kept:
        (node.root / path).write_text("new")
    of(node).back("it failed")
    assert [(node.root / path).read_text() for path in kept] == ["old"] * 2
    assert ("restart", SERVING) in node.said, "settings are read as it starts"


def test_what_was_saved_for_a_run_that_came_to_its_end_does_not_come_back(node: Node) -> None:
    """Whoever looked into its failure may have changed something since."""
    arm(node)
    node.apply()
    of(node).back("it failed", "run")
    node.put({**OLD, SETTINGS: "put right by hand"})
    arm(node, "again")
    node.apply()
    of(node).back("it failed")
    assert node.files() == {**OLD, SETTINGS: "put right by hand"}


@pytest.mark.parametrize("after", ["silence", "restart"])
def test_after_a_station_that_was_killed_what_was_put_right_since_stays(after: str, node: Node) -> None:
    """Nobody tells the node that the run has come to its end; but nothing of it is left."""
    record = {**RECORD, "to": {"digest": "c" * 64}}
    arm(node, record=record)
    node.apply()
    if after == "restart":
        node.restarts()
    else:
        node.now += 60
        of(node).due()
    assert is_old(node)
    node.put({**OLD, SETTINGS: "put right by hand"})
    arm(node, "again", record=record)
    node.apply()
    of(node).back("it failed")
    assert node.files() == {**OLD, SETTINGS: "put right by hand"}


@pytest.mark.parametrize("what", ["environment", "unit"])
def test_what_a_killed_run_left_after_its_time_is_told_by_its_version(what: str, node: Node) -> None:
    record = {**RECORD, "to": {"digest": "c" * 64}}
    arm(node, record=record)
    node.now += 60
    of(node).due()
    if what == "environment":
        (node.root / "opt/appliance/inference" / ("c" * 64)).mkdir()
    else:
        node.put({**OLD, UNIT: f"ExecStart=/opt/appliance/inference/{'c' * 64}/serve"})
    node.put({**node.files(), SETTINGS: "of the run that was killed"})
    arm(node, "again", record=record)
    of(node).back("it failed")
    assert node.files() == OLD


def test_one_bad_byte_loses_one_line_of_the_history(node: Node) -> None:
    log = node.root / "var/lib/appliance/history.jsonl"
    lines = [json.dumps({"run": str(number), "result": "done"}).encode() for number in range(3)]
    log.write_bytes(b"\n".join([lines[0], b'{"run": "\xff"', lines[1], lines[2], b""]))
    history_log.add_line(of(node).log, {"run": "3", "result": "done"})
    assert [line["run"] for line in of(node).history()] == ["0", "1", "2", "3"]


def test_the_node_says_what_ran_before(node: Node) -> None:
    assert of(node).status()["previous"] is None
    (node.root / "var/lib/appliance/installed.json").write_text('{"digest": "b", "previous": "a"}')
    assert of(node).status()["previous"] == "a"


def test_what_is_called_proven_is_on_the_disk(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment was never synced by whoever made it."""
    arm(node)
    node.apply()
    synced: list[bool] = []
    monkeypatch.setattr(switch.os, "sync", lambda: synced.append(pending(node).exists()))
    of(node).confirm("run")
    assert synced == [True]


def test_what_cuts_gpus_is_a_versions_own_as_a_whole(tmp_path: Path) -> None:
    """A unit of one version over the program of another would cut by rules that its layout has not."""
    cuts = [
        "etc/appliance/gpu/mig-parted.yaml",
        "etc/appliance/gpu/teams.json",
        "etc/systemd/system/appliance-gpu-partition.service",
        "usr/local/lib/appliance/gpu_layout.py",
        "usr/local/lib/appliance/gpu_partition.py",
    ]
    for path in cuts:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    running = saved_version.Running(str(tmp_path), lambda *_: (0, ""))
    assert running.files() == cuts


CUTTER = "usr/local/lib/appliance/gpu_partition.py"


def cutter(node: Node, status: int = 0) -> Path:
    """The program that cuts GPUs, as it is brought; the file that says how it was called."""
    said = node.root / "said"
    (node.root / CUTTER).parent.mkdir(parents=True)
    (node.root / CUTTER).write_text(
        f"import sys\nopen({str(said)!r}, 'a').write(sys.argv[1])\n"
        f"sys.stderr.write('GPU 0 refuses')\nsys.exit({status})\n"
    )
    return said


def test_gpus_that_the_new_version_cut_are_made_whole_for_the_old(node: Node) -> None:
    """Its server would otherwise find the first slice, and serve by that."""
    arm(node)
    node.apply()
    said = cutter(node)
    of(node).back("it failed")
    assert said.read_text() == "clear"
    assert not (node.root / CUTTER).exists()
    assert is_old(node)


def test_gpus_that_stay_cut_are_said_to(node: Node) -> None:
    arm(node)
    node.apply()
    cutter(node, status=2)
    went = of(node).back("it failed")
    assert "the GPUs are not whole: GPU 0 refuses" in went["ill"]
    assert runs_the_old(node)


def test_gpus_that_both_versions_cut_are_left_to_the_unit_that_does(node: Node) -> None:
    said = cutter(node)
    arm(node)
    node.apply()
    of(node).back("it failed")
    assert not said.exists()


def test_a_restart_has_made_gpus_whole_itself(node: Node) -> None:
    arm(node)
    node.apply()
    said = cutter(node)
    node.restarts()
    assert not said.exists()
    assert is_old(node)
