"""Changes of a network that lock the operator out, one that does not, and what may happen after one.

For the node of ``small_node``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.roles.killing import acting
from tests.unit.roles.small_node import ADMIT, CLOSED, DEVICE, NETWORKD, OPERATOR, change

if TYPE_CHECKING:
    from collections.abc import Callable

NETPLAN = "etc/netplan/90-appliance.yaml"
RULES = "etc/ufw/user.rules"
SSHD = "etc/ssh/sshd_config.d/00-appliance.conf"
RUN, OTHER = "this-run", "other-run"


def closed(network: str = "10.0.0.0/28", port: str = "22", device: str = DEVICE) -> dict[str, str]:
    """A firewall that admits SSH from a network."""
    admitted = ADMIT.format(network=network, port=port).replace(DEVICE, device)
    return {RULES: CLOSED.format(rules=admitted), "etc/ufw/ufw.conf": "ENABLED=yes\n"}


def made(address: str = "10.0.0.2/24", **more: str) -> dict[str, str]:
    """A netplan file; the installer's is put aside as the role does it."""
    lines = [f"{key}: {value}" for key, value in {"address": address, **more}.items()]
    return {NETPLAN: "\n".join(lines), "etc/netplan/50-installer.yaml": ""}


GOOD = {**made(), **closed(), SSHD: "PasswordAuthentication no\n"}

#: What is wrong with a change: the files that it writes.
WRONG: dict[str, dict[str, str]] = {
    "denies everything": {RULES: CLOSED.format(rules=""), "etc/ufw/ufw.conf": "ENABLED=yes\n"},
    "another management network": closed("10.9.0.0/16"),
    "a management network too narrow": closed("10.0.0.128/25"),
    "another operator": closed("10.0.0.9/32"),
    "another SSH port admitted": closed(port="2222"),
    "SSH admitted on another card": closed(device="eno2"),
    "rules that cannot be loaded": {RULES: "-A nonsense", "etc/ufw/ufw.conf": "ENABLED=yes\n"},
    "rules that are empty": {RULES: "", "etc/ufw/ufw.conf": "ENABLED=yes\n"},
    "another address": made("10.0.0.77/24"),
    "another network": made("10.9.0.2/24"),
    "a prefix too long": made("10.0.0.2/32"),
    "the prefix of two": made("10.0.0.2/31"),
    "the operator's own address": made(f"{OPERATOR}/24"),
    "no address": {NETPLAN: "mtu: 1500", "etc/netplan/50-installer.yaml": ""},
    "no file": {"etc/netplan/50-installer.yaml": ""},
    "another card": made(device="eno2"),
    "a card that is not there": made(device="eno9"),
    "another card's MAC address": made(mac="wrong"),
    "a VLAN that nobody is on": made(vlan="7"),
    "large packets, on another card": made(device="eno2", mtu="9000"),
    "an SSH server that does not start": {SSHD: "Nonsense yes\n"},
    "an SSH server on another port": {SSHD: "Port 2222\n"},
    "nobody may log in": {SSHD: "DenyUsers root\n"},
    "addresses and rules": {**made("10.9.0.2/24"), **closed("10.9.0.0/28")},
    "everything at once": {
        **made("10.9.0.2/24", mtu="9000"),
        **closed("10.9.0.0/28"),
        SSHD: "Nonsense yes\n",
    },
}


def apply(node: Any, files: dict[str, str]) -> None:
    """What a role does after it has armed: files first, then everything reads them."""
    for name, text in files.items():
        if text or name == RULES:
            change(node.root, name, text)
        else:
            (node.root / name).unlink(missing_ok=True)
    change(node.root, "proc/sys/net/ipv6/conf/eno1/accept_ra", "0\n")
    node.kernel.routes = []
    node.kernel.tables = {}
    node.follow()


def armed(_node: Any, revert: Any) -> None:
    revert.arm(60, RUN)


def changed(node: Any, revert: Any) -> None:
    armed(node, revert)
    apply(node, WRONG["everything at once"])


def changed_well(node: Any, revert: Any) -> None:
    armed(node, revert)
    apply(node, GOOD)


def arm(_node: Any, revert: Any) -> Any:
    return revert.arm(60, RUN)


def confirm(node: Any, revert: Any) -> Any:
    node.session = node.clock + 10
    return revert.confirm(RUN, fresh=True)


