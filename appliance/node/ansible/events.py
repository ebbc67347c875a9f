"""What a run of a playbook came to, told by the callback's events alone (``callback/``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.progress import Progress

#: Roles that may cut the operator off; the confirmation of the revert ends the danger.
CUTTING_ROLES = frozenset({"network_isolation", "firewall"})
#: And of the role quiet_host this one module.
CUTTING_ACTIONS = frozenset({"sshd_settings"})


@dataclass(frozen=True)
class Trouble:
    """A task that failed or could not reach its host."""

    host: str
    role: str | None
    task: str
    status: str
    message: str

    def __str__(self) -> str:
        place = f"{self.role}: {self.task}" if self.role else self.task
        return f"{self.host}: {place}: {self.message}"


@dataclass
class HostResult:
    """Counts of task results on one host.  ``cut``: a change that can cut SSH is not confirmed yet."""

    ok: int = 0
    changed: int = 0
    skipped: int = 0
    failed: int = 0
    unreachable: int = 0
    cut: bool = False


@dataclass
class PlaybookResult:
    """A finished run.  ``complete``: Ansible reached its end and told the statistics."""

    hosts: dict[str, HostResult]
    troubles: list[Trouble] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    no_hosts: bool = False
    complete: bool = False
    status: int = 0

    @property
    def missing(self) -> list[str]:
        """Hosts on which not a single task was run."""
        return [
            name
            for name, host in self.hosts.items()
            if not (host.ok + host.changed + host.failed + host.unreachable + host.skipped)
        ]

    def add(self, other: PlaybookResult) -> None:
        """Take in a further run on some of the same hosts; what went wrong in one went wrong."""
        self.hosts.update(other.hosts)
        self.troubles += other.troubles
        self.changes += other.changes
        self.warnings += other.warnings
        self.no_hosts = self.no_hosts or other.no_hosts
        self.complete = self.complete and other.complete
        self.status = self.status or other.status


class Tally:
    """Adds up events as they come, and tells the progress."""

    def __init__(self, hosts: Sequence[str], progress: Progress) -> None:
        self.result = PlaybookResult({name: HostResult() for name in hosts})
        self._progress = progress
        self._open = False

    def take(self, event: Mapping[str, Any]) -> None:
        """One event of the callback."""
        match event.get("event"):
            case "start":
                hosts = len(self.result.hosts)
                total = sum(play["tasks"] * batches(hosts, play["serial"]) for play in event["plays"])
                self._progress.begin("apply", total)
                self._open = True
            case "task":
                self._progress.item(": ".join(part for part in (event["role"], event["name"]) if part))
            case "result":
                self._take_result(event)
            case "no-hosts":
                self.result.no_hosts = True
            case "stats":
                self.result.complete = True

    def close(self, status: int) -> PlaybookResult:
        """No more events will come; ``status`` is what the process ended with."""
        if self._open:
            self._progress.end()
        self.result.status = status
        return self.result

    def _take_result(self, event: Mapping[str, Any]) -> None:
        host = self.result.hosts.setdefault(event["host"], HostResult())
        status = event["status"]
        if status == "failed" and event.get("ignored"):
            status = "ok"
        setattr(host, status, getattr(host, status) + 1)
        if status == "changed":
            self.result.changes.append(_place(event))
        if status in {"failed", "unreachable"}:
            self.result.troubles.append(
                Trouble(event["host"], event["role"], event["task"], status, event.get("message", ""))
            )
        self._note_warnings(event)
        cutting = event["role"] in CUTTING_ROLES or event.get("action") in CUTTING_ACTIONS
        if cutting and status in {"changed", "failed", "unreachable"}:
            host.cut = True
        if event.get("revert") == "confirmed" and status in {"ok", "changed"}:
            host.cut = False

    def _note_warnings(self, event: Mapping[str, Any]) -> None:
        for warning in event.get("warnings", ()):
            text = f"{event['host']}: {warning}"
            if text not in self.result.warnings:
                self.result.warnings.append(text)
                self._progress.note(text)


def _place(event: Mapping[str, Any]) -> str:
    return ": ".join(str(part) for part in (event["host"], event["role"], event["task"]) if part)


def batches(hosts: int, serial: Sequence[int | str]) -> int:
    """How many times a play's tasks run for so many hosts: ``serial`` gives the size of each batch.

    Sizes are numbers or shares of all hosts ("30%", at least one host); the last one repeats.
    """
    count, left = 0, hosts
    while left > 0 and serial:
        size = str(serial[min(count, len(serial) - 1)])
        share = int(hosts * float(size[:-1]) / 100) if size.endswith("%") else int(size)
        if share <= 0 and not size.endswith("%"):
            break  # 0 and below: all that are left
        left -= max(1, share)
        count += 1
    return count + (1 if left > 0 else 0)
