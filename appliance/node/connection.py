"""How a node is reached: one SSH configuration for every program that connects, or this very machine.

OpenSSH, Ansible and testinfra all read the same generated ``ssh_config``; nothing of the operator's own
SSH configuration, known hosts or agent forwarding takes part.  Host keys are pinned: a key that is not
in the inventory's ``known_hosts`` is refused, never learnt.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.definition.inventory import Inventory, NodeEntry, Ssh

#: OpenSSH's own exit status when the connection, not the remote command, failed (ssh(1), EXIT STATUS).
SSH_FAILED: Final = 255

CONNECT_SECONDS: Final = 10


class Connection(Protocol):
    """A way to run programs on one node.

    ``testinfra`` is the host specification that ``testinfra.get_host`` takes; ``ansible`` the host
    variables that make Ansible use the same way.
    """

    @property
    def node(self) -> NodeEntry:
        """Where it leads."""

    def argv(self, command: str, *options: str) -> list[str]:
        """The command line, on this machine, that runs the shell ``command`` on the node.

        ``options`` are further ssh options (``-o ControlPath=none`` for a connection of its own).
        """

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the shell ``command`` on the node; raises ``subprocess.TimeoutExpired``."""

    def ansible(self) -> dict[str, object]:
        """Ansible host variables."""

    @property
    def testinfra(self) -> str:
        """Host specification for testinfra."""

    def close(self) -> None:
        """End what is kept open for reuse."""


def ssh_config(ssh: Ssh, nodes: Sequence[NodeEntry], control: Path) -> str:
    """The text of an ``ssh_config`` with one ``Host`` block per node, named as in the inventory.

    Args:
        ssh: the inventory's identities.
        nodes: nodes reached over SSH.
        control: private folder for the sockets of shared connections; a short path (a socket's path
            has at most 107 bytes).
    """
    key = (
        [f"IdentityFile {_quoted(ssh.key)}", "IdentitiesOnly yes", "IdentityAgent none"]
        if ssh.key
        else ["IdentityFile none"]
    )
    common = [
        f"User {ssh.user}",
        *key,
        f"UserKnownHostsFile {_quoted(ssh.known_hosts)}",
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
        "UpdateHostKeys no",
        "CheckHostIP no",
        "VerifyHostKeyDNS no",
        "CanonicalizeHostname no",
        "BatchMode yes",
        "PreferredAuthentications publickey",
        f"ConnectTimeout {CONNECT_SECONDS}",
        "ConnectionAttempts 1",
        "ServerAliveInterval 5",
        "ServerAliveCountMax 3",
        "ControlMaster auto",
        f"ControlPath {_quoted(control)}/%C",
        "ControlPersist 60",
        "ClearAllForwardings yes",
        "ForwardAgent no",
        "ForwardX11 no",
        "PermitLocalCommand no",
        "LogLevel ERROR",
    ]
    lines: list[str] = []
    for node in nodes:
        lines += [f"Host {node.name}", f"    HostName {node.address}", f"    Port {node.port}"]
        lines += [f"    {line}" for line in common]
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    """A path as one ssh_config argument: quoted, with ``%`` not taken for a token (ssh_config(5))."""
    text = str(path).replace("%", "%%")
    return text if shlex.quote(text) == text else f'"{text}"'


@dataclass(frozen=True)
class SshConnection:
    """A node over SSH.  ``config`` is the generated ssh_config; ``user`` is who logs in."""

    node: NodeEntry
    config: Path
    user: str

    def argv(self, command: str, *options: str) -> list[str]:
        return ["ssh", "-F", str(self.config), "-T", *options, "--", self.node.name, command]

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.argv(command), input=stdin, capture_output=True, timeout=timeout, check=False
        )

    def ansible(self) -> dict[str, object]:
        # Ansible's scratch folder; root's is in memory, so that a check leaves no trace on a disk.
        scratch = "/run/appliance/ansible" if self.user == "root" else "~/.ansible/tmp"
        return {
            "ansible_connection": "ssh",
            "ansible_remote_tmp": scratch,
            "ansible_host": self.node.name,  # resolved by the Host block
            "ansible_user": self.user,
            "ansible_ssh_common_args": f"-F {shlex.quote(str(self.config))}",
            "ansible_become": self.user != "root",
            "ansible_become_method": "sudo",
        }

    @property
    def testinfra(self) -> str:
        from urllib.parse import urlencode

        query = {"ssh_config": str(self.config)} | ({} if self.user == "root" else {"sudo": "true"})
        return f"ssh://{self.node.name}?{urlencode(query)}"

    def close(self) -> None:
        """Ask a shared connection to end; there may be none."""
        subprocess.run(
            ["ssh", "-F", str(self.config), "-O", "exit", "--", self.node.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )


@dataclass(frozen=True)
class LocalConnection:
    """The machine this program runs on."""

    node: NodeEntry

    def argv(self, command: str, *options: str) -> list[str]:
        return ["sh", "-c", command]

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.argv(command), input=stdin, capture_output=True, timeout=timeout, check=False
        )

    def ansible(self) -> dict[str, object]:
        return {
            "ansible_connection": "local",
            "ansible_become": os.geteuid() != 0,
            "ansible_become_method": "sudo",
        }

    @property
    def testinfra(self) -> str:
        return "local://"

    def close(self) -> None:
        """Nothing is kept open."""


def open_connections(
    inventory: Inventory, nodes: Sequence[NodeEntry], folder: Path
) -> dict[str, Connection]:
    """A connection per node name; writes one ssh_config into ``folder`` (private, short path)."""
    remote = [node for node in nodes if node.connection == "ssh"]
    config = folder / "ssh_config"
    if remote:
        if inventory.ssh is None:
            raise ValueError("an inventory with SSH nodes has an ssh section")
        config.write_text(ssh_config(inventory.ssh, remote, folder), encoding="utf-8")
        config.chmod(0o600)
    user = inventory.ssh.user if inventory.ssh else "root"
    return {
        node.name: SshConnection(node, config, user) if node.connection == "ssh" else LocalConnection(node)
        for node in nodes
    }
