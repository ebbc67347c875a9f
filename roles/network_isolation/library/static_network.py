#!/usr/bin/python
"""Static addresses and nothing else: bring about, in one go, the network of an isolated node."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils import appliance_network_node as node
from ansible.module_utils.appliance_netplan import netplan_text
from ansible.module_utils.appliance_network_plan import (
    Impossible,
    Wanted,
    differences,
    resolve,
    wanted_links,
)
from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from ansible.module_utils.appliance_network_plan import Difference, Pair

DOCUMENTATION = r"""
module: static_network
short_description: Have static addresses, listed routes, and nothing that configures the network by itself
description:
  - Compares configuration and live state with the declared network, and changes both where they differ.
  - The netplan file is validated by netplan before it replaces anything.
options:
  interfaces:
    description: The node's interfaces, complete. An interface that is not listed keeps no address.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The operator's name for it.
        type: str
        required: true
      match:
        description: C(mac), C(pci) or C(name) of a card; a bond or VLAN has none.
        type: dict
      addresses:
        description: Addresses with prefix length.
        type: list
        elements: str
        required: true
      mtu:
        description: Largest packet in bytes; left out, what the card has.
        type: int
      link_local:
        description: Whether IPv6 makes itself an address.
        type: bool
        default: false
      routes:
        description: Networks beyond the wire, C(to), and the router on it, C(via).
        type: list
        elements: dict
        default: []
      bond:
        description: C(interfaces), C(mode), C(lacp_rate), C(transmit_hash_policy); makes this a bond.
        type: dict
      vlan:
        description: C(id) and C(link); makes this a VLAN.
        type: dict
  netplan:
    description: Path of the netplan file.
    type: path
    required: true
  files:
    description: Further files, text by path, written with mode 0644.
    type: dict
    default: {}
  files_if_folder:
    description: Like C(files), but only where the file's folder exists.
    type: dict
    default: {}
  settings:
    description: Kernel settings below C(/proc/sys/net), value by path; C(*) stands for every interface.
    type: dict
    default: {}
  services_on:
    description: Units that are enabled and active.
    type: list
    elements: str
    default: []
  services_off:
    description: Units that are neither.
    type: list
    elements: str
    default: []
  replaced:
    description: Folder under which configuration of others is put aside.
    type: path
    required: true
  before_change:
    description: Command to run once just before the first change. When it fails nothing is changed.
    type: list
    elements: str
    default: []
  to_come:
    description: Whether netplan will be installed by then; lets check mode go on where it is not yet.
    type: bool
    default: false
  settle:
    description: Seconds to wait for the addresses.
    type: int
    default: 30
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Have static addresses only
  static_network:
    interfaces:
      - {name: mgmt, match: {name: eno1}, addresses: [10.20.0.11/24]}
    netplan: /etc/netplan/90-appliance.yaml
    replaced: /var/lib/appliance/replaced
