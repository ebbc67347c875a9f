"""``appliance patch apply``: verify, ask every node, make what is new beside what runs, switch, prove.

Nothing on any node changes before the patch was verified, every node has the base that it starts from,
whole, and every check of an installation's preflight has passed.  Then one node goes alone, to its record;
the others follow only if it ended well.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from appliance.bundle.manifest import Base
from appliance.bundle.patch.fitting import require_start
from appliance.errors import ApplianceError, PatchUnfit
from appliance.node.patching import switch
from appliance.node.patching.base import read_base
from appliance.node.patching.installing import WITHIN, Change, Switching
from appliance.node.patching.keys import Learning
from appliance.node.patching.reader import CopyReader
from appliance.node.patching.restarting import brings_packages
from appliance.node.patching.target import make_target, require_needs
from appliance.node.request import Outcome
from appliance.node.runs import Stage, lock_state
from appliance.progress import NotesOnce

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.manifest import Manifest
    from appliance.bundle.verify import VerifiedBundle
    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.asking import Question
    from appliance.node.connection import Connection
    from appliance.node.patching.target import Target
    from appliance.node.request import Request
    from appliance.progress import Progress
    from appliance.trust.node_inventory import NodeInventory


@dataclass
class Applied:
    """What became of a patch, or of going back: the bundle, and the outcome of each group of nodes.

    ``already``: nodes that had it before.  If all had, ``bundle`` is the patch, and there is no outcome.
    ``stays``: where a patch brought keys alone, what is installed on each node, then as before.
    """

    bundle: VerifiedBundle
    outcomes: list[Outcome] = field(default_factory=list)
    already: tuple[str, ...] = ()
    stays: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


def apply_patch(
    request: Request, *, progress: Progress, within: int = WITHIN, reboot: bool = True
) -> Applied:
    """Bring nodes to the version that a patch leads to.

    Args:
        request: as for an installation; its ``bundle`` is the patch.
        progress: told of every step.
        within: seconds in which each node has to be proven, from the switch on.
        reboot: restart nodes where a package counts from then on only.

    Raises:
        RestartPending: one did, and restarting is somebody else's.
        PatchUnfit: a node has another base, or lacks some of it; nothing was changed on any.
        ApplianceError: the first stage that failed says which way; nodes that had begun go back.
    """
    from appliance.bundle.documents import read_document
    from appliance.bundle.verify import verify_bundle
    from appliance.node.asking import make_question
    from appliance.node.connection import open_connections
    from appliance.node.private import private_folder
    from appliance.node.site import load_inventory, select_nodes

    with lock_state(request.state):
        revocations = [read_document(path) for path in request.revoked]
        verified = verify_bundle(
            request.bundle, request.root, progress=progress, role="patch", revocations=revocations
        )
        for text in verified.notes:
            progress.note(text)
        inventory = load_inventory(request.inventory)
        nodes = select_nodes(inventory, request.limit)
        with private_folder() as private:
            connections = open_connections(inventory, nodes, private)
            try:
                said = ask_all(inventory, connections, recheck=request.recheck)
                chosen, already = startable(said, nodes, verified.manifest)
                for name in already:
                    progress.note(f"{name}: the patch was applied already")
                if not chosen:
                    return Applied(verified, already=already)
                target = _target(verified, connections, said, chosen, private, progress)
                refuse_pending(connections, chosen, target.bundle.digest)
            finally:
                for connection in connections.values():
                    connection.close()
            question = make_question(target.bundle, statements=request.statements, time=time.time())
            applied = Applied(target.bundle, already=already)
            before = {name: installed(said[name]) for name in chosen}
            restarting = switch.Restarting(brings_packages(target), reboot)
            change = Change("patch", target, before, verified.folders, within, restarting)
            these = [node for node in nodes if node.name in chosen]
            groups = Groups(request, inventory, these, private)
            go = learn_keys if target.keys_alone else run_groups
            go(groups, change, question, applied, progress=progress)
    return applied


@dataclass(frozen=True)
class Groups:
    """The nodes of one run, by whose request, and where generated files go."""

    request: Request
    inventory: Inventory
    nodes: Sequence[NodeEntry]
    private: Path


def run_groups(
    groups: Groups, change: Change, question: Question, applied: Applied, *, progress: Progress
) -> None:
    """Look at all nodes; then the first alone, to its record, and the others after it.

    Copies are made on the others at the same time; then each goes alone through its switch, so that its
    time is its own, and what was proven is recorded whatever becomes of the next one.

    Raises:
        ApplianceError: the first stage that failed says which way.
    """

    def one(nodes: Sequence[NodeEntry], until: Stage) -> Switching:
        request = replace(groups.request, until=until)
        outcome = Outcome(change.target.bundle, until, request.check, nodes=tuple(nodes))
        applied.outcomes.append(outcome)
        switching = Switching(
            change, request, question, groups.inventory, nodes, groups.private, progress, outcome
        )
        switching.go()
        return switching

    last = groups.request.until
    progress = NotesOnce(progress)  # every group asks again what was asked of all
    if groups.request.check or not Stage.PREFLIGHT.before(last):
        one(groups.nodes, last)
        return
    for text in one(groups.nodes, Stage.PREFLIGHT).goes_on.values():
        progress.note(text)
    applied.outcomes.clear()
    first, others = groups.nodes[:1], groups.nodes[1:]
    alone = Stage.STAGE.before(last)
    batches = [first, *([[node] for node in others] if alone else [others] if others else [])]
    for index, batch in enumerate(batches):
        try:
            if index == 1 and alone:
                one(others, Stage.STAGE)
                applied.outcomes.pop()
            one(batch, last)
        except ApplianceError as fault:
            told = _who_runs_what(groups.nodes, batches[:index], batch, change) if alone else ""
            fault.hint = "; ".join(filter(None, [told, fault.hint]))
            raise


def learn_keys(
    groups: Groups, change: Change, question: Question, applied: Applied, *, progress: Progress
) -> None:
    """Have all nodes learn what keys a patch brings; nothing else is changed on them.

    Raises:
        ApplianceError: a node's journal refuses it; or one cannot be reached.
    """
    request = groups.request
    nodes = tuple(groups.nodes)
    outcome = Outcome(change.target.bundle, request.until, request.check, nodes=nodes)
    applied.outcomes.append(outcome)
    applied.stays = change.before
    Learning(change, request, question, groups.inventory, nodes, groups.private, progress, outcome).go()


def _who_runs_what(
    nodes: Sequence[NodeEntry],
    proven: Sequence[Sequence[NodeEntry]],
    failed: Sequence[NodeEntry],
    change: Change,
) -> str:
    """In words, of a run of several nodes that failed on one."""
    done = [node.name for batch in proven for node in batch]
    left = [node.name for node in nodes if node not in failed and node.name not in done]
    words = [f"{', '.join(done)}: on {change.target.bundle.manifest.version}, proven"] if done else []
    return "; ".join([*words, *([f"{', '.join(left)}: as before"] if left else [])])


def ask_all(
    inventory: Inventory, connections: Mapping[str, Connection], *, recheck: bool
) -> dict[str, NodeInventory]:
    """What each node holds, by its own signed word.

    Raises:
        NodeUnreachable, PreflightFailed, NodeInventoryInvalid: one could not say.
    """
    from appliance.node.status import ask, keys_of, read_status

    def one(connection: Connection) -> NodeInventory:
        node = connection.node
        data = ask(connection, inventory.site, recheck=recheck)
        status = read_status(data, node, keys_of(inventory, node), site=inventory.site)
        if status.inventory is None:
            raise RuntimeError("a status that was read has an inventory")
        return status.inventory

    with ThreadPoolExecutor(max_workers=min(16, len(connections))) as pool:
        return dict(zip(connections, pool.map(one, connections.values()), strict=True))


def refuse_pending(connections: Mapping[str, Connection], names: Sequence[str], digest: str) -> None:
    """Refuse nodes that wait for the proof of another version.

    Raises:
        InProgress: naming the first.
    """
    for name in names:
        waits = switch.pending(connections[name])
        if waits and waits["to"]["digest"] != digest:
            raise switch.still_pending(name, waits["to"])


def installed(said: NodeInventory) -> dict[str, object]:
    """Digest, version and sequence of what a node says that it has."""
    running = said.installed
    if running is None:
        raise RuntimeError("a node that was chosen has something installed")
    return {"digest": running.bundle, "version": running.version, "sequence": running.sequence}


def startable(
    said: Mapping[str, NodeInventory], nodes: Sequence[NodeEntry], patch: Manifest
) -> tuple[list[str], tuple[str, ...]]:
    """The nodes that the patch can start from, and those that have it already.

    Raises:
        PatchUnfit: a node has another base, or none.
    """
    chosen, already = [], []
    for node in nodes:
        running = said[node.name].installed
        if running is None:
            raise PatchUnfit(
                f"{node.name} has no bundle that a patch could start from",
                found="nothing installed",
                wanted="a node on which a bundle was installed",
                hint="install the whole bundle",
            )
        if running.bundle == patch.makes:
            already.append(node.name)
            continue
        base = Base(running.bundle, running.version, running.sequence)
        require_start(base, running.product, patch, where=node.name)
        chosen.append(node.name)
    return chosen, tuple(already)


def _target(  # noqa: PLR0917 - what it is made of
    verified: VerifiedBundle,
    connections: Mapping[str, Connection],
    said: Mapping[str, NodeInventory],
    chosen: Sequence[str],
    private: Path,
    progress: Progress,
) -> Target:
    """What the nodes come to; every one of them has what it takes.

    Raises:
        PatchUnfit: one lacks something.
    """
    (wanted,) = verified.manifest.requires
    held = {name: said[name].copy(wanted.bundle) for name in chosen}
    first = chosen[0]
    if (copy := held[first]) is None:
        raise PatchUnfit(
            f"{first} has no copy of the bundle that is installed on it",
            found="no staged copy",
            wanted=f"the copy of {wanted.bundle}",
            hint="install the whole bundle",
        )
    with CopyReader(connections[first], wanted.bundle) as reader:
        base = read_base(reader, wanted.bundle, new_folder(private / "base"))
        target = make_target(verified, base, copy, new_folder(private / "target"), progress=progress)
    for name in chosen:
        require_needs(target, name, held[name])
    return target


def new_folder(folder: Path) -> Path:
    """A folder that was not there."""
    folder.mkdir(mode=0o700)
    return folder
