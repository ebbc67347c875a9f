"""An installation from its first stage to the last: verify, validate, preflight, stage, plan, apply,
qualify, record.

This module only keeps the order.  Each stage is a module of its own; nothing on a node changes before
``validate`` and ``preflight`` have passed for every node.  In ``preflight`` every node's journal is asked
too; what was learnt is kept there as ``stage`` begins, what was installed in ``record``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from appliance import __version__
from appliance.definition.inventory import settings_digest
from appliance.errors import ApplianceError, QualificationFailed
from appliance.node.request import Outcome
from appliance.node.runs import Identity, Run, Stage, lock_state, now, other_runs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.asking import Question
    from appliance.node.connection import Connection
    from appliance.node.journal import Kept
    from appliance.node.report import Provenance
    from appliance.node.request import Request
    from appliance.node.staging import Staged
    from appliance.progress import Progress


def install(request: Request, *, progress: Progress) -> Outcome:
    """Run the stages up to ``request.until``.

    Raises:
        ApplianceError: the first stage that failed says which way; its records are written.
    """
    from appliance.bundle.documents import read_document
    from appliance.bundle.verify import verify_bundle
    from appliance.node.asking import make_question
    from appliance.node.private import private_folder
    from appliance.node.site import load_inventory, select_nodes

    with lock_state(request.state):
        revocations = [read_document(path) for path in request.revoked]
        bundle = verify_bundle(request.bundle, request.root, progress=progress, revocations=revocations)
        for note in bundle.notes:
            progress.note(note)
        question = make_question(bundle, statements=request.statements, time=time.time())
        outcome = Outcome(bundle, request.until, request.check)
        if request.until is Stage.VERIFY:
            return outcome
        inventory = load_inventory(request.inventory)
        nodes = outcome.nodes = select_nodes(inventory, request.limit)
        with private_folder() as private:
            Installation(request, bundle, question, inventory, nodes, private, progress, outcome).go()
        return outcome


class Installation:
    """One installation under way: everything the stages share."""

    def __init__(  # noqa: PLR0917 - each is needed by every stage
        self,
        request: Request,
        bundle: VerifiedBundle,
        question: Question,
        inventory: Inventory,
        nodes: Sequence[NodeEntry],
        private: Path,
        progress: Progress,
        outcome: Outcome,
    ) -> None:
        from appliance.node.connection import open_connections

        self.request, self.bundle, self.inventory = request, bundle, inventory
        self.question = question
        self.progress, self.outcome, self.private = progress, outcome, private
        self.connections: Mapping[str, Connection] = open_connections(inventory, nodes, private)
        self.run = Run(request.state, bundle.digest, inventory.site)
        self.identities = {
            node.name: Identity(bundle.digest, settings_digest(inventory, node), __version__)
            for node in nodes
        }
        self.kept: dict[str, Kept] = {}
        #: Where each node goes on, in words, by what earlier runs left.
        self.goes_on: dict[str, str] = {}
        #: Nodes whose record is complete.
        self.recorded: set[str] = set()
        outcome.folder = self.run.folder

    def go(self) -> None:
        """The stages in order, up to the last one asked for."""
        skip = self._resume()
        try:
            if not self.request.check:
                self._note_done(Stage.VERIFY, {"signers": [one.holder for one in self.bundle.signers]})
                self._note_done(Stage.VALIDATE, {"inventory": str(self.inventory.path)})
            stages = {
                Stage.PREFLIGHT: self._preflight,
                Stage.STAGE: self._stage,
                Stage.PLAN: self._plan,
                Stage.APPLY: lambda: self._apply(skip),
                Stage.QUALIFY: self._qualify,
                Stage.RECORD: self._record,
            }
            if self.request.check:
                for stage in (Stage.STAGE, Stage.QUALIFY, Stage.RECORD):
                    del stages[stage]
            for stage, work in stages.items():
                if not self.request.until.before(stage):
                    work()
                if stage is Stage.PREFLIGHT:
                    self._say_where_it_goes_on()
        except ApplianceError as fault:
            self._note_failure(fault)
            raise
        finally:
            for connection in self.connections.values():
                connection.close()

    def _resume(self) -> set[str]:
        """Find out where each node goes on; the names of those on which apply need not run."""
        from appliance.node.resume import resume

        skip = set()
        for name, identity in self.identities.items():
            others = other_runs(self.request.state, self.inventory.site, self.run, name)
            decision = resume(name, self.run.read(name), identity, others)
            self.goes_on[name] = decision.text
            if decision.skip_apply and not self.request.check:
                skip.add(name)
        return skip

    def _say_where_it_goes_on(self) -> None:
        """Once nothing refuses it any more: what is refused goes on nowhere."""
        if Stage.PREFLIGHT.before(self.request.until):
            for text in self.goes_on.values():
                self.progress.note(text)

    def _note_done(self, stage: Stage, details: Mapping[str, Any]) -> None:
        with self.run.stage(stage, self.identities) as entries:
            for entry in entries.values():
                entry.update(details)

    def _preflight(self) -> None:
        from appliance.node.checks import Wanted
        from appliance.node.preflight import look_at_nodes, notes, refuse

        wanted = Wanted(
            self.bundle.manifest,
            self.bundle.digest,
            self._size(),
            self.inventory,
            time.time(),
            shared=self._shared(),
        )
        if self.request.check:
            self.outcome.preflight = look_at_nodes(self.connections, self.inventory.ssh, wanted)
            refuse(self.outcome.preflight)
            for note in notes(self.outcome.preflight):
                self.progress.note(note)
            self._ask({})
            return
        with self.run.stage(Stage.PREFLIGHT, self.identities) as entries:
            self.outcome.preflight = look_at_nodes(self.connections, self.inventory.ssh, wanted)
            for report in self.outcome.preflight:
                entry = entries[report.node.name]
                entry["checks"] = [check.as_dict() for check in report.checks]
                entry["result"] = "done" if report.passed else "failed"
            refuse(self.outcome.preflight)
            for note in notes(self.outcome.preflight):
                self.progress.note(note)
            self._ask(entries)

    def _refuse_pending(self) -> None:
        """A node that waits for the proof of a version would undo what is installed meanwhile."""
        from appliance.node.patching import switch

        for connection in self.connections.values():
            switch.refuse_pending(connection)

    def _begin(self, names: Collection[str]) -> None:
        """The same once more, just before something changes on these nodes."""
        from appliance.node.patching import switch

        for name in names:
            switch.begin(self.connections[name])

    def _size(self) -> int:
        """Bytes of the copy that a node comes to have."""
        return self.bundle.size

    def _shared(self) -> int:
        """Those among them that are not written, since the node shares them with another copy."""
        return 0

    def _ask(self, entries: Mapping[str, dict[str, Any]]) -> None:
        """Whether every node, by what it remembers, lets the bundle be installed on it."""
        from appliance.node.asking import ask_nodes, refuse

        self._refuse_pending()
        self.outcome.answers = ask_nodes(self.connections, self.question)
        for name, answer in self.outcome.answers.items():
            for note in answer.notes:
                self.progress.note(f"{name}: {note}")
            if name in entries:
                entries[name]["journal"] = answer.as_dict()
                entries[name]["result"] = "failed" if answer.refusals else "done"
        refuse(self.outcome.answers)

    def _stage(self) -> None:
        self._look_outwards()
        with self.run.stage(Stage.STAGE, self.identities) as entries:
            self._learn(entries)
            self.outcome.staged.update(self._copies())
            for name, staged in self.outcome.staged.items():
                entries[name].update(staged.as_dict())
                entries[name]["result"] = "failed" if staged.error else "done"
                if staged.removed:
                    self.progress.note(f"{name}: removed from the copy: {', '.join(staged.removed)}")
            for staged in self.outcome.staged.values():
                if staged.error:
                    raise staged.error

    def _copies(self) -> Mapping[str, Staged]:
        """Bring the bundle onto every node."""
        from appliance.node.staging import stage_copies

        return stage_copies(
            self.bundle, self.connections, progress=self.progress, recheck=self.request.recheck
        )

    def _learn(self, entries: Mapping[str, dict[str, Any]]) -> None:
        """Every node keeps root, revocation and time floor before anything is staged on any."""
        from appliance.node.keeping import keep_now

        for name, answer in self.outcome.answers.items():
            self.kept[name] = keep_now(self.connections[name], answer)
            entries[name]["journal"] = {"count": self.kept[name].last}
            for note in self.kept[name].notes:
                if note not in answer.notes:
                    self.progress.note(f"{name}: {note}")

    def _look_outwards(self) -> None:
        """Before the first isolation, keep what the node could reach: evidence for the report."""
        from appliance.node.first_reach import keep_first_reach

        for connection in self.connections.values():
            keep_first_reach(connection, self.inventory, self.run, self.request.state, self.progress)

    def _plan(self) -> None:
        from appliance.node.plan import make_plan

        plan = make_plan(self.bundle.manifest, self.bundle.digest, self.inventory, self.outcome.nodes)
        self.outcome.plan = plan
        for line in plan.words:
            self.progress.note(f"plan: {line}")
        if not self.request.check:
            self._note_done(Stage.PLAN, plan.as_dict())

    def _apply(self, skip: set[str]) -> None:
        from appliance.node.apply import apply, judge, node_result
        from appliance.node.audit.packing import auditor_variables

        chosen = {name: each for name, each in self.connections.items() if name not in skip}
        self.outcome.skipped_apply = tuple(sorted(skip))
        plan = self.outcome.plan
        if not chosen or plan is None:
            return
        if not self.request.check:
            self._begin(chosen)
        identities = {} if self.request.check else {name: self.identities[name] for name in chosen}
        with self.run.stage(Stage.APPLY, identities) as entries:
            result = self.outcome.applied = apply(
                plan,
                chosen,
                folder=self.private,
                run=self.run,
                progress=self.progress,
                more=auditor_variables(self.inventory, self.outcome.nodes),
                check=self.request.check,
            )
            for name, entry in entries.items():
                entry.update(vars(result.hosts[name]))
                entry["result"] = node_result(result, name)
            judge(result, revert_after=self.inventory.revert_after, log=self.run.log)

    def _qualify(self) -> None:
        from appliance.node.first_reach import first_reach
        from appliance.node.qualify import qualify

        with self.run.stage(Stage.QUALIFY, self.identities) as entries:
            for name, connection in self.connections.items():
                connection.close()  # what is open since before the change proves nothing
                records = self.run.node(name)
                folder = self.outcome.report_folders[name] = records / "report"
                report = self.outcome.reports[name] = qualify(
                    self.inventory,
                    connection.node,
                    self.bundle.manifest,
                    connection,
                    records,
                    self.progress,
                    digest=self.bundle.digest,
                    before=first_reach(records),
                    provenance=self._provenance(),
                )
                entries[name].update(verdict=report.verdict, summary=report.summary, report=str(folder))
                entries[name]["result"] = "done" if report.verdict == "passed" else "failed"
            self._refuse_unqualified()

    def _provenance(self) -> Provenance:
        from appliance.node.report import Provenance

        bundle = self.bundle
        return Provenance(
            signers=tuple(one.holder for one in bundle.signers),
            threshold=bundle.root.roles[bundle.role].threshold,
            root=bundle.root_digest,
            solo=bundle.root.solo,
            signed=f"{bundle.kind}, {bundle.kind.algorithm} {bundle.signed_digest}",
        )

    def _refuse_unqualified(self) -> None:
        failed = {name: one for name, one in self.outcome.reports.items() if one.verdict != "passed"}
        if failed:
            lines = [
                f"{name}: {item.name}: {item.found}" for name, one in failed.items() for item in one.failed
            ]
            raise QualificationFailed(
                f"{', '.join(failed)}: not every promise is kept",
                found="\n         ".join(lines) or "nothing could be proven",
                wanted="every promise kept",
                hint="read "
                + ", ".join(str(self.outcome.report_folders[name] / "report.txt") for name in failed),
            )

    def _record(self) -> None:
        from appliance.node.audit.taking import keep_baseline
        from appliance.node.keeping import keep_afterwards
        from appliance.node.recording import write_installed

        with self.run.stage(Stage.RECORD, self.identities) as entries:
            for name, connection in self.connections.items():
                identity, state = self.identities[name], self.request.state
                taken = keep_baseline(connection, identity, self.run, state, self.inventory)
                kept = keep_afterwards(connection, self.outcome.answers[name], self.kept[name])
                entries[name]["journal"] = {"count": kept.last}
                folder = self.outcome.report_folders[name]
                write_installed(connection, self.bundle, identity, folder, taken.data)
                entries[name].update(taken.as_dict())
                for note in taken.notes:
                    self.progress.note(f"{name}: {note}")
                self._note_history(name)
                self.recorded.add(name)

    def _note_failure(self, fault: ApplianceError) -> None:
        """Let nodes that were changed, and are not proven, write that down; one that is gone cannot."""
        from appliance.node.patching import switch

        hosts = self.outcome.applied.hosts if self.outcome.applied else {}
        for name, host in hosts.items():
            if name in self.recorded or host.unreachable:
                continue
            try:
                self._note_history(name, "failed", switch.in_one_line(fault))
            except ApplianceError as trouble:
                self.progress.note(f"{name}: its history does not say so: {trouble.message}")

    def _note_history(self, name: str, result: str = "done", reason: str | None = None) -> None:
        """Let the node write down what was done to it, if anything was."""
        from appliance.node.patching import switch

        host = self.outcome.applied.hosts.get(name) if self.outcome.applied else None
        if self.request.check or host is None or not host.changed:
            return
        facts = next(report.facts for report in self.outcome.preflight if report.node.name == name)
        before = (facts or {}).get("installed")
        known = {key: before.get(key) for key in ("digest", "version", "sequence")} if before else None
        line = switch.record_of("install", self.bundle, known, [str(each) for each in self.bundle.folders])
        ended = {"run": now(), "result": result, **({"reason": reason} if reason else {})}
        switch.note(self.connections[name], {**line, **ended})
