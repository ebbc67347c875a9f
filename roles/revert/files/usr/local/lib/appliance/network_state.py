"""The network of a node as it is: which files, units and settings make it, and how each is read.

Whoever adds a file, unit or kernel setting to a role that can cut the operator off adds it here too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

#: Configuration by which a change could cut the operator off, relative to the root.
PATHS = (
    "etc/netplan",
    "run/netplan",
    "etc/systemd/network",
    "etc/network/interfaces",
    "etc/network/interfaces.d",
    "etc/NetworkManager/system-connections",
    "etc/cloud/cloud.cfg.d/99-appliance-network.cfg",
    "etc/sysctl.d/90-appliance-network.conf",
    "etc/resolv.conf",
    "etc/default/ufw",
    "etc/ufw",
    "etc/systemd/system/ufw.service.d",
    "etc/ssh/sshd_config.d/00-appliance.conf",
)

#: Units that are turned on or off, in the order in which they are put back: a socket before the service
#: that it would start again, and systemd-networkd off before another program configures the interfaces.
UNITS = (
    "systemd-networkd.socket",
    "systemd-networkd-varlink.socket",
    "systemd-networkd.service",
    "systemd-networkd-wait-online.service",
    "systemd-network-generator.service",
    "networking.service",
    "NetworkManager.service",
    "dhcpcd.service",
    "connman.service",
    "systemd-resolved-varlink.socket",
    "systemd-resolved-monitor.socket",
    "systemd-resolved.service",
    "ufw.service",
    "nftables.service",
    "netfilter-persistent.service",
    "firewalld.service",
)

#: Of these only whether they start at boot is put back; what they do is put back otherwise, or done once.
#: Those of the packet filter empty all of it as they start or stop.
AT_BOOT_ONLY = {
    "systemd-networkd-wait-online.service",
    "systemd-network-generator.service",
    "ufw.service",
    "nftables.service",
    "netfilter-persistent.service",
}

#: The SSH server, whichever way it is started.  It is started again where it was up before, never stopped.
SSH_UNITS = ("ssh.socket", "ssh.service")

#: Kernel settings that are changed, under /proc/sys/net.
SETTINGS = (
    "ipv4/ip_forward",
    *(
        f"ipv{version}/conf/*/{name}"
        for version in (4, 6)
        for name in ("accept_redirects", "accept_source_route")
    ),
    *(f"ipv4/conf/*/{name}" for name in ("secure_redirects", "send_redirects", "rp_filter")),
    *(f"ipv4/conf/*/{name}" for name in ("arp_ignore", "arp_announce", "proxy_arp")),
    *(f"ipv6/conf/*/{name}" for name in ("forwarding", "accept_ra", "autoconf", "addr_gen_mode")),
)

#: Times are the node's own; its clock may be wrong, so nothing is decided by them.
RFC3339 = "%Y-%m-%dT%H:%M:%SZ"

#: The packet filter of each family.
FILTERS = {"4": "iptables", "6": "ip6tables"}

#: Tables that iptables keeps in nftables: ``iptables-save`` saves them, ``nft`` could not put them back.
IPTABLES = {
    (family, table) for family in ("ip", "ip6") for table in ("filter", "nat", "mangle", "raw", "security")
}


class Unreadable(OSError):
    """The node does not say how it is; so its state cannot be saved."""


class Node:
    """The machine: its files below ``root`` and the commands it runs."""

    #: Seconds for one command.  What hangs must not keep the rest from being put back.
    PATIENCE = 120

    def __init__(self, root: Path | str = "/") -> None:
        self.root = Path(root)

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The finished command; its failure, hanging and absence too, is the caller's to judge."""
        try:
            return subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=self.PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"no end within {self.PATIENCE} s")
        except OSError as fault:
            return subprocess.CompletedProcess(command, 127, "", str(fault))

    def has(self, program: str) -> bool:
        """Whether the program is installed."""
        return shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is not None

    def pause(self, seconds: float) -> None:
        """Before something is tried again."""
        time.sleep(seconds)

    def boot(self) -> str:
        """What this start of the node is called; another after every boot."""
        return (self.root / "proc/sys/kernel/random/boot_id").read_text().strip()

    def uptime(self) -> float:
        """Seconds since the kernel started.  Nobody can set this clock."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def ssh_began(self) -> float | None:
        """By ``uptime``, when the SSH connection began that this program was called over; None without one.

        The nearest process of an SSH server above this one belongs to the connection, and was made for it:
        an older connection that is shared has an older one.
        """
        process = os.getpid()
        while process > 1:
            text = (self.root / f"proc/{process}/stat").read_text()  # proc_pid_stat(5)
            name = text[text.index("(") + 1 : text.rindex(")")]
            fields = text[text.rindex(")") + 2 :].split()
            if name in {"sshd", "sshd-session"}:
                return int(fields[19]) / os.sysconf("SC_CLK_TCK")
            process = int(fields[1])
        return None


def told(node: Node, *command: str) -> str:
    """What a command prints.

    Raises:
        Unreadable: it fails.  No answer is not the answer that there is nothing.
    """
    done = node.run(*command)
    if done.returncode:
        raise Unreadable(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def require(done: subprocess.CompletedProcess[str]) -> None:
    """Raise OSError with what a failed command wrote."""
    if done.returncode:
        raise OSError(f"{' '.join(map(str, done.args))}: {(done.stderr or done.stdout).strip()}")


def versions(node: Node) -> tuple[str, ...]:
    """The families that this kernel speaks: one booted with ipv6.disable=1 has no IPv6."""
    return ("4", "6") if (node.root / "proc/sys/net/ipv6").exists() else ("4",)


def filters(node: Node) -> dict[str, str]:
    """Programs of the packet filter by the name under which their rules are saved."""
    return {
        f"rules.v{version}": FILTERS[version]
        for version in versions(node)
        if node.has(f"{FILTERS[version]}-save")
    }


def live_settings(node: Node) -> dict[str, str]:
    """Kernel settings by path below /proc/sys/net."""
    base = node.root / "proc/sys/net"
    files = [file for pattern in SETTINGS for file in sorted(base.glob(pattern))]
    return {str(file.relative_to(base)): file.read_text().strip() for file in files}


def live_addresses(node: Node) -> list[dict[str, str]]:
    """``[{"dev", "address"}]``; link-local addresses are the kernel's own."""
    links = json.loads(told(node, "ip", "-json", "address", "show") or "[]")
    return [
        {"dev": link["ifname"], "address": f"{entry['local']}/{entry['prefixlen']}"}
        for link in links
        for entry in link.get("addr_info", [])
        if entry.get("scope") == "global"
    ]


