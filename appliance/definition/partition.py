"""What the GPUs of a node are cut into, and which team is served on what.

Plain values; ``partition_schema`` makes them out of what an operator wrote.  GPUs are numbered as
nvidia-smi numbers them: by PCI address, from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.hardware.mig_parted import mig_parted_text

if TYPE_CHECKING:
    from appliance.definition.inventory import Inventory, NodeEntry

#: The unit that serves the model (role inference_server), where no team has one of its own.
UNIT: Final = "appliance-inference.service"
#: The unit that cuts the GPUs (role gpu_partition).
PARTITION_UNIT: Final = "appliance-gpu-partition.service"


@dataclass(frozen=True)
class Cut:
    """A slice of a GPU: its MIG profile, and the memory slice at which it begins."""

    name: str
    start: int


@dataclass(frozen=True)
class Team:
    """One instance of the server: on a slice of one GPU, or on whole GPUs.

    ``port``: on loopback.  ``slice``: a MIG profile; empty for whole GPUs.
    """

    name: str
    port: int
    gpus: tuple[int, ...]
    slice: str = ""

    @property
    def unit(self) -> str:
        """The systemd unit that serves it."""
        return f"appliance-inference-{self.name}.service"


@dataclass(frozen=True)
class Partition:
    """The GPUs of one node.

    ``model``: a name of ``appliance.hardware.gpu_table``.  ``layout``: of every GPU, what it is cut into;
    none: it stays whole.
    """

    model: str
    layout: tuple[tuple[Cut, ...], ...]
    teams: tuple[Team, ...]

    def for_roles(self) -> dict[str, Any]:
        """As roles receive it: with the layout in mig-parted's form, as a text."""
        names = [[cut.name for cut in cuts] for cuts in self.layout]
        return {**self.as_dict(), "mig_parted": mig_parted_text(names)}

    def as_dict(self) -> dict[str, Any]:
        """As plain values; ``read_partition`` reads them."""
        return {
            "model": self.model,
            "layout": [[{"name": cut.name, "start": cut.start} for cut in cuts] for cuts in self.layout],
            "teams": [
                {
                    "name": team.name,
                    "port": team.port,
                    "gpus": list(team.gpus),
                    "slice": team.slice,
                    "unit": team.unit,
                }
                for team in self.teams
            ],
        }


def read_partition(values: dict[str, Any]) -> Partition:
    """The inverse of ``Partition.as_dict``."""
    return Partition(
        values["model"],
        tuple(tuple(Cut(**cut) for cut in cuts) for cuts in values["layout"]),
        tuple(
            Team(each["name"], each["port"], tuple(each["gpus"]), each["slice"]) for each in values["teams"]
        ),
    )


@dataclass(frozen=True)
class Instance:
    """A server that a node shall run: its unit, and its port on loopback."""

    unit: str
    port: int
    team: str = ""


def served_units(node: NodeEntry) -> tuple[str, ...]:
    """The units of every server of a node."""
    return tuple(team.unit for team in node.partition.teams) if node.partition else (UNIT,)


def instances(inventory: Inventory, node: NodeEntry) -> tuple[Instance, ...]:
    """Every server of a node: one for each team, or the one that all share."""
    if node.partition is None:
        return (Instance(UNIT, inventory.inference_port),)
    return tuple(Instance(team.unit, team.port, team.name) for team in node.partition.teams)
