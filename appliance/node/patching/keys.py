"""A patch of keys alone: nodes learn a root or a revocation, and what is installed on them stays.

Two bundles that differ in nothing but who may sign are one for all that runs: to switch between them
would stop what serves to start the same again.  So nothing is staged and nothing applied.  The journal
keeps root, revocation and time floor, as it does at the beginning of any installation, and these never go
back.  What is installed keeps its name, and the next patch is built against it.
"""

from __future__ import annotations

from typing import Any

from appliance.node.patching import switch
from appliance.node.patching.installing import Switching
from appliance.node.runs import Stage, now


class Learning(Switching):
    """Nodes that learn keys: all are asked before any keeps anything, and nothing is switched."""

    def go(self) -> None:
        """Ask every journal; then have each keep what is new.

        Raises:
            ApplianceError: a journal refuses it, and nothing was kept on any; or a node cannot be reached.
        """
        try:
            if self.request.check:
                self._ask({})
                return
            with self.run.stage(Stage.PREFLIGHT, self.identities) as entries:
                self._ask(entries)
            try:
                with self.run.stage(Stage.STAGE, self.identities) as entries:
                    self._learn(entries)
            finally:  # what one node knows never goes back, whatever becomes of the next one
                for name in self.kept:
                    self._tell(name)
        finally:
            for connection in self.connections.values():
                connection.close()

    def _tell(self, name: str) -> None:
        """Say what a node knows now; the node writes it down if it is new."""
        answer = self.outcome.answers[name]
        if answer.decision is None:
            raise RuntimeError("a node that agreed has decided")
        state = answer.decision.now
        known = f"root {state.root.version}"
        known += f", revocation {state.revocation.serial}" if state.revocation.serial else ""
        if not answer.commits_now:
            self.progress.note(f"{name}: knows {known} already")
            return
        self.progress.note(f"{name}: knows {known} now; what serves was not touched")
        line = self._line(name)
        switch.note(
            self.connections[name], {**line, "run": now(), "result": "done", "reason": f"it knows {known}"}
        )

    def _refuse_pending(self) -> None:
        """A switch that waits for its proof was judged by what the journal knows."""
        super(Switching, self)._refuse_pending()

    def _line(self, name: str) -> dict[str, Any]:
        """What is installed is what was."""
        medium = [str(folder) for folder in self.change.patch]
        line = switch.record_of("keys", self.bundle, None, medium)
        return {**line, "to": dict(self.change.before[name])}
