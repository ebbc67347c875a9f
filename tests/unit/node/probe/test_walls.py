"""A closed node reaches nothing, and every hole is the one that is found."""

from __future__ import annotations

import pytest

from tests.unit.node.probe.rooms import Room, by_aim


def test_an_open_node_reaches_the_station_and_is_reached(room: Room) -> None:
    probe = room.probe()
    assert all(endpoint.alive for endpoint in probe.endpoints), probe.endpoints
    assert len(probe.endpoints) == 2 * 8
    listener = by_aim(probe, "listener")
    assert set(listener) == {"tcp-v4", "udp-v4", "icmp-v4", "tcp-v6", "udp-v6", "icmp-v6"}
    for attempts in listener.values():
        assert attempts[0].outcome == "reached"
        assert attempts[0].detail == "echo came back"
        assert attempts[0].arrived is True
    for name in ("tcp-v4", "tcp-v6"):  # a whole connection, and a SYN of our own making
        assert [each.detail for each in listener[name]] == ["echo came back", "answered"]
    for target in ("dns", "https", "quic", "ntp"):
        assert all(each.escaped for each in probe.attempts if each.target == target)
    own = [each for each in probe.inbound if each.target == "own"]
    assert len(own) == 4
    assert {each.outcome for each in own} == {"reached"}
    ssh = {each.who: each for each in probe.inbound if each.target == "ssh"}
    assert len(ssh) == 4
    assert {each.detail for each in ssh.values()} == {"SSH answers"}
    # nothing carries a packet beyond the wire, firewall or not
    assert not [str(each) for each in probe.attempts if each.target == "elsewhere" and each.escaped]
    assert [each for each in probe.attempts if each.target == "wire" and each.escaped]
    assert probe.names[0].addresses == ()


def test_a_closed_node_reaches_nothing_and_only_ssh_from_the_management_network_gets_in(room: Room) -> None:
    room.close()
    probe = room.probe()
    assert all(endpoint.alive for endpoint in probe.endpoints)
    tried = [each for each in probe.attempts if each.target != "own"]
    assert len(tried) > 30
    assert not [str(each) for each in tried if each.escaped]
    assert all(each.outcome == "reached" for each in probe.attempts if each.target == "own")
    doors = [each for each in probe.inbound if each.target in {"own", "port"}]
    assert len(doors) > 30
    assert not [str(each) for each in doors if each.outcome != "silent"]
    ssh = {each.who.split()[1]: each.outcome for each in probe.inbound if each.target == "ssh"}
    assert ssh == {
        "10.213.0.1": "reached",
        "fd13::1": "reached",
        "10.213.0.200": "silent",
        "fd13::2000": "silent",
    }


@pytest.mark.parametrize(
    ("hole", "escapes"),
    [
        ("udp dport 123 accept", {"udp-v4", "udp-v6"}),
        ("ip daddr 10.213.0.1 tcp dport 443 accept", {"tcp-v4"}),
        ("icmp type echo-request accept", {"icmp-v4"}),
        ("icmpv6 type echo-request accept", {"icmp-v6"}),
        ("ip daddr 224.0.0.0/4 accept", {"udp-v4"}),
        ("ip6 daddr ff02::/16 accept", {"udp-v6"}),
    ],
)
def test_one_hole_in_the_firewall_is_the_one_that_is_found(
    room: Room, hole: str, escapes: set[str]
) -> None:
    room.close(hole)
    probe = room.probe()
    found = {
        f"{each.protocol}-{each.family}" for each in probe.attempts if each.target != "own" and each.escaped
    }
    assert found == escapes


def test_a_packet_that_leaves_and_is_never_answered_counts_as_escaped(room: Room) -> None:
    """One way is enough to leak: the station's answers are thrown away on the node."""
    room.close("udp dport 53 accept")
    done = room.run("nft insert rule inet filter in udp sport 53 drop")
    assert done.returncode == 0
    leaks = [each for each in room.probe().attempts if each.target == "dns" and each.protocol == "udp"]
    assert len(leaks) == 2
    for leak in leaks:
        assert leak.outcome == "sent"
        assert leak.arrived is True
        assert leak.escaped


def test_a_connection_that_knocks_outside_and_is_never_answered_counts_as_escaped(room: Room) -> None:
    """The witness sees whole connections only; that a SYN left is told by the node's own kernel."""
    room.close("tcp dport 443 accept")
    assert room.run("nft insert rule inet filter in tcp sport 443 drop").returncode == 0
    leaks = [each for each in room.probe().attempts if each.target == "https" and each.escaped]
    assert [(each.family, each.outcome) for each in leaks] == [("v4", "sent"), ("v6", "sent")]


def test_a_datagram_that_gets_in_is_noticed_though_its_answer_stays_in(room: Room) -> None:
    room.close()
    assert room.run("nft insert rule inet filter in udp dport 20000-60000 accept").returncode == 0
    doors = {
        (each.protocol, each.address): each.arrived for each in room.probe().inbound if each.target == "own"
    }
    assert doors == {
        ("udp", "10.213.0.11"): True,
        ("udp", "fd13::11"): True,
        ("tcp", "10.213.0.11"): None,
        ("tcp", "fd13::11"): None,
    }


def test_a_route_alone_lets_nothing_out_while_the_firewall_stands(room: Room) -> None:
    room.close()
    assert room.run("ip route add default via 10.213.0.1").returncode == 0
    attempts = [each for each in room.probe().attempts if each.target == "elsewhere"]
    assert not [str(each) for each in attempts if each.escaped]
    assert {each.outcome for each in attempts if each.family == "v4"} == {"denied"}


def test_a_route_without_a_firewall_is_found(room: Room) -> None:
    assert room.run("ip route add default via 10.213.0.1").returncode == 0
    attempts = [
        each for each in room.probe().attempts if each.target == "elsewhere" and each.family == "v4"
    ]
    assert attempts
    assert all(each.escaped for each in attempts)
