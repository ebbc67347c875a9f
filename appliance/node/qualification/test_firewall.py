"""The packet filter as the kernel has it lets nothing through that is not on a short list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.node.qualification import flows, links, routes, rules
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


@pytest.fixture
def declared(subject: Subject, read: Read) -> tuple[flows.FlowRule, ...]:
    """The inventory's flows and the questions to its clock, with the kernel's names of their interfaces."""
    there, pci = routes.json_lists(read(routes.ADDRESSES)), links.cards(read(links.CARDS))
    found = {each.name: links.find_link(there, each, pci) for each in subject.node.interfaces}
    devices = {name: str(link["ifname"]) for name, link in found.items() if link}
    return flows.declared_rules(subject.inventory, subject.node, devices)


@promise("firewall.policies", "What no rule speaks of is dropped: in, out and through, both families")
def test_policies(live: Both, judge: Judge) -> None:
    judge(rules.judge_policies(*live))


@promise(
    "firewall.out",
    "No rule lets anything out but declared flows, replies of SSH, loopback, IPv6 neighbour messages, and "
    "questions to the site's clock",
)
def test_out(subject: Subject, live: Both, declared: tuple[flows.FlowRule, ...], judge: Judge) -> None:
    judge(rules.judge_out(*live, subject.inventory.management.networks, subject.node.port, declared))


@promise("firewall.in", "No rule lets anything in but SSH from the management networks and declared flows")
def test_in(subject: Subject, live: Both, declared: tuple[flows.FlowRule, ...], judge: Judge) -> None:
    judge(rules.judge_in(*live, subject.inventory.management.networks, subject.node.port, declared))


@promise("firewall.through", "No rule lets anything through to others")
def test_through(live: Both, judge: Judge) -> None:
    judge(rules.judge_through(*live))


@promise("firewall.nothing-beside", "No other table filters, redirects or translates packets")
def test_nothing_beside(read: Read, judge: Judge) -> None:
    judge(rules.judge_tables(read(rules.TABLES)))


@promise("firewall.before-network", "At every start the rules are there before an interface is up")
def test_before_network(read: Read, judge: Judge) -> None:
    judge(rules.judge_order(read(rules.ORDER)))


@promise("firewall.stays", "The firewall is on, and will be after the next start")
def test_stays(read: Read, judge: Judge) -> None:
    judge(rules.judge_kept(read(rules.KEPT)))
