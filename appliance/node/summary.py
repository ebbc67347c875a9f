"""An installation's outcome as values for JSON and as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.node.preflight import notes

if TYPE_CHECKING:
    from appliance.node.request import Outcome


def outcome_values(outcome: Outcome) -> dict[str, object]:
    """One JSON object; what was not reached is left out."""
    manifest = outcome.bundle.manifest
    return {
        "digest": outcome.bundle.digest,
        "product": manifest.product,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "until": str(outcome.until),
        "check": outcome.check,
        "records": str(outcome.folder) if outcome.folder else None,
        "plan": list(outcome.plan.words) if outcome.plan else [],
        "changes": outcome.applied.changes if outcome.applied else [],
        "warnings": outcome.applied.warnings if outcome.applied else [],
        "nodes": {node.name: _node_values(outcome, node.name) for node in outcome.nodes},
    }


def _node_values(outcome: Outcome, name: str) -> dict[str, object]:
    values: dict[str, object] = {}
    for report in outcome.preflight:
        if report.node.name == name:
            values["preflight"] = [check.as_dict() for check in report.checks]
    if name in outcome.answers:
        values["journal"] = outcome.answers[name].as_dict()
    if name in outcome.staged:
        values["stage"] = outcome.staged[name].as_dict()
    if outcome.applied and name in outcome.applied.hosts:
        values["apply"] = vars(outcome.applied.hosts[name])
    elif name in outcome.skipped_apply:
        values["apply"] = {"skipped": "applied by the run before, which was cut off later"}
    if name in outcome.reports:
        report_folder = outcome.report_folders[name]
        one = outcome.reports[name]
        values["qualify"] = {
            "verdict": one.verdict,
            "passed": len(one.passed),
            "failed": len(one.failed),
            "not-run": len(one.not_run),
            "report": str(report_folder / "report.json"),
        }
    return values


def outcome_text(outcome: Outcome) -> str:
    """A table of the nodes, and where to read more."""
    manifest = outcome.bundle.manifest
    lines = [
        f"{manifest.product} {manifest.version} (sequence {manifest.sequence})",
        f"digest: {outcome.bundle.digest}",
    ]
    if outcome.nodes:
        rows: list[tuple[str, ...]] = [("node", "ready", "copied", "apply", "qualification")]
        rows += [_row(outcome, node.name) for node in outcome.nodes]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
    lines += [f"note: {note}" for note in notes(outcome.preflight)]
    if outcome.check:
        changes = outcome.applied.changes if outcome.applied else []
        lines.append(f"check only: nothing was changed; {len(changes)} tasks would change something")
        lines += [f"  {change}" for change in changes]
    lines += [
        f"report of {name}: {folder / 'report.txt'}"
        for name, folder in sorted(outcome.report_folders.items())
    ]
    if outcome.folder:
        lines.append(f"records: {outcome.folder}")
    return "\n".join(lines)


def _row(outcome: Outcome, name: str) -> tuple[str, ...]:
    ready = next((report.passed for report in outcome.preflight if report.node.name == name), None)
    staged = outcome.staged.get(name)
    copied = "-" if staged is None else f"{staged.files} files, {staged.size / 1e6:,.1f} MB"
    applied = "-"
    if outcome.applied and name in outcome.applied.hosts:
        host = outcome.applied.hosts[name]
        applied = f"{host.changed} changed, {host.ok} ok"
    elif name in outcome.skipped_apply:
        applied = "done before"
    report = outcome.reports.get(name)
    words = {None: "-", True: "yes", False: "no"}
    return (name, words[ready], copied, applied, report.summary if report else "-")
