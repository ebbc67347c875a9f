"""An audit as text for people and as values for programs; and what it ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.errors import QualificationFailed, Unreachable
from appliance.node.audit.drift import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.node.audit.drift import Drift, NodeAudit


def exit_code(audits: Sequence[NodeAudit]) -> int:
    """8 where something differs; else what kept a node from being asked (6, 5); else 0."""
    if any(each.drifts for each in audits):
        return QualificationFailed.exit_code
    troubles = [each.trouble.exit_code for each in audits if each.trouble]
    return Unreachable.exit_code if Unreachable.exit_code in troubles else max(troubles, default=0)


def audit_values(audits: Sequence[NodeAudit]) -> dict[str, Any]:
    """One JSON object."""
    return {
        "format": 1,
        "drift": sum(len(each.drifts) for each in audits),
        "unreachable": [each.node for each in audits if each.trouble],
        "nodes": {each.node: each.as_dict() for each in audits},
    }


def audit_text(audits: Sequence[NodeAudit]) -> str:
    """Each node with its differences, and a last line that sums up."""
    lines = [line for each in audits for line in _node(each)]
    return "\n".join([*lines, _summary(audits)])


def _node(audit: NodeAudit) -> Iterator[str]:
    if audit.trouble:
        yield f"{audit.node}: not audited: {audit.trouble.message}"
        for label, value in (("found", audit.trouble.found), ("wanted", audit.trouble.wanted)):
            yield from _labelled(label, value or "", "  ")
        yield from _labelled("do", audit.trouble.hint or "", "  ")
        return
    yield f"{audit.node}: {_count(len(audit.drifts), 'difference')}, in {audit.seconds:.1f} s"
    taken = f" of {audit.taken}, SHA-256 {audit.baseline}" if audit.baseline else ""
    yield f"  baseline{taken}: {SOURCES[audit.source]}"
    yield "  compared: " + ", ".join(f"{count} {name}" for name, count in audit.compared.items())
    yield from (f"  not compared: {each.what}: {each.reason}" for each in audit.not_compared)
    for each in audit.drifts:
        yield from _drift(each)


def _drift(drift: Drift) -> Iterator[str]:
    yield f"  {drift.subject}: {drift.what}"
    yield from _labelled("found", drift.found, "    ")
    yield from _labelled("wanted", drift.wanted, "    ")
    for text in drift.breaks:
        yield from _labelled("breaks", text, "    ")
    yield from _labelled("do", drift.do, "    ")


def _labelled(label: str, text: str, indent: str) -> Iterator[str]:
    """``label: text``, further lines of the text below its first."""
    head = f"{indent}{label + ':':<8}"
    for number, line in enumerate(text.splitlines()):
        yield (head if number == 0 else " " * len(head)) + line


def _summary(audits: Sequence[NodeAudit]) -> str:
    asked = [each for each in audits if not each.trouble]
    drifted = [each.node for each in asked if each.drifts]
    left = [each.node for each in audits if each.trouble]
    many = sum(len(each.drifts) for each in asked)
    told = f"{_count(many, 'difference')} on {', '.join(drifted)}" if drifted else "no difference"
    told += f" ({_count(len(asked), 'node')} audited)"
    return told + (f"; not audited: {', '.join(left)}" if left else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
