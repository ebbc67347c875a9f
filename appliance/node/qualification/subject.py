"""What the qualification has to know of the node it is run against, as one JSON file."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.definition.export import Export, Receiver
from appliance.definition.host import Host, Time
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
from appliance.node.qualification.clock import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.node.connection import Connection

#: The unit that serves the model (role inference_server).
UNIT: Final = "appliance-inference.service"
STAGED: Final = "/var/lib/appliance/staged"
#: Stands for the shell command in a stored command line.
_COMMAND: Final = "@command@"


@dataclass(frozen=True)
class Bundle:
    """What is installed: the bundle's digest, the model's path below the staged copy, its name."""

    digest: str
    model_path: str
    model_name: str

    @property
    def staged(self) -> str:
        return f"{STAGED}/{self.digest}"


@dataclass(frozen=True)
class Subject:
    """The node, its site, what is installed on it, and how it is reached.

    ``argv`` is a command line on this station that runs ``_COMMAND`` on the node; ``fresh`` the same by
    a connection of its own, per address of the station; both empty of addresses for a local node.
    ``user`` is who logs in; ``clock`` what was read from the node's clock before, the oldest first.
    """

    inventory: Inventory
    node: NodeEntry
    bundle: Bundle
    argv: tuple[str, ...]
    fresh: dict[str, tuple[str, ...]]
    user: str = "root"
    clock: tuple[Reading, ...] = ()

    @property
    def local(self) -> bool:
        return self.node.connection == "local"

    @property
    def addresses(self) -> tuple[str, ...]:
        """The node's own addresses, without prefix lengths."""
        return tuple(str(each.ip) for interface in self.node.interfaces for each in interface.addresses)

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a shell command on the node, as a ``Connection`` does."""
        return self._run(self.argv, command, stdin, timeout)

    def run_fresh(
        self, station: str, command: str, *options: str, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a shell command over a new connection from this address of the station; options are ssh's."""
        program, *rest = self.fresh[station]
        return self._run((program, *options, *rest), command, b"", timeout)

    @staticmethod
    def _run(
        argv: tuple[str, ...], command: str, stdin: bytes, timeout: float | None
    ) -> subprocess.CompletedProcess[bytes]:
        filled = [command if part == _COMMAND else part for part in argv]
        return subprocess.run(filled, input=stdin, capture_output=True, timeout=timeout, check=False)


def describe(
    inventory: Inventory,
    node: NodeEntry,
    bundle: Bundle,
    connection: Connection,
    clock: Sequence[Reading] = (),
) -> str:
    """The subject as JSON text."""
    management = inventory.management
    own = ("-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ConnectTimeout=5")
    fresh = (
        {}
        if node.connection == "local"
        else {
            str(station): connection.argv(_COMMAND, *own, "-o", f"BindAddress={station}")
            for station in management.operator
            if station.version == node.address.version
        }
    )
    return json.dumps(
        {
            "site": inventory.site,
            "path": str(inventory.path),
            "networks": [str(each) for each in management.networks],
            "operator": [str(each) for each in management.operator],
            "foreign": [str(each) for each in management.foreign],
            "inference_port": inventory.inference_port,
            "node": {
                "name": node.name,
                "connection": node.connection,
                "address": str(node.address),
                "port": node.port,
                "interfaces": [interface.as_dict() for interface in node.interfaces],
                "flows": [
                    {
                        **asdict(flow),
                        "peers": [[each.text, *map(str, each.addresses)] for each in flow.peers],
                    }
                    for flow in node.flows
                ],
                "export": node.export.as_dict() if node.export else None,
            },
            "bundle": {
                "digest": bundle.digest,
                "model_path": bundle.model_path,
                "model_name": bundle.model_name,
            },
            "host": inventory.host.as_dict(),
            "user": inventory.ssh.user if inventory.ssh else "root",
            "clock": [asdict(reading) for reading in clock],
            "argv": connection.argv(_COMMAND),
            "fresh": fresh,
        },
        indent=2,
    )


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
    if values is None:
        return None
    there = values["receiver"]
    return Export(
        mac=values["match"].get("mac"),
        pci=values["match"].get("pci"),
        address=IPv4Address(values["address"]),
        receiver=Receiver(IPv4Address(there["address"]), there["mac"], there["port"]),
        folder=values["folder"],
    )


def load_subject(path: Path) -> Subject:
    """The inverse of ``describe``."""
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    entry = values["node"]
    node = NodeEntry(
        name=entry["name"],
        connection=entry["connection"],
        address=ip_address(entry["address"]),
        port=entry["port"],
        interfaces=tuple(map(_interface, entry["interfaces"])),
        flows=tuple(map(_flow, entry["flows"])),
        export=_export(entry["export"]),
    )
    management = Management(
        networks=tuple(map(ip_network, values["networks"])),
        operator=tuple(map(ip_address, values["operator"])),
        foreign=tuple(map(ip_address, values["foreign"])),
    )
    inventory = Inventory(
        path=Path(values["path"]),
        site=values["site"],
        management=management,
        ssh=None,
        nodes=(node,),
        inference_port=values["inference_port"],
        host=_host(values["host"]),
    )
    return Subject(
        inventory=inventory,
        node=node,
        bundle=Bundle(**values["bundle"]),
        argv=tuple(values["argv"]),
        fresh={station: tuple(argv) for station, argv in values["fresh"].items()},
        user=values["user"],
        clock=tuple(Reading(**reading) for reading in values["clock"]),
    )


def _host(values: dict[str, Any]) -> Host:
    time = values["time"]
    servers = tuple(map(ip_address, time["servers"]))
    return Host(**{**values, "time": Time(time["source"], servers, time["interface"] or None)})
