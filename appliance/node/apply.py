"""The stage ``apply``: run the site playbook, and judge it by its events.

The first node is done alone, in a run of its own; the others follow only if it ended well.  The playbook
asks for the same with ``serial``, but Ansible goes on to the next batch when the only host of one was
*unreachable* and ``any_errors_fatal`` is set: it counts that host twice and does not see that the whole
batch is gone (``PlaybookExecutor.run``, up to 2.21).  That is the very case of a setting that locks
operators out, so it is not left to Ansible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.content import content_root
from appliance.errors import ApplyFailed, NodeUnreachable
from appliance.node.ansible.driver import Playbook, run_playbook
from appliance.node.ansible.events import HostResult, PlaybookResult

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.node.connection import Connection
    from appliance.node.plan import Plan
    from appliance.node.runs import Run
    from appliance.progress import Progress

#: The whole of a node.
SITE: Final = "site.yml"


def apply(
    plan: Plan,
    connections: Mapping[str, Connection],
    *,
    folder: Path,
    run: Run,
    progress: Progress,
    more: Mapping[str, Mapping[str, object]],
    check: bool = False,
    playbook: str = SITE,
) -> PlaybookResult:
    """Run a playbook on the first of these nodes, then on the others.

    Args:
        plan: variables for all nodes and for each.
        connections: by node name; only these nodes.
        folder: private folder for generated files.
        run: where log and events go.
        progress: told of every task.
        more: by node name, variables beside the plan's: programs, which nobody reads in a plan.
        check: change nothing.
        playbook: its name below playbooks/.
    """
    content = content_root()
    names = list(connections)
    total = PlaybookResult({name: HostResult() for name in names}, complete=True)
    for batch in filter(None, (names[:1], names[1:])):
        hosts = {
            name: {**connections[name].ansible(), **plan.nodes[name], **more.get(name, {})}
            for name in batch
        }
        result = run_playbook(
            Playbook(content / "playbooks" / playbook, content / "roles", hosts, plan.variables, check),
            folder=folder,
            log=run.log,
            progress=progress,
            on_event=lambda event: run.event({"check": check, **event}),
        )
        total.add(result)
        if node_result(result, batch[0]) != "done":
            break
    return total


def node_result(result: PlaybookResult, name: str) -> str:
    """What came of one node, as a record says it: ``done``, ``failed`` or ``interrupted``."""
    if any(trouble.host == name for trouble in result.troubles):
        return "failed"
    clean = result.complete and not result.troubles and not result.missing and result.status == 0
    return "done" if clean else "interrupted"


def judge(result: PlaybookResult, *, revert_after: int, log: Path) -> None:
    """Raise what went wrong, if anything did.

    Raises:
        NodeUnreachable: nodes could not be reached, and nothing else went wrong.
        ApplyFailed: a task failed, no task ran, or Ansible did not reach its end.
    """
    cut = [name for name, host in result.hosts.items() if host.cut]
    hints = []
    if cut:
        hints.append(
            f"the network of {', '.join(cut)} was being changed and is not confirmed: "
            f"it goes back to what it was by itself within {revert_after} s"
        )
    hints.append("put right what is named and run the same command again")
    hint = "; ".join(hints) + f"; everything Ansible printed is in {log}"
    troubled = ", ".join(sorted({trouble.host for trouble in result.troubles}))
    found = "\n         ".join(str(trouble) for trouble in result.troubles)
    if result.troubles and all(trouble.status == "unreachable" for trouble in result.troubles):
        raise NodeUnreachable(
            f"the connection to {troubled} was lost",
            found=found,
            wanted="a connection that lasts through apply",
            hint=hint,
        )
    if result.troubles:
        raise ApplyFailed(
            f"{len(result.troubles)} tasks failed on {troubled}",
            found=found,
            wanted="every task to end well",
            hint=hint,
        )
    if result.no_hosts or result.missing:
        raise ApplyFailed(
            "no task ran on " + (", ".join(result.missing) or "any node"),
            found="a play without these hosts",
            wanted="every node of the plan",
            hint=hint,
        )
    if not result.complete or result.status != 0:
        raise ApplyFailed(
            "Ansible ended before it was done",
            found=f"exit status {result.status}",
            wanted="the statistics of a finished run",
            hint=hint,
        )
