"""What apply will be told: the variables of playbooks/site.yml, and the plan in words.

Pure: manifest, inventory and digest in, values out (docs/architecture.md, "What roles get").
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from appliance.definition.engines import archive_of, served_path
from appliance.definition.inventory import node_values, site_values
from appliance.node.serving_checks import files_of, served_by
from appliance.node.transfer import STAGED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.bundle.manifest import Manifest
    from appliance.definition.inventory import Inventory, NodeEntry


@dataclass(frozen=True)
class Plan:
    """Variables for all nodes and for each, and what will be done, one line each."""

    variables: Mapping[str, Any]
    nodes: Mapping[str, Mapping[str, Any]]
    words: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return {"variables": self.variables, "nodes": self.nodes, "words": list(self.words)}


def make_plan(manifest: Manifest, digest: str, inventory: Inventory, nodes: Sequence[NodeEntry]) -> Plan:
    """The plan of one run."""
    return Plan(
        variables={
            "appliance_bundle": bundle_values(manifest, digest),
            "appliance_site": site_values(inventory),
        },
        nodes={node.name: {"appliance_node": node_values(node)} for node in nodes},
        words=_words(manifest, inventory, nodes),
    )


def bundle_values(manifest: Manifest, digest: str) -> dict[str, object]:
    """``appliance_bundle``, as roles receive it; paths are those on the node."""
    staged = f"{STAGED}/{digest}"
    return {
        "digest": digest,
        "product": manifest.product,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "staged": staged,
        "components": {
            name: {
                "kind": component.kind,
                "packages": list(component.packages),
                "path": f"{staged}/payload/{name}",
                "files": [
                    {"name": file.name, "version": file.version, "path": f"{staged}/{file.path}"}
                    for file in component.files
                ],
            }
            for name, component in manifest.components.items()
        },
        "inference": _served_values(manifest, staged),
        "target": asdict(manifest.target),
    }


def _served_values(manifest: Manifest, staged: str) -> dict[str, object]:
    """What is served and how; what the definition leaves out is left to the role's defaults."""
    served = manifest.inference
    engine = served_by(manifest)
    folder = f"{staged}/payload/{served.model}"
    files = files_of(manifest, served.engine)
    archive = archive_of(engine, files)
    said = {key: value for key, value in asdict(served).items() if value not in {None, False}}
    return {
        **said,
        "software": engine.name if engine else "",
        "archive": archive and f"{staged}/payload/{served.engine}/{archive}",
        "archive_sha256": archive and files[archive],
        "path": served_path(engine, folder, served.file),
        "folder": folder,
        "digests": {
            f"{staged}/{file.path}": file.sha256 for file in manifest.components[served.model].files
        },
        "parallel": manifest.hardware.tensor_parallel if manifest.hardware else 1,
        "gpus": manifest.hardware is not None,
    }


def _words(manifest: Manifest, inventory: Inventory, nodes: Sequence[NodeEntry]) -> tuple[str, ...]:
    debs = sum(len(part.files) for part in manifest.components.values() if part.kind == "debian")
    asked = sorted({name for part in manifest.components.values() for name in part.packages})
    wanted = ", ".join(asked) or "every package"
    wheels = sum(len(part.files) for part in manifest.components.values() if part.kind == "python")
    networks = ", ".join(str(network) for network in inventory.management.networks)
    addresses = "; ".join(f"{node.name} {' '.join(_addresses(node))}" for node in nodes)
    inference, audit = manifest.inference, inventory.host.audit
    engine = served_by(manifest)
    archive = archive_of(engine, files_of(manifest, inference.engine))
    software = engine.name if engine else inference.engine
    shared = any(node.partition is None for node in nodes)
    where = f"loopback port {inventory.inference_port}" if shared else "a loopback port for each team"
    served = f"{software} serves {inference.name} on {where}"
    names = [node.name for node in nodes]
    order = f"first {names[0]} alone, then {', '.join(names[1:])}" if len(names) > 1 else names[0]
    return (
        f"nodes: {order}",
        *(f"disk_encryption: {text}" for node in nodes for text in volume_words(node)),
        f"base: {wanted} from {debs} staged .deb files; folders of the node",
        *_driver_words(manifest),
        *(f"gpu_partition: {text}" for node in nodes for text in partition_words(node)),
        f"inference_server: {served}, from {archive or f'{wheels} staged wheels'}",
        *([f"daily_audit: the node audits itself every day at {audit.at}"] if audit.daily else []),
        *(
            f"log_export: {node.name} exports over {node.export.mac or node.export.pci} to "
            f"{node.export.receiver.address} port {node.export.receiver.port}; nothing comes in there"
            for node in nodes
            if node.export
        ),
        f"network_isolation: no gateway, DHCP, router advertisements or DNS; static addresses: {addresses}",
        f"quiet_host: stop what phones home; {_host_words(inventory)}",
        f"firewall: deny everything in and out; SSH in from {networks}",
        *(f"firewall: {text}" for node in nodes for text in _flows(node)),
        f"an unconfirmed network change undoes itself after {inventory.revert_after} s",
    )


def _driver_words(manifest: Manifest) -> list[str]:
    from appliance.hardware.driver_packages import driver_version

    driver = driver_version(
        {
            file.name: file.version
            for part in manifest.components.values()
            if part.kind == "debian"
            for file in part.files
        }
    )
    if driver is None:
        return []
    return [f"gpu_driver: NVIDIA's driver {driver}, persistence, Fabric Manager where there are NVSwitches"]


def _host_words(inventory: Inventory) -> str:
    host = inventory.host
    servers = ", ".join(str(server) for server in host.time.servers)
    clocks = {"none": "the clock runs free", "ntp": f"time from {servers}", "ptp": "time by PTP"}
    clock = clocks[host.time.source]
    loading = "locked after boot" if host.module_loading == "locked" else "open"
    return f"{clock}; USB storage {host.usb_storage}; loading of kernel modules {loading}"


def _flows(node: NodeEntry) -> list[str]:
    """What is let through besides SSH, one line a flow."""
    return [
        f"{node.name} flow {flow.name}: {flow.direction} over {flow.interface}, {flow.protocol} port "
        + ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in flow.ports)
        + f" with {', '.join(peer.text for peer in flow.peers)}"
        for flow in node.flows
    ]


def volume_words(node: NodeEntry) -> list[str]:
    """What lies on encrypted drives, one line a drive."""
    ways = {"tpm2": "opened by the TPM", "console": "opened at the console", "ssh": "opened over SSH"}
    return [
        f"{node.name} {disk.name} (drive {disk.serial}, {ways[disk.unlock]}): {', '.join(disk.mounts)}"
        for disk in node.disks
    ]


def partition_words(node: NodeEntry) -> list[str]:
    """What GPUs are cut into, and who is served on which part, one line each."""
    if node.partition is None:
        return []
    cuts = [
        f"GPU {index}: {', '.join(cut.name for cut in row) or 'whole'}"
        for index, row in enumerate(node.partition.layout)
    ]
    teams = [
        f"{node.name}: {team.name} on {team.slice or 'all'} of GPU {', '.join(map(str, team.gpus))}, "
        f"loopback port {team.port}"
        for team in node.partition.teams
    ]
    return [f"{node.name}: after every start {'; '.join(cuts)}", *teams]


def _addresses(node: NodeEntry) -> list[str]:
    return [str(address) for interface in node.interfaces for address in interface.addresses]
