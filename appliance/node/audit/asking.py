"""Asks a node what it is: one program, one question, one answer (``appliance.node.remote.audit``)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import NodeUnreachable, PreflightFailed
from appliance.node.qualification import (
    autostart,
    clock,
    daily,
    gpus,
    installed,
    kernel,
    links,
    routes,
    rules,
    server,
    service,
    sockets,
    storage,
)
from appliance.node.qualification.clock import Reading
from appliance.node.question import BrokenOffError, question_line, run_program
from appliance.node.script import NO_PYTHON, load_script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.node.connection import Connection
    from appliance.node.host_data import HostData

HOME: Final = "/var/lib/appliance"

# Whoever changes what is looked at makes another format of baselines (baseline.FORMAT): compared with one
# that was taken otherwise, a node would differ in everything that was not looked at then.

#: Everything that runs, decides what runs, or says how; logs, caches and states of services are elsewhere.
TREES: Final = (
    *("/boot", "/etc", "/opt", "/run/systemd/network", "/run/systemd/system", "/srv", "/usr"),
    *(HOME, "/var/lib/dpkg/info", "/var/spool/cron"),
)
#: Compared otherwise (accounts as such, the staged copy by its manifest), kept by a rule of its own, or
#: written at every start (by GRUB and systemd-boot, what was started being seen by its own command line; by
#: augenrules from /etc/audit/rules.d).
APART: Final = (
    *(f"/etc/{name}{copy}" for name in ("passwd", "shadow", "group", "gshadow") for copy in ("", "-")),
    *("/etc/subuid-", "/etc/subgid-", "/etc/.pwd.lock"),
    *("/etc/audit/audit.rules", "/etc/audit/audit.rules.prev"),
    *("/boot/grub/grubenv", "/boot/loader/random-seed", "/boot/efi/loader/random-seed"),
    *(
        f"{HOME}/{name}"
        for name in ("baseline.json", "installed.json", "journal", "revert", "staged", "spool")
    ),
    # Not there when the first baselines were taken, so these need no other format.
    *(f"{HOME}/{name}" for name in ("history.jsonl", "switch")),
)
#: In a home: who gets in, and what runs when somebody does.
LOGIN_FILES: Final = (
    *(f".ssh/{name}" for name in ("authorized_keys", "authorized_keys2", "environment", "rc")),
    *(".bash_login", ".bash_logout", ".bash_profile", ".bashrc", ".profile", ".zprofile", ".zshrc"),
)
#: The whole filter as nft shows it, which has iptables' rules too; else as iptables does.  Old tables that
#: only iptables-legacy would show are named.
RULES: Final = (
    f"if command -v nft >/dev/null; then {rules.LISTING}; else iptables-save; ip6tables-save; fi; "
    "for each in /proc/net/ip_tables_names /proc/net/ip6_tables_names; do "
    '[ -r "$each" ] && sed "s/.*/table legacy & {\\n}/" "$each"; done; true'
)
#: A node with a terabyte of programs is not what this is for; hashing a gigabyte takes a second or two.
SECONDS: Final = 900
#: Reading the whole of a large model takes its time.
RECHECK_SECONDS: Final = 3 * 3600


@dataclass(frozen=True)
class Facts:
    """What a node said of itself.

    ``said``: exit status and output by name of the command; ``reading``: its clock against this station's;
    ``baseline``: SHA-256 of the node's copy of its baseline, ``text`` that copy, if it was asked for.
    """

    said: dict[str, tuple[int, str]]
    host: dict[str, dict[str, str]]
    files: dict[str, str]
    container: str
    installed: dict[str, Any] | None
    staged: dict[str, Any] | None
    reading: Reading
    baseline: str | None = None
    text: str | None = None


def state_commands() -> dict[str, str]:
    """What says what no role declares."""
    return {
        "rules": RULES,
        "listening": sockets.LISTENING,
        "units": autostart.LISTING,
        "service": service.LIVE,
    }


def declared_commands(data: HostData) -> dict[str, str]:
    """What the qualification reads, and tries nothing by."""
    return {
        "addresses": routes.ADDRESSES,
        "cards": links.CARDS,
        "routes": routes.ROUTES,
        "autoconfiguration": routes.AUTOCONFIGURATION,
        "name servers": routes.NAME_SERVERS,
        "forwarding": routes.FORWARDING,
        "filter4": rules.SAVED[4],
        "filter6": rules.SAVED[6],
        "tables": rules.TABLES,
        "order": rules.ORDER,
        "kept": rules.KEPT,
        "kernel": kernel.settings(data),
        "modules": kernel.MODULES,
        "lock": kernel.LOCK,
        "audit": kernel.AUDIT,
        "sshd": server.EFFECTIVE,
        "chrony": clock.CHRONY,
        "pending": installed.PENDING,
        "daily audit": daily.UNITS,
        "storage": storage.LISTING,
        "gpus": gpus.LISTING,
    }


def ask(
    connection: Connection,
    commands: Mapping[str, str],
    *,
    bundle: str | None = None,
    recheck: bool = False,
    send: bool = False,
) -> Facts:
    """Ask one node.

    Args:
        connection: to the node.
        commands: shell commands that only read, by name.
        bundle: digest of the bundle whose copy is looked at; None: the one the node names.
        recheck: read the whole copy, and not only what was touched.
        send: the node's copy of its baseline is wanted.

    Raises:
        NodeUnreachable: it does not answer, or the connection broke.
        PreflightFailed: it cannot be asked as root, or has no python3.
    """
    request = {
        "commands": dict(commands),
        "trees": TREES,
        "apart": APART,
        "login_files": LOGIN_FILES,
        "home": HOME,
        "bundle": bundle,
        "recheck": recheck,
        "send": send,
    }
    script = load_script("audit", "host_state", "file_state", "staged_copy", "copy_state")
    limit = RECHECK_SECONDS if recheck else SECONDS
    asked = time.time()
    try:
        said = run_program(connection, script, "audit", question_line(request), seconds=limit)
    except BrokenOffError as broken:
        raise _unreachable(connection, str(broken)) from None
    answered = time.time()
    if said.status == NO_PYTHON:
        raise _unfit(connection, "no python3", "python3 on the node")
    try:
        answer = said.answer()
    except ValueError as none:
        raise _unfit(connection, str(none), "one line of JSON") from None
    if answer["uid"] != 0:
        raise _unfit(connection, f"user {answer['uid']}", "root, or password-less sudo")
    return facts(answer, asked, answered)


def facts(answer: dict[str, Any], asked: float, answered: float) -> Facts:
    """An answer as values; ``asked`` and ``answered``: seconds since 1970 by this station's clock."""
    middle, half = (asked + answered) / 2, (answered - asked) / 2
    return Facts(
        said={name: (each["status"], each["text"]) for name, each in answer["said"].items()},
        host=answer["host"],
        files=answer["files"],
        container=answer["container"],
        installed=answer["installed"],
        staged=answer["staged"],
        reading=Reading(middle, answer["time"] - middle, half),
        baseline=answer["baseline"],
        text=answer["text"],
    )


def _unreachable(connection: Connection, found: str) -> NodeUnreachable:
    node = connection.node
    return NodeUnreachable(
        f"{node.name} cannot be audited",
        found=found,
        wanted=f"an answer at {node.address} port {node.port}",
        hint="check power, cable and pinned host key; at the node's console an inventory with "
        "connection: local needs no network",
    )


def _unfit(connection: Connection, found: str, wanted: str) -> PreflightFailed:
    return PreflightFailed(
        f"{connection.node.name} cannot be audited", found=found, wanted=wanted, hint="log in as root"
    )
