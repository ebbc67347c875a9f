"""What was signed is what lies on the node, and it will still serve after the next start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.node.qualification import daily, installed
from appliance.node.qualification.plugin import promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.node.qualification.finding import Finding
    from appliance.node.qualification.subject import Subject

    Judge = Callable[[Finding], None]
    Read = Callable[[str], str]


@promise("installed.bundle", "The staged copy is complete and is the bundle that was verified")
def test_bundle(subject: Subject, read: Read, judge: Judge) -> None:
    judge(installed.judge_staged(read(installed.staged(subject.bundle)), subject.bundle))


@promise("installed.read-only", "Nobody can write into the staged copy, and it is all root's")
def test_read_only(subject: Subject, read: Read, judge: Judge) -> None:
    judge(installed.judge_read_only(read(installed.writable(subject.bundle))))


@promise("installed.comes-back", "Everything starts again with the node")
def test_comes_back(subject: Subject, read: Read, judge: Judge) -> None:
    judge(installed.judge_enabled(read(installed.enabled(subject.node)), subject.node))


@promise("installed.confirmed", "No unconfirmed network change waits to be undone")
def test_confirmed(read: Read, judge: Judge) -> None:
    judge(installed.judge_confirmed(read(installed.PENDING)))


@promise("installed.daily-audit", "The node audits itself every day, if the site wants that, and else not")
def test_daily_audit(subject: Subject, read: Read, judge: Judge) -> None:
    judge(daily.judge_daily(read(daily.UNITS), subject.inventory.host.audit))
