"""What a node says of its addresses, routes and sockets, judged; recorded on a qualified practice node."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from appliance.definition.inventory import Interface, Match, NodeEntry
from appliance.node.qualification import routes, sockets

RECORDED = Path(__file__).with_name("recorded")
NODE = NodeEntry(
    "apq-01",
    "ssh",
    ip_address("10.77.1.11"),
    22,
    (
        Interface(
            "mgmt",
            Match(mac="02:00:0a:4d:01:0b"),
            tuple(map(ip_interface, ("10.77.1.11/24", "fd77:1::11/64"))),
        ),
    ),
)


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def test_the_recorded_node_keeps_every_promise() -> None:
    for finding in (
        routes.judge_routes(recorded("routes.txt"), NODE),
        routes.judge_addresses(recorded("addresses.json"), NODE),
        routes.judge_autoconfiguration(recorded("autoconfiguration.txt")),
        routes.judge_name_servers("# none\noptions timeout:1\nnameserver 127.0.0.53\n"),
        routes.judge_forwarding("net.ipv4.ip_forward = 0\nnet.ipv6.conf.all.forwarding = 0\n"),
        sockets.judge_listening(sockets.parse_sockets(recorded("sockets.txt")), 22),
    ):
        assert finding.kept, finding


@pytest.mark.parametrize(
    ("route", "found"),
    [
        ({"dst": "default", "gateway": "10.77.1.1", "dev": "host0"}, "default via 10.77.1.1 dev host0"),
        ({"dst": "default", "dev": "host0", "table": "77"}, "default dev host0 table 77"),
        ({"dst": "10.77.1.64/26", "gateway": "10.77.1.9", "dev": "host0"}, "10.77.1.64/26 via 10.77.1.9"),
        ({"dst": "0.0.0.0/1", "dev": "host0"}, "0.0.0.0/1 dev host0"),
        ({"dst": "10.77.0.0/16", "dev": "host0"}, "10.77.0.0/16 dev host0"),
        ({"dst": "10.9.9.9", "via": {"family": "inet6", "host": "fe80::1"}}, "10.9.9.9 via fe80::1"),
        (
            {"dst": "default", "nexthops": [{"gateway": "10.77.1.1"}, {"gateway": "10.77.1.2"}]},
            "default via 10.77.1.1, 10.77.1.2",
        ),
        (
            {"dst": "2000::/3", "gateway": "fe80::1", "dev": "host0", "protocol": "ra"},
            "2000::/3 via fe80::1",
        ),
    ],
)
def test_a_route_off_the_wire_is_found(route: dict[str, Any], found: str) -> None:
    finding = routes.judge_routes(recorded("routes.txt") + json.dumps([route]), NODE)
    assert not finding.kept
    assert finding.found.startswith(found)


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
def test_a_route_that_refuses_is_no_way_out(kind: str) -> None:
    listing = recorded("routes.txt") + json.dumps([{"type": kind, "dst": "default"}])
    assert routes.judge_routes(listing, NODE).kept


def test_no_routes_at_all_is_a_way_to_have_none() -> None:
    """The command prints nothing for an empty table."""
    assert routes.judge_routes("\n\n", NODE).kept


def address(**changed: Any) -> dict[str, Any]:
    return {"family": "inet", "local": "10.99.0.1", "prefixlen": 24, "scope": "global"} | changed


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda link: link["addr_info"].append(address()), "host0: 10.99.0.1/24 is not in the inventory"),
        (lambda link: link["addr_info"].pop(0), "host0: 10.77.1.11/24 is missing"),
        (
            lambda link: link["addr_info"][0].update(dynamic=True),
            "host0: 10.77.1.11/24 was given by the network",
        ),
        (lambda link: link["addr_info"][0].update(prefixlen=16), "host0: 10.77.1.11/24 is missing"),
        (lambda link: link.update(address="02:00:00:00:00:99"), "no interface 02:00:0a:4d:01:0b (mgmt)"),
    ],
)
def test_another_address_is_found(change: Any, found: str) -> None:
    links = json.loads(recorded("addresses.json"))
    change(next(link for link in links if link["ifname"] == "host0"))
    finding = routes.judge_addresses(json.dumps(links), NODE)
    assert not finding.kept
    assert found in finding.found


def test_an_address_on_another_interface_is_found() -> None:
    links = json.loads(recorded("addresses.json"))
    links.append({"ifname": "eth9", "link_type": "ether", "address": "x", "addr_info": [address()]})
    finding = routes.judge_addresses(json.dumps(links), NODE)
    assert finding.found == "eth9: 10.99.0.1/24 is not in the inventory"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("interface e0 kernel-ra=1 managed= networkd-ra= dhcp=", "e0: the kernel accepts router"),
        ("interface e0 kernel-ra=0 managed=yes networkd-ra= dhcp=", "e0: systemd-networkd accepts router"),
        ("interface e0 kernel-ra=0 managed=yes networkd-ra=no dhcp=ipv4", "e0: DHCP=ipv4"),
        ("lease /run/systemd/netif/leases/2", "lease: /run/systemd/netif/leases/2"),
        ("client dhclient", "client: dhclient"),
    ],
)
def test_a_way_to_be_configured_from_the_wire_is_found(line: str, found: str) -> None:
    finding = routes.judge_autoconfiguration(recorded("autoconfiguration.txt") + line)
    assert not finding.kept
    assert finding.found.startswith(found)


def test_a_name_server_is_found() -> None:
    finding = routes.judge_name_servers(
        "nameserver 10.0.0.1\nnameserver fe80::1%eth0\n#nameserver 10.0.0.2\n"
    )
    assert (finding.kept, finding.found) == (False, "10.0.0.1\nfe80::1%eth0")


def test_forwarding_is_found_and_silence_is_not_taken_for_off() -> None:
    assert routes.judge_forwarding("net.ipv4.ip_forward = 0\nnet.ipv6.conf.all.forwarding = 1").found == (
        "net.ipv6.conf.all.forwarding = 1"
    )
    assert not routes.judge_forwarding("").kept


@pytest.mark.parametrize(
    "line",
    [
        'tcp LISTEN 0 128 0.0.0.0:8000 0.0.0.0:* users:(("python",pid=9,fd=3))',
        'tcp LISTEN 0 128 *:80 *:* users:(("nginx",pid=9,fd=3))',
        'udp UNCONN 0 0 10.77.1.11%host0:68 0.0.0.0:* users:(("systemd-network",pid=9,fd=3))',
        "udp UNCONN 0 0 [::]:5353 [::]:*",
    ],
)
def test_a_socket_open_to_the_outside_is_found(line: str) -> None:
    finding = sockets.judge_listening(sockets.parse_sockets(recorded("sockets.txt") + line), 22)
    assert not finding.kept
    assert "port 22 " not in finding.found


@pytest.mark.parametrize("where", ["127.0.0.53%lo:53", "[::1]:6010", "127.0.0.1:25"])
def test_a_socket_on_loopback_is_nobodys_business(where: str) -> None:
    line = f"udp UNCONN 0 0 {where} 0.0.0.0:*"
    assert sockets.judge_listening(sockets.parse_sockets(recorded("sockets.txt") + line), 22).kept


def test_a_node_without_ssh_is_not_fine() -> None:
    assert not sockets.judge_listening([], 22).kept


def test_the_service_listens_on_loopback_only() -> None:
    found = sockets.parse_sockets(recorded("sockets.txt"))
    pids = frozenset({7272})
    assert sockets.judge_loopback_only(found, 8000, pids).kept
    assert not sockets.judge_loopback_only(found, 8001, pids).kept
    other = sockets.parse_sockets('tcp LISTEN 0 9 0.0.0.0:9 0.0.0.0:* users:(("python",pid=7272,fd=9))')
    assert sockets.judge_loopback_only(found + other, 8000, pids).found == "tcp 0.0.0.0 port 9 (python)"
