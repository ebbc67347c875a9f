"""The daily audit, judged by what systemd says: there, at its hour, and working; or not there at all."""

from __future__ import annotations

import pytest

from appliance.definition.host import Audit
from appliance.node.qualification.daily import judge_daily

DAILY = Audit(daily=True, at="03:30")

#: As systemd 257 prints it; systemctl show has one block a unit.
WAITING = """\
Result=success
LoadState=loaded
ActiveState=active
Id=appliance-audit.timer
UnitFileState=enabled
TimersCalendar={ OnCalendar=*-*-* 03:30:00 ; next_elapse=Mon 2026-11-30 03:30:00 UTC }

Result=success
ExecMainStatus=0
LoadState=loaded
ActiveState=inactive
Id=appliance-audit.service
UnitFileState=static
"""
ABSENT = "".join(
    f"LoadState=not-found\nActiveState=inactive\nId={name}\n\n"
    for name in ("appliance-audit.timer", "appliance-audit.service")
)
DRIFTED = WAITING.replace("Result=success\nExecMainStatus=0", "Result=exit-code\nExecMainStatus=8")


@pytest.mark.parametrize(
    ("text", "site"),
    [
        (WAITING, DAILY),
        (DRIFTED.replace("inactive", "failed"), DAILY),
        (WAITING.replace("ActiveState=inactive", "ActiveState=activating"), DAILY),
        (ABSENT, Audit()),
    ],
)
def test_what_the_site_wants_is_kept(text: str, site: Audit) -> None:
    finding = judge_daily(text, site)
    assert finding.kept, finding.found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ABSENT, "appliance-audit.timer: not there\nappliance-audit.service: not there"),
        ("", "appliance-audit.timer: not there\nappliance-audit.service: not there"),
        (WAITING.partition("\n\n")[0], "appliance-audit.service: not there"),
        (WAITING.replace("enabled", "disabled"), "appliance-audit.timer: disabled"),
        (WAITING.replace("=active", "=inactive"), "appliance-audit.timer: inactive"),
        (WAITING.replace("03:30:00 ;", "04:30:00 ;"), "appliance-audit.timer: at *-*-* 04:30:00"),
        (WAITING.replace("TimersCalendar", "X"), "appliance-audit.timer: at no time"),
        (
            WAITING.replace("03:30:00 ;", "03:30:00 ; next_elapse=x } { OnCalendar=Sun *-*-* 04:00:00 ;"),
            "appliance-audit.timer: at *-*-* 03:30:00, Sun *-*-* 04:00:00",
        ),
        (
            DRIFTED.replace("Status=8", "Status=5"),
            "appliance-audit.service: the last audit failed (exit-code, exit status 5)",
        ),
        (
            DRIFTED.replace("exit-code", "timeout"),
            "appliance-audit.service: the last audit failed (timeout, exit status 8)",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, found: str) -> None:
    finding = judge_daily(text, DAILY)
    assert (finding.kept, finding.reason, finding.found) == (False, "", found)
    assert "every day at 03:30" in finding.wanted


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (WAITING, "appliance-audit.timer: there\nappliance-audit.service: there"),
        (WAITING.partition("\n\n")[2], "appliance-audit.service: there"),
    ],
)
def test_an_audit_that_nobody_asked_for_is_named(text: str, found: str) -> None:
    finding = judge_daily(text, Audit())
    assert (finding.kept, finding.found) == (False, found)
    assert "asks for no daily audit" in finding.wanted
