"""A node's own switch, run over a folder, with systemd's answers kept in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from appliance.node.remote import (
    former_packages,
    history_log,
    lasting,
    restarts,
    saved_version,
    switch,
    switch_units,
)
from appliance.node.remote.host_policy import HostPolicy
from appliance.node.remote.late_packages import DpkgError, Packages
from appliance.node.remote.saved_version import is_policy
from appliance.node.remote.switch import Switch
from appliance.node.remote.switch_units import BOOT, SERVICE, TIMER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import pytest

UNIT = "etc/systemd/system/appliance-inference.service"
SETTINGS = "etc/appliance/export-line.json"
AUDIT = "etc/systemd/system/appliance-audit.timer"
#: What a role sets beside them: a file that both have, one that goes, one that comes.
POLICY = "etc/sysctl.d/90-appliance-host.conf"
OLD = {
    UNIT: "ExecStart=/old",
    SETTINGS: "old",
    AUDIT: "old timer",
    POLICY: "old setting",
    "etc/modprobe.d/appliance.conf": "no sticks",
}
NEW = {
    UNIT: "ExecStart=/new",
    SETTINGS: "new",
    "etc/systemd/system/appliance-export.service": "export",
    POLICY: "new setting",
    "etc/audit/rules.d/90-appliance.rules": "new rules",
}
RECORD = {"action": "patch", "by": "root at desk", "from": {"digest": "a"}, "to": {"digest": "b"}}


#: Packages before and after; what counts from the next start on is the driver.
BEFORE = {"driver": "1", "driver-libs": "1"}
AFTER = {"driver": "2", "driver-libs": "2", "new-libs": "1"}


class Cut(BaseException):
    """The program was killed, or the power went."""


class Node:
    """A root folder and its systemd; dies before the step of this number."""

    def __init__(self, root: Path) -> None:
        self.root, self.boot, self.now = root, "first", 100.0
        self.steps, self.dies_at = 0, -1
        self.enabled = {"appliance-inference.service", "appliance-audit.timer"}
        self.active = set(self.enabled)
        self.broken: set[str] = set()
        self.states: dict[str, str] = {}
        self.jobs: set[str] | None = None
        self.said: list[tuple[str, ...]] = []
        self.put(OLD)
        (root / "opt/appliance/inference/old").mkdir(parents=True)
        (root / "var/lib/appliance/switch").mkdir(parents=True)
        (root / "etc/systemd/system/appliance-revert.timer").write_text("of another program")
        self.packages, self.loaded, self.boots = dict(BEFORE), BEFORE["driver"], 1
        self.process: dict[str, str] = {}
        self.dpkg_fails = False
        #: What roles set beside our services; None where they set nothing.
        self.policy: HostPolicy | None = None
        self.start("appliance-inference.service")

    def start(self, name: str) -> None:
        """A process runs by what the files said when it was started."""
        if name in self.broken:
            self.states[name] = "failed"
            self.active.discard(name)
            return
        self.states.pop(name, None)
        self.active.add(name)
        place = self.root / "etc/systemd/system" / name
        self.process[name] = place.read_text() if place.exists() else ""

    def put(self, files: dict[str, str]) -> None:
        """Have these files, and no other of a version."""
        for path in {*OLD, *NEW}:
            (self.root / path).unlink(missing_ok=True)
        for path, text in files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)

    def install(self) -> None:
        """New packages, one after another."""
        for name, version in AFTER.items():
            self.step()
            self.packages[name] = version

    def apply(self) -> None:
        """What an installation does between arming and proof."""
        self.put(NEW)
        (self.root / "opt/appliance/inference/new").mkdir(exist_ok=True)
        self.active = {"appliance-inference.service", "appliance-export.service"}
        self.enabled = set(self.active)
        for name in self.active:
            self.start(name)

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.dies_at:
            raise Cut

    def restarts(self) -> None:
        """Systemd settles what it is to start; then our unit runs, before all the others."""
        self.boots += 1
        self.boot, self.now, self.process, self.active = f"boot {self.boots}", 1.0, {}, set()
        self.loaded = self.packages.get("driver", self.loaded)
        self.jobs = {name for name in self.enabled if name not in {TIMER, BOOT}}
        of(self).boot()
        jobs, self.jobs = self.jobs, None
        for name in jobs:
            self.start(name)
        if SERVICE in self.active:
            self.active.discard(SERVICE)
            self.runs(of(self), "due")

    def runs(self, by: Switch, verb: str, *asked: str) -> dict[str, Any]:
        """As ``main`` does: the node restarts once it was answered, if that is to be."""
        answer: dict[str, Any] = getattr(by, verb)(*asked)
        if by.rebooting:
            self.restarts()
        return answer

    def control(self, *arguments: str) -> tuple[int, str]:
        """As systemctl, of which the status and the first line count."""
        self.step()
        self.said.append(arguments)
        verb, name = arguments[0], arguments[-1]
        if self.jobs is not None and verb in {"start", "stop"}:
            assert "--no-block" in arguments, "systemd waits for whoever waits for it"
            self.jobs = self.jobs | {name} if verb == "start" else self.jobs - {name}
            return 0, ""
        assert self.jobs is None or verb != "restart"
        match verb:
            case "is-enabled":
                return 0, "enabled" if name in self.enabled else "disabled"
            case "is-active":
                return 0, self.states.get(name, "active" if name in self.active else "inactive")
            case "enable":
                self.enabled |= set(arguments[1:])
            case "disable":
                self.enabled -= set(arguments[1:])
                self.active -= set(arguments[1:]) if "--now" in arguments else set()
            case "stop":
                self.active.discard(name)
            case "restart" | "start":
                self.start(name)
        return 0, ""

    def files(self) -> dict[str, str]:
        return {path: place.read_text() for path in {*OLD, *NEW} if (place := self.root / path).exists()}

    def units_left(self) -> list[str]:
        return [
            unit for unit in (TIMER, SERVICE, BOOT) if (self.root / "etc/systemd/system" / unit).exists()
        ]

    def results(self) -> list[str]:
        path = self.root / "var/lib/appliance/history.jsonl"
        return (
            [json.loads(line)["result"] for line in path.read_text().splitlines()] if path.exists() else []
        )


class Dpkg(Packages):
    """Of a node in memory, which may die between any two packages."""

    def __init__(self, node: Node) -> None:
        super().__init__(str(node.root))
        self.node = node

    def present(self) -> dict[str, str]:
        if not self.node.packages:
            raise DpkgError("dpkg-query: no")
        return dict(self.node.packages)

    def is_late(self, name: str) -> bool:
        return name == "driver"

    def go_back(self, before: Mapping[str, str], folder: str) -> list[str]:
        assert self.node.jobs is None, "systemd is not up yet"
        assert folder.endswith("staged/a"), "of the version before"
        if self.node.dpkg_fails:
            raise DpkgError("dpkg: no")
        for name, version in self.changed(before).items():
            self.node.step()
            if name in self.node.broken:
                continue
            self.node.packages.pop(name)
            if version:
                self.node.packages[name] = version
        return [f"{name} is not at {was} again" for name, was in self.changed(before).items()]


class Apart(HostPolicy):
    """Of a node of which files alone are looked at: what follows of them is in ``test_policy_back``."""

    def __init__(self) -> None:
        self.counts: list[str] = []

    def keep(self, folder: str) -> dict[str, Any]:
        return {"policy": {}}

    def put_back_for_boot(self, folder: str, armed: dict[str, Any], changed: Iterable[str]) -> bool:
        return any(is_policy(path) for path in changed)

    def put_back(self, folder: str, armed: dict[str, Any], changed: Iterable[str]) -> list[str]:
        self.counts = [path for path in changed if is_policy(path)]
        return []

    def keep_room(self, folder: str) -> None:
        """There is nothing to keep."""

    def undo_unconfirmed(self) -> list[str]:
        return []


def new_node(root: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node whose program can be killed before every change that lasts."""
    made = Node(root)

    def stepping(real: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any, **more: Any) -> Any:
            made.step()
            return real(*arguments, **more)

        return do

    monkeypatch.setattr(history_log, "write", stepping(lasting.write))
    for module, names in (
        (switch, ("write", "rename")),
        (switch_units, ("write",)),
        (saved_version, ("write", "replace")),
        (restarts, ("write",)),
        (former_packages, ("write",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, stepping(getattr(lasting, name)))
    monkeypatch.setattr(switch.os, "sync", made.step)
    monkeypatch.setattr(switch.os, "fsync", lambda _: None)  # no power goes here, and disks are slow
    monkeypatch.setattr(Switch, "boot_id", lambda _: made.boot)
    monkeypatch.setattr(Switch, "uptime", lambda _: made.now)
    return made


def of(node: Node) -> Switch:
    return Switch(str(node.root), node.control, Dpkg(node), node.policy or Apart())


def arm(node: Node, run: str = "run", **more: Any) -> dict[str, Any]:
    asked = {"run": run, "after": 60, "record": RECORD, "program": "program", **more}
    return of(node).arm(asked)


def is_old(node: Node) -> bool:
    """Whether everything is as it was, and nothing is pending or left over."""
    left = (node.root / "opt/appliance/inference/new").exists() or node.units_left()
    return node.files() == OLD and not left and of(node).armed() is None


def runs_the_old(node: Node) -> bool:
    """Whether what ran before is at work and enabled again, and nothing else."""
    at_work = {"appliance-inference.service", "appliance-audit.timer"}
    by = node.process["appliance-inference.service"]
    return (node.active, node.enabled, by) == (at_work, at_work, OLD[UNIT])
