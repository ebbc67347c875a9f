"""A node whose network was configured by Debian's ifupdown, with a gateway: taken over, and given back."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.node

INTERFACES = """\
source /etc/network/interfaces.d/*
auto lo
iface lo inet loopback
"""

ETHERNET = """\
auto {device}
iface {device} inet static
    address {address4}
    gateway {gateway4}
iface {device} inet6 static
    address {address6}
    gateway {gateway6}
"""


@pytest.fixture(scope="module")
def site(fresh_lab: Any, stage: Callable[[Any], None], new_site: Callable[[Any], Any]) -> Any:
    """The node after a reboot into ifupdown; systemd-networkd off."""
    node = fresh_lab.node
    stage(node)
    site = new_site(fresh_lab)
    site.components["system"]["packages"] = [*site.components["system"]["packages"], "ifupdown"]
    assert site.play(tags=("base",)).failed == {}
    device = json.loads(node.inside("ip -json -4 route show default").stdout)[0]["dev"]
    addresses = site.node["interfaces"][0]["addresses"]
    stanzas = ETHERNET.format(
        device=device,
        address4=addresses[0],
        gateway4=fresh_lab.operator[0],
        address6=addresses[1],
        gateway6=fresh_lab.operator[1],
    )
    for path, text in (("interfaces", INTERFACES), ("interfaces.d/racked", stanzas)):
        node.inside(f"mkdir -p /etc/network/interfaces.d; cat > /etc/network/{path} <<'END'\n{text}END\n")
    node.inside(
        "rm -f /etc/systemd/network/*; systemctl disable systemd-networkd.service systemd-networkd.socket;"
        "systemctl enable networking.service"
    )
    node.reboot()
    assert "active" in node.inside("systemctl is-active networking.service").stdout
    return site


def default_routes(node: Any) -> list[str]:
    listing = [
        json.loads(node.inside(f"ip -json {family} route show default").stdout) for family in ("-4", "-6")
    ]
    return [route["gateway"] for family in listing for route in family]


def units(node: Any) -> dict[str, str]:
    names = ["networking.service", "systemd-networkd.service"]
    return {name: node.inside(f"systemctl is-enabled {name}", check=False).stdout.strip() for name in names}


def test_an_unconfirmed_change_is_given_back(site: Any) -> None:
    node = site.lab.node
    before = default_routes(node)
    assert len(before) == 2
    done = site.play(before_confirmation="appliance-revert restore")
    assert list(done.failed) == ["Confirm the change over a fresh connection"], done.log
    assert json.loads(node.inside("cat /var/lib/appliance/revert/fired.json").stdout)["faults"] == []
    assert default_routes(node) == before
    assert node.inside("cat /etc/network/interfaces").stdout == INTERFACES
    assert units(node)["networking.service"] == "enabled"
    assert node.run("true", check=False).returncode == 0


def test_it_is_taken_over_and_stays_so(site: Any) -> None:
    node = site.lab.node
    began = time.monotonic()
    done = site.play()
    assert done.failed == {}, done.log
    assert time.monotonic() - began < site.site["revert_after"]
    assert default_routes(node) == []
    assert units(node)["networking.service"] == "disabled"
    assert site.play().changed == []
    node.reboot()
    assert default_routes(node) == []
    again = site.play()
    assert (again.failed, again.changed) == ({}, []), again.log
