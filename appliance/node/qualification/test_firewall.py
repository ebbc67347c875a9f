"""The packet filter as the kernel has it lets nothing through that is not on a short list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.node.qualification import rules
from appliance.node.qualification.plugin import promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.node.qualification.finding import Finding
    from appliance.node.qualification.subject import Subject

    Judge = Callable[[Finding], None]
    Read = Callable[[str], str]
    Both = tuple[rules.RuleSet, rules.RuleSet]


@pytest.fixture
def live(read: Read) -> Both:
    """The filter tables of IPv4 and IPv6."""
    return rules.parse_save(read(rules.SAVED[4])), rules.parse_save(read(rules.SAVED[6]))


@promise("firewall.policies", "What no rule speaks of is dropped: in, out and through, both families")
def test_policies(live: Both, judge: Judge) -> None:
    judge(rules.judge_policies(*live))


@promise(
    "firewall.out",
    "No rule lets anything out but replies of SSH, loopback, neighbour messages and the site's clock",
)
def test_out(subject: Subject, live: Both, judge: Judge) -> None:
    site = subject.inventory
    servers = site.host.time.servers
    judge(rules.judge_out(*live, site.management.networks, subject.node.port, servers))


@promise("firewall.in", "No rule lets anything in but SSH from the management networks")
def test_in(subject: Subject, live: Both, judge: Judge) -> None:
    judge(rules.judge_in(*live, subject.inventory.management.networks, subject.node.port))


@promise("firewall.through", "No rule lets anything through to others")
def test_through(live: Both, judge: Judge) -> None:
    judge(rules.judge_through(*live))


@promise("firewall.nothing-beside", "No other table filters, redirects or translates packets")
def test_nothing_beside(read: Read, judge: Judge) -> None:
    judge(rules.judge_tables(read(rules.TABLES)))


@promise("firewall.stays", "The firewall is on, and will be after the next start")
def test_stays(read: Read, judge: Judge) -> None:
    judge(rules.judge_kept(read(rules.KEPT)))
