"""What a newer policy leaves behind: folders, rights of files, units, scripts that are gone."""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.remote import host_policy, lasting, other_units, switch
from appliance.node.remote.host_policy import HostPolicy
from appliance.node.remote.lasting import copy, same
from appliance.node.remote.switch_units import SERVICE
from tests.unit.node.patching.switched_node import OLD, POLICY, Node, arm, new_node, of
from tests.unit.node.patching.test_policy_back import SCRIPT, Units, node, units

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["node", "units"]

FOLDER = "etc/systemd/coredump.conf.d"
#: acl(5) as the kernel keeps it: version 2; owner rw, user 1234 r, group r, mask r, others nothing.
ENTRIES = ((1, 6, -1), (2, 4, 1234), (4, 4, -1), (16, 4, -1), (32, 0, -1))
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *each) for each in ENTRIES)
ACCESS = "system.posix_acl_access"


class ReadOnly:
    """As statvfs(3) says of a container's /proc/sys."""

    f_flag = os.ST_RDONLY


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Of which files alone are looked at."""
    return new_node(tmp_path, monkeypatch)


def test_folders_that_a_newer_policy_made_go_and_those_in_use_stay(plain: Node) -> None:
    """An audit would ask whose they are."""
    arm(plain)
    for path in (
        f"{FOLDER}/90-appliance.conf",
        "etc/appliance/gpu/teams.json",
        "etc/linuxptp/appliance.conf",
    ):
        (plain.root / path).parent.mkdir(parents=True)
        (plain.root / path).write_text("new")
    (plain.root / "etc/linuxptp/ptp4l.conf").write_text("a package's")
    (plain.root / "opt/appliance/export/new").mkdir(parents=True)
    of(plain).back("it failed")
    assert not (plain.root / FOLDER).exists()
    assert not (plain.root / "etc/appliance/gpu").exists()
    assert not (plain.root / "opt/appliance/export").exists()
    assert [each.name for each in (plain.root / "etc/linuxptp").iterdir()] == ["ptp4l.conf"]
    assert (plain.root / "etc/systemd/system").is_dir()


def test_a_folder_that_a_package_has_brought_since_stays(plain: Node) -> None:
    """The role asks for it to see whether the program is there."""
    arm(plain)
    folder, info = plain.root / "etc/apt/listchanges.conf.d", plain.root / "var/lib/dpkg/info"
    for place in (folder, info, plain.root / "etc/linuxptp"):
        place.mkdir(parents=True)
    (info / "apt-listchanges.list").write_text("/.\n/etc\n/etc/apt\n/etc/apt/listchanges.conf.d\n")
    (folder / "appliance.conf").write_text("new")
    of(plain).back("it failed")
    assert [*folder.iterdir()] == []
    assert not (plain.root / "etc/linuxptp").exists()


def test_folders_come_back_as_they_were_and_packages_decide_of_theirs(plain: Node) -> None:
    settings, sysctl = plain.root / "etc/appliance", plain.root / "etc/sysctl.d"
    (settings / "gpu").mkdir(mode=0o750)
    (settings / "gpu/teams.json").write_text("old")
    arm(plain)
    (settings / "gpu/teams.json").unlink()
    (settings / "gpu").rmdir()
    settings.chmod(0o700)
    sysctl.chmod(0o751)
    of(plain).back("it failed")
    assert (settings / "gpu/teams.json").read_text() == "old"
    assert [place.stat().st_mode & 0o777 for place in (settings / "gpu", settings, sysctl)] == [
        0o750,
        0o755,
        0o751,
    ]


def test_a_folder_that_was_there_before_stays_though_it_is_empty_now(plain: Node) -> None:
    (plain.root / FOLDER).mkdir(parents=True)
    arm(plain)
    (plain.root / FOLDER / "90-appliance.conf").write_text("new")
    of(plain).back("it failed")
    assert [*(plain.root / FOLDER).iterdir()] == []


@pytest.mark.parametrize("what", ["changed", "added", "removed"])
def test_a_policy_that_a_killed_run_set_after_its_time_is_not_what_the_next_patch_goes_back_to(
    what: str, plain: Node
) -> None:
    """Two patches fail one after the other; the first run's roles went on after the node had gone back."""
    arm(plain)
    plain.now += 60
    of(plain).due()
    match what:
        case "changed":
            (plain.root / POLICY).write_text("of the run that was killed")
        case "added":
            (plain.root / "etc/linuxptp").mkdir()
            (plain.root / "etc/linuxptp/appliance.conf").write_text("likewise")
        case _:
            (plain.root / POLICY).unlink()
    arm(plain, "again", record={"from": {"digest": "a"}, "to": {"digest": "c"}})
    plain.apply()
    of(plain).back("it failed")
    assert plain.files() == OLD
    assert not (plain.root / "etc/linuxptp").exists()


