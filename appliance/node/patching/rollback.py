"""``appliance rollback``: to the version that ran before, whose copy and environment are still on the node.

A node that waits for the proof of a new version goes back to what it runs by until then: nothing was
recorded, and nobody has to permit it.  After its proof the new version is what the node's journal holds it
to, and going back takes a permit for this very step, as any installation of an older bundle.  It is an
installation from the node's own copy: no medium is needed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from appliance.bundle.judging import judge_list, require_role
from appliance.bundle.patch.making import is_payload
from appliance.bundle.reader import read_signed
from appliance.bundle.tree import Tree
from appliance.bundle.verify import VerifiedBundle
from appliance.errors import InProgress, PatchUnfit, ThresholdNotMet
from appliance.node.patching import switch
from appliance.node.patching.apply import Applied, Groups, ask_all, installed, new_folder, run_groups
from appliance.node.patching.base import is_document, read_base
from appliance.node.patching.installing import WITHIN, Change
from appliance.node.patching.reader import CopyReader
from appliance.node.patching.target import Target, listed_files, require_needs
from appliance.node.runs import lock_state
from appliance.node.sent import files_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.manifest import Manifest
    from appliance.node.connection import Connection
    from appliance.node.patching.base import NodeBase
    from appliance.node.request import Request
    from appliance.progress import Progress
    from appliance.trust.documents import SignedDocument
    from appliance.trust.node_inventory import HeldCopy, NodeInventory


@dataclass(frozen=True)
class RolledBack:
    """What became of it.

    ``undone``: nodes that went back from a version that was not proven yet, and what does not run since.
    ``left``: nodes that were left as they are for that.  ``applied``: of a way back from a proven version.
    """

    undone: Mapping[str, switch.WentBack]
    left: tuple[str, ...] = ()
    applied: Applied | None = None


def roll_back(
    request: Request, *, progress: Progress, to: str | None = None, within: int = WITHIN
) -> RolledBack:
    """Bring nodes back: from versions that wait for their proof, or, if none does, from a proven one.

    Args:
        request: as for an installation; its ``bundle`` is empty.
        progress: told of every step.
        to: digest of the bundle, or how it begins; what was installed before the present one if None.
        within: seconds in which each node has to be proven, from the switch on.

    Raises:
        PatchUnfit: a node has no such copy, or not all of it, or it is not older.
        InProgress: a version was proven while it was to be left.
        ThresholdNotMet: the copy came of a patch, and its bundle brings too few release signatures.
        RollbackRefused: no permit at hand names this step.
        ApplianceError: the first stage that failed says which way; nodes that had begun stay as they were.
    """
    from appliance.bundle.documents import read_document
    from appliance.node.asking import make_question
    from appliance.node.connection import open_connections
    from appliance.node.private import private_folder
    from appliance.node.site import load_inventory, select_nodes

    with lock_state(request.state):
        revocations = [read_document(path) for path in request.revoked]
        inventory = load_inventory(request.inventory)
        nodes = select_nodes(inventory, request.limit)
        with private_folder() as private:
            connections = open_connections(inventory, nodes, private)
            try:
                undone = _undo(connections, progress, check=request.check)
                if undone:  # what failed is newer than what runs now: nobody goes on from there by himself
                    return RolledBack(undone, tuple(name for name in connections if name not in undone))
                said = ask_all(inventory, connections, recheck=request.recheck)
                former = {name: switch.previous(each) for name, each in connections.items()}
                digest = copy_to_go_to(said, former, to)
                target = _target(request.root, connections, said, digest, private, revocations)
                require_older(target.bundle.manifest, said)
            finally:
                for connection in connections.values():
                    connection.close()
            question = make_question(target.bundle, statements=request.statements, time=time.time())
            applied = Applied(target.bundle)
            before = {name: installed(said[name]) for name in said}
            change = Change("rollback", target, before, within=within)
            groups = Groups(request, inventory, nodes, private)
            run_groups(groups, change, question, applied, progress=progress)
    return RolledBack({}, applied=applied)


def _undo(
    connections: Mapping[str, Connection], progress: Progress, *, check: bool
) -> dict[str, switch.WentBack]:
    """Have the nodes go back that wait for the proof of a new version; with ``check``, say which these are.

    Raises:
        InProgress: one was proven meanwhile; the others went back.
    """
    found: dict[str, switch.WentBack] = {}
    proven = []
    for name, connection in connections.items():
        waits = switch.pending(connection)
        if waits is None:
            continue
        version = waits["to"].get("version")
        if check:
            found[name] = switch.WentBack(restored=False)
            continue
        back = switch.go_back(connection, "somebody asked for it: appliance rollback")
        if back.restored:
            found[name] = back
            progress.note(f"{name}: back from {version}, which was not proven{back}")
        else:
            proven.append(f"{name}: {version}")
    if proven:
        raise InProgress(
            "a version was proven, or went back by itself, while it was to be left",
            found="; ".join([*proven, *(f"{name}: went back" for name in found)]),
            wanted="a version that waits for its proof until it is left",
            hint="look at appliance history; the same command again leads back from what is proven",
        )
    return found


def copy_to_go_to(said: Mapping[str, NodeInventory], former: Mapping[str, str], to: str | None) -> str:
    """The digest of the one copy that all these nodes can go back to.

    Args:
        said: what each node holds.
        former: the digest of what was installed on each before the present version; empty if nothing was.
        to: how the digest begins; what was installed before if None.

    Raises:
        PatchUnfit: there is none, or several, or nodes have others.
    """
    found: dict[str, set[str]] = {}
    for name, each in said.items():
        current = each.installed.bundle if each.installed else None
        found[name] = {
            copy.bundle
            for copy in each.copies
            if copy.bundle != current
            and copy.complete
            and (copy.bundle.startswith(to) if to else copy.bundle == former[name])
        }
    common = set.intersection(*found.values())
    if len(common) == 1 and all(each.installed for each in said.values()):
        return common.pop()
    lines = [f"{name}: {', '.join(sorted(each)) or 'none'}" for name, each in found.items()]
    raise PatchUnfit(
        "there is not one version that all these nodes could go back to",
        found="; ".join(lines),
        wanted=f"one complete copy that begins with {to}"
        if to
        else "the copy of what was installed before",
        hint="name one with --to, nodes with --limit; or install the older bundle from its medium, "
        "with a permit",
    )


def require_older(manifest: Manifest, said: Mapping[str, NodeInventory]) -> None:
    """Refuse a version that is not older than what runs: going forward is what patch and install are for.

    Raises:
        PatchUnfit: naming the node.
    """
    for name, each in said.items():
        running = each.installed
        if running is None or manifest.sequence >= running.sequence:
            raise PatchUnfit(
                f"{name}: the way back does not lead to a newer version",
                found=f"{manifest.version}, sequence {manifest.sequence}",
                wanted=f"a sequence below {running.sequence}" if running else "an installed version",
                hint="name an older one with --to; or go forward: appliance patch apply, appliance install",
            )


def _target(  # noqa: PLR0917 - what it is made of
    root: bytes,
    connections: Mapping[str, Connection],
    said: Mapping[str, NodeInventory],
    digest: str,
    private: Path,
    revocations: Sequence[SignedDocument],
) -> Target:
    """What the nodes go back to, judged by its own signatures; every one of them has all of it.

    Raises:
        ThresholdNotMet: too few have signed it as release.
        PatchUnfit: a node lacks some of it.
    """
    first = next(iter(connections))
    held = {name: _held(said[name], digest) for name in connections}
    with CopyReader(connections[first], digest) as reader:
        base = read_base(reader, digest, new_folder(private / "before"))
        for path, file in base.files.items():
            if is_document(path):
                with base.open(file):
                    continue
    bundle = _judged(base, root, revocations)
    with Tree(base.folder) as tree:
        files = files_of(tree, base.manifest, bundle.files)
    holds = held[first].holds
    without = [file.path for file in files if file.path.startswith("parity/") and file.path not in holds]
    kept = [file if is_document(file.path) else replace(file, same=file.path) for file in files]
    kept = [file for file in kept if file.path not in without]
    needs = {file.path: file.sha256 for file in kept if is_payload(file.path)}
    target = Target(bundle, base.folder, digest, kept, without, {}, (), needs)
    for name, copy in held.items():
        require_needs(target, name, copy)
    return target


def _held(said: NodeInventory, digest: str) -> HeldCopy:
    if (copy := said.copy(digest)) is None:
        raise RuntimeError("a copy that was chosen is there")
    return copy


def _judged(base: NodeBase, root: bytes, revocations: Sequence[SignedDocument]) -> VerifiedBundle:
    import hashlib

    with Tree(base.folder) as tree:
        signed = read_signed(tree)
        judged = judge_list(tree, signed, root, "release", revocations)
    try:
        judged.verdict.require()
    except ThresholdNotMet as fault:
        fault.hint = "it came of a patch, without them; bring the bundle itself: appliance install"
        raise
    require_role(base.manifest, "release")
    return VerifiedBundle(
        folders=(base.folder,),
        digest=base.digest,
        kind=signed.kind,
        signed_digest=signed.kind.digest(signed.message),
        digests=signed.digests,
        manifest=base.manifest,
        files=listed_files(base.folder, base.manifest),
        signers=judged.verdict.signers,
        provenance=(),
        root=judged.chain.root,
        root_digest=hashlib.sha256(judged.chain.data).hexdigest(),
        role="release",
        followed=judged.chain.followed,
        revocation=judged.revocation,
        notes=judged.verdict.notes,
    )
