"""A contradiction within an inventory, and where it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.definition.document import Loc
    from appliance.definition.inventory import Interface, NodeEntry


@dataclass(frozen=True)
class Conflict:
    """A contradiction; ``loc`` is where it is written, ``at_key`` when the key is what to point at.

    ``way_out``: it would lead traffic away, and is refused as ``GatewayForbidden``.
    """

    loc: Loc
    message: str
    found: str
    wanted: str
    at_key: bool = False
    way_out: bool = False


def place_of(node: NodeEntry, interface: Interface) -> Loc:
    """Where an interface, bond or VLAN is written."""
    return ("nodes", node.name, interface.section, interface.name)
