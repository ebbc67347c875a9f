"""Tells the installer what happens, as JSON lines on an inherited descriptor.

Loaded by Ansible, not imported by us; ``appliance.node.ansible.events`` reads the lines:

    {"event": "start", "plays": [{"tasks": N, "serial": [size or "share%"…]}…]}
    {"event": "task", "name", "role"}
    {"event": "result", "host", "task", "role", "action", "status": ok|changed|failed|skipped|unreachable,
     "ignored"?, "revert"?, "message"?, "warnings"?, "diff"?}
    {"event": "stats", "hosts": {name: {"ok", "changed", "failures", "unreachable", "skipped"…}}}
    {"event": "no-hosts"}
"""

from __future__ import annotations

import gc
import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped]  # Ansible has no types

DOCUMENTATION = r"""
name: appliance_events
type: notification
short_description: JSON lines on an inherited descriptor
description: Writes one JSON object per event to the descriptor named by C(APPLIANCE_EVENTS_FD).
author: The appliance developers
"""

LONGEST = 4000
#: Of a longer message, how much of its beginning is told; the rest is its end.
BEGINNING = 800
LEFT_OUT = "\n[…]\n"
#: New objects after which Python looks for garbage; 700 is its own choice.
_BETWEEN_COLLECTIONS = 50_000


class CallbackModule(CallbackBase):  # type: ignore[misc]  # as above
    """One line per event; writes nothing unless the installer gave a descriptor."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "appliance_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        descriptor = os.environ.get("APPLIANCE_EVENTS_FD")
        self._stream = os.fdopen(int(descriptor), "w", encoding="utf-8") if descriptor else None
        self.disabled = self._stream is None

    def _tell(self, **event: object) -> None:
        print(json.dumps(event, default=str), file=self._stream, flush=True)

    def v2_playbook_on_start(self, playbook: Any) -> None:
        # What Ansible has loaded stays until it ends: it need not be looked through for garbage again and
        # again, here and in each task's worker, a fork whose memory would be copied by that.
        gc.freeze()
        gc.set_threshold(_BETWEEN_COLLECTIONS)
        plays = [
            {"tasks": sum(_tasks(block) for block in play.compile()), "serial": list(play.serial)}
            for play in playbook.get_plays()
        ]
        self._tell(event="start", plays=plays)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        if not task.implicit:
            self._tell(event="task", name=_name(task), role=_role(task))

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, is_conditional=False)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        self._tell(event="no-hosts")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._result(result, "changed" if result.result.get("changed") else "ok")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._result(result, "skipped")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._result(result, "unreachable")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._result(result, "failed", ignored=bool(ignore_errors))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._tell(event="stats", hosts={host: stats.summarize(host) for host in stats.processed})

    def _result(self, result: Any, status: str, **more: object) -> None:
        values = result.result
        event = {
            "event": "result",
            "host": result.host.get_name(),
            "task": _name(result.task),
            "role": _role(result.task),
            "action": result.task.action,
            "status": status,
            **more,
        }
        if event["action"] == "timed_revert":
            event["revert"] = result.task.args.get("state")
        if status in {"failed", "unreachable"}:
            event["message"] = _message(values)
        if values.get("warnings"):
            event["warnings"] = [str(warning)[:LONGEST] for warning in values["warnings"]]
        if status == "changed" and values.get("diff"):
            event["diff"] = _short(values["diff"])
        self._tell(**event)


def _name(task: Any) -> str:
    """The task's own name, without the role before it."""
    return str(task.name or task.action)


def _role(task: Any) -> str | None:
    role = task._role  # noqa: SLF001 - Ansible has no public way to a task's role
    return str(role.get_name()) if role else None


def _tasks(block: Any) -> int:
    """Tasks of a block as they are written; what is included while running cannot be counted before."""
    count = 0
    for task in (*block.block, *block.always):  # rescue runs only after a failure
        if hasattr(task, "block"):
            count += _tasks(task)
        elif not task.implicit:
            count += 1
    return count


def _message(values: Any) -> str:
    """What went wrong, with the parts of a failed command; secrets were taken out by Ansible."""
    parts = [str(values.get("msg") or values.get("censored") or "")]
    for key in ("stderr", "stdout"):
        text = values.get(key)
        if text and text not in parts[0]:
            parts.append(f"{key}: {text}")
    items = [item for item in values.get("results") or () if isinstance(item, dict)]
    parts += [str(item["msg"]) for item in items if item.get("failed") and item.get("msg")]
    text = "\n".join(part for part in parts if part)
    if len(text) <= LONGEST:
        return text
    # What failed stands at the beginning, and why, after a traceback, at the end.
    return f"{text[:BEGINNING]}{LEFT_OUT}{text[BEGINNING + len(LEFT_OUT) - LONGEST :]}"


def _short(diff: Any) -> list[dict[str, Any]]:
    """Diffs as Ansible gives them, with long texts cut."""
    entries = diff if isinstance(diff, list) else [diff]
    return [
        {key: value[:LONGEST] if isinstance(value, str) else value for key, value in entry.items()}
        for entry in entries
        if isinstance(entry, dict)
    ]
