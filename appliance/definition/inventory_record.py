"""A site and one of its nodes as JSON values, and back: for programs that have no inventory to read.

Roles get what shapes a node (``site_values``, ``node_values``); here nothing is left out, so that what is
read back declares the same, to the same digest.  How SSH logs in is left out: another key file declares
nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from appliance.definition.disks import read_disk
from appliance.definition.export import Export, Receiver, Sending, Sources, StreamFields
from appliance.definition.host import Audit, Host, Time
from appliance.definition.inventory import (
    Bond,
    Flow,
    Interface,
    Inventory,
    Management,
    Match,
    NodeEntry,
    Peer,
    Route,
    Vlan,
)
from appliance.definition.partition import read_partition


def inventory_record(inventory: Inventory, node: NodeEntry) -> dict[str, Any]:
    """The site, and of its nodes this one."""
    management = inventory.management
    return {
        "site": inventory.site,
        "path": str(inventory.path),
        "networks": [str(each) for each in management.networks],
        "operator": [str(each) for each in management.operator],
        "foreign": [str(each) for each in management.foreign],
        "revert_after": inventory.revert_after,
        "inference_port": inventory.inference_port,
        "host": inventory.host.as_dict(),
        "node": {
            "name": node.name,
            "connection": node.connection,
            "address": str(node.address),
            "port": node.port,
            "interfaces": [interface.as_dict() for interface in node.interfaces],
            "flows": [
                {**asdict(flow), "peers": [[each.text, *map(str, each.addresses)] for each in flow.peers]}
                for flow in node.flows
            ],
            "export": node.export.as_dict() if node.export else None,
            "disks": [disk.as_dict() for disk in node.disks],
            "gpus": node.partition.as_dict() if node.partition else None,
        },
    }


def read_record(values: dict[str, Any]) -> tuple[Inventory, NodeEntry]:
    """The inverse of ``inventory_record``."""
    entry = values["node"]
    node = NodeEntry(
        name=entry["name"],
        connection=entry["connection"],
        address=ip_address(entry["address"]),
        port=entry["port"],
        interfaces=tuple(map(_interface, entry["interfaces"])),
        flows=tuple(map(_flow, entry["flows"])),
        export=_export(entry["export"]),
        disks=tuple(map(read_disk, entry["disks"])),
        partition=read_partition(entry["gpus"]) if entry.get("gpus") else None,
    )
    inventory = Inventory(
        path=Path(values["path"]),
        site=values["site"],
        management=Management(
            networks=tuple(map(ip_network, values["networks"])),
            operator=tuple(map(ip_address, values["operator"])),
            foreign=tuple(map(ip_address, values["foreign"])),
        ),
        ssh=None,
        nodes=(node,),
        revert_after=values["revert_after"],
        inference_port=values["inference_port"],
        host=_host(values["host"]),
    )
    return inventory, node


def _interface(values: dict[str, Any]) -> Interface:
    """The inverse of ``Interface.as_dict``."""
    bond, vlan = values.get("bond"), values.get("vlan")
    return Interface(
        values["name"],
        Match(**values.get("match", {})),
        tuple(map(ip_interface, values["addresses"])),
        mtu=values.get("mtu"),
        link_local=values.get("link_local", False),
        routes=tuple(
            Route(ip_network(each["to"]), ip_address(each["via"])) for each in values.get("routes", [])
        ),
        bond=Bond(**bond | {"interfaces": tuple(bond["interfaces"])}) if bond else None,
        vlan=Vlan(**vlan) if vlan else None,
    )


def _flow(values: dict[str, Any]) -> Flow:
    peers = tuple(Peer(text, tuple(map(ip_address, addresses))) for text, *addresses in values["peers"])
    ports = tuple((low, high) for low, high in values["ports"])
    return Flow(**values | {"peers": peers, "ports": ports})


def _export(values: dict[str, Any] | None) -> Export | None:
    """The inverse of ``Export.as_dict``."""
    if values is None:
        return None
    there = values["receiver"]
    return Export(
        mac=values["match"].get("mac"),
        pci=values["match"].get("pci"),
        address=IPv4Address(values["address"]),
        receiver=Receiver(IPv4Address(there["address"]), there["mac"], there["port"]),
        folder=values["folder"],
        sources=_sources(values.get("sources", {})),
        sending=Sending(**values.get("sending", {})),
        select=_select(values.get("select")),
    )


def _sources(values: dict[str, Any]) -> Sources:
    """The inverse of ``Sources.as_dict``."""
    return Sources(**{**values, "folders": tuple(sorted(values.get("folders", {}).items()))})


def _select(values: dict[str, Any] | None) -> tuple[StreamFields, ...] | None:
    """The inverse of what ``Export.as_dict`` makes of a selection."""
    if values is None:
        return None
    return tuple(
        StreamFields(stream, tuple(each["fields"]), tuple(each["redact"]))
        for stream, each in sorted(values.items())
    )


def _host(values: dict[str, Any]) -> Host:
    time = values["time"]
    servers = tuple(map(ip_address, time["servers"]))
    audit = Audit(daily=True, **values["audit"]) if "audit" in values else Audit()
    return Host(
        **{**values, "time": Time(time["source"], servers, time["interface"] or None), "audit": audit}
    )
