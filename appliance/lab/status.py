"""What there is: labs, their nodes, and how each is doing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from appliance.lab import machines
from appliance.lab.bay import Bay
from appliance.lab.keeping import CONSOLE
from appliance.lab.places import node_folder, read_state
from appliance.lab.qemu import Disks
from appliance.lab.tpm import tpm_state

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.lab.places import Places
    from appliance.lab.plan import Lab, Node
    from appliance.lab.segments import Nic
    from appliance.lab.tpm import TpmState


@dataclass(frozen=True)
class LabStatus:
    """A lab found on this machine; ``lab`` is None when only its folder was made."""

    name: str
    lab: Lab | None
    inventory: str
    nodes: tuple[NodeStatus, ...]

    def as_dict(self) -> dict[str, object]:
        """The status as JSON values."""
        values: dict[str, object] = {
            "name": self.name,
            "inventory": self.inventory,
            "nodes": [node.as_dict() for node in self.nodes],
        }
        if self.lab is not None:
            values["management"] = list(self.lab.management)
            values["operator"] = list(self.lab.operator)
            values["foreign"] = list(self.lab.foreign)
            values["segments"] = {
                segment.purpose: {"bridge": segment.bridge, "operator": list(segment.operator)}
                for segment in self.lab.segments
            }
        return values


@dataclass(frozen=True)
class NodeStatus:
    """A node; ``state`` is ``off``, ``booting`` or ``running``.

    ``leader`` is, as seen from here, the PID 1 of a container or the QEMU of a virtual machine, and
    ``capture`` the folder in which a virtual machine's frames are kept, if they are.  ``tpm`` says whether
    its TPM is in, None if it never had one; its simulated ``drives`` take orders at ``orders`` while it is
    on.
    """

    name: str
    state: str
    addresses: tuple[str, str]
    mac: str
    leader: int | None
    boots: int
    console: str
    kind: str
    interfaces: tuple[Nic, ...]
    capture: str | None
    tpm: TpmState | None
    drives: tuple[PluggedDrive, ...]
    orders: str | None

    def as_dict(self) -> dict[str, object]:
        """The status as JSON values."""
        return {
            "name": self.name,
            "state": self.state,
            "addresses": list(self.addresses),
            "mac": self.mac,
            "leader": self.leader,
            "boots": self.boots,
            "console": self.console,
            "kind": self.kind,
            "interfaces": [
                {"purpose": nic.purpose, "mac": nic.mac, "addresses": list(nic.addresses)}
                for nic in self.interfaces
            ],
            "capture": self.capture,
            "tpm": self.tpm,
            "drives": [asdict(drive) for drive in self.drives],
            "orders": self.orders,
        }


@dataclass(frozen=True)
class PluggedDrive:
    """A simulated drive of a virtual machine: what its label says, and its image; ``size`` in bytes."""

    serial: str
    psid: str
    size: int
    image: str


def lab_status(places: Places, name: str) -> LabStatus:
    """The status of one lab, whole or half-made."""
    folder = places.folder(name)
    lab = read_state(folder)
    nodes = []
    for node in lab.nodes if lab else ():
        home = node_folder(folder, node.name)
        machine = machines.machine_of(folder, node)
        running = lab is not None and machines.is_running(lab, node)
        state = ("running" if machine.ready else "booting") if running else "off"
        nodes.append(
            NodeStatus(
                name=node.name,
                state=state,
                addresses=(node.address4, node.address6),
                mac=node.mac,
                leader=machine.leader if running else None,
                boots=machine.boots,
                console=str(home / CONSOLE),
                kind="machine" if node.machine else "container",
                interfaces=node.nics,
                capture=str(Disks(home).captures) if lab is not None and lab.capture else None,
                tpm=tpm_state(home),
                drives=_drives(home, node),
                orders=str(Bay(home).control) if node.drives else None,
            )
        )
    return LabStatus(name, lab, str(places.inventory(name)), tuple(nodes))


def _drives(home: Path, node: Node) -> tuple[PluggedDrive, ...]:
    bay = Bay(home)
    return tuple(
        PluggedDrive(profile.serial, profile.psid, profile.size, str(image))
        for profile, image in zip(bay.profiles(node), bay.images(node), strict=False)
    )


def all_status(places: Places) -> list[LabStatus]:
    """The status of every lab."""
    return [lab_status(places, name) for name in places.names()]
