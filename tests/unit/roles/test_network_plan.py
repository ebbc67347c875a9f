"""What differs from an isolated network, and which interfaces are meant."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

MAC = "02:00:00:00:00:01"


@pytest.fixture(scope="module")
def module(role_module: Callable[[str], Any]) -> Any:
    return role_module("network_isolation/library/static_network.py")


@pytest.fixture(scope="module")
def plan(module: Any) -> Any:
    return sys.modules[module.differences.__module__]


@pytest.fixture(scope="module")
def node(module: Any) -> Any:
    return module.node


@pytest.fixture
def wanted(plan: Any) -> Any:
    return plan.Wanted(
        addresses={"eno1": ("10.0.0.2/24", "fd00:0::2/64")},
        files={"/etc/resolv.conf": "# none\n"},
        settings={"ipv4/ip_forward": "0", "ipv6/conf/*/accept_ra": "0"},
        services_on=("systemd-networkd.service",),
        services_off=("networking.service",),
    )


@pytest.fixture
def isolated(plan: Any) -> Any:
    """A node on which nothing is to be done; each test changes one thing."""
    return plan.Observed(
        links=(plan.Link("eno1", MAC, hardware=True, addresses=("10.0.0.2/24", "fd00::2/64")),),
        files={"/etc/resolv.conf": "# none\n"},
        services={"systemd-networkd.service": plan.Service(active=True, enabled=True)},
        settings={"ipv4/ip_forward": "0", "ipv6/conf/eno1/accept_ra": "0"},
    )


def test_an_isolated_node_is_left_alone(plan: Any, wanted: Any, isolated: Any) -> None:
    assert plan.differences(wanted, isolated) == []


@pytest.mark.parametrize(
    ("change", "kind", "subject"),
    [
        ({"files": {"/etc/resolv.conf": "nameserver 10.0.0.1\n"}}, "file", "/etc/resolv.conf"),
        ({"files": {"/etc/resolv.conf": None}}, "file", "/etc/resolv.conf"),
        ({"foreign": ("/etc/netplan/50-cloud-init.yaml",)}, "foreign", "/etc/netplan/50-cloud-init.yaml"),
        ({"routes": ("-4 default via 10.0.0.1 dev eno1",)}, "route", "-4 default via 10.0.0.1 dev eno1"),
        ({"clients": {71: "dhclient"}}, "client", "71"),
        ({"settings": {"ipv6/conf/eno1/accept_ra": "2"}}, "setting", "ipv6/conf/eno1/accept_ra"),
        ({"settings": {"ipv4/ip_forward": "1"}}, "setting", "ipv4/ip_forward"),
    ],
)
def test_one_thing_that_is_not_as_wanted(
    plan: Any, wanted: Any, isolated: Any, *, change: dict[str, Any], kind: str, subject: str
) -> None:
    (found,) = plan.differences(wanted, replace(isolated, **change))
    assert (found.kind, found.subject) == (kind, subject)


@pytest.mark.parametrize(
    ("unit", "active", "enabled", "to"),
    [
        ("networking.service", True, False, "off"),
        ("networking.service", False, True, "off"),
        ("systemd-networkd.service", False, True, "on"),
        ("systemd-networkd.service", True, False, "on"),
    ],
)
def test_a_service_is_judged_by_running_and_by_starting_at_boot(
    plan: Any, wanted: Any, isolated: Any, *, unit: str, active: bool, enabled: bool, to: str
) -> None:
    services = {**isolated.services, unit: plan.Service(active=active, enabled=enabled)}
    (found,) = plan.differences(wanted, replace(isolated, services=services))
    assert (found.kind, found.subject, found.wanted) == ("service", unit, to)


def test_a_missing_address_and_a_surplus_one(plan: Any, wanted: Any, isolated: Any) -> None:
    link = replace(isolated.links[0], addresses=("10.0.0.2/16", "fd00::2/64", "fe80::1/64"))
    found = plan.differences(wanted, replace(isolated, links=(link,)))
    assert [(item.kind, item.subject) for item in found] == [
        ("address", "eno1 10.0.0.2/24"),
        ("surplus", "eno1 10.0.0.2/16"),
        ("surplus", "eno1 fe80::1/64"),
    ]


def test_an_interface_of_nobody_keeps_no_address(plan: Any, wanted: Any, isolated: Any) -> None:
    usb = plan.Link("usb0", "02:00:00:00:00:09", hardware=True, addresses=("169.254.3.1/24",))
    (found,) = plan.differences(wanted, replace(isolated, links=(*isolated.links, usb)))
    assert (found.kind, found.subject) == ("surplus", "usb0 169.254.3.1/24")


def interface(name: str = "mgmt", **match: str) -> dict[str, Any]:
    return {"name": name, "match": match, "addresses": ["10.0.0.2/24"]}


def test_a_mac_address_means_the_device_and_not_the_bridge_that_borrows_it(plan: Any) -> None:
    links = (plan.Link("br0", MAC, hardware=False), plan.Link("eno1", MAC, hardware=True))
    ((_, link),) = plan.resolve([interface(mac=MAC.upper())], links)
    assert link.name == "eno1"


@pytest.mark.parametrize(
    ("interfaces", "told"),
    [
        (
            [interface(name="x", mac="02:00:00:00:00:ff")],
            "interface x: 0 interfaces of this node match 02:00",
        ),
        (
            [{**interface(), "match": {"name": "eth7"}}],
            r"match eth7; the node has eno1 \(02:00:00:00:00:01\)",
        ),
        (
            [interface(mac=MAC), {**interface("data"), "match": {"name": "eno1"}}],
            "mgmt and data are both eno1",
        ),
    ],
)
def test_an_interface_that_cannot_be_found_is_named(plan: Any, interfaces: Any, told: str) -> None:
    with pytest.raises(plan.Impossible, match=told):
        plan.resolve(interfaces, (plan.Link("eno1", MAC, hardware=True),))


def test_two_devices_with_one_mac_address_are_refused(plan: Any) -> None:
    twins = tuple(plan.Link(name, MAC, hardware=True) for name in ("eno1", "eno2"))
    with pytest.raises(plan.Impossible, match="2 interfaces of this node match"):
        plan.resolve([interface(mac=MAC)], twins)


@pytest.mark.parametrize(
    ("name", "hardware", "known"),
    [
        ("eno1", True, {"match": {"macaddress": MAC}, "set-name": "eno1"}),
        ("eth0", True, {"match": {"macaddress": MAC}}),
        ("host0", False, {"match": {"name": "host0"}}),
    ],
)
def test_the_netplan_file(plan: Any, module: Any, name: str, hardware: bool, known: dict[str, Any]) -> None:
    """A card is known by its MAC address and keeps its name; everything automatic is off."""
    pairs = plan.resolve([interface(name="mgmt", mac=MAC)], (plan.Link(name, MAC, hardware=hardware),))
    written = yaml.safe_load(module.netplan_text(pairs))
    assert written["network"]["ethernets"] == {
        "mgmt": {
            **known,
            "dhcp4": False,
            "dhcp6": False,
            "accept-ra": False,
            "link-local": [],
            "optional": True,
            "ignore-carrier": True,
            "addresses": ["10.0.0.2/24"],
        }
    }
    assert set(written["network"]) == {"version", "renderer", "ethernets"}


ROUTES = json.dumps(
    [
        {"type": "unicast", "dst": "default", "gateway": "10.0.0.1", "dev": "eno1", "protocol": "static"},
        {"type": "unicast", "dst": "10.0.0.0/24", "dev": "eno1", "protocol": "kernel", "table": "main"},
        {"type": "local", "dst": "10.0.0.2", "dev": "eno1", "protocol": "kernel", "table": "local"},
        {
            "type": "unicast",
            "dst": "192.0.2.0/24",
            "dev": "eno1",
            "protocol": "boot",
            "table": "7",
            "metric": 5,
        },
        {"type": "unicast", "dst": "default", "gateway": "fe80::1", "dev": "eno1", "protocol": "ra"},
        {"type": "unreachable", "dst": "default", "dev": "lo", "protocol": "kernel"},
    ]
)


def test_every_route_but_the_kernels_own_is_found(node: Any) -> None:
    assert node.parse_routes("-4", ROUTES) == [
        "-4 default via 10.0.0.1 dev eno1",
        "-4 192.0.2.0/24 dev eno1 table 7 metric 5",
        "-4 default via fe80::1 dev eno1",
    ]


def test_links_without_loopback(node: Any) -> None:
    listing = json.dumps(
        [
            {
                "ifname": "lo",
                "flags": ["LOOPBACK", "UP"],
                "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}],
            },
            {
                "ifname": "eno1",
                "flags": ["BROADCAST", "UP"],
                "address": MAC,
                "addr_info": [
                    {"local": "10.0.0.2", "prefixlen": 24},
                    {"local": "fe80::1", "prefixlen": 64},
                ],
            },
        ]
    )
    (link,) = node.parse_links(listing, {"eno1": "/sys/devices/pci0000:00/0000:00:1f.6"}.__getitem__)
    assert (link.name, link.mac, link.hardware, link.pci) == ("eno1", MAC, True, "0000:00:1f.6")
    assert link.addresses == ("10.0.0.2/24", "fe80::1/64")


def test_a_pattern_of_units_stands_for_what_is_loaded_of_it(node: Any) -> None:
    listing = (
        "Id=networking.service\nActiveState=inactive\nUnitFileState=\n\n"
        "Id=ifup@eth0.service\nActiveState=active\nUnitFileState=static\n\n"
        "Id=ifup@eth1.service\nActiveState=inactive\nUnitFileState=static\n"
    )
    found = node.parse_services(listing, ("networking.service", "ifup@*.service"))
    assert (found["ifup@*.service"].active, found["networking.service"].active) == (True, False)


PARAMETERS: dict[str, Any] = {
    "netplan": "/nonexistent/90.yaml",
    "files": {},
    "files_if_folder": {},
    "settings": {},
    "services_on": [],
    "services_off": [],
    "replaced": "/nonexistent",
    "to_come": False,
}


@pytest.mark.parametrize("command", [["false"], ["/nonexistent"]])
def test_nothing_is_changed_when_the_revert_cannot_be_armed(
    module: Any, plan: Any, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard is the last thing before the first change."""
    links = (plan.Link("eno1", MAC, hardware=True),)
    monkeypatch.setattr(module.node, "read_links", lambda: links)
    monkeypatch.setattr(module.node, "observe", lambda _: plan.Observed(links=links))
    monkeypatch.setattr(module.node, "validate_netplan", lambda *_: None)
    monkeypatch.setattr(module.shutil, "which", lambda _: "/usr/sbin/netplan")
    monkeypatch.setattr(module, "change", lambda *_: pytest.fail("changed without a revert"))
    parameters = {
        **PARAMETERS,
        "interfaces": [interface(mac=MAC)],
        "before_change": command,
    }
    with pytest.raises((plan.Impossible, OSError)):
        module.bring_about(parameters, check=False)


