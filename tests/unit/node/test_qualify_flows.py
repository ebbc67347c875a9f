"""Allowed flows, judged: by rules that the real ufw made, one changed at a time, and by attempts."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.definition.host import Host, Time
from appliance.definition.inventory import (
    Flow,
    Interface,
    Inventory,
    Management,
    Match,
    NodeEntry,
    Peer,
    Route,
)
from appliance.node.probe import Attempt, OutboundProbe
from appliance.node.probe_flows import aims
from appliance.node.qualification import flows, rules, sockets

if TYPE_CHECKING:
    from appliance.node.qualification.finding import Finding

RECORDED = Path(__file__).with_name("recorded")
V4, V6 = ((RECORDED / f"{name}-save-flows.txt").read_text() for name in ("iptables", "ip6tables"))


def peers(*addresses: str) -> tuple[Peer, ...]:
    return tuple(Peer(each, (ip_address(each),)) for each in addresses)


def card(name: str, mac: str, *addresses: str) -> Interface:
    return Interface(name, Match(mac=mac), tuple(map(ip_interface, addresses)))


NODE = NodeEntry(
    "gpu-01",
    "ssh",
    ip_address("10.20.0.11"),
    22,
    (
        card("mgmt", "02:00:00:00:00:01", "10.20.0.11/24"),
        card("data", "02:00:00:00:00:02", "10.30.0.11/24", "fd30::11/64"),
        card("export", "02:00:00:00:00:03", "10.60.0.9/30"),
    ),
    (
        Flow(
            *("nccl", "data", "both", "tcp"),
            ports=((50000, 50999), (4791, 4791)),
            peers=peers("10.30.0.12", "fd30::12"),
            answers=True,
        ),
        Flow("rdma", "data", "in", "udp", ((4791, 4791),), peers("10.30.0.12", "fd30::12"), answers=True),
        Flow("logs", "export", "out", "udp", ((5140, 5140),), peers("10.60.0.10")),
        Flow("time", "mgmt", "out", "udp", ((123, 123),), peers("10.20.0.60"), answers=True),
        Flow("hints", "mgmt", "out", "udp", ((5141, 5141),), peers("10.20.0.60")),
        Flow("gossip", "data", "both", "udp", ((7946, 7946),), peers("10.30.0.12", "fd30::12")),
    ),
)
DEVICES = {"mgmt": "eno1", "data": "data", "export": "eno2"}
RULES = flows.flow_rules(NODE, DEVICES)
NETWORKS = (ip_network("10.20.0.0/28"),)


def judged(v4: str = V4, v6: str = V6, declared: Any = RULES) -> dict[str, Finding]:
    both = rules.parse_save(v4), rules.parse_save(v6)
    return {
        "out": rules.judge_out(*both, NETWORKS, 22, declared),
        "in": rules.judge_in(*both, NETWORKS, 22, declared),
    }


def broken(**changed: Any) -> set[str]:
    return {name for name, finding in judged(**changed).items() if not finding.kept}


def test_what_ufw_made_of_the_flows_is_what_may_be_there() -> None:
    assert broken() == set()


def test_without_their_declaration_the_same_rules_are_holes() -> None:
    assert broken(declared=()) == {"out", "in"}


@pytest.mark.parametrize(
    ("rule", "judgement"),
    [
        # another device, peer, protocol, port, or a larger range; or nothing said of one of them
        ("-A ufw-user-output -d 10.60.0.10/32 -o eno1 -p udp -m udp --dport 5140 -j ACCEPT", "out"),
        ("-A ufw-user-output -d 10.60.0.0/24 -o eno2 -p udp -m udp --dport 5140 -j ACCEPT", "out"),
        ("-A ufw-user-output -d 10.60.0.10/32 -o eno2 -p tcp -m tcp --dport 5140 -j ACCEPT", "out"),
        ("-A ufw-user-output -d 10.60.0.10/32 -o eno2 -p udp -m udp --dport 5142 -j ACCEPT", "out"),
        ("-A ufw-user-output -d 10.60.0.10/32 -o eno2 -p udp -m udp --dport 5140:5141 -j ACCEPT", "out"),
        ("-A ufw-user-output -d 10.60.0.10/32 -p udp -m udp --dport 5140 -j ACCEPT", "out"),
        ("-A ufw-user-output -o eno2 -p udp -m udp --dport 5140 -j ACCEPT", "out"),
        ("-A ufw-user-output -d 10.60.0.10/32 -o eno2 -p udp -j ACCEPT", "out"),
        # answers that begin something, or that are nobody's
        ("-A OUTPUT -d 10.30.0.12/32 -o data -p tcp -m tcp --sport 4791 -j ACCEPT", "out"),
        ("-A OUTPUT -d 10.30.0.12/32 -o data -p udp -m udp --sport 4791 -j ACCEPT", "out"),
        (
            "-A OUTPUT -d 10.30.0.12/32 -o data -p udp --sport 4791 -m conntrack --ctstate NEW -j ACCEPT",
            "out",
        ),
        (
            "-A OUTPUT -d 10.60.0.10/32 -o eno2 -p udp --sport 5140 -m state --state ESTABLISHED -j ACCEPT",
            "out",
        ),
        # inwards what is declared outwards, and from a stranger
        ("-A ufw-user-input -s 10.60.0.10/32 -i eno2 -p udp -m udp --dport 5140 -j ACCEPT", "in"),
        ("-A ufw-user-input -s 10.30.0.99/32 -i data -p tcp -m tcp --dport 4791 -j ACCEPT", "in"),
        ("-A ufw-user-input -s 10.30.0.12/32 -i data -p tcp -m multiport --dports 1:65535 -j ACCEPT", "in"),
    ],
)
def test_a_rule_that_is_more_than_a_flow_is_found(rule: str, judgement: str) -> None:
    assert broken(v4=V4.replace("COMMIT", f"{rule}\nCOMMIT")) == {judgement}


@pytest.mark.parametrize(
    ("rule", "judgement"),
    [
        ("-A ufw-user-output -d 10.60.0.10/32 -o eno2 -p udp -m udp --dport 5140 -j ACCEPT\n", "out"),
        ("-A ufw-user-input -s 10.30.0.12/32 -i data -p tcp -m tcp --dport 4791 -j ACCEPT\n", "in"),
    ],
)
def test_a_flow_without_its_rule_is_found(rule: str, judgement: str) -> None:
    assert rule in V4
    assert broken(v4=V4.replace(rule, "")) == {judgement}


def test_a_flow_over_an_interface_that_is_not_there_is_found() -> None:
    assert broken(declared=flows.flow_rules(NODE, {"mgmt": "eno1", "data": "data"})) == {"out"}


# --- attempts -----------------------------------------------------------------------------------


def test_each_flow_is_tried_and_what_is_beside_it() -> None:
    tried = aims(NODE)
    assert [each for each in tried if each[0] == "flow"] == [
        ("flow", "tcp", "10.30.0.12", 50000),
        ("flow", "tcp", "10.30.0.12", 4791),
        ("flow", "tcp", "fd30::12", 50000),
        ("flow", "tcp", "fd30::12", 4791),
        ("flow", "udp", "10.60.0.10", 5140),
        ("flow", "udp", "10.20.0.60", 123),
        ("flow", "udp", "10.20.0.60", 5141),
        ("flow", "udp", "10.30.0.12", 7946),
        ("flow", "udp", "fd30::12", 7946),
    ]
    beside = {each[1:] for each in tried if each[0] == "beside"}
    assert {("tcp", "10.60.0.10", 443), ("udp", "10.60.0.10", 443), ("tcp", "10.60.0.10", 5140)} <= beside
    assert {("udp", "10.30.0.12", 4791), ("udp", "10.30.0.12", 50000)} <= beside
    assert not beside & {each[1:] for each in tried if each[0] == "flow"}


def test_a_port_that_a_flow_names_is_not_tried_as_one_beside_it() -> None:
    web = Flow("web", "data", "out", "tcp", ((443, 443),), peers("10.30.0.12"), answers=True)
    node = NodeEntry(NODE.name, "ssh", NODE.address, 22, NODE.interfaces, (web,))
    assert {each[1:] for each in aims(node) if each[0] == "beside"} == {
        ("tcp", "10.30.0.12", 9),
        ("udp", "10.30.0.12", 9),
        ("udp", "10.30.0.12", 443),
    }


def probe(**outcomes: str) -> OutboundProbe:
    attempts = tuple(
        Attempt(target, protocol, address, port, "root", outcomes[target], "", 1)  # type: ignore[arg-type]
        for target, protocol, address, port in aims(NODE)
    )
    return OutboundProbe("", (), attempts, parties={"root": ""})


#: What the role makes of a time server on the wire, as the kernel tells it.
ASKED = (
    "-A ufw-before-output -d 10.20.0.5/32 -o eno1 -p udp -m udp --dport 123 "
    "-m owner --uid-owner 103 -j ACCEPT"
)
SITE = Inventory(
    *(
        Path("/site/inventory.yml"),
        "example",
        Management(NETWORKS, (ip_address("10.20.0.1"),)),
        None,
        (NODE,),
    ),
    host=Host(Time("ntp", (ip_address("10.20.0.5"),))),
)
WITH_CLOCK = flows.declared_rules(SITE, NODE, DEVICES)


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("", "", True),
        ("10.20.0.5/32", "10.20.0.6/32", False),
        ("-d 10.20.0.5/32 ", "", False),
        ("-o eno1", "-o data", False),
        ("-o eno1 ", "", False),
        ("--dport 123", "--dport 53", False),
        ("-p udp -m udp", "-p tcp -m tcp", False),
        ("-m owner --uid-owner 103 ", "", False),
        ("--uid-owner 103", "--uid-owner 0", False),
        ("--uid-owner 103", "! --uid-owner 103", False),
    ],
)
def test_the_sites_clock_may_be_asked_by_one_user_and_no_other(old: str, new: str, *, kept: bool) -> None:
    v4 = V4.replace("COMMIT", f"{ASKED.replace(old, new, 1)}\nCOMMIT")
    assert (broken(v4=v4, declared=WITH_CLOCK) == set()) is kept
    assert broken(v4=v4) == {"out"}


def test_a_clock_that_nobody_may_ask_is_found() -> None:
    found = judged(declared=WITH_CLOCK)["out"]
    assert not found.kept
    assert found.found == "out over eno1: udp to 10.20.0.5 port 123 by one user alone: no rule lets it out"


def test_a_clock_is_asked_over_the_interface_that_reaches_it() -> None:
    beyond = Route(ip_network("10.90.0.0/24"), ip_address("10.30.0.1"))
    routed = replace(NODE, interfaces=(NODE.interfaces[0], replace(NODE.interfaces[1], routes=(beyond,))))
    servers = tuple(map(ip_address, ("10.90.0.5", "fd30::5", "192.0.2.5")))
    found = flows.time_rules(routed, servers, {"mgmt": "eno1", "data": "data"})
    assert [(each.device, each.peer) for each in found] == [("data", "10.90.0.5"), ("data", "fd30::5")]


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        ("sent", True),
        ("reached", True),
        ("denied", False),
        ("no-route", False),
        ("error", False),
        ("silent", False),
    ],
)
def test_a_flow_works_when_it_leaves_the_node(outcome: str, *, kept: bool) -> None:
    finding = flows.judge_flows(probe(flow=outcome, beside="denied"), NODE)
    assert finding.kept is kept
    assert bool(finding.reason) is (outcome in {"no-route", "error", "silent"})


@pytest.mark.parametrize(("outcome", "kept"), [("denied", True), ("sent", False), ("reached", False)])
def test_what_is_beside_a_flow_must_not(outcome: str, *, kept: bool) -> None:
    assert flows.judge_beside(probe(flow="sent", beside=outcome), NODE).kept is kept


def test_flows_that_were_not_tried_are_not_called_kept() -> None:
    nothing = OutboundProbe("", (), (), parties={"root": "no python3"})
    assert flows.judge_flows(nothing, NODE).reason == "no python3"
    assert flows.judge_beside(nothing, NODE).reason


def test_a_node_without_flows_has_nothing_to_try() -> None:
    plain = NodeEntry("gpu-01", "ssh", NODE.address, 22, NODE.interfaces)
    assert aims(plain) == []
    nothing = OutboundProbe("", (), ())
    assert flows.judge_flows(nothing, plain).kept
    assert flows.judge_beside(nothing, plain).kept


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("tcp LISTEN 0 9 10.30.0.11:50001 0.0.0.0:*", True),
        ("tcp LISTEN 0 9 10.30.0.11:51000 0.0.0.0:*", False),
        ("udp UNCONN 0 0 10.30.0.11:50001 0.0.0.0:*", False),
        ("udp UNCONN 0 0 0.0.0.0:5140 0.0.0.0:*", False),  # a flow outwards serves nobody
    ],
)
def test_who_serves_a_flow_may_listen(line: str, *, kept: bool) -> None:
    found = sockets.parse_sockets(f"tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\n{line}")
    assert sockets.judge_listening(found, 22, NODE.flows).kept is kept


# --- at boot ------------------------------------------------------------------------------------

ORDER = """\
Id=ufw.service
Wants=network-pre.target local-fs.target
Before=network-pre.target multi-user.target
After=local-fs.target

Id=systemd-networkd.service
Wants=network.target
Before=network.target
After=systemd-udevd.service network-pre.target
"""


@pytest.mark.parametrize(
    ("old", "kept"),
    [
        ("nothing", True),
        ("Before=network-pre.target ", False),
        ("Wants=network-pre.target ", False),
        (" network-pre.target\n", False),
    ],
)
def test_rules_that_would_come_after_the_network_are_found(old: str, *, kept: bool) -> None:
    changed = ORDER.replace(old, f"{old[: old.find('=') + 1]}other ", 1)
    assert (changed == ORDER) is kept
    assert rules.judge_order(changed if kept else changed + "\n").kept is kept
