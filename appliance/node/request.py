"""What an operator asks of an installation, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.node.runs import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.definition.inventory import NodeEntry
    from appliance.node.ansible.events import PlaybookResult
    from appliance.node.asking import Answer
    from appliance.node.plan import Plan
    from appliance.node.preflight import NodeReport
    from appliance.node.report import QualificationReport
    from appliance.node.staging import Staged


@dataclass(frozen=True)
class Request:
    """What the operator asked for.

    Args:
        bundle: the bundle's folder, or those of all its volumes.
        root: bytes of the trusted root.
        inventory: an inventory's folder or file.
        state: where records are kept.
        until: the last stage to run.
        limit: names of nodes; empty means all.
        check: say what apply would change; stage nothing, change nothing.
        recheck: hash again what lies on the nodes.
        statements: a folder of admissions, permits, waivers, times, enrolments.
        revoked: files of revocations newer than the bundle.
    """

    bundle: tuple[Path, ...]
    root: bytes
    inventory: Path
    state: Path
    until: Stage = Stage.RECORD
    limit: tuple[str, ...] = ()
    check: bool = False
    recheck: bool = False
    statements: Path | None = None
    revoked: tuple[Path, ...] = ()


@dataclass
class Outcome:
    """What an installation came to; fields of stages that were not reached are empty."""

    bundle: VerifiedBundle
    until: Stage
    check: bool
    nodes: tuple[NodeEntry, ...] = ()
    folder: Path | None = None
    preflight: tuple[NodeReport, ...] = ()
    answers: dict[str, Answer] = field(default_factory=dict)
    staged: dict[str, Staged] = field(default_factory=dict)
    plan: Plan | None = None
    applied: PlaybookResult | None = None
    skipped_apply: tuple[str, ...] = ()
    reports: dict[str, QualificationReport] = field(default_factory=dict)
    report_folders: dict[str, Path] = field(default_factory=dict)
