"""The node has nowhere to go, and nobody on the wire can give it somewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.node.qualification import links, routes
from appliance.node.qualification.plugin import promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.node.qualification.finding import Finding
    from appliance.node.qualification.subject import Subject

    Judge = Callable[[Finding], None]
    Read = Callable[[str], str]


@promise(
    "network.no-route-out", "No route leads off the node's own wire but those that are listed, in any table"
)
def test_no_route_out(subject: Subject, read: Read, judge: Judge) -> None:
    judge(routes.judge_routes(read(routes.ROUTES), subject.node))


@promise("network.addresses", "The node has exactly the addresses of the inventory, all of them static")
def test_addresses(subject: Subject, read: Read, judge: Judge) -> None:
    judge(routes.judge_addresses(read(routes.ADDRESSES), subject.node, links.cards(read(links.CARDS))))


@promise("network.links", "Bonds, VLANs and packet sizes are those of the inventory")
def test_links(subject: Subject, read: Read, judge: Judge) -> None:
    there = routes.json_lists(read(routes.ADDRESSES))
    judge(links.judge_links(there, subject.node, links.cards(read(links.CARDS))))


@promise("network.no-autoconfiguration", "Neither DHCP nor router advertisements can configure the node")
def test_no_autoconfiguration(read: Read, judge: Judge) -> None:
    judge(routes.judge_autoconfiguration(read(routes.AUTOCONFIGURATION)))


@promise("network.no-name-server", "No name server is configured")
def test_no_name_server(read: Read, judge: Judge) -> None:
    judge(routes.judge_name_servers(read(routes.NAME_SERVERS)))


@promise("network.no-forwarding", "The node passes nothing on for others")
def test_no_forwarding(read: Read, judge: Judge) -> None:
    judge(routes.judge_forwarding(read(routes.FORWARDING)))
