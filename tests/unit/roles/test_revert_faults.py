"""Wrong changes of a network, whatever happens meanwhile: in the end the node answers as it did.

What kills the program itself is in test_revert_killed.py.  On a booted node the same is tried by
tests/node/roles/test_roles_revert_faults.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.roles.killing import acting
from tests.unit.roles.small_node import make_small_node
from tests.unit.roles.wrong_changes import (
    MEANWHILE,
    NETPLAN,
    RUN,
    WRONG,
    apply,
    changed,
    changed_well,
    nobody,
    power_cut,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def program(role_module: Callable[[str], Any]) -> Any:
    return role_module("revert/files/usr/local/sbin/appliance-revert")


@pytest.fixture
def node(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return make_small_node(program, tmp_path, monkeypatch)


@pytest.fixture
def revert(program: Any, node: Any) -> Any:
    return program.Revert(node)


@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_change_is_undone_whatever_happens_meanwhile(
    node: Any, revert: Any, injected: Callable[..., None], wrong: str, meanwhile: Callable[[Any, Any], None]
) -> None:
    before = node.state()
    revert.arm(60, RUN)
    apply(node, WRONG[wrong])
    assert not node.answers, "the change is not wrong"
    meanwhile(node, revert)
    injected("wrong changes, by what happens meanwhile")
    assert node.answers
    assert node.state() == before
    assert revert.status()["pending"] is False
    assert revert.status()["fired"]["faults"] == []


def test_there_are_a_hundred_different_failures_and_more() -> None:
    assert len(WRONG) * len(MEANWHILE) >= 400
    assert len({json.dumps(files) for files in WRONG.values()}) == len(WRONG)


def test_a_file_that_netplan_cannot_read_is_undone_before_the_node_starts_from_it(
    node: Any, revert: Any, injected: Callable[..., None]
) -> None:
    """It changes nothing until the next start, and then everything."""
    before = node.state()
    revert.arm(60, RUN)
    apply(node, {NETPLAN: "{ broken"})
    assert node.answers
    injected("wrong changes, by what happens meanwhile")
    node.start()
    assert node.answers
    assert node.state() == before


def test_the_network_that_a_node_starts_with_is_the_old_one(node: Any, revert: Any) -> None:
    """Not only some time after: its files are back before anything reads them."""
    revert.arm(60, RUN)
    apply(node, WRONG["everything at once"])
    seen: list[str] = []
    networkd = node.networkd
    node.networkd = lambda: (
        seen.append(node.text("run/systemd/network/10-netplan-eno1.network")),
        networkd(),
    )
    node.start()
    assert seen[0] == "address=10.0.0.2/24\nmtu=1500"


# --- several things fail at once ----------------------------------------------------------------


def test_a_restart_undoes_everything_at_once_and_not_only_when_its_time_is_over(
    node: Any, revert: Any
) -> None:
    before = node.state()
    changed(node, revert)
    node.start()
    assert node.state() == before
    assert revert.status()["pending"] is False


def test_the_filter_is_open_before_anything_else_is_tried(node: Any, revert: Any) -> None:
    """Without ufw where that fails: what comes next may fail too."""
    changed(node, revert)
    seen: list[str] = []
    networkd = node.networkd
    node.networkd = lambda: (seen.append(node.kernel.filter["iptables"]), networkd())
    node.broken = {"/usr/lib/ufw/ufw-init": 9}
    revert.restore()
    assert "DROP" not in seen[0]


@pytest.mark.parametrize("family", ["iptables", "ip6tables"])
def test_where_neither_ufw_nor_iptables_opens_the_filter_nftables_does(
    node: Any, revert: Any, injected: Callable[..., None], family: str
) -> None:
    changed(node, revert)
    node.broken = {"/usr/lib/ufw/ufw-init": 99, f"{family}-restore": 99}
    injected("undoing: several commands fail every time")
    node.wait()
    node.broken = {}
    assert node.answers


def test_a_table_of_nftables_that_was_not_there_goes(
    node: Any, revert: Any, injected: Callable[..., None]
) -> None:
    before = node.state()
    revert.arm(60, RUN)
    node.kernel.tables["inet wrong"] = "\tchain input {\n\t\tdrop\n\t}\n"
    assert not node.answers
    injected("wrong changes, by what happens meanwhile")
    node.wait()
    assert node.state() == before


def test_a_note_that_cannot_be_taken_keeps_nothing_from_ending(
    node: Any, revert: Any, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(node, revert)
    write = program.lasting_files.write

    def refused(path: Path, text: str) -> None:
        if path == revert.fired:
            raise OSError("read-only file system")
        write(path, text)

    monkeypatch.setattr(program.lasting_files, "write", refused)
    told = revert.restore()
    assert told["restored"] is True
    assert told["fired"]["faults"] == ["record: read-only file system"]
    assert revert.status()["pending"] is False


@pytest.mark.parametrize("way", ["room that was kept free", "room of what is replaced"])
def test_each_of_two_ways_gets_room_on_a_full_disk(
    node: Any, revert: Any, injected: Callable[..., None], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    before = node.state()
    revert.arm(60, RUN)
    apply(node, WRONG["denies everything"])  # nothing of it is removed on the way back
    if way == "room that was kept free":
        monkeypatch.setattr(node.program.lasting_files, "FULL", set())
    else:
        (revert.pending / "spare").unlink()
    with acting(node.power):
        node.power.full = True
        assert revert.restore()["fired"]["faults"] == []
    injected("full disks")
    assert node.state() == before


# --- damaged snapshots --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    {
        "record cut off": lambda folder: (folder / "state.json").write_text('{"saved": "2026'),
        "record empty": lambda folder: (folder / "state.json").write_text(""),
        "record gone": lambda folder: (folder / "state.json").unlink(),
        "record of zeros": lambda folder: (folder / "state.json").write_bytes(bytes(4096)),
        "record is no object": lambda folder: (folder / "state.json").write_text("[]"),
        "rules gone": lambda folder: [path.unlink() for path in folder.glob("rules.*")],
        "rules cut off": lambda folder: (folder / "rules.v4").write_text("*filter\n:INPUT DROP [0"),
        "nft's rules cut off": lambda folder: (folder / "rules.nft").write_text("table inet th"),
        "note of arming empty": lambda folder: (folder / "armed.json").write_text(""),
        "spare room gone": lambda folder: (folder / "spare").unlink(),
    }.items(),
    ids=lambda each: each[0],
)
@pytest.mark.parametrize("how", ["waits", "power cut"])
def test_a_damaged_snapshot_still_brings_back_a_node_that_answers(
    node: Any, revert: Any, injected: Callable[..., None], damage: Any, how: str
) -> None:
    changed(node, revert)
    damage[1](revert.pending)
    injected("damaged snapshots")
    assert revert.status()["pending"] is True
    nobody(node, revert) if how == "waits" else power_cut(node, revert)
    assert node.answers
    assert revert.status()["pending"] is False


def test_a_damaged_record_removes_nothing(node: Any, revert: Any) -> None:
    """That a file is not in it is no reason then."""
    changed(node, revert)
    (revert.pending / "state.json").write_text("{")
    for path in (revert.pending / "files/etc/netplan").iterdir():
        path.unlink()
    (revert.pending / "files/etc/netplan").rmdir()
    revert.restore()
    assert node.text(NETPLAN)


# --- who confirms -------------------------------------------------------------------------------


def test_the_run_that_armed_confirms_over_a_connection_that_came_after(node: Any, revert: Any) -> None:
    changed_well(node, revert)
    node.session = node.clock + 0.5
    answer = revert.confirm(RUN, fresh=True)
    assert (answer["confirmed"], answer["refused"]) == (True, "")
    node.wait()
    assert "ENABLED=yes" in node.text("etc/ufw/ufw.conf")


def test_a_refused_confirmation_leaves_the_timer_running(node: Any, revert: Any) -> None:
    changed_well(node, revert)
    node.session = node.clock - 1
    answer = revert.confirm(RUN, fresh=True)
    assert (answer["confirmed"], answer["pending"]) == (False, True)
    assert node.kernel.timer == 60


def test_a_connection_of_before_the_second_arming_is_old(node: Any, revert: Any) -> None:
    changed_well(node, revert)
    node.session = node.clock + 5
    node.clock += 10
    revert.arm(60, RUN)
    assert "older" in revert.confirm(RUN, fresh=True)["refused"]


def test_too_late_is_not_the_wrong_run(node: Any, revert: Any) -> None:
    """Whose change was undone meanwhile hears of that, and when."""
    changed_well(node, revert)
    revert.restore()
    answer = revert.confirm(RUN, fresh=True)
    assert (answer["confirmed"], answer["refused"]) == (False, "")
    assert answer["fired"]["armed"]


def test_a_person_at_the_console_confirms_whatever_is_pending(node: Any, revert: Any) -> None:
    changed_well(node, revert)
    assert revert.confirm()["confirmed"] is True


def test_a_timer_that_fired_while_the_time_was_given_again_does_nothing(node: Any, revert: Any) -> None:
    """Its service waited for the lock that arming held."""
    changed_well(node, revert)
    assert revert.restore(due=True)["restored"] is False
    node.clock += 61
    assert revert.restore(due=True)["restored"] is True


def test_the_clock_on_the_wall_decides_nothing(
    node: Any, revert: Any, program: Any, injected: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for year in (1970, 2199):
        monkeypatch.setattr(program.time, "gmtime", lambda *_, year=year: (year, 1, 1, 0, 0, 0, 0, 1, 0))
        changed(node, revert)
        timer = node.text("etc/systemd/system/appliance-revert.timer")
        assert "OnActiveSec" in timer
        assert "OnCalendar" not in timer
        injected("jumps of the clock")
        node.wait()
        assert node.answers


def test_the_start_that_armed_is_not_the_start_that_undoes(node: Any, revert: Any) -> None:
    """Somebody may start the units of a target once more."""
    changed_well(node, revert)
    assert revert.boot()["restored"] is False
    assert revert.status()["pending"] is True
    assert not revert.begun.exists()
