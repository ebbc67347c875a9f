"""How a node is booted: what is mounted, which cable is laid, which command runs.  Pure.

The command runs in mount and network namespaces of its own, between the operator's side and the node.
The cable's inner end waits there for systemd-nspawn to hand it to the node; everything mounted there
is seen by nobody else and goes when the last process goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.lab.site import INTERFACE

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.lab.plan import Node

NOTIFY_SOCKET = "/run/appliance-lab-notify"

# systemd-nspawn's exit code with --keep-unit when the node asked for a reboot.
REBOOT = 133

# Lets systemd in the node attach its packet filters, so that IPAddressDeny= really denies.
_CAPABILITIES = "CAP_BPF,CAP_NET_ADMIN,CAP_PERFMON"


def mount_commands(root: Path, node_folder: Path) -> list[list[str]]:
    """The mounts of a boot, in order.

    Args:
        root: the cached root file system, only read.
        node_folder: holds ``upper``, ``work`` and ``merged``.
    """
    overlay = f"lowerdir={root},upperdir={node_folder / 'upper'},workdir={node_folder / 'work'}"
    return [
        # Nothing mounted below shows outside; what is unmounted outside, goes here too.
        ["mount", "--make-rslave", "/"],
        # systemd-nspawn leaves locks and sockets in /run; let it leave them in one that goes away.
        ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"],
        # A read-only /sys of this network namespace: the inner end is seen, and udev is not waited for.
        ["mount", "-t", "sysfs", "-o", "ro", "sysfs", "/sys"],
        # Only the unified hierarchy, also where the host mounts the old ones.
        ["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"],
        ["mount", "-t", "overlay", "-o", overlay, "overlay", str(node_folder / "merged")],
    ]


def cable_command(node: Node, operator_pid: int) -> list[str]:
    """Lay the cable: inner end here, outer end in the network namespace of process ``operator_pid``."""
    return [
        *("ip", "link", "add", "name", INTERFACE, "address", node.mac, "type", "veth"),
        *("peer", "name", node.link, "netns", str(operator_pid)),
    ]


def boot_command(node: Node, node_folder: Path) -> list[str]:
    """The command that boots the node and lasts as long as it runs."""
    return [
        *("systemd-nspawn", "--boot", "--quiet"),
        f"--directory={node_folder / 'merged'}",
        f"--machine={node.name}",
        f"--network-interface={INTERFACE}",
        *("--register=no", "--keep-unit", "--console=pipe", "--notify-ready=yes"),
        *(
            "--settings=no",
            "--private-users=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
        ),
        f"--capability={_CAPABILITIES}",
        "--system-call-filter=bpf",
    ]
