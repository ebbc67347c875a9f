"""Judges the staged copy and what comes back after a start."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from appliance.definition.partition import PARTITION_UNIT, served_units
from appliance.node.qualification.finding import Finding, lines

if TYPE_CHECKING:
    from appliance.definition.inventory import NodeEntry
    from appliance.node.qualification.subject import Bundle


def staged(bundle: Bundle) -> str:
    """The command that shows whether the copy is complete, and hashes its list."""
    folder = shlex.quote(bundle.staged)
    return f"ls -d {folder}.complete 2>/dev/null; sha256sum {folder}/trust/SHA256SUMS 2>/dev/null; true"


def judge_staged(text: str, bundle: Bundle) -> Finding:
    """The mark of completeness is there, and the list is the signed one, byte for byte."""
    found = text.split()
    wrong = []
    if f"{bundle.staged}.complete" not in found:
        wrong.append("not marked complete")
    if bundle.digest not in found:
        listed = [word for word in found if len(word) == len(bundle.digest) and "/" not in word]
        wrong.append(f"trust/SHA256SUMS is {listed[0]}" if listed else "trust/SHA256SUMS is not there")
    wanted = f"{bundle.staged} marked complete, trust/SHA256SUMS hashing to its name"
    return Finding(not wrong, lines(wrong, otherwise="complete, with the verified digest"), wanted)


def writable(bundle: Bundle) -> str:
    """The command that lists what in the copy somebody could change, and counts what is there."""
    folder = shlex.quote(bundle.staged)
    return (
        f"find {folder} ! -type l '(' -perm /0222 -o ! -user root ')' 2>/dev/null | head -n 20; "
        f"echo FILES=$(find {folder} -type f 2>/dev/null | wc -l); true"
    )


def judge_read_only(text: str) -> Finding:
    """Nothing in the copy can be written to, and there is something in it."""
    wrong = [line for line in text.splitlines() if not line.startswith("FILES=")]
    count = text.rpartition("FILES=")[2].strip()
    if count in {"", "0"}:
        wrong.append("there is no staged copy")
    return Finding(
        not wrong,
        lines(wrong, otherwise=f"{count} files, all of them root's, nobody may write"),
        "every file and folder of the staged copy owned by root, with no write permission",
    )


_UNITS: Final = ("ufw.service", "systemd-networkd.service")


def starting_units(node: NodeEntry) -> tuple[str, ...]:
    """Units that start with the node, besides SSH's."""
    cuts = (PARTITION_UNIT,) if node.partition else ()
    return (*served_units(node), *cuts, *_UNITS)


def enabled(node: NodeEntry) -> str:
    """Says how each unit starts; SSH is a service or a socket, as the node has it."""
    return (
        f"for each in {' '.join(starting_units(node))} ssh.service ssh.socket sshd.service; do "
        'echo "$each $(systemctl is-enabled "$each" 2>/dev/null)"; done; true'
    )


def judge_enabled(text: str, node: NodeEntry) -> Finding:
    """Services, firewall, network and SSH are all enabled."""
    units = starting_units(node)
    states = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    wrong = [
        f"{unit}: {states.get(unit) or 'not there'}" for unit in units if states.get(unit) != "enabled"
    ]
    ssh = [unit for unit in ("ssh.service", "ssh.socket", "sshd.service") if states.get(unit) == "enabled"]
    if not ssh:
        wrong.append("SSH: neither its service nor its socket is enabled")
    found = lines(wrong, otherwise=", ".join((*units, *ssh)) + " enabled")
    return Finding(not wrong, found, f"{', '.join(units)} and SSH enabled")


#: Looks at what the role revert keeps while a change is unconfirmed; asking its program would take a lock.
PENDING: Final = (
    "[ -x /usr/local/sbin/appliance-revert ] && echo ready; "
    "[ -e /var/lib/appliance/revert/pending/armed.json ] && echo pending; true"
)


def judge_confirmed(text: str) -> Finding:
    """No change of the network is waiting to be undone."""
    wanted = "no pending change: the network as it is was confirmed over a fresh connection"
    found = text.split()
    if "pending" in found:
        return Finding(kept=False, found="a change is pending and will be undone", wanted=wanted)
    if "ready" not in found:
        return Finding(
            kept=False, found="the node has no appliance-revert: nothing was confirmed", wanted=wanted
        )
    return Finding(kept=True, found="nothing pending", wanted=wanted)
