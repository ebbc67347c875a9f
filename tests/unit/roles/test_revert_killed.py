"""The program that undoes a change, ended or failing at every single one of its steps.

In the end the node answers, as it was, or as it was confirmed; and the program can be used again.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.roles.killing import acting
from tests.unit.roles.small_node import change, make_small_node
from tests.unit.roles.wrong_changes import (
    GOOD,
    NETPLAN,
    OTHER,
    RUN,
    WRONG,
    apply,
    arm,
    boot,
    changed,
    changed_well,
    confirm,
    power_cut,
    restore,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def program(role_module: Callable[[str], Any]) -> Any:
    return role_module("revert/files/usr/local/sbin/appliance-revert")


def steps(program: Any, root: Path, monkeypatch: pytest.MonkeyPatch, begin: Any, verb: Any) -> list[str]:
    """The steps of one verb, when nothing goes wrong."""
    node = make_small_node(program, root, monkeypatch)
    revert = program.Revert(node)
    begin(node, revert)
    with acting(node.power) as power:
        verb(node, revert)
    return list(power.names)


def each_step(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: Any, verb: Any, *, error: int = 0
) -> Any:
    """A new node for each step of a verb, at which it was killed, or got an error once."""
    names = steps(program, tmp_path / "whole", monkeypatch, begin, verb)
    for number, name in enumerate(names, 1):
        if error and name.startswith("run "):
            continue
        node = make_small_node(program, tmp_path / str(number), monkeypatch)
        revert = program.Revert(node)
        begin(node, revert)
        ended = ""
        with acting(node.power, number, error) as power:
            try:
                ended = "done" if verb(node, revert) is not None else ""
            except OSError:
                ended = "failed"
        if power.dead:
            ended = "killed"
        power.dead = False
        yield f"{number}: {name}", ended, node, revert


@pytest.mark.parametrize("error", [0, errno.EIO, errno.ENOSPC], ids=["killed", "EIO", "ENOSPC"])
def test_arming_that_ends_anywhere_leaves_the_node_as_it_is_and_can_be_done_again(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: Callable[..., None], error: int
) -> None:
    """Nothing is changed then, as only a success of arming lets a role go on."""
    for step, ended, node, revert in each_step(
        program, tmp_path, monkeypatch, lambda *_: None, arm, error=error
    ):
        if ended == "done":
            continue  # the folder was there already
        injected("arming: killed, or an error of the disk, at each step")
        before = {**node.state(), "files": None}
        node.wait()
        assert {**node.state(), "files": None} == before, step
        revert.arm(60, RUN)
        apply(node, WRONG["everything at once"])
        assert not node.answers
        node.wait()
        assert node.answers, step
        assert not list((node.root / "etc/systemd/system").glob("**/appliance-revert*")), step


def test_what_was_saved_by_an_arming_that_was_cut_off_is_never_gone_back_to(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a year old by then."""
    for step, _, node, revert in each_step(program, tmp_path, monkeypatch, lambda *_: None, arm):
        if revert.status()["pending"]:
            continue  # it had come to its end: its timer runs, and undoes within a minute
        change(node.root, "etc/netplan/50-installer.yaml", "address: 10.0.0.2/24\nmtu: 1400\n")
        node.follow()
        later = node.state()["mtu"]
        power_cut(node, revert)
        assert node.state()["mtu"] == later == 1400, step
        revert.arm(60, RUN)
        apply(node, WRONG["everything at once"])
        node.wait()
        assert node.state()["mtu"] == later, step


def test_arming_again_that_ends_anywhere_keeps_the_way_back(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: Callable[..., None]
) -> None:
    for step, ended, node, _ in each_step(program, tmp_path, monkeypatch, changed, arm):
        assert ended == "killed", step
        injected("arming again: killed at each step")
        assert not node.answers
        node.wait()
        assert node.answers, step


@pytest.mark.parametrize("after", ["waits", "power cut"])
def test_a_confirmation_that_ends_anywhere_is_one_or_is_none(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: Callable[..., None], after: str
) -> None:
    """The new state whole, or the old one whole; and nothing of the revert is left in either."""
    for step, ended, node, revert in each_step(program, tmp_path, monkeypatch, changed_well, confirm):
        assert ended == "killed", step
        injected("confirming: killed at each step")
        new = node.text(NETPLAN)
        if after == "waits":
            node.wait()
        else:
            power_cut(node, revert)
        assert node.answers, step
        assert node.text(NETPLAN) == ("" if revert.status()["fired"] else new), step
        assert ("ENABLED=yes" in node.text("etc/ufw/ufw.conf")) is not bool(revert.status()["fired"]), step
        assert revert.status()["pending"] is False
        revert.arm(60, RUN)
        apply(node, WRONG["everything at once"])
        node.wait()
        assert node.answers, step


