"""Reach a practice node over SSH, with the lab's own key and the pinned host key."""

from __future__ import annotations

import shlex
import subprocess
import time
from typing import TYPE_CHECKING

from appliance.errors import LabFailed
from appliance.lab import namespaces
from appliance.lab.places import find_node
from appliance.lab.requirements import SHELL_TOOLS, require_root, require_tools

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.lab.places import Places
    from appliance.lab.plan import Node

# Until a container's SSH server, or an emulated machine's, has greeted: once, and while it may still boot.
_CONNECT_SECONDS, _MACHINE_CONNECT_SECONDS = 10, 60
_TRY_SECONDS, _MACHINE_TRY_SECONDS = 5, 20
_PAUSE = 0.1


def ssh_command(inventory: Path, address: str, *, connect_timeout: int = _CONNECT_SECONDS) -> list[str]:
    """The start of an ``ssh`` command line to a node as root; nothing of the user's own settings counts.

    Args:
        inventory: the lab's inventory folder.
        address: one of the node's addresses.
        connect_timeout: seconds.
    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(connect_timeout),
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": str(inventory / "keys/operator"),
        "LogLevel": "ERROR",
        # Of a node whose power went nothing comes any more, not even an end: so it ends after a minute.
        "ServerAliveCountMax": "6",
        "ServerAliveInterval": "10",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(inventory / "known_hosts"),
    }
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", *given, "-l", "root", address]


def wait_reachable(inventory: Path, node: Node, *, deadline: float) -> None:
    """Wait until root can log in, over IPv4 and over IPv6, and booting has finished.

    Call it from the lab's operator side.

    Args:
        inventory: the lab's inventory folder.
        node: a booted node.
        deadline: in seconds of ``time.monotonic``.

    Raises:
        LabFailed: it cannot by then; the message carries what ssh said last.
    """
    # A container says itself when it has finished booting; a machine is asked.
    finished = "systemctl is-system-running --wait >/dev/null; true" if node.machine else "true"
    seconds = _MACHINE_TRY_SECONDS if node.machine else _TRY_SECONDS
    for address in (node.address4, node.address6):
        command = [*ssh_command(inventory, address, connect_timeout=seconds), finished]
        while True:
            left = max(seconds, deadline - time.monotonic())
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=left,
                )
            except subprocess.TimeoutExpired:
                done = subprocess.CompletedProcess(command, 1, "", "it has not finished booting")
            if done.returncode == 0:
                break
            if time.monotonic() >= deadline:
                raise LabFailed(
                    f"the practice node {node.name} booted, and does not let root in at {address}",
                    found=done.stderr.strip() or f"ssh ended with exit code {done.returncode}",
                    wanted="a login with the lab's key and the pinned host key",
                )
            time.sleep(_PAUSE)


def run_shell(places: Places, name: str, command: list[str]) -> int:
    """Run a command on a node, or a login shell, on this terminal; returns ssh's exit code.

    Args:
        places: where labs are kept.
        name: the node's name, or its lab's when the lab has one node.
        command: program and arguments, passed on as they are; empty for a shell.

    Raises:
        LabFailed: no such lab.
        Usage: the name names no single node.
    """
    require_root()
    require_tools(SHELL_TOOLS)
    lab, node, _ = find_node(places, name)
    seconds = _MACHINE_CONNECT_SECONDS if lab.machine else _CONNECT_SECONDS
    ssh = ssh_command(places.inventory(lab.name), node.address4, connect_timeout=seconds)
    if command:
        # ssh hands one line to a shell on the node; quoting keeps the arguments apart.
        ssh += ["--", shlex.join(command)]
    with namespaces.joined(lab.netns):
        return subprocess.run(ssh, check=False).returncode