def restore(node: Any, revert: Any) -> Any:
    """As the timer does it."""
    node.clock += 65
    return revert.restore(due=True)


def boot(node: Any, revert: Any) -> Any:
    """The first thing of the next start."""
    (node.root / "proc/sys/kernel/random/boot_id").write_text("next\n")
    return revert.boot()


# --- what happens meanwhile ---------------------------------------------------------------------


def nobody(node: Any, _revert: Any) -> None:
    """The controller is dead, or its new connection is not let in: it is all the same on the node."""
    node.wait()


def power_cut(node: Any, _revert: Any) -> None:
    node.start()
    node.wait()


def two_power_cuts(node: Any, revert: Any) -> None:
    """The second one while the files are put back after the first."""
    with acting(node.power, at=25):
        boot(node, revert)
    power_cut(node, revert)


def power_cut_while_undone(node: Any, revert: Any) -> None:
    with acting(node.power, at=40):
        revert.restore()
    power_cut(node, revert)


def killed_while_undone(node: Any, revert: Any) -> None:
    with acting(node.power, at=60):
        revert.restore()
    node.serve()


def old_connection(node: Any, revert: Any) -> None:
    """It may well be open still, and would not be let in again."""
    node.session = node.clock - 100
    assert "older than the change" in revert.confirm(RUN, fresh=True)["refused"]
    node.wait()


def no_connection(node: Any, revert: Any) -> None:
    """Something on the node itself says that all is well."""
    assert "not come over an SSH connection" in revert.confirm(RUN, fresh=True)["refused"]
    node.wait()


def older_run(node: Any, revert: Any) -> None:
    """What is left of an earlier run comes to its end, over a connection as fresh as can be."""
    node.session = node.clock + 10
    assert "another run" in revert.confirm(OTHER, fresh=True)["refused"]
    node.wait()


def second_run(node: Any, revert: Any) -> None:
    """It arms again, changes more, and dies: the way back leads behind the first change."""
    revert.arm(60, OTHER)
    apply(node, {SSHD: "Nonsense yes\n"})
    node.wait()


def second_run_cut(node: Any, revert: Any) -> None:
    with acting(node.power, at=3):
        revert.arm(60, OTHER)
    node.wait()


def confirmed_after_restart(node: Any, revert: Any) -> None:
    """The node restarts, and the run that is waiting for it confirms: too late, it has been undone."""
    node.start()
    node.session = node.clock + 10
    assert revert.confirm(RUN, fresh=True)["confirmed"] is False
    node.wait()


def confirmed_while_undone(node: Any, revert: Any) -> None:
    with acting(node.power, at=30):
        revert.restore()
    node.power.dead, node.session = False, node.clock + 10
    assert revert.confirm(RUN, fresh=True)["confirmed"] is False


def by_hand(_node: Any, revert: Any) -> None:
    assert revert.restore()["restored"] is True


def by_hand_twice(node: Any, revert: Any) -> None:
    by_hand(node, revert)
    assert revert.restore()["restored"] is False


def disk_full(node: Any, revert: Any) -> None:
    """The room that was kept free is enough."""
    with acting(node.power):
        node.power.full = True
        assert revert.restore()["fired"]["faults"] == []


def ufw_fails(node: Any, _revert: Any) -> None:
    node.broken = {"/usr/lib/ufw/ufw-init": 9}
    node.wait()


def filter_fails_once(node: Any, _revert: Any) -> None:
    node.broken = {"iptables-restore": 1}
    node.wait()


def networkd_fails_twice(node: Any, _revert: Any) -> None:
    node.broken = {"systemctl restart systemd-networkd": 2}
    node.wait()


def networkd_stopped(node: Any, _revert: Any) -> None:
    node.kernel.active.discard(NETWORKD)
    node.disable(NETWORKD)
    node.kernel.addresses = []
    node.wait()


MEANWHILE: list[Callable[[Any, Any], None]] = [
    nobody,
    power_cut,
    two_power_cuts,
    power_cut_while_undone,
    killed_while_undone,
    old_connection,
    no_connection,
    older_run,
    second_run,
    second_run_cut,
    confirmed_after_restart,
    confirmed_while_undone,
    by_hand,
    by_hand_twice,
    disk_full,
    ufw_fails,
    filter_fails_once,
    networkd_fails_twice,
    networkd_stopped,
]
