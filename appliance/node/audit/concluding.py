"""What a node said of itself, against its reference and its inventory: an audit.  Pure.

The station's audit and the node's own (``daily``) come to their conclusions here, and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.node.audit.baseline import declared_digest
from appliance.node.audit.comparing import OF_THE_HOST, compare, not_compared, what_is_quiet
from appliance.node.audit.declared import Declared, explain, not_judged
from appliance.node.audit.drift import SUBJECTS, Drift, NodeAudit, NotCompared
from appliance.node.audit.staged import compare_installed, compare_staged
from appliance.node.audit.state import State, state_of

if TYPE_CHECKING:
    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.audit.asking import Facts
    from appliance.node.audit.baseline import Baseline, Reference
    from appliance.node.host_data import HostData


def conclude(
    facts: Facts,
    reference: Reference,
    inventory: Inventory,
    node: NodeEntry,
    data: HostData,
    *,
    seconds: float = 0.0,
) -> NodeAudit:
    """What the facts of a node come to.

    Args:
        facts: what it said.
        reference: what it is compared with.
        inventory: its site.
        node: what is declared of it.
        data: what the role ``quiet_host`` declares.
        seconds: how long it took to ask.
    """
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
