"""A station and a node, each a network namespace, a cable between them."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.definition.inventory import Interface, Inventory, Management, Match, NodeEntry
from tests.unit.node.probe.rooms import SERVER, Room, sh

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def room() -> Iterator[Room]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    station, node = f"apq-st-{os.getpid()}", f"apq-nd-{os.getpid()}"
    server = None
    try:
        sh(f"ip netns add {station} && ip netns add {node}")
        sh(f"ip -n {station} link add cable type veth peer name eth0 netns {node}")
        for space, link, addresses in (
            (station, "cable", ("10.213.0.1/24", "10.213.0.200/24", "fd13::1/64", "fd13::2000/64")),
            (node, "eth0", ("10.213.0.11/24", "fd13::11/64")),
        ):
            sh(f"ip -n {space} link set lo up && ip -n {space} link set {link} up")
            for address in addresses:
                sh(f"ip -n {space} address add {address} dev {link} {'nodad' if ':' in address else ''}")
        server = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{node}", sys.executable, "-c", SERVER],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout
        port = int(server.stdout.readline())
        addresses = tuple(map(ip_interface, ("10.213.0.11/24", "fd13::11/64")))
        entry = NodeEntry(
            "n1",
            "ssh",
            ip_address("10.213.0.11"),
            port,
            (Interface("mgmt", Match(name="eth0"), addresses),),
        )
        management = Management(
            networks=(ip_network("10.213.0.0/28"), ip_network("fd13::/124")),
            operator=(ip_address("10.213.0.1"), ip_address("fd13::1")),
            foreign=(ip_address("10.213.0.200"), ip_address("fd13::2000")),
        )
        yield Room(station, node, Inventory(Path("inventory.yml"), "test", management, None, (entry,)))
    finally:
        if server:
            server.kill()
            server.wait()
        for space in (station, node):
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)
