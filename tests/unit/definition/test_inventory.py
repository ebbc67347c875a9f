"""A catalogue of wrong inventories: each is refused by name, with the place of the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.definition.inventory import settings_digest, site_values
from appliance.definition.inventory_schema import FORBIDDEN, parse_inventory
from appliance.errors import GatewayForbidden, InventoryInvalid
from appliance.node.site import load_inventory, select_nodes

REPOSITORY = Path(__file__).resolve().parents[3]
PATH = Path("/site/inventory.yml")

VALID = """\
format: 1
site: example
management:
  networks: ["10.20.0.0/28", "fd20::/124"]
  operator: ["10.20.0.1", "fd20::1"]
  foreign: ["10.20.0.200"]
ssh:
  user: root
  key: keys/operator
  known_hosts: known_hosts
revert_after: 120
nodes:
  gpu-01:
    connection: ssh
    address: "10.20.0.11"
    port: 22
    interfaces:
      mgmt:
        match: {mac: "02:00:00:00:00:01"}
        addresses: ["10.20.0.11/24", "fd20::11/64"]
  gpu-02:
    address: "10.20.0.12"
    interfaces:
      mgmt:
        match: {name: eno1}
        addresses: ["10.20.0.12/24"]
      data:
        match: {name: eno2}
        addresses: ["10.30.0.12/24"]
inference:
  port: 8000
