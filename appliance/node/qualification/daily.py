"""Judges whether the node audits itself every day, where the site wants that, and no audit runs where not.

A node that does so has a timer and the service that it starts (role ``daily_audit``).  The service fails
with exit status 8 when something differs: that is an audit that worked.  Any other failure is one that did
not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from appliance.node.qualification.finding import Finding, lines

if TYPE_CHECKING:
    from appliance.definition.host import Audit

SERVICE: Final = "appliance-audit.service"
TIMER: Final = "appliance-audit.timer"

#: One block of properties a unit; works, and says less, for units that are not there.
UNITS: Final = (
    "systemctl show -p Id,LoadState,UnitFileState,ActiveState,TimersCalendar,Result,ExecMainStatus "
    f"{TIMER} {SERVICE}"
)
#: Exit status by which the audit says that something differs.
_DRIFT: Final = "8"


def judge_daily(text: str, site: Audit) -> Finding:
    """The timer is enabled, waits for the declared hour, and its last audit came to an end.

    Args:
        text: what ``UNITS`` prints.
        site: what the inventory declares.
    """
    blocks = [dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE)) for block in text.split("\n\n")]
    units = {unit.get("Id", ""): unit for unit in blocks}
    timer, service = units.get(TIMER, {}), units.get(SERVICE, {})
    wrong = list(_wrong(timer, service, site.at)) if site.daily else list(_unwanted(timer, service))
    otherwise = f"every day at {site.at}" if site.daily else "no daily audit"
    wanted = (
        f"{TIMER} enabled, active, every day at {site.at}; the last audit came to an end"
        if site.daily
        else f"neither {TIMER} nor {SERVICE}: the inventory asks for no daily audit"
    )
    return Finding(not wrong, lines(wrong, otherwise=otherwise), wanted)


def _wrong(timer: dict[str, str], service: dict[str, str], at: str) -> list[str]:
    found = [
        f"{name}: not there" for name, unit in ((TIMER, timer), (SERVICE, service)) if not _there(unit)
    ]
    if found:
        return found
    for name, wanted in (("UnitFileState", "enabled"), ("ActiveState", "active")):
        if timer.get(name) != wanted:
            found.append(f"{TIMER}: {timer.get(name) or 'unknown'}")
    calendars = re.findall(r"OnCalendar=([^;]*?) ;", timer.get("TimersCalendar", ""))
    if calendars != [f"*-*-* {at}:00"]:
        found.append(f"{TIMER}: at {', '.join(calendars) or 'no time'}")
    result, status = service.get("Result", ""), service.get("ExecMainStatus", "")
    if result != "success" and (result, status) != ("exit-code", _DRIFT):
        found.append(f"{SERVICE}: the last audit failed ({result or 'unknown'}, exit status {status})")
    return found


def _unwanted(timer: dict[str, str], service: dict[str, str]) -> list[str]:
    return [f"{name}: there" for name, unit in ((TIMER, timer), (SERVICE, service)) if _there(unit)]


def _there(unit: dict[str, str]) -> bool:
    return unit.get("LoadState", "not-found") != "not-found"
