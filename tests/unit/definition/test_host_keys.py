"""How a node keeps quiet, as an operator writes it: time, media, modules, banner, own units."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.definition.host import BANNER, Audit, Host
from appliance.definition.inventory import settings_digest, site_values
from appliance.definition.inventory_schema import parse_inventory
from appliance.errors import InventoryInvalid

PATH = Path("/site/inventory.yml")

VALID = """\
format: 1
site: example
management: {networks: ["10.20.0.0/28"], operator: ["10.20.0.1"]}
ssh: {known_hosts: known_hosts}
nodes:
  gpu-01:
    address: "10.20.0.11"
    interfaces:
      mgmt: {match: {name: eno1}, addresses: ["10.20.0.11/24"]}
  gpu-02:
    address: "10.20.0.12"
    interfaces:
      mgmt: {match: {name: eno1}, addresses: ["10.20.0.12/24"]}
      data: {match: {name: eno2}, addresses: ["10.30.0.12/24", "fd30::12/64"]}
"""


def parse(more: str) -> Host:
    return parse_inventory(VALID + more, PATH)[0].host


def test_without_a_word_a_node_runs_free_refuses_usb_storage_and_has_a_banner() -> None:
    host = parse("")
    assert host.as_dict() == {
        "time": {"source": "none", "servers": [], "interface": ""},
        "usb_storage": "deny",
        "module_loading": "open",
        "banner": BANNER,
        "known_units": {},
    }


def test_every_key_arrives_where_roles_read_it() -> None:
    inventory, _ = parse_inventory(
        VALID
        + 'time: {source: ntp, servers: ["10.20.0.5"]}\nusb_storage: allow\nmodule_loading: locked\n'
        + "banner: |\n  Keep out.\n  Really.\n"
        + "known_units: {hospital-agent@*.service: reports temperatures on loopback}\n",
        PATH,
    )
    assert site_values(inventory)["host"] == {
        "time": {"source": "ntp", "servers": ["10.20.0.5"], "interface": ""},
        "usb_storage": "allow",
        "module_loading": "locked",
        "banner": "Keep out.\nReally.\n",
        "known_units": {"hospital-agent@*.service": "reports temperatures on loopback"},
    }


def test_a_daily_audit_is_at_half_past_three_unless_the_site_says_when() -> None:
    assert parse("audit: {}\n").audit == parse("audit: {daily: false}\n").audit == Audit()
    assert parse("audit: {daily: true}\n").audit == Audit(daily=True, at="03:30")
    for at in ("00:00", "13:05", "23:59"):
        host = parse(f"audit: {{daily: true, at: {at}}}\n")
        assert host.as_dict()["audit"] == {"at": at}


def test_who_asks_for_no_audit_keeps_the_digest_of_before() -> None:
    assert "audit" not in parse("audit: {daily: false}\n").as_dict()


def test_the_grandmaster_is_heard_on_a_named_interface() -> None:
    assert parse("time: {source: ptp, interface: mgmt}\n").time.interface == "mgmt"


@pytest.mark.parametrize(
    "line",
    [
        "usb_storage: allow",
        "module_loading: locked",
        "banner: Keep out.",
        "time: {source: ntp, servers: ['10.20.0.5']}",
        "audit: {daily: true}",
    ],
)
def test_each_of_them_makes_another_installation(line: str) -> None:
    plain, changed = (parse_inventory(VALID + more, PATH)[0] for more in ("", f"{line}\n"))
    assert settings_digest(plain, plain.nodes[0]) != settings_digest(changed, changed.nodes[0])


# what is written, column of the complaint in line 15, words of the message
CATALOGUE = {
    "ntp without servers": ("time: {source: ntp}", 1, "needs servers"),
    "servers without ntp": ('time: {servers: ["10.20.0.5"]}', 17, "no time is asked for"),
    "servers with ptp": ('time: {source: ptp, servers: ["10.20.0.5"]}', 30, "by itself"),
    "server by name": ("time: {source: ntp, servers: [pool.example]}", 31, "asks no name server"),
    "server is a number": ("time: {source: ntp, servers: [10]}", 31, "must be text"),
    "server with a zone": ('time: {source: ntp, servers: ["fe80::1%eno1"]}', 31, "zone"),
    "server off the link": ('time: {source: ntp, servers: ["10.99.0.5"]}', 31, "no gateway"),
    "server twice": ('time: {source: ntp, servers: ["10.20.0.5", "10.20.0.5"]}', 44, "twice"),
    "server for one node only": (
        'time: {source: ntp, servers: ["10.30.0.5"]}',
        30,
        "gpu-01 could reach none",
    ),
    "server is a node": ('time: {source: ntp, servers: ["10.20.0.11"]}', 31, "gpu-01 itself"),
    "interface with ntp": (
        'time: {source: ntp, servers: ["10.20.0.5"], interface: mgmt}',
        *(56, "for PTP alone"),
    ),
    "ptp on nobody knows which port": ("time: {source: ptp}", 1, "has 2 interfaces"),
    "ptp on a port that one node lacks": (
        "time: {source: ptp, interface: data}",
        32,
        "gpu-01 has no interface",
    ),
    "unknown source": ("time: {source: gps}", 16, "source"),
    "unknown key": ("time: {pool: x}", 8, "unknown key 'pool'"),
    "usb storage perhaps": ("usb_storage: maybe", 14, "usb_storage"),
    "modules perhaps": ("module_loading: true", 17, "module_loading"),
    "no banner": ("banner: ''", 9, "warns nobody"),
    "banner with an escape": ('banner: "a\\eb"', 9, "control characters"),
    "banner with a backslash": ("banner: 'a\\d'", 9, "backslashes"),
    "banner too wide": (f"banner: {'x' * 81}", 9, "at most 24 lines"),
    "banner too long": ('banner: "' + "x\\n" * 25 + '"', 9, "at most 24 lines"),
    "a unit that is none": ("known_units: {agent: because we say so}", 15, "is not a name"),
    "audit perhaps": ("audit: {daily: maybe}", 16, "audit.daily"),
    "audit by a word": ("audit: daily", 8, "audit"),
    "audit at a number": ("audit: {daily: true, at: 1330}", 26, "put it in quotes"),
    "audit at an hour": ('audit: {daily: true, at: "3"}', 26, "not a time of day"),
    "audit after midnight": ('audit: {daily: true, at: "24:00"}', 26, "not a time of day"),
    "audit at a calendar event": ('audit: {daily: true, at: "Mon 03:30"}', 26, "not a time of day"),
    "audit at two times": ('audit: {daily: true, at: "03:30\\n04:00"}', 26, "not a time of day"),
    "a time for no audit": ('audit: {at: "03:30"}', 13, "no daily audit is asked for"),
    "audit every hour": ("audit: {hourly: true}", 9, "unknown key 'hourly'"),
    "a unit without a reason": ("known_units: {agent.service: ok}", 30, "known_units"),
}


ROUTED = VALID.replace(
    'addresses: ["10.20.0.11/24"]}',
    'addresses: ["10.20.0.11/24"], routes: [{to: "10.30.0.0/24", via: "10.20.0.9"}]}',
)
FLOW = (
    "    flows: {f: {interface: data, direction: DIRECTION, protocol: PROTOCOL, ports: [PORTS], "
    "peers: [PEER]}}\n"
)


def test_a_clock_behind_a_listed_route_is_within_reach() -> None:
    assert parse_inventory(ROUTED + 'time: {source: ntp, servers: ["10.30.0.5"]}\n', PATH)[
        0
    ].host.time.servers


@pytest.mark.parametrize(
    ("direction", "protocol", "ports", "peer", "refused"),
    [
        ("out", "udp", "123", "10.30.0.5", True),
        ("both", "udp", '"100-200"', "10.30.0.5", True),
        ("in", "udp", "123", "10.30.0.5", False),
        ("out", "tcp", "123", "10.30.0.5", False),
        ("out", "udp", "124", "10.30.0.5", False),
        ("out", "udp", "123", "10.30.0.6", False),
    ],
)
def test_no_flow_asks_the_clock_beside_chrony(
    direction: str, protocol: str, ports: str, peer: str, *, refused: bool
) -> None:
    """Without answers it would even silence the clock: what comes back from port 123 would be dropped."""
    flow = FLOW.replace("DIRECTION", direction).replace("PROTOCOL", protocol)
    text = ROUTED + flow.replace("PORTS", ports).replace("PEER", f'"{peer}"')
    text += 'time: {source: ntp, servers: ["10.30.0.5"]}\n'
    if not refused:
        assert parse_inventory(text, PATH)[0].nodes[1].flows
        return
    with pytest.raises(InventoryInvalid) as caught:
        parse_inventory(text, PATH)
    assert "flow f is with a time server" in caught.value.message
    assert caught.value.where is not None
    assert caught.value.where.line == 15


@pytest.mark.parametrize("case", CATALOGUE)
def test_a_wrong_word_is_refused_at_its_place(case: str) -> None:
    line, column, words = CATALOGUE[case]
    with pytest.raises(InventoryInvalid) as caught:
        parse(f"{line}\n")
    error = caught.value
    assert words in error.message
    assert error.where is not None
    assert (error.where.line, error.where.column) == (15, column), error.message