def live_routes(node: Node) -> list[dict[str, Any]]:
    """Routes by a gateway, as iproute2 gives them, each with its ``family``."""
    routes: list[dict[str, Any]] = []
    for version in versions(node):
        family = f"-{version}"
        listing = told(node, "ip", "-json", family, "route", "show") or "[]"
        routes += [{"family": family, **entry} for entry in json.loads(listing) if "gateway" in entry]
    return routes


def live_links(node: Node) -> dict[str, dict[str, Any]]:
    """``{name: {"kind": "bond", "mtu": 9000, "up": True}}``; ``kind`` is empty for what nobody made."""
    listing = told(node, "ip", "-json", "-details", "link", "show") or "[]"
    return {
        link["ifname"]: {
            "kind": link.get("linkinfo", {}).get("info_kind", ""),
            "mtu": link["mtu"],
            "up": "UP" in link.get("flags", ()),
        }
        for link in json.loads(listing)
    }


def unit_states(node: Node, units: tuple[str, ...] = UNITS) -> dict[str, dict[str, bool]]:
    """``{unit: {"active": bool, "enabled": bool}}`` of the units this node has."""
    properties = "--property=Id,LoadState,ActiveState,UnitFileState"
    states = {}
    for block in told(node, "systemctl", "show", properties, *units).strip().split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if fields.get("LoadState") in {"loaded", "masked"}:
            states[fields["Id"]] = {
                "active": fields["ActiveState"] in {"active", "activating", "reloading"},
                "enabled": fields["UnitFileState"] in {"enabled", "enabled-runtime"},
            }
    return states


def nft_tables(node: Node) -> list[tuple[str, str]]:
    """``[(family, name)]`` of nftables' own tables."""
    lines = told(node, "nft", "list", "tables").splitlines()
    found = [(family, name) for _, family, name in (line.split() for line in lines)]
    return [table for table in found if table not in IPTABLES]
