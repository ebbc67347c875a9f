"""When the network is another one than what was kept: down to single tables, links and units."""

from __future__ import annotations

import fcntl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.remote import network_back
from tests.unit.roles.test_network_back import UNIT, changed_by, kept, network
from tests.unit.roles.test_revert_program import program

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["kept", "network", "program"]


def answers(network: Any, **said: str) -> None:
    """Have commands (spaces are underscores) say something else, and systemctl what it is asked for."""
    real = network.node.run

    def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = real(*command, stdin=stdin)
        if (text := said.get("_".join(command))) is not None:
            return subprocess.CompletedProcess(command, 0, text, "")
        if command[:2] == ("systemctl", "show"):
            blocks = done.stdout.strip().split("\n\n")
            asked = [block for block in blocks if block.split("\n")[0].removeprefix("Id=") in command]
            return subprocess.CompletedProcess(command, 0, "\n\n".join(asked), "")
        return done

    network.node.run = run


@pytest.mark.parametrize(
    "said",
    [
        {"nft_list_tables": "table inet own\ntable inet other\n"},
        {"nft_list_tables": ""},
        {"nft_list_table_inet_own": "table inet own {\n\tchain x {\n\t}\n}\n"},
    ],
    ids=["one more", "one less", "other rules"],
)
def test_tables_of_nftables_are_told_apart(said: dict[str, str], network: Any, tmp_path: Path) -> None:
    answers(network)
    network.keep(tmp_path / "kept")
    assert not network.differs(tmp_path / "kept")
    answers(network, **said)
    assert network.differs(tmp_path / "kept")


def test_links_that_were_made_or_went_down_are_a_difference(network: Any, tmp_path: Path) -> None:
    up = {"ifname": "eno1", "mtu": 1500, "flags": ["UP"]}
    network.node.links = [up]
    network.keep(tmp_path / "kept")
    assert not network.differs(tmp_path / "kept")
    network.node.links = [{**up, "flags": []}]
    assert network.differs(tmp_path / "kept")
    network.node.links = [up, {"ifname": "bond0", "mtu": 1500, "linkinfo": {"info_kind": "bond"}}]
    assert network.differs(tmp_path / "kept")
    network.node.links = [up, {"ifname": "usb0", "mtu": 1500}]
    assert not network.differs(tmp_path / "kept"), "what nobody made is plugged in"


def test_what_counts_at_a_start_alone_may_be_at_work_or_not(network: Any, kept: Path) -> None:
    network.node.units = network.node.units.replace(
        "Id=ufw.service\nLoadState=loaded\nActiveState=inactive",
        "Id=ufw.service\nLoadState=loaded\nActiveState=active",
    )
    assert not network.differs(kept)


def test_an_ssh_server_alone_that_ended_is_a_difference(network: Any, tmp_path: Path) -> None:
    without = network.node.units
    network.node.units = without + UNIT.format("ssh.service", "active", "enabled")
    answers(network)
    network.keep(tmp_path / "kept")
    assert not network.differs(tmp_path / "kept")
    network.node.units = without + UNIT.format("ssh.service", "inactive", "enabled")
    assert network.differs(tmp_path / "kept")
    assert network.put_back_for_boot(tmp_path / "kept") is False, "it starts by itself"


def test_nobody_arms_or_confirms_meanwhile(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[str] = []

    def flock(file: Any, how: int) -> None:
        assert how == fcntl.LOCK_EX
        held.append(file.name)

    monkeypatch.setattr(fcntl, "flock", flock)
    network.keep(tmp_path / "kept")
    network.put_back(tmp_path / "kept")
    network.put_back_for_boot(tmp_path / "kept")
    assert held == [str(tmp_path / "var/lib/appliance/revert/lock")] * 3


def test_of_a_change_that_waits_already_room_is_kept_as_well(
    program: Any, network: Any, tmp_path: Path
) -> None:
    program.Revert(network.node).arm(60)
    (tmp_path / "var/lib/appliance/revert/pending/spare").unlink()
    network.keep(tmp_path / "kept")
    assert (tmp_path / "kept/spare").stat().st_size > 1 << 20


def test_a_change_whose_program_is_gone_is_left_to_what_was_kept(network: Any, tmp_path: Path) -> None:
    (tmp_path / network_back.REVERT / "pending").mkdir(parents=True)
    (tmp_path / network_back.REVERT / "pending/armed.json").write_text("{}")
    assert network.undo_unconfirmed() == []
    assert changed_by(network) == []
