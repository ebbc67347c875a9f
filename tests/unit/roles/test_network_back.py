"""A confirmed network goes back with its version: if it is another one, and never by an open filter."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.remote import network_back
from appliance.node.remote.network_back import Network
from tests.unit.roles.test_revert_program import change, make_node, program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["program"]

CLOSED = "*filter\n:INPUT DROP [12:340]\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n"
OTHER = CLOSED.replace("22", "2222")
COUNTED = CLOSED.replace("12:340", "99:999") + "# Completed today\n*mangle\n:INPUT ACCEPT [0:0]\nCOMMIT\n"


@pytest.fixture
def network(program: Any, tmp_path: Path) -> Any:
    made = Network(str(tmp_path))
    made.node = make_node(program, tmp_path)
    real = made.node.run

    def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = real(*command, stdin=stdin)
        return (
            subprocess.CompletedProcess(command, 0, made.filter, "")
            if command == ("iptables-save",)
            else done
        )

    made.node.run, made.filter = run, CLOSED
    return made


@pytest.fixture
def kept(network: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "kept"
    network.keep(folder)
    network.node.ran.clear()
    return folder


def changed_by(network: Any) -> list[str]:
    """Commands that change something."""
    reads = (
        "systemctl show",
        "systemctl is-active",
        "ip -json",
        "iptables-save",
        "ip6tables-save",
        "nft list",
    )
    return [words for words in network.node.ran if not words.startswith(reads)]


def test_a_network_that_is_as_before_is_left_alone(network: Any, kept: Path) -> None:
    """Counts, times, and empty tables that somebody has looked at are no difference."""
    network.filter = COUNTED
    assert network.put_back(kept) == []
    assert changed_by(network) == []


@pytest.mark.parametrize(
    "move",
    [
        lambda network: change(network.root),
        lambda network: setattr(network, "filter", OTHER),
        lambda network: setattr(network.node, "addresses", network.node.addresses[:1]),
        lambda network: setattr(network.node, "routes", []),
        lambda network: setattr(network.node, "links", [{"ifname": "eno1", "mtu": 9000}]),
        lambda network: setattr(
            network.node, "units", network.node.units.replace("enabled", "disabled", 1)
        ),
        lambda network: (network.root / "etc/netplan/50.yaml").chmod(0o644),
        lambda network: (network.root / "proc/sys/net/ipv6/conf/eno1/accept_ra").write_text("0\n"),
    ],
    ids=["files", "filter", "address", "route", "packet size", "unit", "mode", "kernel setting"],
)
def test_whatever_is_another_is_seen(move: Callable[[Any], None], network: Any, kept: Path) -> None:
    assert not network.differs(kept)
    move(network)
    assert network.differs(kept)
    assert network.put_back(kept) == []
    assert "systemctl restart systemd-networkd.service" in changed_by(network)


def test_the_filter_is_put_back_first_and_whole_and_nothing_opens_it(network: Any, kept: Path) -> None:
    """What is put back was confirmed, and who waits outside is not let in meanwhile."""
    init = network.root / "usr/lib/ufw/ufw-init"
    init.parent.mkdir(parents=True)
    init.touch()
    change(network.root)
    network.filter = OTHER
    network.put_back(kept)
    did = changed_by(network)
    assert did[0] == "iptables-restore"
    assert did.index("iptables-restore") < did.index("systemctl restart systemd-networkd.service")
    assert CLOSED.strip() in network.node.heard["iptables-restore"]
    assert not [words for words in did if "force-stop" in words or "flush" in words]
    assert (network.root / "etc/netplan/50.yaml").read_text() == "before\n"
    assert "systemctl reload ssh.service" in did


UNIT = "\nId={}\nLoadState=loaded\nActiveState={}\nUnitFileState={}\n"


@pytest.mark.parametrize("before", ["active", "inactive"])
@pytest.mark.parametrize("unit", ["nftables.service", "netfilter-persistent.service"])
def test_what_would_empty_the_filter_is_neither_started_nor_stopped(
    unit: str, before: str, network: Any, tmp_path: Path
) -> None:
    """nftables.service begins with flush ruleset, and ends with it; its rules are put back as they were."""
    enabled, now = {"active": ("enabled", "inactive"), "inactive": ("disabled", "active")}[before]
    without = network.node.units
    network.node.units = without + UNIT.format(unit, before, enabled)
    network.keep(tmp_path / "kept")
    network.node.units = without + UNIT.format(unit, now, {"enabled": "disabled"}.get(enabled, "enabled"))
    network.node.ran.clear()
    network.put_back(tmp_path / "kept")
    did = [words for words in changed_by(network) if unit in words]
    assert {*did} == {f"systemctl {enabled.removesuffix('d')} {unit}"}


def test_a_firewall_that_starts_again_leaves_no_filter_open_behind_it(network: Any, tmp_path: Path) -> None:
    without = network.node.units
    network.node.units = without + UNIT.format("firewalld.service", "active", "enabled")
    network.keep(tmp_path / "kept")
    network.node.units = without + UNIT.format("firewalld.service", "inactive", "enabled")
    network.node.ran.clear()
    network.put_back(tmp_path / "kept")
    did = changed_by(network)
    after = did[did.index("systemctl start firewalld.service") + 1 :]
    assert after[0] == "iptables-restore"
    assert after.index("iptables-restore") < after.index("systemctl reload ssh.service")


def test_units_are_put_back_in_the_order_that_counts(network: Any, tmp_path: Path) -> None:
    """A socket would start its service again, and two programs would configure one interface."""
    names = ("NetworkManager.service", "systemd-networkd.service", "systemd-networkd.socket")
    before, now = ("active", "inactive", "inactive"), ("inactive", "active", "active")

    def units(states: tuple[str, ...]) -> str:
        return "".join(UNIT.format(*each, "enabled") for each in zip(names, states, strict=True))

    network.node.units = units(before)
    network.keep(tmp_path / "kept")
    network.node.units = units(now)
    network.node.ran.clear()
    network.put_back(tmp_path / "kept")
    did = [words for words in changed_by(network) if words.startswith(("systemctl st", "systemctl start"))]
    assert did[:3] == [
        "systemctl stop systemd-networkd.socket",
        "systemctl stop systemd-networkd.service",
        "systemctl start NetworkManager.service",
    ]


def test_what_fails_is_tried_again_and_told(network: Any, kept: Path) -> None:
    network.filter = OTHER
    network.node.broken.add("systemctl restart systemd-networkd.service")
    ill = network.put_back(kept)
    assert [
        each for each in ill if each.startswith("the network: units: systemctl restart systemd-networkd")
    ]
    assert network.node.ran.count("pause 1") == network_back.ATTEMPTS - 1


def test_an_ssh_server_that_ended_is_another_network(network: Any, tmp_path: Path) -> None:
    network.node.units += "\nId=ssh.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"
    network.keep(tmp_path / "kept")
    network.node.units = network.node.units.replace("active\nUnitFileState=enabled\n", "x", -1)
    assert network.differs(tmp_path / "kept")


def test_as_a_node_starts_files_alone_go_back(network: Any, kept: Path) -> None:
    (network.root / "run/netplan").mkdir(parents=True)  # what lies in memory is no difference yet
    assert network.put_back_for_boot(kept) is False
    assert changed_by(network) == []
    change(network.root)
    assert network.put_back_for_boot(kept) is True
    assert (network.root / "etc/netplan/50.yaml").read_text() == "before\n"
    assert not (network.root / "etc/ufw").exists()
    did = changed_by(network)
    assert did
    assert all(words.startswith("systemctl --no-reload") for words in did), "the network starts by itself"


def test_where_a_change_waits_already_what_it_goes_back_to_is_kept(
    program: Any, network: Any, tmp_path: Path
) -> None:
    """Nobody has confirmed what is there now."""
    program.Revert(network.node).arm(60)
    change(network.root)
    network.keep(tmp_path / "kept")
    assert not (tmp_path / "kept/armed.json").exists()
    network.put_back(tmp_path / "kept")
    assert (network.root / "etc/netplan/50.yaml").read_text() == "before\n"


def test_room_for_the_way_back_is_kept_free(network: Any, kept: Path) -> None:
    """As large as what is kept, and once only."""
    held = sum(path.lstat().st_size for path in kept.rglob("*") if path.name != "spare")
    assert (kept / "spare").stat().st_blocks * 512 >= held
    size = (kept / "spare").stat().st_size
    network.keep_room(kept)
    assert (kept / "spare").stat().st_size == size


def test_a_damaged_record_is_another_network(network: Any, kept: Path) -> None:
    (kept / "state.json").write_text("damaged")
    assert network.differs(kept)


@pytest.mark.parametrize("knows", [True, False])
def test_its_own_program_undoes_what_waits(knows: bool, network: Any, tmp_path: Path) -> None:
    """Without opening the filter, if it is not so old that it does not know how."""
    place = tmp_path / network_back.PROGRAM
    place.parent.mkdir(parents=True)
    refuses = "" if knows else '[ "$2" ] && exit 2; '
    place.write_text(f"#!/bin/sh\necho $* >>{tmp_path}/said; {refuses}echo no >&2; exit 3\n")
    place.chmod(0o755)
    assert network.undo_unconfirmed() == []
    assert not (tmp_path / "said").exists()
    waits = tmp_path / network_back.REVERT / "pending"
    waits.mkdir(parents=True)
    (waits / "armed.json").write_text(json.dumps({}))
    assert network.undo_unconfirmed() == ["the network: no"]
    said = (tmp_path / "said").read_text().splitlines()
    assert said == (["restore --closed"] if knows else ["restore --closed", "restore"])


def test_the_program_that_undoes_opens_nothing_where_it_is_told_so(program: Any, network: Any) -> None:
    init = network.root / "usr/lib/ufw/ufw-init"
    init.parent.mkdir(parents=True)
    init.touch()
    revert = program.Revert(network.node)
    for closed in (True, False):
        revert.arm(60)
        change(network.root)
        network.node.ran.clear()
        assert revert.restore(closed=closed)["restored"] is True
        assert (network.root / "etc/netplan/50.yaml").read_text() == "before\n"
        opened = [words for words in changed_by(network) if "force-stop" in words]
        assert bool(opened) is not closed
        assert (changed_by(network)[0] == "iptables-restore") is closed


def test_the_program_that_undoes_knows_the_word_for_it(
    program: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that does not is taken for an older one, and opens the filter."""
    with pytest.raises(SystemExit) as ended:
        program.main(["restore", "--closed", "--help"])
    assert ended.value.code == 0
    assert "--closed" in capsys.readouterr().out
