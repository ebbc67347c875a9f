"""A switch whose packages nobody can tell, whose station is gone, or beside which keys are learnt."""

from __future__ import annotations

import errno
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.remote import former_packages, switch
from tests.unit.node.patching.switched_node import (
    AFTER,
    BEFORE,
    RECORD,
    Node,
    arm,
    is_old,
    new_node,
    of,
    runs_the_old,
)
from tests.unit.node.patching.test_switch_restart import SERVING, back, begin, has_the_old

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return new_node(tmp_path, monkeypatch)


def test_where_no_late_package_went_back_nothing_restarts_for_it(node: Node) -> None:
    """Its lock was not free, say: another restart would load the same, and cut off whoever has it."""
    begin(node)
    node.apply()
    node.broken |= AFTER.keys()
    back(node, "it failed", "run")
    assert (node.packages, node.boots) == (AFTER, 2)
    assert of(node).status()["restart"] is None
    assert runs_the_old(node)
    assert "driver is not at 1 again" in node.results()[0]


def test_a_node_whose_packages_nobody_can_tell_is_not_begun(node: Node) -> None:
    node.packages = {}
    asked = {"do": "arm", "run": "run", "after": 60, "record": RECORD, "program": "", "packages": True}
    answer = switch.answer_to(of(node), asked)
    assert (answer["error"], answer["text"]) == ("failed", "dpkg-query: no")
    assert of(node).armed() is None


def test_a_node_whose_packages_nobody_can_tell_is_not_restarted_and_goes_back(node: Node) -> None:
    arm(node, packages=True)
    node.install()
    node.packages = {}
    answer = switch.answer_to(of(node), {"do": "restart", "run": "run"})
    assert (answer["error"], answer["text"]) == ("failed", "dpkg-query: no")
    back(node, "it failed", "run")
    assert (node.results(), node.boots) == (
        ["went back, but packages stay as they are: dpkg-query: no"],
        1,
    )
    assert is_old(node)
    assert runs_the_old(node)


def test_after_a_power_cut_such_a_node_goes_back_too(node: Node) -> None:
    arm(node, packages=True)
    node.install()
    node.apply()
    node.packages = {}
    node.restarts()
    assert node.results() == ["went back, but packages stay as they are: dpkg-query: no"]
    assert is_old(node)
    assert runs_the_old(node)


def test_a_node_whose_dpkg_fails_as_it_goes_back_does_so_all_the_same(node: Node) -> None:
    begin(node)
    node.apply()
    node.dpkg_fails = True
    back(node, "it failed", "run")
    assert node.results() == ["went back, but packages stay as they are: dpkg: no"]
    assert node.boots == 2, "nothing would be loaded that is not"
    assert is_old(node)
    assert runs_the_old(node)


@pytest.mark.parametrize("end", [back, "a power cut"], ids=["told", "a power cut"])
def test_where_dpkg_was_cut_off_all_packages_go_back_and_nothing_restarts_for_it(
    end: Any, node: Node
) -> None:
    """Half of a library is worse than an older one; what is loaded of it is what was."""
    arm(node, packages=True)
    node.packages |= {"driver-libs": "2 H", "new-libs": "1"}
    if end is back:
        back(node, "it failed", "run")
    else:
        node.restarts()
    assert has_the_old(node)
    assert runs_the_old(node)
    assert node.boots == (1 if end is back else 2)
    assert node.results() == ["went back"]


def test_what_cannot_run_before_the_last_restart_is_not_called_ill(node: Node) -> None:
    """The old server by the new driver: nobody waits for that."""
    begin(node)
    node.apply()
    node.broken.add(SERVING)
    back(node, "it failed", "run")
    assert (node.boots, node.results()) == (3, ["went back"])


def test_a_full_disk_has_room_for_what_is_to_be_remembered_of_packages(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = node.root / "var/lib/appliance/switch/pending/room"
    write = former_packages.write

    def full(path: str, content: Any) -> None:
        if room.exists():
            raise OSError(errno.ENOSPC, "no space left on device")
        write(path, content)

    begin(node)
    monkeypatch.setattr(former_packages, "write", full)
    assert room.exists()
    back(node, "it failed", "run")
    assert has_the_old(node)


@pytest.mark.parametrize("again", [False, True])
def test_what_others_installed_while_the_node_waited_for_its_restart_stays(again: bool, node: Node) -> None:
    """Nobody says for how long it does; only what the patch brought goes back."""
    begin(node, reboot=False)
    node.packages |= {"tool": "1"}
    if again:
        arm(node, "again", packages=True, reboot=False)
        of(node).restart("again")
        node.restarts()
        node.packages |= {"other": "1"}
    back(node, "rollback")
    assert node.packages == BEFORE | {"tool": "1"} | ({"other": "1"} if again else {})
    assert node.results() == ["went back"]


class Deaf:
    """The station that asked is gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


@pytest.mark.parametrize(("verb", "status"), [("restart", 0), ("back", 0), ("back", 1)])
def test_the_node_restarts_though_nobody_hears_that_it_does(
    verb: str, status: int, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where systemd refuses it, for somebody who inhibits that, it is said to be left to be done."""
    if verb == "restart":
        arm(node, packages=True)
        node.install()
    else:
        begin(node)
        node.apply()
    asked = {"do": verb, "run": "run", "reason": "Ctrl-C"}
    said: list[tuple[str, ...]] = []
    line = SimpleNamespace(buffer=SimpleNamespace(readline=lambda: json.dumps(asked).encode()))
    monkeypatch.setattr(switch, "Switch", lambda: of(node))
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(sys, "stdin", line)
    monkeypatch.setattr(sys, "stdout", Deaf())
    monkeypatch.setattr(switch, "systemctl", lambda *words: (said.append(words), status)[1:])
    switch.main()
    assert said == [("reboot",)]
    if verb == "back":
        assert of(node).status()["restart"]["reboot"] is (status == 0), "whether it restarts by itself"


@pytest.mark.parametrize(
    "said", [{"action": "keys", "result": "done"}, {"action": "install", "result": "failed"}], ids=str
)
def test_keys_that_are_learnt_and_installations_that_fail_end_no_switch(
    node: Node, said: dict[str, str]
) -> None:
    """A station asked before another one began it."""
    arm(node)
    node.apply()
    of(node).installed({"run": "other", "from": None, "to": {"digest": "a"}, **said})
    assert of(node).status()["pending"] == RECORD
    back(node, "it failed", "run")
    assert is_old(node)
    assert node.results() == [said["result"], "went back"]


def test_keys_that_are_learnt_say_nothing_of_what_runs(node: Node) -> None:
    """A run was cut off between proof and record: what runs is the new version, whoever learnt keys."""
    arm(node)
    node.apply()
    of(node).confirm("run")
    keys = {"action": "keys", "run": "keys", "result": "done", "from": None, "to": {"digest": "a"}}
    of(node).installed(keys)
    arm(node, "again")
    assert of(node).status()["pending"]["from"] == RECORD["to"]
