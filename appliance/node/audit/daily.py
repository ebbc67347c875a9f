"""The node's own audit, every day: asks, concludes as the station does, keeps the result, hands it over.

Runs on the node's Python (3.10 or later, standard library only) from one file that holds it and what it
needs (``packing``), started by the timer of the role ``daily_audit``.  It compares with the baseline that
the node keeps: so the result says that nobody but the node vouches for it, and names the baseline's digest,
which the station's record has too.
"""

from __future__ import annotations

import json
import pkgutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.definition.inventory_record import read_record
from appliance.errors import ApplianceError, SettingsInvalid
from appliance.node.audit.auditing import audit_by
from appliance.node.audit.drift import NodeAudit
from appliance.node.audit.handing_over import hand_over, make_record, parts_of
from appliance.node.audit.present import exit_code
from appliance.node.audit.results import Results
from appliance.node.connection import LocalConnection
from appliance.node.host_data import host_data

if TYPE_CHECKING:
    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.host_data import HostData

#: What the inventory declares for this node, as the role wrote it.
SETTINGS: Final = Path("/etc/appliance/audit.json")
#: Where results are kept: left out of every comparison (``asking.APART``).
FOLDER: Final = Path("/var/lib/appliance/spool/audit")
#: Where an exporter takes records (docs/export.md).
EXPORTER: Final = Path("/run/appliance-export/records")
FORMAT: Final = 1
#: The role's data, in the file beside the code.
DATA: Final = "host_data.json"
#: So many differences are named in the log; all of them stand in the result.
_NAMED: Final = 20


def main() -> int:
    """Audit this node once; the exit status says what came of it, as that of ``appliance audit`` does."""
    try:
        inventory, node = read_settings(SETTINGS)
        audit = audit_here(inventory, node, carried_data())
        code = exit_code([audit])
        print(_summary(audit))
        return max(code, deliver(audit, inventory.site, code, time.time()))
    except ApplianceError as fault:
        _complain(fault)
        return fault.exit_code


def read_settings(path: Path) -> tuple[Inventory, NodeEntry]:
    """What the inventory declares for this node.

    Raises:
        SettingsInvalid: the file is missing, or is not what the role writes.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']}")
        return read_record(values["declared"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise SettingsInvalid(
            f"{path} does not say what this node should be",
            found=f"{type(fault).__name__}: {fault}",
            wanted="what the role daily_audit wrote",
            hint="appliance install writes it again; find out who changed it",
        ) from fault


def carried_data() -> HostData:
    """What the role ``quiet_host`` declared when this program was made."""
    text = pkgutil.get_data("appliance.node.audit", DATA)
    return host_data(json.loads(text or b""))


def audit_here(inventory: Inventory, node: NodeEntry, data: HostData) -> NodeAudit:
    """Audit the machine this runs on; one that cannot be asked has its ``trouble`` set."""
    try:
        return audit_by(LocalConnection(node), inventory, data)
    except ApplianceError as trouble:
        return NodeAudit(node.name, trouble=trouble)


def deliver(audit: NodeAudit, site: str, code: int, now: float) -> int:
    """Keep a result and hand over all that wait; 0, or the exit status of what kept it from being kept.

    Args:
        audit: what came of the node.
        site: whose node it is.
        code: exit status of the audit.
        now: seconds since 1970 by the node's clock.
    """
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    results = Results(FOLDER)
    number = results.next_number()
    record = make_record(now, _fields(audit, site, number, code))
    try:
        for lost in results.keep(number, record):
            _warn(f"result {lost} was never handed over and had to go: too many wait")
    except ApplianceError as fault:
        # A full disk keeps the result from being kept, and not from being told.
        why = hand_over(parts_of(record), EXPORTER)
        _complain(fault)
        _warn(f"result {number} is not kept, and " + (f"not handed over: {why}" if why else "handed over"))
        return fault.exit_code
    _hand_over_all(results)
    return 0


def _hand_over_all(results: Results) -> None:
    """The oldest first, until one is not taken."""
    for path in results.waiting():
        try:
            parts = parts_of(json.loads(path.read_bytes()))
        except ValueError:
            _warn(f"{path} is not what was written: it is left where it is")
            continue
        if why := hand_over(parts, EXPORTER):
            print(f"{len(results.waiting())} results wait in {FOLDER}: {why}")
            return
        results.taken(path)


def _fields(audit: NodeAudit, site: str, number: int, code: int) -> dict[str, Any]:
    """A result: what ``appliance audit --json`` says of a node, and whose it is."""
    return {"site": site, "host": audit.node, "number": number, "exit_code": code, **audit.as_dict()}


def _summary(audit: NodeAudit) -> str:
    """For the node's own log."""
    if audit.trouble:
        return f"{audit.node}: not audited: {audit.trouble.message}: {audit.trouble.found}"
    count = len(audit.drifts)
    told = f"{count} difference" if count == 1 else f"{count} differences"
    more = count - _NAMED
    return "\n".join(
        (
            f"{audit.node}: {told}, baseline {audit.baseline or 'none'}",
            *(f"  {each.subject}: {each.what}" for each in audit.drifts[:_NAMED]),
            *((f"  and {more} more",) if more > 0 else ()),
        )
    )


def _complain(fault: ApplianceError) -> None:
    for label, text in (("", fault.message), ("found: ", fault.found), ("do: ", fault.hint)):
        if text:
            _warn(label + text)


def _warn(text: str) -> None:
    print(text, file=sys.stderr)
