"""The switch between two versions, as a station asks for it; the node's half is ``remote/switch.py``."""

from __future__ import annotations

import getpass
import json
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance import __version__
from appliance.errors import ApplianceError, ApplyFailed, InProgress, Interrupted, NodeUnreachable
from appliance.node.question import BrokenOffError, put_question
from appliance.node.script import load_script
from appliance.node.transfer import STAGED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.bundle.verify import VerifiedBundle
    from appliance.node.connection import Connection

#: Going back starts the former version, which may have to load a model.
SECONDS: Final = 900
HOME: Final = STAGED.rpartition("/")[0]
ENVIRONMENTS: Final = "/opt/appliance"
_REVERT: Final = "roles/revert/files/usr/local/lib/appliance"
#: Each after those that it imports.
_PROGRAM: Final = (
    *("switch", "lasting", "history_log", "policy_places", "saved_version"),
    *("restarts", "late_packages", "former_packages", "switch_units"),
    *(f"{_REVERT}/{name}.py" for name in ("lasting_files", "network_state")),
    *(f"{_REVERT}/{name}.py" for name in ("network_snapshot", "network_restore")),
    *("network_back", "other_units", "host_policy"),
)

_KEEPING: Final = ("keep_copies", "staged_copy", "lasting", "history_log")


def record_of(
    action: str, bundle: VerifiedBundle, before: Mapping[str, object] | None, medium: Sequence[str]
) -> dict[str, Any]:
    """A line of the history, but for when and how it ended.

    Args:
        action: ``install``, ``patch`` or ``rollback``.
        bundle: what comes.
        before: what was there: digest, version, sequence.
        medium: where it was brought from.
    """
    manifest = bundle.manifest
    after = {"digest": bundle.digest, "version": manifest.version, "sequence": manifest.sequence}
    return {
        "action": action,
        "product": manifest.product,
        "from": dict(before) if before else None,
        "to": after,
        "by": f"{_user()} at {platform.node() or 'an unnamed station'}",
        "medium": list(medium),
        "signers": sorted({one.holder for one in bundle.signers}),
        "role": bundle.role,
        "toolkit": __version__,
    }


