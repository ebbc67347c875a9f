"""GPUs in the inventory: what they become, and every wrong way to divide them, at its place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import cast

import pytest
import yaml

from appliance.definition.inventory import node_values, settings_digest
from appliance.definition.inventory_record import inventory_record, read_record
from appliance.definition.inventory_schema import parse_inventory
from appliance.definition.partition import Cut, Instance, Partition, Team, instances
from appliance.errors import ApplianceError, GpuUnknown, InventoryInvalid, MigLayoutInvalid

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
    gpus:
      model: h100-sxm
      count: 4
      layout:
        - {gpus: [0], slices: "1g.10gb, 3g.40gb, 2*1g.10gb"}
        - {gpus: [3], slices: all-1g.20gb}
      teams:
        radiology: {port: 8001, gpus: [0], slice: 3g.40gb}
        dns: {port: 8002, gpus: [0], slice: 1g.10gb}
        research: {port: 8003, gpus: [1, 2]}
"""


def test_gpus_become_values_with_a_place_for_every_slice() -> None:
    """A team's name is the operator's: dns is no name server here."""
    inventory, _ = parse_inventory(VALID, PATH)
    small = [Cut("1g.10gb", start) for start in (4, 5, 6)]
    assert inventory.node("gpu-01").partition == Partition(
        "h100-sxm",
        (
            (Cut("3g.40gb", 0), *small),
            (),
            (),
            tuple(Cut("1g.20gb", start) for start in (0, 2, 4, 6)),
        ),
        (
            Team("radiology", 8001, (0,), "3g.40gb"),
            Team("dns", 8002, (0,), "1g.10gb"),
            Team("research", 8003, (1, 2)),
        ),
    )


def test_roles_get_the_layout_in_mig_parteds_form_too() -> None:
    """Its format is that of mig-parted's own export: version, configurations, devices, counts."""
    values = cast("dict[str, str]", node_values(parse_inventory(VALID, PATH)[0].node("gpu-01"))["gpus"])
    read = yaml.safe_load(values["mig_parted"])
    assert read == {
        "version": "v1",
        "mig-configs": {
            "appliance": [
                {"devices": [0], "mig-enabled": True, "mig-devices": {"1g.10gb": 3, "3g.40gb": 1}},
                {"devices": [1, 2], "mig-enabled": False},
                {"devices": [3], "mig-enabled": True, "mig-devices": {"1g.20gb": 4}},
            ]
        },
    }
    recorded = Path(__file__).parents[1] / "roles/recorded/mig-parted-export.txt"
    (row,) = yaml.safe_load(recorded.read_text())["mig-configs"]["current"]
    assert row.keys() == read["mig-configs"]["appliance"][0].keys()
    assert json.loads(values["mig_parted"]) == read, "a node has no reader of YAML"


def test_every_team_is_an_instance_and_without_teams_there_is_one() -> None:
    inventory, _ = parse_inventory(VALID, PATH)
    assert instances(inventory, inventory.nodes[0])[0] == Instance(
        "appliance-inference-radiology.service", 8001, "radiology"
    )
    shared, _ = parse_inventory(VALID.partition("    gpus:")[0], PATH)
    assert instances(shared, shared.nodes[0]) == (Instance("appliance-inference.service", 8000),)


def test_what_is_written_and_read_again_declares_the_same() -> None:
    inventory, _ = parse_inventory(VALID, PATH)
    node = inventory.nodes[0]
    _, same = read_record(json.loads(json.dumps(inventory_record(inventory, node))))
    assert same == node
    other, _ = parse_inventory(VALID.replace("port: 8001", "port: 8009"), PATH)
    assert settings_digest(other, other.nodes[0]) != settings_digest(inventory, node)


