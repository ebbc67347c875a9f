"""An installation that makes its copy of another one, and that nodes undo unless it is proven.

The stages are those of any installation (``appliance.node.install``).  Before ``apply`` changes anything,
each node keeps what it runs by and starts a timer; ``qualify`` ends with its word that the new version
stays.  Whatever fails in between, a node goes back: at once where it can be told to, else when its time is
over, else when it restarts.  A node that went back is begun anew from ``apply`` on.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import ApplianceError
from appliance.node.apply import apply, judge
from appliance.node.install import Installation
from appliance.node.patching import switch
from appliance.node.patching.restarting import PACKAGES, somebody_elses, wait_until_restarted
from appliance.node.patching.transfer import begin_transfer
from appliance.node.staging import send_copies
from appliance.node.transfer import STAGED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.asking import Question
    from appliance.node.connection import Connection
    from appliance.node.patching.target import Target
    from appliance.node.patching.transfer import PatchTransfer
    from appliance.node.request import Outcome, Request
    from appliance.node.staging import Staged
    from appliance.progress import Progress

#: Seconds in which a new version has to be proven.
WITHIN: Final = 1800


@dataclass(frozen=True)
class Change:
    """From which version nodes go to which one.

    Attributes:
        action: ``patch`` or ``rollback``.
        target: what they come to.
        before: digest, version and sequence of what is installed, by node.
        patch: where the patch lies; empty where every byte is on the nodes.
        within: seconds in which the new version has to be proven.
        restarting: whether packages come that may need a restart, and whose that is.
    """

    action: str
    target: Target
    before: Mapping[str, Mapping[str, object]]
    patch: Sequence[Path] = ()
    within: int = WITHIN
    restarting: switch.Restarting = switch.AT_ONCE


class Switching(Installation):
    """One group of nodes going from one version to another."""

    def __init__(  # noqa: PLR0917 - what every installation is told
        self,
        change: Change,
        request: Request,
        question: Question,
        inventory: Inventory,
        nodes: Sequence[NodeEntry],
        private: Path,
        progress: Progress,
        outcome: Outcome,
    ) -> None:
        bundle = change.target.bundle
        super().__init__(request, bundle, question, inventory, nodes, private, progress, outcome)
        self.change = change
        self.name = uuid.uuid4().hex
        self.armed: list[str] = []
        #: What each node goes back to, by its own word.
        self.before: dict[str, Mapping[str, object]] = {}

    def go(self) -> None:
        """The stages; and back, if one of them fails after the switch has begun."""
        try:
            super().go()
        except BaseException as fault:
            told = self._go_back(switch.in_one_line(fault))
            if told and isinstance(fault, ApplianceError):
                fault.hint = "; ".join([told, *([fault.hint] if fault.hint else [])])
            raise

    def _go_back(self, reason: str) -> str:
        """Have every node that has begun go back now; in words, what became of it.

        Whoever presses Ctrl-C once more does not wait for that node, and is told what it does then.
        """
        words: list[str] = []
        settled: list[str] = []
        for name in self.armed:
            connection = self.connections[name]
            before = self.before.get(name, self.change.before[name]).get("version")
            alone = (
                f"{name} goes back to {before} by itself within {self.change.within} s, or when it "
                f"restarts; which one it runs says: appliance history --limit {name}"
            )
            try:
                back = switch.go_back(connection, reason, self.name)
                if back.restored:
                    words.append(f"{name} went back to {before}, which ran before{back}")
                    settled += [] if back.restart else [name]
            except KeyboardInterrupt:
                words.append(alone)
            except ApplianceError as trouble:
                self.progress.note(f"{name}: {trouble.message}: {trouble.found}")
                words.append(alone)
            finally:
                connection.close()
        for each in words:
            self.progress.note(each)
        for name in settled:
            with suppress(ApplianceError, KeyboardInterrupt):  # what it is about has been told
                self._keep_two(name, back=True)
            self.connections[name].close()
        return "; ".join(words)

    def _size(self) -> int:
        return self.change.target.size

    def _shared(self) -> int:
        return self.change.target.size - self.change.target.room

    def _resume(self) -> set[str]:
        for name in super()._resume():  # what a run that was cut off has applied may have gone back since
            self.goes_on[name] = f"{name}: applied before, and not recorded; it is applied and proven again"
        return set()

    def _say_where_it_goes_on(self) -> None:
        """Whoever divides a run into groups says it, once for all of them."""

    def _copies(self) -> Mapping[str, Staged]:
        def begin(connection: Connection) -> PatchTransfer:
            return begin_transfer(
                connection,
                self.change.target,
                self.change.patch,
                home=STAGED,
                progress=self.progress,
                recheck=self.request.recheck,
            )

        return send_copies(self.connections, begin, progress=self.progress)

    def _apply(self, skip: set[str]) -> None:
        if not self.request.check:
            for name, connection in self.connections.items():
                self.armed.append(name)
                line, restarting = self._line(name), self.change.restarting
                armed = switch.arm(connection, self.name, self.change.within, line, restarting)
                self.before[name] = armed.before or self.change.before[name]
                if armed.over:
                    self.progress.note(f"{name}: takes over the run of {armed.over}, which is not proven")
            if self.change.restarting.packages:
                self._apply_late()
        super()._apply(skip)

    def _apply_late(self) -> None:
        """Phase one: packages; and the restart, where there are some that count from then on.

        Raises:
            RestartPending: it is somebody else's; the node waits for it.
            NodeUnreachable, ApplyFailed: a node did not come back, or went back.
        """
        self._apply_packages()
        version = self.bundle.manifest.version
        for name, connection in self.connections.items():
            late = switch.restart(connection, self.name)
            if not late:
                continue
            if not self.change.restarting.reboot:
                self.armed.remove(name)
                raise somebody_elses(connection, late, version)
            self.progress.note(
                f"{name}: {version} counts from the next start on ({', '.join(late)}): "
                f"what serves was stopped, and the node restarts now"
            )
            wait_until_restarted(connection, self.change.within)
            self.progress.note(f"{name}: has restarted; not proven yet")

    def _apply_packages(self) -> None:
        if (plan := self.outcome.plan) is None:
            raise RuntimeError("the plan is made before anything is applied")
        result = apply(
            plan,
            self.connections,
            folder=self.private,
            run=self.run,
            progress=self.progress,
            more={},
            playbook=PACKAGES,
        )
        judge(result, revert_after=self.inventory.revert_after, log=self.run.log)

    def _qualify(self) -> None:
        super()._qualify()
        for name, connection in self.connections.items():
            switch.confirm(connection, self.name)
            self.armed.remove(name)

    def _record(self) -> None:
        for name in self.connections:
            self._keep_two(name)
        super()._record()

    def _keep_two(self, name: str, *, back: bool = False) -> None:
        for each in switch.keep_two(self.connections[name], self.bundle.digest, back=back):
            self.progress.note(f"{name}: {each}")

    def _note_history(self, name: str, result: str = "done", reason: str | None = None) -> None:
        """The node has written it down itself when it was told to stay with the new version."""

    def _refuse_pending(self) -> None:
        """Another version was asked for before; a switch to this one is begun anew."""

    def _begin(self, names: Collection[str]) -> None:
        """Nodes are armed instead."""

    def _line(self, name: str) -> dict[str, Any]:
        return switch.record_of(
            self.change.action,
            self.bundle,
            self.change.before[name],
            [str(folder) for folder in self.change.patch],
        )