"""

# what is replaced, by what, line and column of the complaint, words of the message
CATALOGUE = {
    "octet above 255": ('address: "10.20.0.11"', "address: 192.168.1.522", 15, 14, "not an IP address"),
    "octet above 255 on an interface": ('"10.20.0.11/24"', '"10.20.0.522/24"', 20, 21, "not an address"),
    "address is a number": ('address: "10.20.0.11"', "address: 10", 15, 14, "must be text"),
    "address is a name": ('address: "10.20.0.11"', "address: gpu-01.lan", 15, 14, "not an IP address"),
    "leading zero": ('"10.20.0.11/24"', '"10.20.0.011/24"', 20, 21, "not an address"),
    "network address": ('"10.20.0.11/24"', '"10.20.0.0/24"', 20, 21, "address of the network"),
    "broadcast address": ('"10.20.0.11/24"', '"10.20.0.255/24"', 20, 21, "broadcast"),
    "subnet-router anycast address": ('"fd20::11/64"', '"fd20::/64"', 20, 38, "address of the network"),
    "no prefix length": ('"10.20.0.11/24"', '"10.20.0.11"', 20, 21, "prefix length is needed"),
    "prefix length too long": ('"10.20.0.11/24"', '"10.20.0.11/33"', 20, 21, "not an address"),
    "netmask for a prefix": ('"10.20.0.11/24"', '"10.20.0.11/255.255.255.0"', 20, 21, "in digits"),
    "prefix of everything": ('"10.20.0.11/24"', '"10.20.0.11/0"', 20, 21, "whole world"),
    "loopback": ('"10.20.0.11/24"', '"127.0.0.1/8"', 20, 21, "loopback"),
    "multicast": ('"10.20.0.11/24"', '"224.0.0.1/24"', 20, 21, "multicast"),
    "reserved": ('"10.20.0.11/24"', '"250.0.0.1/24"', 20, 21, "reserved"),
    "unspecified": ('"fd20::1"]', '"::"]', 5, 27, "unspecified"),
    "link-local": ('"fd20::11/64"', '"fe80::11/64"', 20, 38, "link-local"),
    "zone": ('"fd20::11/64"', '"fe80::11%eno1/64"', 20, 38, "zone"),
    "IPv4 inside IPv6": ('"fd20::11/64"', '"::ffff:10.20.0.9/64"', 20, 38, "IPv6 clothes"),
    "duplicate address between nodes": ('"10.20.0.12/24"', '"10.20.0.11/24"', 26, 21, "already belongs"),
    "duplicate address on one node": ('"fd20::11/64"', '"10.20.0.11/24"', 20, 38, "already belongs"),
    "address of the operator": ('"10.30.0.12/24"', '"10.20.0.201/30"', 29, 21, "overlaps"),
    "operator's own address": ('"fd20::11/64"', '"fd20::1/64"', 20, 38, "already belongs to this station"),
    "interfaces overlap": ('"10.30.0.12/24"', '"10.20.0.77/24"', 29, 21, "overlaps"),
    "node address not its own": ('address: "10.20.0.12"', 'address: "10.20.0.13"', 22, 14, "none of its"),
    "operator outside": (
        'operator: ["10.20.0.1"',
        'operator: ["10.20.0.99"',
        5,
        14,
        "not in the management",
    ),
    "operator of the other family": (
        'networks: ["10.20.0.0/28", "fd20::/124"]',
        'networks: ["fd20::/124"]',
        *(5, 14, "not in the management"),
    ),
    "operator twice": ('"fd20::1"]', '"10.20.0.1"]', 5, 27, "twice"),
    "foreign inside": ('["10.20.0.200"]', '["10.20.0.5"]', 6, 13, "inside the management"),
    "foreign twice": ('["10.20.0.200"]', '["10.20.0.200", "10.20.0.200"]', 6, 28, "twice"),
    "networks overlap": ('"fd20::/124"]', '"10.20.0.0/30"]', 4, 30, "overlaps"),
    "network with host bits": ('"10.20.0.0/28"', '"10.20.0.1/28"', 4, 14, "the network is 10.20.0.0/28"),
    "network of everything": ('"fd20::/124"]', '"::/0"]', 4, 30, "protects nothing"),
    "networks of everything in halves": (
        '"fd20::/124"]',
        '"0.0.0.0/1", "128.0.0.0/1"]',
        *(4, 30, "overlaps"),
    ),
    "networks that admit the world": (
        '["10.20.0.0/28", "fd20::/124"]',
        '["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/2", "fd20::/124"]',
        *(4, 13, "0.0.0.0/0 admit the world"),
    ),
    "network of a whole kind of addresses": (
        '"fd20::/124"]',
        '"fc00::/7"]',
        4,
        13,
        "fc00::/7 admit the world",
    ),
    "network without prefix": ('"10.20.0.0/28"', '"10.20.0.0"', 4, 14, "prefix length"),
    "network malformed": ('"10.20.0.0/28"', '"10.20.0/28"', 4, 14, "not a network"),
    "no networks": ('["10.20.0.0/28", "fd20::/124"]', "[]", 4, 13, "networks"),
    "no operator of the node's family": ('operator: ["10.20.0.1", ', "operator: [", 15, 14, "IPv4"),
    "operator off the link": (
        '"10.20.0.11/24"',
        '"10.20.0.11/29"',
        *(15, 14, "could not answer"),
    ),
    "the only address is wrong": ('"10.20.0.12/24"', '"10.20.0.512/24"', 26, 21, "not an address"),
    "no addresses": ('["10.20.0.12/24"]', "[]", 26, 20, "at least one"),
    "MAC too short": ('"02:00:00:00:00:01"', '"02:00:00:00:01"', 19, 22, "not a MAC address"),
    "MAC with hyphens": ('"02:00:00:00:00:01"', '"02-00-00-00-00-01"', 19, 22, "not a MAC address"),
    "MAC of many": ('"02:00:00:00:00:01"', '"ff:ff:ff:ff:ff:ff"', 19, 22, "many stations"),
    "MAC is a number": ('"02:00:00:00:00:01"', "20000000001", 19, 22, "must be text"),
    "duplicate MAC": ("{name: eno1}", '{mac: "02:00:00:00:00:01"}', 25, 22, "already belongs"),
    "MAC and name": (
        "{name: eno1}",
        '{name: eno1, mac: "02:00:00:00:00:02"}',
        25,
        9,
        "either mac or pci or name",
    ),
    "neither MAC nor name": ("{name: eno1}", "{}", 25, 9, "either mac or pci or name"),
    "one kernel name twice": ("{name: eno2}", "{name: eno1}", 28, 23, "same name"),
    "kernel name too long": ("{name: eno1}", "{name: a-name-beyond-all-limits}", 25, 23, "match.name"),
    "kernel name in order of discovery": ("{name: eno1}", "{name: eth0}", 25, 23, "order of discovery"),
    "PCI address without domain": ("{name: eno1}", "{pci: 5e:00.0}", 25, 22, "not a PCI address"),
    "PCI address with a wrong slot": ("{name: eno1}", '{pci: "0000:5e:20.0"}', 25, 22, "not a PCI address"),
    "MAC and PCI address": (
        '{mac: "02:00:00:00:00:01"}',
        '{mac: "02:00:00:00:00:01", pci: "0000:5e:00.0"}',
        *(19, 9, "either mac or pci or name"),
    ),
    "unknown key": ("  port: 8000", "  prot: 8000", 31, 3, "unknown key 'prot'"),
    "unknown key at the top": ("site: example", "site: example\nsight: x", 3, 1, "unknown key 'sight'"),
    "duplicate key": ("site: example", "site: example\nsite: other", 3, 1, "written twice"),
    "duplicate node": ("  gpu-02:", "  gpu-01:", 21, 3, "written twice"),
    "port is text": ("    port: 22", '    port: "22"', 16, 11, "port"),
    "port out of range": ("    port: 22", "    port: 65536", 16, 11, "port"),
    "port base 60": ("    port: 22", "    port: 22:00", 16, 11, "port"),
    "port is true": ("    port: 22", "    port: true", 16, 11, "port"),
    "inference below 1024": ("  port: 8000", "  port: 80", 31, 9, "port"),
    "revert too soon": ("revert_after: 120", "revert_after: 5", 11, 15, "revert_after"),
    "revert is a fraction": ("revert_after: 120", "revert_after: 120.5", 11, 15, "revert_after"),
    "unknown connection": ("connection: ssh", "connection: telnet", 14, 17, "connection"),
    "site with spaces": ("site: example", "site: my site", 2, 7, "site"),
    "node name with capitals": ("  gpu-02:", "  GPU-02:", 21, 3, "GPU-02"),
    "other format": ("format: 1", "format: 2", 1, 9, "format"),
    "format missing": ("format: 1\n", "", 1, 1, "format is missing"),
    "user with spaces": ("user: root", "user: root x", 8, 9, "user"),
    "option in the user": ("user: root", "user: -oProxyCommand=x", 8, 9, "user"),
    "quote in a path": ("known_hosts: known_hosts", "known_hosts: 'a\"b'", 10, 16, "known_hosts"),
    "list for a mapping": ("inference:\n  port: 8000", "inference: [8000]", 30, 12, "inference"),
    "nothing for a list": ('foreign: ["10.20.0.200"]', "foreign:", 6, 11, "foreign"),
    "alias": ("site: example", "site: &a example", 2, 7, "anchors"),
    "tab": ("  user: root", "\tuser: root", 8, 1, "not readable"),
    "unclosed list": ('foreign: ["10.20.0.200"]', 'foreign: ["10.20.0.200"', 7, 1, "not readable"),
}


@pytest.mark.parametrize("case", CATALOGUE)
def test_a_wrong_inventory_is_refused_at_its_place(case: str) -> None:
    old, new, line, column, words = CATALOGUE[case]
    assert old in VALID
    with pytest.raises(InventoryInvalid) as caught:
        parse_inventory(VALID.replace(old, new, 1), PATH)
    error = caught.value
    assert words in error.message
    assert error.where is not None
    assert (error.where.line, error.where.column) == (line, column), error.message
    assert error.exit_code == 3


PLACES = ["    port: 22\n", "        match: {name: eno1}\n", "revert_after: 120\n", "  user: root\n"]


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (key, place)
        for key in sorted(FORBIDDEN)
        for place in PLACES
        if key != "routes" or "match" not in place  # an interface may list some: test_inventory_links
    ],
)
def test_a_way_out_is_forbidden_wherever_it_stands(key: str, place: str) -> None:
    indent = place[: len(place) - len(place.lstrip())]
    text = VALID.replace(place, f"{place}{indent}{key}: x\n", 1)
    with pytest.raises(GatewayForbidden) as caught:
        parse_inventory(text, PATH)
    line = text[: text.index(f"{indent}{key}: x")].count("\n") + 1
    assert caught.value.where is not None
    assert (caught.value.where.line, caught.value.where.column) == (line, len(indent) + 1)


def test_a_way_out_is_forbidden_in_capitals_and_underscores() -> None:
    for key in ("Gateway4", "accept_ra", "DHCP4"):
        with pytest.raises(GatewayForbidden):
            parse_inventory(VALID.replace("  port: 8000", f"  {key}: x"), PATH)


def test_a_node_may_be_called_gateway() -> None:
    inventory, _ = parse_inventory(VALID.replace("gpu-02:", "gateway:"), PATH)
    assert inventory.nodes[1].name == "gateway"


def test_no_nodes_is_an_error() -> None:
    head = VALID[: VALID.index("nodes:")]
    for nodes in ("nodes: {}\n", ""):
        with pytest.raises(InventoryInvalid, match="nodes"):
            parse_inventory(head + nodes, PATH)


def test_a_mac_address_needs_no_quotes() -> None:
    """YAML 1.1 would read these digits as one number in base 60."""
    inventory, _ = parse_inventory(VALID.replace('"02:00:00:00:00:01"', "12:30:45:10:20:30"), PATH)
    assert inventory.nodes[0].interfaces[0].match.mac == "12:30:45:10:20:30"


def test_ssh_nodes_need_an_ssh_section() -> None:
    start, end = VALID.index("ssh:\n"), VALID.index("revert_after")
    with pytest.raises(InventoryInvalid, match="no ssh section"):
        parse_inventory(VALID[:start] + VALID[end:], PATH)


def test_only_one_node_is_this_machine() -> None:
    text = VALID.replace("connection: ssh", "connection: local").replace(
        "  gpu-02:\n", "  gpu-02:\n    connection: local\n"
    )
    with pytest.raises(InventoryInvalid, match="both be this very machine"):
        parse_inventory(text, PATH)


def test_paths_are_relative_to_the_inventory() -> None:
    inventory, _ = parse_inventory(VALID, PATH)
    assert inventory.ssh is not None
    assert inventory.ssh.key == Path("/site/keys/operator")
    assert inventory.ssh.known_hosts == Path("/site/known_hosts")


def test_the_settings_digest_covers_what_shapes_the_node_and_nothing_else() -> None:
    inventory, _ = parse_inventory(VALID, PATH)
    node = inventory.nodes[0]
    digest = settings_digest(inventory, node)
    same = parse_inventory(VALID.replace("keys/operator", "keys/other"), PATH)[0]
    assert settings_digest(same, same.nodes[0]) == digest
    other_node = parse_inventory(VALID.replace("10.30.0.12", "10.30.0.13"), PATH)[0]
    assert settings_digest(other_node, other_node.nodes[0]) == digest
    for old, new in (("revert_after: 120", "revert_after: 90"), ("fd20::11/64", "fd20::13/64")):
        changed = parse_inventory(VALID.replace(old, new), PATH)[0]
        assert settings_digest(changed, changed.nodes[0]) != digest


def test_site_values_are_plain_text_and_numbers() -> None:
    inventory, _ = parse_inventory(VALID, PATH)
    assert site_values(inventory) == {
        "name": "example",
        "management": {
            "networks": ["10.20.0.0/28", "fd20::/124"],
            "operator": ["10.20.0.1", "fd20::1"],
            "foreign": ["10.20.0.200"],
        },
        "revert_after": 120,
        "inference": {"port": 8000},
        "ssh_user": "root",
        "host": inventory.host.as_dict(),
    }


# --- the files an inventory names ----------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A complete site: inventory, private key, pinned keys."""
    (tmp_path / "inventory.yml").write_text(VALID)
    (tmp_path / "keys").mkdir()
    key = tmp_path / "keys" / "operator"
    key.write_text("not looked into here")
    key.chmod(0o600)
    example = (REPOSITORY / "inventory.example/known_hosts").read_text()
    (tmp_path / "known_hosts").write_text(example)
    return tmp_path


