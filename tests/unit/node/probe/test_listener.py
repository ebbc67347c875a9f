"""Who listens, which doors are shut, and how the kernel says so."""

from __future__ import annotations

import errno
import socket
import subprocess
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from appliance.node import probe_attempts
from appliance.node.probe_inbound import Door, knock
from appliance.node.probe_listener import Listener
from tests.unit.node.probe.rooms import Room, inside

if TYPE_CHECKING:
    import pytest


def test_a_dead_listener_is_said_to_be_dead(room: Room) -> None:
    """Without a witness that works, silence at the other end proves nothing."""
    filtered = "table inet f { chain c { type filter hook input priority 0; meta l4proto udp drop ; }; }"
    with inside(room.station):
        subprocess.run(["nft", "-f", "-"], input=filtered.encode(), check=True)
    probe = room.probe()
    assert {each.alive for each in probe.endpoints if each.protocol == "udp"} == {False}
    assert {each.alive for each in probe.endpoints if each.protocol == "tcp"} == {True}
    assert all(
        each.arrived is None for each in probe.attempts if each.protocol == "udp" and each.target == "ntp"
    )


def test_an_address_that_is_not_the_stations_own_has_no_listener() -> None:
    with Listener([ip_address("192.0.2.254")], "token") as listener:
        endpoints = listener.try_out()
    assert not any(endpoint.witnessed or endpoint.alive for endpoint in endpoints)
    assert all(endpoint.trouble for endpoint in endpoints)


def test_the_listener_notes_only_whole_tokens_of_its_own_run() -> None:
    with Listener([ip_address("127.0.0.1")], "run-a") as listener:
        port = next(each.port for each in listener.endpoints if each.protocol == "udp")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.settimeout(2)
            for word in (b"run-b-1", b"run-a-1"):
                link.sendto(word, ("127.0.0.1", port))
                assert link.recv(100) == word
        assert listener.arrived("run-a-1")
        assert not listener.arrived("run-b-1")
        assert not listener.arrived("run-a")


def test_a_refused_door_is_closed_and_an_open_one_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        doors = [
            Door("port", "tcp", "127.0.0.1", "127.0.0.1", each.getsockname()[1]) for each in (server, taken)
        ]
        first, second = knock(doors, seconds=2)
    assert (first.outcome, second.outcome) == ("reached", "denied")


def test_no_route_is_told_by_the_kernel_and_not_by_how_quickly_it_came(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow node the same error takes longer than an answer from a quick network."""

    def slow(address: str, *_: object) -> tuple[str, str]:
        time.sleep(2 * probe_attempts.AT_ONCE)
        raise OSError(errno.ENETUNREACH, address)

    monkeypatch.setitem(probe_attempts.ATTEMPTS, "tcp", slow)
    target = {"target": "elsewhere", "protocol": "tcp", "port": 443}
    with inside(room.station):
        for address in ("198.51.100.1", "2001:db8::1"):
            found = probe_attempts.attempt({**target, "address": address}, "root", "token", 1)
            assert (found["outcome"], found["detail"]) == ("no-route", "ENETUNREACH")
        # The counterpart: where there is a route, it is somebody else who says so, and the packet was out.
        for address in ("10.213.0.99", "fd13::99"):
            found = probe_attempts.attempt({**target, "address": address}, "root", "token", 1)
            assert found["outcome"] == "silent"
