"""Wrong changes of a booted node's network as shell commands; a program killed at one of its commands.

The node is isolated already: netplan, ufw, SSH settings.  Each change does what a role would do wrong: it
writes the files and lets the services read them.
"""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

#: netplan's file is read as at the end of the role.
READ = "netplan generate && networkctl reload && networkctl reconfigure $DEV"
NETPLAN = "/etc/netplan/90-appliance.yaml"
RULES = "/etc/ufw/user.rules /etc/ufw/user6.rules"
FLUSH = "ip address flush dev $DEV scope global"
UFW = "/usr/lib/ufw/ufw-init force-reload"
SSHD = "/etc/ssh/sshd_config.d/00-appliance.conf"

#: What is wrong, as a shell script; ``DEV``, ``ADDRESS`` (with its prefix), ``OPERATOR`` and ``OTHER`` (an
#: address on the same wire that is nobody's) are set.
WRONG: dict[str, str] = {
    # rules
    "denies everything": f"sed -i '/dport 22/d' {RULES}; {UFW}",
    "another management network": (f"sed -i -E 's|-s [0-9a-f.:]+/[0-9]+|-s 192.0.2.0/24|' {RULES}; {UFW}"),
    "another SSH port admitted": f"sed -i 's/--dport 22/--dport 2222/' {RULES}; {UFW}",
    "SSH admitted on another card": f'sed -i "s/-i $DEV/-i eno9/" {RULES}; {UFW}',
    "a line that cannot be loaded": f"echo '-A nonsense' >> /etc/ufw/before.rules; {UFW}",
    "settings of ufw that are no shell": (
        f"echo '((' >> /etc/default/ufw; {UFW}; iptables -F; iptables -P INPUT DROP"
    ),
    "chains flushed and policies left": "iptables -F; ip6tables -F",
    "no answers": "iptables -I OUTPUT -j DROP; ip6tables -I OUTPUT -j DROP",
    "dropped before any chain of ufw": (
        "for each in iptables ip6tables; do $each -t raw -I PREROUTING -j DROP; done"
    ),
    "a table of nftables that drops": (
        "nft add table inet wrong; nft add chain inet wrong input"
        " '{ type filter hook input priority -10; policy drop; }'"
    ),
    "everything of nftables flushed, and a drop": (
        "nft flush ruleset; nft add table netdev wrong; nft add chain netdev wrong in"
        ' "{ type filter hook ingress device $DEV priority 0; policy drop; }"'
    ),
    # addresses
    "another address": f'sed -i "s|$ADDRESS|$OTHER/24|" {NETPLAN}; {READ}',
    "another network": f'sed -i "s|$ADDRESS|192.0.2.11/24|" {NETPLAN}; {READ}',
    "a prefix too long": f'sed -i "s|$ADDRESS|${{ADDRESS%/*}}/32|" {NETPLAN}; {READ}',
    "the operator's own address too": (
        f'sed -i "s|$ADDRESS|$OPERATOR/24|" {NETPLAN}; {READ}; ip address add $ADDRESS dev $DEV'
    ),
    "no address": f"sed -i '/\\.11\\/24/d' {NETPLAN}; {READ}",
    "no netplan file": f"rm {NETPLAN}; {READ}; {FLUSH}",
    "a netplan file that is no YAML": f"echo '{{' >> {NETPLAN}; {READ}; {FLUSH}",
    "a card that is not there": f'sed -i "s/$DEV/eno9/" {NETPLAN}; {READ}; {FLUSH}',
    "another card's MAC address": (
        f"sed -i -E \"s/^( +)$DEV:/\\1other:\\n\\1  match: {{macaddress: '02:00:00:00:99:99'}}/\""
        f" {NETPLAN}; {READ}; {FLUSH}"
    ),
    "the link down": "ip link set dev $DEV down",
    "no network service": (
        f"systemctl disable --now systemd-networkd.socket systemd-networkd.service; {FLUSH}"
    ),
    "the operator by another way": "ip route add $OPERATOR/32 via $OTHER dev $DEV onlink",
    # the SSH server
    "an SSH server that does not start": f"echo 'Nonsense yes' > {SSHD}; systemctl restart ssh.service",
    "an SSH server on another port": f"echo 'Port 2222' > {SSHD}; systemctl restart ssh.service",
    "an SSH server that was stopped": "systemctl stop ssh.service",
    "nobody may log in": f"echo 'DenyUsers root' > {SSHD}; systemctl reload ssh.service",
    # several
    "addresses, rules and SSH server": (
        f"sed -i '/dport 22/d' {RULES}; {UFW}; sed -i \"s|$ADDRESS|192.0.2.11/24|\" {NETPLAN}; {READ};"
        f" echo 'Nonsense yes' > {SSHD}; systemctl restart ssh.service"
    ),
}

