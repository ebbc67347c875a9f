"""What a node was when its installation had just been proven: written once, compared with by every audit.

The node keeps it, for its own console; this station keeps it too, and its digest stands in the record of
the installation and in the node's ``installed.json``.  A node that rewrites its own is found out by any
station that installed it (docs/decisions/0045).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.definition.inventory import node_values, site_values
from appliance.errors import PreflightFailed

if TYPE_CHECKING:
    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.audit.drift import Source
    from appliance.node.audit.state import State

NAME: Final = "baseline.json"
FORMAT: Final = 1


@dataclass(frozen=True)
class Baseline:
    """``bundle``, ``settings``, ``toolkit``: as the installation's identity.  ``time``: RFC 3339 UTC.

    ``declared``: digest of what the inventory says of site and node, whoever logs in (``declared_digest``).
    ``container``: whose kernel the node has, if not its own.  ``mark``: SHA-256 of the staged copy's mark.
    """

    node: str
    bundle: str
    settings: str
    declared: str
    toolkit: str
    time: str
    container: str
    mark: str
    state: State


@dataclass(frozen=True)
class Reference:
    """What a node is compared with; ``digest``: the baseline's, ``expected``: the one known here."""

    source: Source
    baseline: Baseline | None = None
    digest: str = ""
    expected: str = ""


def baseline_bytes(baseline: Baseline) -> bytes:
    """As it is kept; the same baseline gives the same bytes."""
    values = {"format": FORMAT, **asdict(baseline)}
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def digest_of(data: bytes) -> str:
    """A baseline's identity."""
    return hashlib.sha256(data).hexdigest()


def declared_digest(inventory: Inventory, node: NodeEntry) -> str:
    """SHA-256 of everything the inventory declares; the same from a station and at the node's console."""
    site = {**site_values(inventory), "ssh_user": ""}
    values = json.dumps({"site": site, "node": node_values(node)}, sort_keys=True)
    return hashlib.sha256(values.encode()).hexdigest()


def parse_baseline(data: bytes) -> Baseline:
    """The inverse of ``baseline_bytes``.

    Raises:
        ValueError: it is something else, or of another format.
    """
    values: dict[str, Any] = json.loads(data)
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise ValueError(f"not a baseline of format {FORMAT}")
    try:
        baseline = Baseline(**values)
    except TypeError as fault:
        raise ValueError(str(fault)) from fault
    if not all(isinstance(entries, dict) for entries in baseline.state.values()):
        raise ValueError("its state is not by subject")
    return baseline


def choose(node: str, here: bytes | None, recorded: str, typed: str | None, text: str | None) -> Reference:
    """Decide what a node is compared with: whoever is not the node, if anybody is.

    Args:
        node: its name.
        here: this station's copy, if it has one.
        recorded: the digest in this station's record, or "".
        typed: the digest that the operator brought, if one was.
        text: the node's own copy, if it has one.

    Raises:
        PreflightFailed: a digest is known, and nobody has the baseline that belongs to it.
    """
    expected = typed or recorded
    theirs = text.encode() if text is not None else None
    candidates: list[tuple[Source, bytes]] = []
    if here is not None:
        candidates.append(("station", here))
    if theirs is not None:
        candidates.append(("digest" if expected else "node", theirs))
    for source, data in candidates:
        if expected and digest_of(data) != expected:
            continue
        try:
            return Reference(source, parse_baseline(data), digest_of(data), expected)
        except ValueError:
            continue
    if not expected:
        return Reference("none")
    raise PreflightFailed(
        f"nobody has the baseline that {node} should be compared with",
        found=", ".join(f"{source}: SHA-256 {digest_of(data)}" for source, data in candidates) or "none",
        wanted=f"SHA-256 {expected}",
        hint="audit from the station that installed the node; or install again to begin a new baseline",
    )