def test_the_example_is_a_valid_inventory() -> None:
    inventory = load_inventory(REPOSITORY / "inventory.example")
    assert [node.name for node in inventory.nodes] == ["gpu-01", "gpu-02"]


def test_a_complete_site_loads_from_folder_and_file(site: Path) -> None:
    assert load_inventory(site) == load_inventory(site / "inventory.yml")


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InventoryInvalid, match="cannot read the inventory"):
        load_inventory(tmp_path)


def test_a_missing_key_file_is_refused_at_its_line(site: Path) -> None:
    (site / "keys/operator").unlink()
    with pytest.raises(InventoryInvalid, match="private key cannot be read") as caught:
        load_inventory(site)
    assert caught.value.where is not None
    assert (caught.value.where.line, caught.value.where.column) == (9, 8)


def test_a_key_others_can_read_is_refused(site: Path) -> None:
    (site / "keys/operator").chmod(0o640)
    with pytest.raises(InventoryInvalid, match="only its owner"):
        load_inventory(site)


def test_missing_known_hosts_are_refused_at_their_line(site: Path) -> None:
    (site / "known_hosts").unlink()
    with pytest.raises(InventoryInvalid, match="pinned host keys cannot be read") as caught:
        load_inventory(site)
    assert caught.value.where is not None
    assert caught.value.where.line == 10


def test_a_node_without_a_pinned_key_is_refused(site: Path) -> None:
    lines = (site / "known_hosts").read_text().splitlines()
    (site / "known_hosts").write_text("\n".join(line for line in lines if "10.20.0.12" not in line) + "\n")
    with pytest.raises(InventoryInvalid, match="no host key is pinned for gpu-02"):
        load_inventory(site)


def test_another_port_needs_its_own_line(site: Path) -> None:
    text = VALID.replace("    port: 22", "    port: 2222")
    (site / "inventory.yml").write_text(text)
    with pytest.raises(InventoryInvalid) as caught:
        load_inventory(site)
    assert caught.value.found is not None
    assert "[10.20.0.11]:2222" in caught.value.found


def test_limit_keeps_inventory_order_and_refuses_unknown_names(site: Path) -> None:
    inventory = load_inventory(site)
    assert [node.name for node in select_nodes(inventory, ["gpu-02", "gpu-01"])] == ["gpu-01", "gpu-02"]
    assert [node.name for node in select_nodes(inventory, ["gpu-02"])] == ["gpu-02"]
    with pytest.raises(InventoryInvalid, match="gpu-03"):
        select_nodes(inventory, ["gpu-03"])