#: Of these ufw makes nothing that keeps the operator out, by chance; they are undone all the same.
HARMLESS = {"a line that cannot be loaded"}

#: Commands at which ``appliance-revert`` is killed, as it calls them.
WHILE_ARMING = (
    "ip -json address show",
    "ip6tables-save",
    "systemctl daemon-reload",
    "systemctl enable appliance-revert.timer",
    "systemctl restart appliance-revert.timer",
)
WHILE_CONFIRMING = (
    "systemctl disable --now appliance-revert.timer",
    "systemctl disable appliance-revert-boot.service",
    "systemctl daemon-reload",
)
WHILE_UNDOING = (
    "iptables-restore",
    "ip6tables-restore",
    "systemctl daemon-reload",
    "netplan generate",
    "systemctl reset-failed systemd-networkd.service",
    "systemctl restart systemd-networkd.service",
    "ip -json address show",
    "ip -json -4 route show",
    "nft list tables",
    "systemctl start ssh.service",
    "systemctl disable --now appliance-revert.timer",
)
#: Commands of which one failure is no lock-out.
THAT_FAIL = ("netplan generate", "systemctl restart systemd-networkd.service", "iptables-restore")

_SHIM = """#!/bin/sh
# Before the real one: at the words in `at`, once, end the program that calls, or fail.
words="${0##*/} $*"
case "$words" in "$(cat /run/fault/at)"*)
    if mkdir /run/fault/done 2>/dev/null; then
        [ -e /run/fault/fail ] && exit 1
        kill -9 "$PPID"
    fi ;;
esac
PATH=/usr/sbin:/usr/bin:/sbin:/bin exec "${0##*/}" "$@"
"""
_COMMANDS = ("systemctl", "ip", "iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore")
PATH = "/run/fault:/usr/sbin:/usr/bin:/sbin:/bin"


class Entered:
    """A practice node that is entered without asking each time where it is."""

    def __init__(self, node: Any) -> None:
        self._node, self._leader = node, node.leader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def inside(self, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """As of a practice node."""
        enter = ["nsenter", "--target", str(self._leader), "--all", "--", "sh", "-c", command]
        done = subprocess.run(enter, capture_output=True, text=True, check=False, timeout=600)
        if check and done.returncode:
            pytest.fail(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def reboot(self, *, power_cut: bool = False) -> None:
        self._node.reboot(power_cut=power_cut)
        self._leader = self._node.leader


@dataclass(frozen=True)
class Trap:
    """At one command, once, the program is killed; ``fails``: the command fails instead."""

    node: Any

    def set(self, command: str, *, fails: bool = False) -> None:
        shims = " ".join(f"/run/fault/{name}" for name in (*_COMMANDS, "netplan", "nft"))
        unit = "/run/systemd/system/appliance-revert.service.d"
        script = f"""
rm -rf /run/fault; mkdir -p /run/fault {unit}
printf %s {shlex.quote(command)} > /run/fault/at
{"touch /run/fault/fail" if fails else ":"}
for shim in {shims}; do printf %s {shlex.quote(_SHIM)} > $shim; chmod 755 $shim; done
printf '[Service]\\nEnvironment=PATH={PATH}\\n' > {unit}/fault.conf
systemctl daemon-reload
"""
        self.node.inside(script)

    @property
    def sprung(self) -> bool:
        return bool(self.node.inside("test -d /run/fault/done", check=False).returncode == 0)

    def remove(self) -> None:
        self.node.inside(
            "rm -rf /run/fault /run/systemd/system/appliance-revert.service.d; systemctl daemon-reload"
        )