def test_a_mount_that_only_a_newer_policy_had_is_mounted_at_no_start(plain: Node) -> None:
    arm(plain)
    (plain.root / "etc/systemd/system/tmp.mount").write_text("new")
    plain.enabled.add("tmp.mount")
    of(plain).back("it failed")
    assert not (plain.root / "etc/systemd/system/tmp.mount").exists()
    assert "tmp.mount" not in plain.enabled


def test_a_policy_that_nobody_touched_says_nothing_of_a_run(plain: Node) -> None:
    arm(plain)
    plain.now += 60
    of(plain).due()
    (plain.root / "etc/issue").write_text("a package's, and new")
    arm(plain, "again")
    (plain.root / "etc/issue").write_text("of the run that fails")
    of(plain).back("it failed")
    assert (plain.root / "etc/issue").read_text() == "a package's, and new"


@pytest.mark.parametrize("again", [False, True], ids=["new", "of a killed run"])
def test_all_that_was_saved_is_lasting_before_the_switch_is_pending(
    again: bool, plain: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    if again:
        arm(plain)
        plain.now += 60
        of(plain).due()
        plain.apply()
    synced: set[str] = set()
    monkeypatch.setattr(switch, "sync", synced.add)

    def pending(source: str, place: str) -> None:
        if place.endswith("pending"):
            assert synced >= {inner for inner, _, _ in os.walk(source)}
            synced.add("asked")
        lasting.rename(source, place)

    monkeypatch.setattr(switch, "rename", pending)
    arm(plain, "another")
    assert "asked" in synced


def test_a_file_goes_back_with_its_access_list(plain: Node) -> None:
    place = plain.root / POLICY
    os.setxattr(place, ACCESS, ACL)
    mode = place.stat().st_mode
    arm(plain)
    os.removexattr(place, ACCESS)
    place.chmod(mode)
    of(plain).back("it failed")
    assert os.getxattr(place, ACCESS) == ACL


def test_a_change_of_owner_takes_no_rights_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """chown(2) clears capabilities, whoever owns the file before and after."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("program")
    os.setxattr(one, ACCESS, ACL)
    chown = os.chown

    def clearing(place: str, *whose: int, **more: bool) -> None:
        chown(place, *whose, **more)
        if ACCESS in os.listxattr(place):
            os.removexattr(place, ACCESS)

    monkeypatch.setattr(os, "chown", clearing)
    copy(str(one), str(other))
    assert same(str(one), str(other))
    assert os.getxattr(other, ACCESS) == ACL


def test_a_link_to_no_script_keeps_no_node_from_switching_or_going_back(node: Node) -> None:
    """A package that goes leaves such links; a node that stopped there would try again for ever."""
    daily = node.root / "etc/cron.daily"
    (daily / "gone").symlink_to("/nowhere")
    arm(node)
    (daily / "gone too").symlink_to("/nowhere")
    (node.root / SCRIPT).chmod(0o755)
    assert of(node).back("it failed")["restored"] is True
    assert (node.root / SCRIPT).stat().st_mode & 0o777 == 0o644
    assert of(node).armed() is None


def test_a_mode_that_cannot_be_set_is_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node.policy
    (node.root / SCRIPT).chmod(0o755)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    assert node.policy.modes_back({SCRIPT: 0o644}) == [
        f"/{SCRIPT} has not the mode 0644 again: Operation not permitted"
    ]


def test_as_a_node_starts_jobs_of_units_are_asked_for_and_not_waited_for(node: Node, units: Units) -> None:
    """Systemd waits for whoever asks; what was waited for would never come."""
    arm(node)
    node.apply()
    units.states |= {"cron.service": "masked", "chrony.service": "enabled"}
    units.active = {"chrony.service"}
    node.boot, node.jobs = "second", set()
    of(node).boot()
    moved = [words for words in units.said if words.startswith(("stop", "start"))]
    assert sorted(moved) == ["start --no-block cron.service", "stop --no-block chrony.service"]


def test_our_own_units_are_not_taken_for_a_packages(node: Node, units: Units) -> None:
    """They are put back with their files, each in its order."""
    units.states["appliance-audit.timer"] = "enabled"
    arm(node)
    units.states["appliance-audit.timer"] = "masked"
    of(node).back("it failed")
    assert units.said == []


def test_units_of_the_network_are_left_to_its_own_order(tmp_path: Path, units: Units) -> None:
    class Cards:
        def units(self) -> tuple[str, ...]:
            return ("cron.service",)

    network: Any = Cards()
    made = HostPolicy(str(tmp_path), network=network).units
    made.ask = units.ask
    assert made.states() == {name: state for name, state in units.states.items() if name != "cron.service"}


def test_no_answer_is_not_the_answer_that_there_are_no_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "systemctl"
    place.write_text('#!/bin/sh\necho "$@"; [ "$1" = list-units ] || { echo no bus >&2; exit 1; }\n')
    place.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert other_units.told("list-units", "--full") == "list-units --full\n"
    with pytest.raises(OSError, match="systemctl list-unit-files: no bus"):
        other_units.told("list-unit-files")


def test_of_a_damaged_record_files_go_back_and_nothing_is_thrown_away(node: Node) -> None:
    """What was put aside may be the only copy; nobody knows any more what was there before."""
    arm(node)
    node.apply()
    aside = node.root / host_policy.ASIDE / "newer"
    aside.mkdir(parents=True)
    (node.root / "var/lib/appliance/switch/pending/armed.json").write_text("damaged")
    assert of(node).back("it failed")["restored"] is True
    assert node.files()[POLICY] == OLD[POLICY]
    assert aside.is_dir()
    assert of(node).armed() is None


@pytest.mark.parametrize("what", ["units", "silence", "network", ""])
def test_as_a_node_starts_more_follows_if_anything_is_otherwise(
    what: str, node: Node, units: Units
) -> None:
    """Or if systemd does not say: then nobody knows yet."""
    network: Any = node.policy.network if node.policy else None
    arm(node)
    units.silent, network.moved = what == "silence", what == "network"
    if what == "units":
        units.states["cron.service"] = "masked"
    node.boot, node.jobs = "second", set()
    of(node).boot()
    assert (of(node).armed() is not None) is bool(what)
    assert (SERVICE in node.jobs) is bool(what)
    assert "undo" not in network.did, "that program has a unit of its own for starts"


def test_a_unit_that_systemd_leaves_as_it_is_is_told(node: Node, units: Units) -> None:
    arm(node)
    units.states["cron.service"] = "masked"
    node.policy.units.control = lambda *_: (1, "no")  # type: ignore[union-attr]
    assert "cron.service is not turned on or off as before" in of(node).back("it failed")["ill"]


def test_settings_of_a_kernel_that_is_anothers_are_left_alone(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy: Any = node.policy
    assert policy.kernel() == {"kernel.kptr_restrict": "2"}
    monkeypatch.setattr(os, "statvfs", lambda _: ReadOnly)
    assert policy.kernel() == {}


def test_a_record_of_a_program_that_kept_no_policy_takes_none_away(plain: Node) -> None:
    """What roles' files were there before, nobody knows."""
    arm(plain)
    place = plain.root / "var/lib/appliance/switch/pending/armed.json"
    record = json.loads(place.read_text())
    place.write_text(json.dumps({key: record[key] for key in record if key not in {"policy", "folders"}}))
    plain.apply()
    of(plain).back("it failed")
    assert plain.files()["etc/audit/rules.d/90-appliance.rules"] == "new rules"
