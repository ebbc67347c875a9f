"""What there is: labs, their nodes, and how each is doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.lab import machines
from appliance.lab.keeper import CONSOLE
from appliance.lab.places import node_folder, read_state

if TYPE_CHECKING:
    from appliance.lab.places import Places
    from appliance.lab.plan import Lab


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
        return values


@dataclass(frozen=True)
class NodeStatus:
    """A node; ``state`` is ``off``, ``booting`` or ``running``; ``leader`` its PID 1 as seen from here."""

    name: str
    state: str
    addresses: tuple[str, str]
    mac: str
    leader: int | None
    boots: int
    console: str

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
        }


def lab_status(places: Places, name: str) -> LabStatus:
    """The status of one lab, whole or half-made."""
    folder = places.folder(name)
    lab = read_state(folder)
    nodes = []
    for node in lab.nodes if lab else ():
        machine = machines.read_machine(folder, node)
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
                console=str(node_folder(folder, node.name) / CONSOLE),
            )
        )
    return LabStatus(name, lab, str(places.inventory(name)), tuple(nodes))


def all_status(places: Places) -> list[LabStatus]:
    """The status of every lab."""
    return [lab_status(places, name) for name in places.names()]