@pytest.mark.parametrize(
    ("old", "new", "error", "said", "line"),
    [
        ("h100-sxm", "h100", GpuUnknown, "found: h100; wanted: one of: h100-sxm", 11),
        ("all-1g.20gb", "all-1g.24gb", MigLayoutInvalid, "has no such slice", 15),
        ("all-1g.20gb", "8*1g.10gb", MigLayoutInvalid, "8 of 8 memory slices", 15),
        ("all-1g.20gb", '"2*3g.40gb,1g.10gb"', MigLayoutInvalid, "9 of 8 memory slices", 15),
        ("all-1g.20gb", "half", MigLayoutInvalid, "misspelled", 15),
        ("gpus: [3], slices", "gpus: [4], slices", InventoryInvalid, "0 to 3", 15),
        ("gpus: [3], slices", "gpus: [3, 0], slices", InventoryInvalid, "GPU 0 is cut twice", 15),
        ("gpus: [3], slices", "gpus: [3, 3], slices", InventoryInvalid, "a GPU is named twice", 15),
        ("gpus: [3], slices", "gpus: [], slices", InventoryInvalid, "", 15),
        ("slice: 3g.40gb", "slice: 3g.47gb", MigLayoutInvalid, "has no such slice", 17),
        ("slice: 3g.40gb", "slice: 2g.20gb", InventoryInvalid, "of: 3g.40gb, 1g.10gb", 17),
        ("slice: 3g.40gb", "slice: all", InventoryInvalid, "", 17),
        ("[0], slice: 3g.40gb", "[1], slice: 3g.40gb", InventoryInvalid, "a GPU that the layout cuts", 17),
        ("[0], slice: 3g.40gb", "[0, 3], slice: 3g.40gb", InventoryInvalid, "cannot be joined", 17),
        ("[0], slice: 1g.10gb", "[0], slice: 3g.40gb", InventoryInvalid, "no 3g.40gb left on GPU 0", 18),
        ("gpus: [1, 2]", "gpus: [0, 2]", InventoryInvalid, "a GPU that stays whole", 19),
        ("gpus: [1, 2]", "gpus: [1, 9]", InventoryInvalid, "there is no GPU 9", 19),
        ("gpus: [1, 2]", "gpus: [1, 1]", InventoryInvalid, "a GPU is named twice", 19),
        (
            "dns: {port: 8002, gpus: [0], slice: 1g.10gb}",
            "dns: {port: 8002, gpus: [1]}",
            InventoryInvalid,
            "",
            19,
        ),
        ("port: 8002", "port: 8001", InventoryInvalid, "port 8001 is already that of radiology", 18),
        ("port: 8002", "port: 80", InventoryInvalid, "", 18),
        ("radiology:", "a-team-of-twelve:", InventoryInvalid, "", 17),
        ("count: 4", "count: 0", InventoryInvalid, "", 12),
        ("count: 4", 'count: "4"', InventoryInvalid, "", 12),
        ("count: 4", "number: 4", InventoryInvalid, "count is missing", 11),
    ],
)
def test_a_wrong_division_is_refused_at_its_place(
    old: str, new: str, error: type[ApplianceError], said: str, line: int
) -> None:
    assert old in VALID
    with pytest.raises(error) as caught:
        parse_inventory(VALID.replace(old, new, 1), PATH)
    fault = caught.value
    assert (type(fault), fault.exit_code) == (error, 3)
    told = f"{fault.message}; found: {fault.found}; wanted: {fault.wanted}"
    assert re.search(re.escape(said), told), told
    assert fault.where is not None
    assert fault.where.line == line


def test_teams_there_must_be() -> None:
    with pytest.raises(InventoryInvalid):
        parse_inventory(VALID.partition("      teams:")[0] + "      teams: {}\n", PATH)


def test_a_team_may_not_have_the_port_of_ssh() -> None:
    """Its server could not open it, and the one way that tunnels have would lead to SSH."""
    text = VALID.replace("    interfaces", "    port: 8002\n    interfaces")
    with pytest.raises(InventoryInvalid, match="port 8002 of gpu-01 is SSH's") as caught:
        parse_inventory(text, PATH)
    assert caught.value.where is not None
    assert caught.value.where.line == 19
    parse_inventory(text.replace("port: 8002\n", "port: 8004\n"), PATH)


def test_what_all_share_may_not_have_the_port_of_ssh_either() -> None:
    """8000 is also where a model is served of which the inventory says nothing."""
    shared = VALID.partition("    gpus:\n")[0].replace("    interfaces", "    port: 8000\n    interfaces")
    with pytest.raises(InventoryInvalid, match="port 8000 of gpu-01 is the one at which") as caught:
        parse_inventory(shared, PATH)
    assert caught.value.where is not None
    assert shared.splitlines()[caught.value.where.line - 1].strip() == "port: 8000"
    parse_inventory(f"{shared}inference: {{port: 8001}}\n", PATH)
    with pytest.raises(InventoryInvalid):
        parse_inventory(f"{shared.replace('8000', '8001')}inference: {{port: 8001}}\n", PATH)
    teams_alone = VALID.replace("    interfaces", "    port: 8000\n    interfaces")
    parse_inventory(teams_alone, PATH)  # nothing is served at 8000 then


def test_a_flow_may_not_come_in_at_a_teams_port() -> None:
    flows = """\
    flows:
      x: {interface: mgmt, direction: in, protocol: tcp, ports: [8002], peers: ["10.20.0.99"]}
"""
    with pytest.raises(InventoryInvalid, match="port 8002 of gpu-01 is the inference server"):
        parse_inventory(VALID + flows, PATH)
    parse_inventory(VALID + flows.replace("8002", "8000"), PATH)
