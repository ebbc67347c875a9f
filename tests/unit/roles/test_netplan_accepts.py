"""The real netplan takes what we write, oldest and newest, and makes of it what is wanted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.roles.test_network_links import INTERFACES
from tests.unit.roles.unpacked import PYTHONS, enter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.archive


@pytest.fixture(scope="module", params=sorted(PYTHONS))
def root(request: pytest.FixtureRequest, unpacked: Callable[[str], Path]) -> Path:
    return unpacked(request.param)


def generate(root: Path, text: str) -> tuple[int, str, dict[str, str]]:
    """Let netplan read the text; its status, what it complained of, and networkd's files by name."""
    place = "run/try"
    script = f"""
cd /; rm -rf {place}; mkdir -p {place}/etc/netplan; umask 077; cat >{place}/etc/netplan/90.yaml <<'END'
{text}
END
netplan generate --root-dir /{place}
"""
    done = enter(root, script)
    made = sorted((root / f"{place}/run/systemd/network").glob("*"))
    return done.returncode, done.stderr, {path.name: path.read_text() for path in made}


@pytest.fixture
def text(role_module: Callable[[str], Any]) -> str:
    module = role_module("network_isolation/library/static_network.py")
    plan = sys.modules[module.differences.__module__]
    cards = (
        plan.Link("eno1", "02:00:00:00:00:01", hardware=True, pci="0000:18:00.0"),
        plan.Link("ens3f0np0", "02:00:00:00:00:02", hardware=True, pci="0000:5e:00.0"),
        plan.Link("ens3f1np1", "02:00:00:00:00:03", hardware=True, pci="0000:5e:00.1"),
    )
    written: str = module.netplan_text(plan.resolve([*INTERFACES[:-1], STORAGE], cards))
    return written


STORAGE = {**INTERFACES[-1], "mtu": 9000}

EXPECTED = {
    "10-netplan-mgmt.network": [
        *("PermanentMACAddress=02:00:00:00:00:01", "LinkLocalAddressing=no", "Address=10.20.0.11/24"),
        *(
            "IPv6AcceptRA=no",
            "ConfigureWithoutCarrier=yes",
            "Destination=10.21.0.0/28",
            "Gateway=10.20.0.2",
        ),
    ],
    "10-netplan-mgmt.link": ["PermanentMACAddress=02:00:00:00:00:01", "Name=eno1"],
    "10-netplan-data0.network": ["PermanentMACAddress=02:00:00:00:00:02", "Bond=data", "IPv6AcceptRA=no"],
    "10-netplan-data1.link": ["Name=ens3f1np1"],
    "10-netplan-data.netdev": ["Kind=bond", "Mode=802.3ad", "LACPTransmitRate=fast", "MIIMonitorSec=100ms"],
    "10-netplan-data.network": [
        *("LinkLocalAddressing=ipv6", "Address=fd30::11/64", "IPv6AcceptRA=no", "VLAN=storage"),
        *("Destination=fd40::/48", "Gateway=fd30::1", "MTUBytes=9000"),
    ],
    "10-netplan-storage.netdev": ["Kind=vlan", "Id=120"],
    "10-netplan-storage.network": ["LinkLocalAddressing=no", "Address=10.50.0.11/24", "IPv6AcceptRA=no"],
}


def test_netplan_makes_of_it_what_is_wanted(root: Path, text: str) -> None:
    status, complaint, files = generate(root, text)
    assert status == 0, complaint
    for name, lines in EXPECTED.items():
        found = files[name].splitlines()
        assert [line for line in lines if line not in found] == [], files[name]


def test_nothing_automatic_and_no_gateway_is_left(root: Path, text: str) -> None:
    _, _, files = generate(root, text)
    networks = {name: body for name, body in files.items() if name.endswith(".network")}
    assert len(networks) == 5
    for name, body in networks.items():
        assert "DHCP=" not in body, name
        assert "DNS=" not in body, name
        assert "IPv6AcceptRA=no" in body.splitlines(), name
        assert "Destination=0.0.0.0/0" not in body, name


def test_what_netplan_does_not_take_is_told_with_its_place(root: Path, text: str) -> None:
    """The last guard before files are replaced: the module lets netplan read the file like this."""
    status, complaint, _ = generate(root, text.replace("link: data", "link: date"))
    assert status != 0
    assert "date" in complaint