def in_one_line(fault: BaseException) -> str:
    """Why, for a line of the history."""
    if isinstance(fault, KeyboardInterrupt):
        fault = Interrupted("Ctrl-C at the station")
    if not isinstance(fault, ApplianceError):
        return f"{type(fault).__name__}: {fault}".partition("\n")[0]
    found = (fault.found or "").strip().partition("\n")[0]
    return f"{fault.name}: {fault.message}" + (f" ({found})" if found else "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"


@dataclass(frozen=True)
class Armed:
    """What a node goes back to, by its own history; by whom the run was begun that this one takes over."""

    before: Mapping[str, Any]
    over: str = ""


@dataclass(frozen=True)
class Restarting:
    """How a switch takes restarts: whether packages come that may need one, whose it is then."""

    packages: bool = False
    reboot: bool = True


AT_ONCE: Final = Restarting()


def arm(
    connection: Connection,
    run: str,
    after: int,
    record: Mapping[str, Any],
    restarting: Restarting = AT_ONCE,
) -> Armed:
    """Have the node keep what it runs by, and go back by itself after ``after`` seconds.

    Raises:
        InProgress: it waits for the proof of another version.
        ApplyFailed: it cannot; nothing is changed then.
        NodeUnreachable: the connection broke.
    """
    program = load_script(*_PROGRAM).decode()
    asked = {"do": "arm", "run": run, "after": after, "record": record, "program": program}
    asked |= {"packages": restarting.packages, "reboot": restarting.reboot}
    answer = _ask(connection, asked)
    before = (_record(connection, answer, "pending") or record).get("from")
    return Armed(before if isinstance(before, dict) else {}, str(answer.get("over") or ""))


def restart(connection: Connection, run: str) -> tuple[str, ...]:
    """Have the node restart if packages are new that count from then on; which these are.

    Raises:
        ApplyFailed: another run has begun the switch anew, or it is over.
        NodeUnreachable: the connection broke.
    """
    late = _ask(connection, {"do": "restart", "run": run}).get("late")
    if not isinstance(late, list):
        raise _odd(connection, late)
    return tuple(str(each) for each in late)


@dataclass(frozen=True)
class Waits:
    """What a node waits for: the proof of a version, a restart; ``late`` are the packages it is for.

    ``reboot``: the node restarts itself.  ``former``: for what it went back to, which is installed.
    """

    pending: Mapping[str, Any] | None = None
    late: tuple[str, ...] = ()
    reboot: bool = False
    former: bool = False

    def __str__(self) -> str:
        """In words, after a node's name; empty if it waits for nothing."""
        if self.late:
            what = "the version before, which is installed again," if self.former else "the new version"
            who = "it restarts by itself" if self.reboot else "restart it"
            return f"pending restart: {what} counts from then on ({', '.join(self.late)}); {who}"
        version = self.pending["to"].get("version") if self.pending else None
        return f"not proven yet: {version}; it goes back by itself" if self.pending else ""


def waits(connection: Connection) -> Waits:
    """What a node waits for.

    Raises:
        ApplyFailed, NodeUnreachable: it could not be asked.
    """
    return _waits(connection, _ask(connection, {"do": "status"}))


def _waits(connection: Connection, answer: Mapping[str, Any]) -> Waits:
    pending, found = _record(connection, answer, "pending"), answer.get("restart")
    if found is None:
        return Waits(pending)
    if not isinstance(found, dict) or not isinstance(found.get("late"), list):
        raise _odd(connection, answer)
    late = tuple(str(each) for each in found["late"])
    return Waits(pending, late, found.get("reboot") is True, found.get("for") == "former")


def confirm(connection: Connection, run: str) -> None:
    """The new version is proven: the node stays with it.

    Raises:
        ApplyFailed: it has gone back before.
        NodeUnreachable: the connection broke.
    """
    answer = _ask(connection, {"do": "confirm", "run": run})
    if answer.get("confirmed") is not True:
        raise ApplyFailed(
            f"{connection.node.name} did not wait for its proof",
            found=str(answer.get("why")),
            wanted="a proof within the time",
            hint="give it more time with --within, and run the same command again",
        )


@dataclass(frozen=True)
class WentBack:
    """Whether there was anything to go back from; what does not run as it did before, in words."""

    restored: bool
    ill: tuple[str, ...] = ()
    restart: str = ""

    def __str__(self) -> str:
        ill = f", but {' and '.join(self.ill)}" if self.ill else ""
        return f"{ill}; {self.restart}" if self.restart else ill


def go_back(connection: Connection, reason: str, run: str = "") -> WentBack:
    """Have the node go back now.

    ``run``: the one that asks.  If the node went back from it before, that is made sure of once more.

    Raises:
        ApplyFailed, NodeUnreachable: it could not be asked; it goes back by itself when its time is over.
    """
    answer = _ask(connection, {"do": "back", "reason": reason, "run": run})
    ill = answer.get("ill", [])
    if not isinstance(ill, list):
        raise _odd(connection, answer)
    left = _waits(connection, answer)
    restored = answer.get("restored") is True
    return WentBack(restored, tuple(str(each) for each in ill), str(left) if left.former else "")


def pending(connection: Connection) -> Mapping[str, Any] | None:
    """The record of the switch that waits for its proof, if one does."""
    return _record(connection, _ask(connection, {"do": "status"}), "pending")


def previous(connection: Connection) -> str:
    """The digest of the version that was installed before the present one; nothing if none was."""
    found = _ask(connection, {"do": "status"}).get("previous")
    return found if isinstance(found, str) else ""


def read_history(connection: Connection) -> dict[str, Any]:
    """``history``: all lines, the oldest first; ``waits``: what the node waits for."""
    answer = _ask(connection, {"do": "history"})
    lines = answer.get("history")
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise _odd(connection, answer)
    return {"history": lines, "waits": _waits(connection, answer)}


def refuse_pending(connection: Connection) -> None:
    """Refuse a node that waits for the proof of a version; nothing is changed.

    Raises:
        InProgress: it does.
        ApplyFailed, NodeUnreachable: it could not be asked.
    """
    if waits := pending(connection):
        raise still_pending(connection.node.name, waits["to"])


def begin(connection: Connection) -> None:
    """Tell a node that an installation changes what it runs by, now.

    Raises:
        InProgress: it waits for the proof of a version.
        ApplyFailed, NodeUnreachable: it could not be told.
    """
    _ask(connection, {"do": "begin"})


def note(connection: Connection, record: Mapping[str, Any]) -> None:
    """Add a line to the history."""
    _ask(connection, {"do": "note", "record": record})


def keep_two(connection: Connection, bundle: str, *, back: bool = False) -> list[str]:
    """Remove every copy and environment but those of this version and of the one before.

    ``back``: the node went back from this version; of others that it went back from the copies go.
    Returns what is to be told of it, one line for each that went.
    """
    asked = {"home": HOME, "environments": ENVIRONMENTS, "bundle": bundle, "back": back}
    answer = _ask(connection, asked, _KEEPING)
    removed = answer.get("removed")
    if not isinstance(removed, list):
        raise _odd(connection, answer)
    why = "as it went back from that before" if back else "as older than the version before"
    told = [f"removed, {why}: {each}" for each in removed]
    return [*told, *([f"nothing was removed: {refused}"] if (refused := answer.get("refused")) else [])]


def _ask(
    connection: Connection, asked: Mapping[str, Any], program: tuple[str, ...] = _PROGRAM
) -> dict[str, Any]:
    name = connection.node.name
    try:
        answer = put_question(connection, program, asked, seconds=SECONDS)
    except BrokenOffError as broken:
        raise _broken(name, str(broken)) from None
    if not isinstance(answer, dict):
        raise _odd(connection, answer)
    if answer.get("error") == "pending":
        raise still_pending(name, to if isinstance(to := answer.get("to"), dict) else {})
    if "error" in answer:
        raise ApplyFailed(
            f"{name} cannot switch between versions",
            found=str(answer.get("text") or answer["error"]),
            wanted="root, systemd, and a writable /var/lib/appliance",
            hint="put that right and run the same command again; the version before serves",
        )
    return answer


def _record(connection: Connection, answer: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """What an answer says of a switch; its ``to`` is an object."""
    found = answer.get(key)
    if found is None:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("to"), dict):
        raise _odd(connection, answer)
    return found


def _odd(connection: Connection, found: object) -> ApplyFailed:
    return ApplyFailed(
        f"{connection.node.name} answers what makes no sense",
        found=json.dumps(found)[:200],
        wanted="what the node's own program says",
        hint="find out what runs as python3 there; a version that is not proven goes back by itself",
    )


def still_pending(node: str, to: Mapping[str, Any]) -> InProgress:
    """The error for a node that waits for the proof of another version."""
    return InProgress(
        f"{node} waits for the proof of another version",
        found=f"{to.get('version')}, sequence {to.get('sequence')}, {to.get('digest')}",
        wanted="one switch at a time",
        hint="wait until it goes back by itself, or: appliance rollback",
    )


def _broken(name: str, told: str) -> NodeUnreachable:
    return NodeUnreachable(
        f"the connection to {name} broke",
        found=told,
        wanted="a connection",
        hint="a version that is not proven in time goes back by itself; then run the same command again",
    )
