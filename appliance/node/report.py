"""What a qualification found: items with what was found and wanted, and the way out before and after.

Plain values; ``report_text`` and ``report_junit`` render them, ``as_dict`` is the JSON.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from appliance.node.probe import OutboundProbe

Status = Literal["passed", "failed", "not-run"]


@dataclass(frozen=True)
class Item:
    """One promise and whether the live node keeps it.

    ``name`` is stable (``section.what``); ``title`` states the promise; ``controls`` names those
    that it serves.  ``reason`` says why an item
    was not run.  An item that was not run is never counted as passed.
    """

    name: str
    title: str
    status: Status
    found: str
    wanted: str
    reason: str = ""
    seconds: float = 0.0
    controls: tuple[str, ...] = ()

    @property
    def section(self) -> str:
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class Provenance:
    """Who vouches for the bundle: holders who signed, how many had to, the root file's SHA-256.

    ``signed`` is what they signed: the list that the root's profile asks for, and its digest.
    """

    signers: tuple[str, ...]
    threshold: int
    root: str
    solo: bool
    signed: str


@dataclass(frozen=True)
class QualificationReport:
    """Everything known about one qualification of one node.

    ``digest`` is the bundle's identity (SHA-256 of trust/SHA256SUMS).  Times are RFC 3339 UTC by the
    station's clock.  ``ruleset`` is the SHA-256 of the live packet filter as listed by nft, "" if it
    could not be read; the listing itself lies beside the report.  ``catalogue`` is the one whose controls
    items name, with its revision.
    """

    node: str
    site: str
    product: str
    version: str
    sequence: int
    digest: str
    toolkit: str
    started: str
    finished: str
    seconds: float
    items: tuple[Item, ...]
    before: OutboundProbe | None = None
    after: OutboundProbe | None = None
    provenance: Provenance | None = None
    ruleset: str = ""
    catalogue: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> tuple[Item, ...]:
        return self._with("passed")

    @property
    def failed(self) -> tuple[Item, ...]:
        """The broken promises; empty is what an installation needs to go on."""
        return self._with("failed")

    @property
    def not_run(self) -> tuple[Item, ...]:
        return self._with("not-run")

    def _with(self, status: Status) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.status == status)

    @property
    def verdict(self) -> Literal["passed", "failed"]:
        """Passed means: something was proven, and nothing was disproven."""
        return "passed" if self.passed and not self.failed else "failed"

    @property
    def summary(self) -> str:
        """``41 passed, 0 failed, 2 not run``."""
        return f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.not_run)} not run"

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values, with ``format``, ``verdict`` and counts added."""
        counts = {
            "passed": len(self.passed),
            "failed": len(self.failed),
            "not-run": len(self.not_run),
        }
        return {"format": 1, "verdict": self.verdict, "counts": counts} | dataclasses.asdict(self)
