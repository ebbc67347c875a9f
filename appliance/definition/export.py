"""How a node exports its logs: over which card, to whom.  Plain values; ``export_schema`` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipaddress import IPv4Address

#: Where keys and spool lie unless the inventory says otherwise.
FOLDER: Final = "/var/lib/appliance-export"


@dataclass(frozen=True)
class Receiver:
    """Who takes the datagrams; ``mac`` is that of whatever takes the frames: the receiver, or the diode."""

    address: IPv4Address
    mac: str
    port: int

    def as_dict(self) -> dict[str, object]:
        return {"address": str(self.address), "mac": self.mac, "port": self.port}


@dataclass(frozen=True)
class Export:
    """One-way export over a card of its own, recognised by its MAC or its PCI address.

    ``address`` is the node's on that wire, without a network: there is one receiver and nobody else.
    ``folder`` holds keys and spool, on the node.
    """

    mac: str | None
    pci: str | None
    address: IPv4Address
    receiver: Receiver
    folder: str = FOLDER

    def as_dict(self) -> dict[str, object]:
        """As roles receive it."""
        return {
            "match": {"mac": self.mac} if self.mac else {"pci": self.pci},
            "address": str(self.address),
            "receiver": self.receiver.as_dict(),
            "folder": self.folder,
        }