def test_a_clean_node_without_netplan_is_refused_unless_it_is_to_come(
    module: Any, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.node, "read_links", lambda: (plan.Link("eno1", MAC, hardware=True),))
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    parameters = {
        **PARAMETERS,
        "interfaces": [interface(mac=MAC)],
    }
    for check in (True, False):
        with pytest.raises(plan.Impossible, match="netplan is not installed on this node and not among"):
            module.bring_about(parameters, check=check)


def test_a_failed_command_is_told_with_what_it_wrote(node: Any, plan: Any) -> None:
    with pytest.raises(plan.Impossible, match=r"sh -c echo no >&2; exit 3 ended with 3: no"):
        node.run("sh", "-c", "echo no >&2; exit 3")
    with pytest.raises(plan.Impossible, match="is not installed"):
        node.run("appliance-no-such-program")


def test_what_is_put_aside_keeps_its_path(node: Any, tmp_path: Any) -> None:
    original = tmp_path / "etc/netplan/50.yaml"
    original.parent.mkdir(parents=True)
    original.write_text("network: {}\n")
    node.put_aside(str(original), str(tmp_path / "kept"))
    assert not original.exists()
    assert (tmp_path / f"kept{original}").read_text() == "network: {}\n"


def test_a_link_is_replaced_and_its_target_left_alone(node: Any, tmp_path: Any) -> None:
    """systemd-resolved's resolv.conf is a link into /run."""
    target, link = tmp_path / "stub", tmp_path / "resolv.conf"
    target.write_text("nameserver 127.0.0.53\n")
    link.symlink_to(target)
    assert node.read_text(str(link)) is None
    node.write(str(link), "# none\n", 0o644)
    assert not link.is_symlink()
    assert target.read_text() == "nameserver 127.0.0.53\n"
    assert subprocess.run(["stat", "-c", "%a", link], capture_output=True, check=True).stdout == b"644\n"
