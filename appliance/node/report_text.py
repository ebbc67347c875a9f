"""The report as an auditor reads it: identity, result, what is broken, before and after, every item.

A node may have been taken over and answer anything: nothing of what it said reaches the reader's
terminal as a control character.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from appliance.node.report_table import NOTHING, Row, inbound_rows, outbound_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appliance.node.report import Item, QualificationReport

WIDTH: Final = 100

SECTIONS: Final[dict[str, str]] = {
    "control": "That the tests themselves work",
    "network": "Network: the node has nowhere to go",
    "firewall": "Firewall: nothing is let through",
    "outbound": "Outbound: forbidden connections were tried, and failed",
    "inbound": "Inbound: only management can come in",
    "quiet": "Quiet host: nothing phones home, and the host keeps to itself",
    "inference": "Inference: the model answers, and its service is confined",
    "installed": "Installed: what was signed is what is there, and it stays",
    "qualification": "The qualification itself",
}

_UNPRINTABLE: Final = "\N{REPLACEMENT CHARACTER}"
_MARK: Final = {"passed": "PASS", "failed": "FAIL", "not-run": "----"}


def render_text(report: QualificationReport) -> str:
    """The whole report, plain text of at most 100 columns (long values are wrapped)."""
    lines = [
        f"QUALIFICATION OF {report.node}".ljust(WIDTH - 8) + report.verdict.upper().rjust(8),
        "=" * WIDTH,
        *_identity(report),
        "",
    ]
    for heading, items in (
        ("BROKEN PROMISES", report.failed),
        ("NOT RUN (and therefore not proven)", report.not_run),
    ):
        if items:
            lines += [heading, "-" * WIDTH, *_items(items), ""]
    lines += _tables(report)
    lines += ["EVERY ITEM", "-" * WIDTH]
    known = list(SECTIONS)
    names = {item.section for item in report.items}
    for section in sorted(
        names, key=lambda name: (known.index(name) if name in known else len(known), name)
    ):
        lines += ["", SECTIONS.get(section, section)]
        lines += _items([item for item in report.items if item.section == section])
    return "\n".join(lines) + "\n"


def _identity(report: QualificationReport) -> list[str]:
    facts = [
        ("Result", report.summary),
        ("Site", report.site),
        ("Bundle", f"{report.product} {report.version}, sequence {report.sequence}"),
        ("Digest", f"{report.digest} (SHA-256 of trust/SHA256SUMS)"),
    ]
    if trust := report.provenance:
        facts += [
            ("Signed by", f"{', '.join(trust.signers)} ({trust.threshold} needed)"),
            ("List", f"{trust.signed} (what they signed)"),
            ("Root", f"{trust.root} (SHA-256 of the root file)"),
        ]
        if trust.solo:
            facts.append(
                ("NOTE", "one person holds every key of this root: nobody else vouches for the bundle")
            )
    facts += [
        ("Toolkit", report.toolkit),
        (
            "Measured",
            f"{report.started} to {report.finished} by the station's clock, {report.seconds:.1f} s",
        ),
    ]
    if report.catalogue:
        facts.append(("Controls", f"what a promise serves is named as in {report.catalogue}"))
    if report.ruleset:
        facts.append(("Ruleset", f"{report.ruleset} (SHA-256 of the live packet filter's listing)"))
    facts += [("NOTE", note) for note in report.notes]
    return [line for name, value in facts for line in _wrapped(f"{name:<11}", value)]


def _items(items: Iterable[Item]) -> list[str]:
    lines = []
    for item in items:
        lines += _wrapped(f"  {_MARK[item.status]}  ", f"{item.title}  [{item.name}]")
        if item.status == "not-run":
            lines += _wrapped("        not run: ", item.reason)
        else:
            lines += _wrapped("        found:   ", item.found)
        lines += _wrapped("        wanted:  ", item.wanted)
        lines += _wrapped("        serves:  ", ", ".join(item.controls)) if item.controls else []
    return lines


def _tables(report: QualificationReport) -> list[str]:
    if report.after is None:
        return []
    before = report.before.time if report.before else "not measured"
    lines = [
        "THE WAY OUT, BEFORE ISOLATION AND NOW",
        "-" * WIDTH,
        f"before: {before};  now: {report.after.time}.  Capitals: something got out.",
        "",
        *_table(
            ("tried on the node", "before", "now", "now", "now"),
            ("", "as root", "as root", "service user", "in service"),
            outbound_rows(report.before, report.after),
        ),
        "",
    ]
    if rows := inbound_rows(report.before, report.after):
        lines += [
            "THE WAY IN, BEFORE ISOLATION AND NOW",
            "-" * WIDTH,
            *_table(("tried from the station", "before", "now"), None, rows),
            "",
        ]
    return lines


def _table(head: Sequence[str], second: Sequence[str] | None, rows: Sequence[Row]) -> list[str]:
    table = [tuple(head), *([tuple(second)] if second else []), *((row.label, *row.cells) for row in rows)]
    filled = [
        column for column in range(len(head)) if any(line[column] not in {"", NOTHING} for line in table)
    ]
    widths = [max(len(line[column]) for line in table) for column in filled]
    return [
        "  ".join(line[column].ljust(width) for column, width in zip(filled, widths, strict=True)).rstrip()
        for line in table
    ]


def _wrapped(label: str, value: str) -> list[str]:
    """``label`` and then the value, its own lines kept, wrapped under itself."""
    indent = " " * len(label)
    value = "".join(each if each.isprintable() or each == "\n" else _UNPRINTABLE for each in value)
    lines = [
        piece
        for line in (value.splitlines() or [""])
        for piece in textwrap.wrap(line, WIDTH - len(label), break_on_hyphens=False) or [""]
    ]
    return [label + lines[0], *(indent + line for line in lines[1:])]
