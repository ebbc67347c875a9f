"""Preflight: every node is looked at, and every complaint collected, before anything is changed.

One round trip per node in the good case, and one more where the bundle asks for hardware: OpenSSH itself
decides about the connection, and one script returns all facts.  Only when that fails is the node asked more
closely, to say which it was: no answer, another host key, or a login refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import (
    ApplianceError,
    BootRoomMissing,
    HostKeyChanged,
    NodeUnreachable,
    PreflightFailed,
)
from appliance.node.checks import PYTHON, Wanted, node_checks
from appliance.node.connection import CONNECT_SECONDS, SSH_FAILED
from appliance.node.hardware import named, preflight_checks
from appliance.node.script import NO_PYTHON, load_script, start_command
from appliance.node.site import host_key_name, pinned_keys
from appliance.node.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from paramiko import PKey

    from appliance.definition.inventory import NodeEntry, Ssh
    from appliance.node.connection import Connection

FACTS_SECONDS: Final = 60
#: What a failed check is called where none of another name failed; hardware's: ``hardware.named``.
_ALONE: Final[dict[str, type[ApplianceError]]] = {
    "boot-space": BootRoomMissing,
    "host-key": HostKeyChanged,
    "reachable": NodeUnreachable,
}
_HINT_ODD: Final = "look at what answers there: this program's own script says it otherwise"
_HINT_PYTHON: Final = "install the python3 of the target distribution from its medium"


@dataclass(frozen=True)
class NodeReport:
    """What preflight found on one node.  ``facts`` is None when they could not be gathered."""

    node: NodeEntry
    checks: tuple[Check, ...]
    facts: Mapping[str, Any] | None = None

    @property
    def passed(self) -> bool:
        return not any(check.stops for check in self.checks)


def look_at_nodes(
    connections: Mapping[str, Connection], ssh: Ssh | None, wanted: Wanted
) -> tuple[NodeReport, ...]:
    """Look at every node at the same time; changes nothing and raises nothing about a node."""

    def look(connection: Connection) -> NodeReport:
        return _look(connection, ssh, wanted)

    with ThreadPoolExecutor(max_workers=min(16, len(connections))) as pool:
        return tuple(pool.map(look, connections.values()))


def notes(reports: Sequence[NodeReport]) -> list[str]:
    """What stops nothing and is to be known all the same, one line each."""
    return [
        f"{report.node.name}: {check.name}: {check.found}; {check.hint}"
        for report in reports
        for check in report.checks
        if check.level == "information" and check.passed is False
    ]


def refuse(reports: Sequence[NodeReport]) -> None:
    """Raise the error that tells all failed checks of all nodes; returns when there are none.

    Raises:
        NodeUnreachable: nodes did not answer, and nothing else is wrong.
        HostKeyChanged: nodes show another host key, and nothing else is wrong.
        BootRoomMissing: there is no room below ``/boot``, and nothing else is wrong.
        HardwareUnfit: a machine lacks what the bundle needs, by its own name where it lacks one thing.
        PreflightFailed: any other mixture.
    """
    failed = [(report.node, check) for report in reports for check in report.checks if check.stops]
    if not failed:
        return
    lines = [
        f"{node.name}: {check.name}: {'not tried' if check.passed is None else check.found}"
        for node, check in failed
    ]
    tried = {check.name for _, check in failed if check.passed is False}
    error = _ALONE.get(next(iter(tried))) if len(tried) == 1 else None
    error = error or named({check.name for _, check in failed}) or PreflightFailed
    nodes = len({node.name for node, _ in failed})
    raise error(
        f"{nodes} of {len(reports)} nodes not ready; nothing was changed",
        found="\n         ".join(lines),
        wanted="\n          ".join(
            f"{node.name}: {check.name}: {check.wanted}" + (f" ({check.where})" if check.where else "")
            for node, check in failed
            if check.passed is False
        ),
        hint="\n      ".join(
            dict.fromkeys(check.hint for _, check in failed if check.passed is False and check.hint)
        ),
    )


def _look(connection: Connection, ssh: Ssh | None, wanted: Wanted) -> NodeReport:
    node = connection.node
    script = load_script("facts")
    try:
        done = connection.run(
            start_command(script, "facts"),
            stdin=script + f"{wanted.digest}\n".encode(),
            timeout=FACTS_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return NodeReport(node, (_reachable(node, f"no facts within {FACTS_SECONDS} s"),))
    if done.returncode == SSH_FAILED and node.connection == "ssh" and ssh:
        return NodeReport(node, _why_refused(node, ssh, done.stderr.decode(errors="replace").strip()))
    connected = _connected(node)
    if done.returncode == NO_PYTHON:
        low, high = (".".join(str(part) for part in bound) for bound in PYTHON)
        missing = Check("python3", False, "no python3 on the node", f"{low} to {high}", _HINT_PYTHON)
        return NodeReport(node, (*connected, missing, _not_tried()))
    try:
        facts = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        text = (done.stderr or done.stdout).decode(errors="replace").strip()[-300:]
        broken = Check(
            "facts", False, text or f"exit status {done.returncode}", "one line of JSON", _HINT_PYTHON
        )
        return NodeReport(node, (*connected, broken))
    try:
        checks = node_checks(node, facts, wanted)
        staged = int(facts["staged"])
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as fault:
        # JSON of another shape: a node that does not say what was asked is that node's own trouble.
        odd = Check("facts", False, f"{type(fault).__name__}: {fault}", "what was asked for", _HINT_ODD)
        return NodeReport(node, (*connected, odd))
    checks += preflight_checks(connection, wanted.manifest, staged=staged)
    return NodeReport(node, (*connected, *checks), facts)


def _connected(node: NodeEntry) -> tuple[Check, ...]:
    """What a working connection has shown: OpenSSH accepts no other host key than the pinned one."""
    if node.connection == "local":
        return ()
    return (
        _reachable(node, None),
        Check("host-key", True, "the pinned key", "the pinned key"),
        Check("authentication", True, "accepted", "accepted"),
    )


def _not_tried() -> Check:
    return Check("system", None, "not tried without python3", "the checks of the system")


def _reachable(node: NodeEntry, trouble: str | None) -> Check:
    return Check(
        "reachable",
        trouble is None,
        trouble or "answers",
        f"SSH at {node.address} port {node.port}",
        "check power, cable and the addresses of both sides; then run the same command again",
    )


def _why_refused(node: NodeEntry, ssh: Ssh, told: str) -> tuple[Check, ...]:
    """Ask once more without logging in, to tell apart what OpenSSH reports with one exit status."""
    import paramiko

    try:
        shown = shown_host_key(node, ssh.known_hosts)
    except OSError as fault:
        return (_reachable(node, str(fault) or type(fault).__name__),)
    except paramiko.SSHException as fault:
        return (_reachable(node, f"no SSH server that can be talked to: {fault or told}"),)
    pinned = dict(pinned_keys(ssh.known_hosts).lookup(host_key_name(node)) or {})
    wanted = [f"{kind} {fingerprint(key)}" for kind, key in pinned.items()]
    found = f"{shown.get_name()} {fingerprint(shown)}"
    answers = _reachable(node, None)
    if found not in wanted:
        changed = Check(
            "host-key",
            False,
            found,
            ", ".join(wanted),
            "read the key at the node's console; if it was replaced on purpose, correct known_hosts. "
            "Otherwise another machine answers in its place",
        )
        return (answers, changed)
    refused = Check(
        "authentication",
        False,
        told or "login refused",
        f"a login as {ssh.user} with {ssh.key or 'a key of ssh-agent'}",
        f"put the public key into the node's authorized_keys of {ssh.user}",
    )
    return (answers, Check("host-key", True, found, ", ".join(wanted)), refused)


def shown_host_key(node: NodeEntry, known_hosts: Path) -> PKey:
    """The host key a node shows, of a pinned kind if it has one; nobody logs in.

    Raises:
        OSError: nobody answers.
        paramiko.SSHException: what answers does not speak SSH, or no common dialect.
    """
    import paramiko

    # Its thread logs the traceback of what is raised here as well; nobody needs it twice on the terminal.
    logging.getLogger("paramiko.transport").addHandler(logging.NullHandler())
    pinned = list(pinned_keys(known_hosts).lookup(host_key_name(node)) or {})
    with socket.create_connection((str(node.address), node.port), timeout=CONNECT_SECONDS) as stream:
        transport = paramiko.Transport(stream)
        try:
            options = transport.get_security_options()
            kinds = [kind for name in pinned for kind in _signatures(name)]
            options.key_types = [
                *(kind for kind in kinds if kind in options.key_types),
                *(kind for kind in options.key_types if kind not in kinds),
            ]
            transport.start_client(timeout=CONNECT_SECONDS)
            return transport.get_remote_server_key()
        finally:
            transport.close()


def _signatures(kind: str) -> tuple[str, ...]:
    """An RSA key signs under newer names than its own (RFC 8332)."""
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)


def fingerprint(key: PKey) -> str:
    """As ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
