"""Audits nodes: asks, chooses what to compare with, compares.  Nothing is changed on a node."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from appliance.errors import ApplianceError
from appliance.node.audit.asking import Facts, ask, declared_commands, state_commands
from appliance.node.audit.baseline import (
    Baseline,
    Reference,
    choose,
    declared_digest,
    kept_here,
    parse_baseline,
)
from appliance.node.audit.comparing import OF_THE_HOST, compare, not_compared, what_is_quiet
from appliance.node.audit.declared import Declared, explain, not_judged
from appliance.node.audit.drift import SUBJECTS, Drift, NodeAudit, NotCompared
from appliance.node.audit.staged import compare_installed, compare_staged
from appliance.node.audit.state import State, state_of
from appliance.node.host_data import load_host_data

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.connection import Connection


def audit_nodes(
    inventory: Inventory,
    nodes: Sequence[NodeEntry],
    state: Path,
    *,
    recheck: bool = False,
    baseline: str | None = None,
) -> list[NodeAudit]:
    """Audit nodes, all at the same time; one that cannot be asked has its ``trouble`` set.

    Args:
        inventory: the site.
        nodes: those to audit.
        state: where this station keeps records.
        recheck: read the whole staged copy.
        baseline: SHA-256 of the baseline, from the record of the station that installed.
    """
    from appliance.node.connection import open_connections
    from appliance.node.private import private_folder

    with private_folder() as private:
        connections = open_connections(inventory, nodes, private)

        def one(connection: Connection) -> NodeAudit:
            try:
                return audit_node(inventory, connection, state, recheck=recheck, typed=baseline)
            except ApplianceError as trouble:
                return NodeAudit(connection.node.name, trouble=trouble)
            finally:
                connection.close()

        with ThreadPoolExecutor(max_workers=min(16, len(connections))) as pool:
            return list(pool.map(one, connections.values()))


def audit_node(
    inventory: Inventory, connection: Connection, state: Path, *, recheck: bool, typed: str | None
) -> NodeAudit:
    """Audit one node.

    Raises:
        NodeUnreachable: it does not answer.
        PreflightFailed: it cannot be asked, or nobody has the baseline whose digest is known.
    """
    started = time.monotonic()
    node, data = connection.node, load_host_data()
    here, recorded = kept_here(state, inventory.site, node.name)
    facts = ask(
        connection,
        {**state_commands(), **declared_commands(data)},
        bundle=_bundle(here),
        recheck=recheck,
        send=here is None,
    )
    reference = choose(node.name, here, recorded, typed, facts.text)
    return conclude(facts, reference, inventory, node, seconds=round(time.monotonic() - started, 3))


def _bundle(here: bytes | None) -> str | None:
    """Which bundle this station knows to be installed."""
    try:
        return parse_baseline(here).bundle if here else None
    except ValueError:
        return None


def conclude(
    facts: Facts, reference: Reference, inventory: Inventory, node: NodeEntry, *, seconds: float = 0.0
) -> NodeAudit:
    """What the facts of a node come to; pure."""
    data = load_host_data()
    baseline, state = reference.baseline, state_of(facts)
    container = baseline.container if baseline else facts.container
    drifts: list[Drift] = []
    missing: list[NotCompared] = []
    if baseline is None:
        drifts.append(Drift("reference", "the baseline", "none", "one from a whole installation"))
    else:
        drifts += _reference(facts, reference, baseline)
        drifts += compare_installed(facts.installed, baseline, declared_digest(inventory, node))
        drifts += compare_staged(facts.staged, baseline.bundle, baseline.mark or None)
        quiet = what_is_quiet(data, inventory.host)
        drifts += compare(baseline.state, state, quiet=quiet, container=container)
        missing += not_compared(baseline.state, container)
    judged = Declared(facts, inventory, node, data, container).judged()
    order = list(SUBJECTS)
    return NodeAudit(
        node=node.name,
        drifts=tuple(sorted(explain(drifts, judged), key=lambda each: order.index(each.subject))),
        not_compared=(*missing, *not_judged(judged)),
        compared=_counts(state, facts, len(judged), baseline, container),
        source=reference.source,
        baseline=reference.digest,
        taken=baseline.time if baseline else "",
        seconds=seconds,
    )


def _reference(facts: Facts, reference: Reference, baseline: Baseline) -> list[Drift]:
    """Whether the node still has the baseline it was given, and is the kind of machine it was."""
    found = []
    for name, said in (("baseline.json", facts.baseline), ("installed.json", _recorded(facts))):
        if said != reference.digest:
            wanted = f"SHA-256 {reference.digest}"
            found.append(Drift("reference", name, f"SHA-256 {said}" if said else "none", wanted))
    if facts.container != baseline.container:
        live, was = (kind or "a machine" for kind in (facts.container, baseline.container))
        found.append(Drift("reference", "what the node runs in", live, was))
    return found


def _recorded(facts: Facts) -> str | None:
    return (facts.installed or {}).get("baseline")


def _counts(
    state: State, facts: Facts, promises: int, baseline: Baseline | None, container: str
) -> dict[str, int]:
    """How much was looked at: entries by subject, staged files, promises."""
    looked = {name: len(entries) for name, entries in state.items() if baseline and name in baseline.state}
    if container:
        looked = {name: count for name, count in looked.items() if name not in OF_THE_HOST}
    staged = (facts.staged or {}).get("files", 0)
    return {**looked, **({"staged": staged} if baseline else {}), "promises": promises}