@pytest.mark.parametrize("then", ["started again", "power cut", "another run"])
def test_undoing_that_is_killed_anywhere_is_undone_to_its_end(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: Callable[..., None], then: str
) -> None:
    for step, ended, node, revert in each_step(program, tmp_path, monkeypatch, changed, restore):
        assert ended == "killed", step
        injected("undoing: killed at each step")
        if then == "started again":
            node.serve()
        elif then == "power cut":
            power_cut(node, revert)
        else:
            revert.arm(60, OTHER)  # takes up what was begun, or goes on from its end
            apply(node, WRONG["denies everything"])
            node.wait()
        assert node.answers, step
        assert node.text("etc/netplan/50-installer.yaml").startswith("address: 10.0.0.2/24"), step
        assert node.state()["mtu"] == 1500, step
        assert revert.status()["pending"] is False, step


@pytest.mark.parametrize("step", [10, 40, 60])
def test_the_run_that_finds_a_half_undone_change_begins_with_the_old_network(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """And so it can confirm its own."""
    node = make_small_node(program, tmp_path, monkeypatch)
    revert = program.Revert(node)
    changed(node, revert)
    with acting(node.power, step):
        restore(node, revert)
    node.power.dead = False
    revert.arm(60, OTHER)
    apply(node, GOOD)
    node.session = node.clock + 10
    assert revert.confirm(OTHER, fresh=True)["confirmed"] is True
    node.wait()
    assert node.answers
    assert node.text(NETPLAN)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_one_call_that_fails_while_it_is_undone_is_made_again(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: Callable[..., None], error: int
) -> None:
    for step, ended, node, revert in each_step(
        program, tmp_path, monkeypatch, changed, restore, error=error
    ):
        injected("undoing: an error of the disk, once, at each step")
        if ended == "failed":
            node.serve()
        assert node.answers, step
        assert node.text("etc/netplan/50-installer.yaml").startswith("address: 10.0.0.2/24"), step
        assert not node.text(NETPLAN), step
        node.wait()
        assert revert.status()["pending"] is False, step


def test_a_command_that_fails_every_time_leaves_a_node_that_answers(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: Callable[..., None]
) -> None:
    """One broken program is no lock-out: not ufw, not netplan, not systemd-networkd, not iptables."""
    names = steps(program, tmp_path / "whole", monkeypatch, changed, restore)
    commands = sorted({name.removeprefix("run ") for name in names if name.startswith("run ")})
    assert len(commands) > 20
    for number, command in enumerate(commands):
        if "ssh.service" in command:
            continue  # nothing else starts the server
        node = make_small_node(program, tmp_path / str(number), monkeypatch)
        revert = program.Revert(node)
        changed(node, revert)
        injected("undoing: one command fails every time")
        node.broken = {command: 99}
        node.wait()
        node.broken = {}
        assert node.answers, command


def test_a_start_that_is_cut_off_anywhere_is_made_up_for_by_the_next(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: Callable[..., None]
) -> None:
    for step, ended, node, revert in each_step(program, tmp_path, monkeypatch, changed, boot):
        assert ended == "killed", step
        injected("undoing at the start: killed at each step")
        power_cut(node, revert)
        assert node.answers, step
        assert not node.text(NETPLAN), step


def test_the_snapshot_of_a_node_that_does_not_say_how_it_is_is_none(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: Callable[..., None]
) -> None:
    """No answer is not the answer that there is nothing: to go back to nothing would be the end."""
    names = steps(program, tmp_path / "whole", monkeypatch, lambda *_: None, arm)
    commands = {name.removeprefix("run ") for name in names if name.startswith("run ")}
    for number, command in enumerate(sorted(commands)):
        node = make_small_node(program, tmp_path / str(number), monkeypatch)
        revert = program.Revert(node)
        node.broken = {command: 1}
        injected("arming: a command fails")
        with pytest.raises(OSError, match="it broke"):
            revert.arm(60, RUN)
        assert revert.status()["pending"] is False