"""

RETURN = r"""
interfaces:
  description: The interfaces with the kernel name found for each.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The operator's name., type: str}
    device: {description: The kernel's name., type: str}
    addresses: {description: Its addresses., type: list, elements: str}
    routes: {description: Its listed routes., type: list, elements: dict}
changes:
  description: What differed, one line each.
  returned: always
  type: list
  elements: str
replaced:
  description: Where configuration of others was put aside, empty when there was none.
  returned: always
  type: str
"""


#: Differences that systemd-networkd puts right.
CONFIGURED = {"file", "foreign", "service", "client", "device", "master", "mtu", "address", "listed"}

#: Differences to wait for before anything that is left over is removed.
AWAITED = {"device", "master", "mtu", "address", "listed"}


def wanted_network(parameters: dict[str, Any], pairs: list[Pair]) -> Wanted:
    """The declared network with kernel names."""
    placed = {
        path: text for path, text in parameters["files_if_folder"].items() if Path(path).parent.is_dir()
    }
    files = {parameters["netplan"]: netplan_text(pairs), **parameters["files"], **placed}
    links = wanted_links(pairs)
    # systemd-networkd itself turns the making of link-local addresses on where they are asked for.
    made = {f"ipv6/conf/{name}/addr_gen_mode": "0" for name in links["link_local"]}
    return Wanted(
        files=files,
        settings={**parameters["settings"], **made},
        services_on=tuple(parameters["services_on"]),
        services_off=tuple(parameters["services_off"]),
        **links,
    )


def change(parameters: dict[str, Any], wanted: Wanted, found: list[Difference]) -> str:
    """Make the node as wanted.  Returns the folder that holds what was put aside.

    Foreign managers stop before networkd takes over, so that none of them undoes its work; leftovers are
    removed last, when the wanted addresses are there.
    """
    kept = f"{parameters['replaced']}/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-network"
    for item in found:
        if item.kind == "foreign":
            node.put_aside(item.subject, kept)
        elif item.kind == "file":
            node.keep_copy(item.subject, kept)
            node.write(item.subject, item.wanted, 0o600 if item.subject == parameters["netplan"] else 0o644)
    # Off before on: two managers at work at once undo each other.
    services = [item for item in found if item.kind == "service"]
    for item in sorted(services, key=lambda item: item.wanted == "on"):
        node.set_service(item.subject, on=item.wanted == "on")
    for item in found:
        if item.kind == "client":
            node.stop_client(int(item.subject))
        elif item.kind == "setting":
            node.write_setting(item.subject, item.wanted)
    anew = node.clear_links(found)
    if any(item.kind in CONFIGURED for item in found):
        node.configure(sorted(wanted.addresses), anew=anew)
    remove_leftovers(parameters, wanted)
    return kept if Path(kept).is_dir() else ""


def remove_leftovers(parameters: dict[str, Any], wanted: Wanted) -> None:
    """Wait for the wanted addresses, then remove every other address and route.

    systemd-networkd is still at work meanwhile, so this looks again until nothing differs.

    Raises:
        Impossible: something is still not as wanted after the waiting time.
    """

    def settled() -> bool:
        left = differences(wanted, node.observe(wanted))
        if not any(item.kind in AWAITED for item in left):
            for item in left:
                node.remove_leftover(item)
        return not left

    if not node.wait_until(settled, parameters["settle"]):
        left = differences(wanted, node.observe(wanted))
        raise Impossible("the network is still not as declared: " + "; ".join(line(item) for item in left))


def line(item: Difference) -> str:
    """One difference in words; of a file only that it differs."""
    if item.kind == "file":
        return f"file {item.subject}: {'differs' if item.found else 'absent'}"
    if item.kind in {"surplus", "route", "listed"}:
        return f"{item.kind} {item.subject}"
    return f"{item.kind} {item.subject}: {item.found or 'absent'} -> {item.wanted or 'absent'}"


def diff(found: list[Difference]) -> list[dict[str, str]]:
    """Ansible diffs: one per file, one for everything else."""
    files = [
        {"before_header": path, "after_header": path, "before": before, "after": after}
        for kind, path, before, after in map(astuple, found)
        if kind in {"file", "foreign"}
    ]
    rest = [item for item in found if item.kind not in {"file", "foreign"}]
    live = {
        "before_header": "live network",
        "after_header": "live network",
        "before": "".join(f"{item.kind} {item.subject} {item.found}\n" for item in rest if item.found),
        "after": "".join(f"{item.kind} {item.subject} {item.wanted}\n" for item in rest if item.wanted),
    }
    return [*files, live] if rest else files


def guard(command: list[str]) -> None:
    """Run ``before_change``."""
    if not command:
        return
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Impossible(f"nothing was changed, because {' '.join(command)} failed: {done.stderr.strip()}")


def bring_about(parameters: dict[str, Any], check: bool) -> dict[str, Any]:
    """Compare and change; the module's result."""
    pairs = resolve(parameters["interfaces"], node.read_links())
    wanted = wanted_network(parameters, pairs)
    if shutil.which("netplan"):
        # Before the comparison, so that check mode finds an impossible file too.
        if node.read_text(parameters["netplan"]) != wanted.files[parameters["netplan"]]:
            node.validate_netplan(parameters["netplan"], wanted.files[parameters["netplan"]])
    elif not (check and parameters["to_come"]):
        raise Impossible("netplan is not installed on this node and not among the bundle's packages")
    found = differences(wanted, node.observe(wanted))
    kept = ""
    if found and not check:
        guard(parameters["before_change"])
        kept = change(parameters, wanted, found)
    return {
        "changed": bool(found),
        "changes": [line(item) for item in found],
        "diff": diff(found),
        "replaced": kept,
        "interfaces": [
            {
                "name": interface["name"],
                "device": link.name,
                "addresses": interface["addresses"],
                "routes": interface.get("routes") or [],
            }
            for interface, link in pairs
        ],
    }


def main() -> None:
    """Run as an Ansible module."""
    interface = {
        "name": {"type": "str", "required": True},
        "match": {"type": "dict"},
        "addresses": {"type": "list", "elements": "str", "required": True},
        "mtu": {"type": "int"},
        "link_local": {"type": "bool", "default": False},
        "routes": {"type": "list", "elements": "dict", "default": []},
        "bond": {"type": "dict"},
        "vlan": {"type": "dict"},
    }
    texts = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "interfaces": {"type": "list", "elements": "dict", "required": True, "options": interface},
            "netplan": {"type": "path", "required": True},
            "files": {"type": "dict", "default": {}},
            "files_if_folder": {"type": "dict", "default": {}},
            "settings": {"type": "dict", "default": {}},
            "services_on": texts,
            "services_off": texts,
            "replaced": {"type": "path", "required": True},
            "before_change": texts,
            "to_come": {"type": "bool", "default": False},
            "settle": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**bring_about(module.params, module.check_mode))
    except (Impossible, OSError) as fault:
        module.fail_json(msg=str(fault))


if __name__ == "__main__":
    main()
