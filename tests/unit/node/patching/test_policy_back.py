"""What follows of a role's files once they went back: kernel, modes, units of packages, programs told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.remote import host_policy
from appliance.node.remote.host_policy import HostPolicy, PolicyError
from appliance.node.remote.other_units import OtherUnits
from tests.unit.node.patching.switched_node import NEW, OLD, POLICY, Node, arm, new_node, of

if TYPE_CHECKING:
    from pathlib import Path

SETTING = "proc/sys/kernel/kptr_restrict"
SCRIPT = "etc/cron.daily/popularity-contest"


class Units:
    """systemctl of a node with units of packages."""

    def __init__(self, **states: str) -> None:
        self.states = {name.replace("_", "."): state for name, state in states.items()}
        self.active = {name for name, state in self.states.items() if state == "enabled"}
        self.said: list[str] = []
        self.silent = False

    def ask(self, verb: str, *_: str) -> str:
        if self.silent:
            raise OSError("systemctl: no")
        rows = self.states.items() if verb == "list-unit-files" else [(name, "") for name in self.active]
        return "".join(f"{name} {state} -\n" for name, state in rows)

    def control(self, verb: str, *words: str) -> tuple[int, str]:
        name = words[-1]
        self.said.append(" ".join([verb, *words]))
        match verb:
            case "mask" | "enable" | "disable":
                self.states[name] = {"mask": "masked", "enable": "enabled", "disable": "disabled"}[verb]
            case "unmask":
                self.states[name] = "disabled"
            case "start":
                self.active.add(name)
            case "stop":
                self.active.discard(name)
        return 0, ""


class Still:
    """A network that nobody changed."""

    def __init__(self) -> None:
        self.moved = False
        self.did: list[str] = []

    def keep(self, folder: Path) -> None:
        self.did.append("keep")

    def put_back(self, folder: Path) -> list[str]:
        self.did.append("put back")
        return []

    def put_back_for_boot(self, folder: Path) -> bool:
        return self.moved

    def undo_unconfirmed(self) -> list[str]:
        self.did.append("undo")
        return []


@pytest.fixture
def units() -> Units:
    return Units(apt_timer="masked", cron_service="enabled", chrony_service="disabled", at_service="static")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: Units) -> Node:
    made = new_node(tmp_path, monkeypatch)
    for path, text in ((SETTING, "2\n"), (SCRIPT, "#!/bin/sh\n")):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    (tmp_path / SCRIPT).chmod(0o644)
    network: Any = Still()
    made.policy = HostPolicy(str(tmp_path), made.control, network, OtherUnits(units.control, units.ask))
    monkeypatch.setattr(
        host_policy,
        "follow",
        lambda changed: [f"read {each}" for each in changed if each.startswith("etc/audit")],
    )
    return made


def test_kernel_modes_and_units_are_what_they_were(node: Node, units: Units) -> None:
    arm(node)
    node.apply()
    (node.root / SETTING).write_text("0\n")
    (node.root / SCRIPT).chmod(0o755)
    units.states |= {"apt.timer": "enabled", "cron.service": "masked", "chrony.service": "enabled"}
    units.states |= {"auditd.service": "enabled", "new.service": "enabled", "at.service": "masked"}
    units.active = {"apt.timer", "chrony.service", "auditd.service", "new.service"}
    answer = of(node).back("it failed")
    assert node.files() == OLD
    assert (node.root / SETTING).read_text().strip() == "2"
    assert (node.root / SCRIPT).stat().st_mode & 0o777 == 0o644
    assert units.states["apt.timer"] == "masked"
    assert (units.states["cron.service"], units.states["chrony.service"]) == ("enabled", "disabled")
    assert units.states["auditd.service"] == "disabled", "a role had turned it on, and does so again"
    assert units.states["new.service"] == "enabled", "a package's own affair, and packages stay"
    assert "unmask at.service" in units.said
    assert units.active == {"cron.service", "new.service"}
    assert answer["ill"] == ["read etc/audit/rules.d/90-appliance.rules"]


def test_nothing_is_told_to_units_that_nobody_changed(node: Node, units: Units) -> None:
    arm(node)
    node.apply()
    of(node).back("it failed")
    assert units.said == []


def test_mounts_stay_mounted_and_unmounted(node: Node, units: Units) -> None:
    """What lies in /tmp is in use."""
    units.states["tmp.mount"] = "disabled"
    arm(node)
    units.states["tmp.mount"] = "enabled"
    units.active.add("tmp.mount")
    of(node).back("it failed")
    assert units.states["tmp.mount"] == "disabled"
    assert "tmp.mount" in units.active


def test_owners_modes_and_links_are_what_they_were(node: Node) -> None:
    place, link = node.root / POLICY, node.root / "etc/issue"
    place.chmod(0o640)
    link.symlink_to("issue.net")
    arm(node)
    place.chmod(0o644)
    link.unlink()
    link.write_text("new banner")
    of(node).back("it failed")
    assert place.stat().st_mode & 0o777 == 0o640
    assert str(link.readlink()) == "issue.net"


def test_a_file_that_a_package_has_brought_since_stays(node: Node) -> None:
    """Its package stays, and would be broken without."""
    arm(node)
    place = node.root / "etc/chrony/chrony.conf"
    place.parent.mkdir(parents=True)
    place.write_text("of the package")
    of(node).back("it failed")
    assert place.read_text() == "of the package"


def test_services_are_not_restarted_for_a_policy(node: Node) -> None:
    """A model takes its time to load, and a banner does not touch it."""
    arm(node)
    (node.root / POLICY).write_text("new setting")
    node.said.clear()
    of(node).back("it failed")
    assert (node.root / POLICY).read_text() == OLD[POLICY]
    assert not [words for words in node.said if words[0] == "restart"]


def test_a_node_that_does_not_say_how_it_is_is_not_begun(node: Node, units: Units) -> None:
    units.silent = True
    with pytest.raises(PolicyError, match="cannot be kept"):
        arm(node)
    assert of(node).armed() is None


def test_a_systemd_that_does_not_answer_is_told_and_the_rest_goes_back(node: Node, units: Units) -> None:
    arm(node)
    node.apply()
    units.silent = True
    (ill,) = [each for each in of(node).back("it failed")["ill"] if "units" in each]
    assert ill.startswith("units of packages stay as they are")
    assert node.files() == OLD


def test_what_nobody_confirmed_is_undone_by_its_own_program_before_any_file_goes_back(node: Node) -> None:
    """The program itself may be one of them."""
    network: Any = node.policy.network if node.policy else None
    arm(node)
    node.apply()
    network.undo_unconfirmed = lambda: network.did.append(f"undo {node.files() == NEW}") or []
    of(node).back("it failed")
    assert network.did == ["keep", "undo True", "put back"]


def test_after_a_power_cut_the_rest_follows_once_systemd_is_up_and_services_start_once(node: Node) -> None:
    arm(node)
    node.apply()
    node.restarts()
    assert (of(node).armed(), node.files(), node.results()) == (
        None,
        OLD,
        ["went back, but read etc/audit/rules.d/90-appliance.rules"],
    )
    restarted = [
        words for words in node.said if words[0] in {"start", "restart"} and "inference" in words[-1]
    ]
    assert restarted == [("start", "--no-block", "appliance-inference.service")]


def test_after_a_power_cut_that_changed_no_policy_all_is_done_at_once(node: Node) -> None:
    arm(node)
    (node.root / "etc/appliance/export-line.json").write_text("new")
    node.boot = "second"
    node.jobs = set()
    of(node).boot()
    assert (of(node).armed(), node.results()) == (None, ["went back"])


@pytest.mark.parametrize("fault", ["", "the network: no"])
def test_what_was_put_aside_since_goes_once_it_is_in_its_place_again(fault: str, node: Node) -> None:
    """An audit would ask whose it is; where the network did not go back, it is the only copy."""
    aside = node.root / host_policy.ASIDE
    (aside / "older").mkdir(parents=True)
    network: Any = node.policy.network if node.policy else None
    network.put_back = lambda _: [fault] if fault else []
    arm(node)
    (aside / "newer").mkdir()
    of(node).back("it failed")
    assert [each.name for each in sorted(aside.iterdir())] == (["newer", "older"] if fault else ["older"])


def test_a_kernel_that_takes_a_setting_in_one_direction_is_told(node: Node) -> None:
    arm(node)
    place = node.root / SETTING
    place.unlink()
    place.mkdir()  # nothing can be written to it
    assert "kernel.kptr_restrict is not 2 again before the next start" in of(node).back("it failed")["ill"]


def test_programs_read_again_what_was_changed_and_what_they_refuse_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran = []

    def run(command: tuple[str, ...]) -> tuple[int, str]:
        ran.append(" ".join(command))
        return (1, "no room") if command[0] == "update-initramfs" else (int("chrony" in command[-1]), "")

    monkeypatch.setattr(host_policy, "_run", run)
    changed = [
        "etc/modprobe.d/appliance.conf",
        "etc/audit/rules.d/90-appliance.rules",
        "etc/chrony/chrony.conf",
    ]
    assert host_policy.follow(changed) == ["update-initramfs -u -k all ended with 1: no room"]
    assert "augenrules --load" in ran
    assert "systemctl restart chrony.service" not in ran, "it does not run"
    assert ran[-1].startswith("update-initramfs"), "it takes its time"
    assert not [each for each in ran if "tmp.mount" in each]
