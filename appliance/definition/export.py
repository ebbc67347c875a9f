"""How a node exports its logs: over which card, to whom.  Plain values; ``export_schema`` makes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from ipaddress import IPv4Address

#: Where keys and spool lie unless the inventory says otherwise.
FOLDER: Final = "/var/lib/appliance-export"

#: Streams that are there already: a folder or an endpoint of such a name would be mistaken for them.
TAKEN: Final = frozenset({"journal", "audit-log", "audit", "export", "socket", "stdin", "metrics"})


@dataclass(frozen=True)
class Sources:
    """What is exported beside what programs give to the socket: journal, audit log, folders by stream."""

    journal: bool = True
    audit: bool = False
    folders: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, object]:
        """What is asked for, and nothing of what is not."""
        return {
            **({} if self.journal else {"journal": False}),
            **({"audit": True} if self.audit else {}),
            **({"folders": dict(self.folders)} if self.folders else {}),
        }


@dataclass(frozen=True)
class Sending:
    """How it is sent: Mb/s, percent of repair symbols, MiB of spool, and what happens when that is full."""

    rate: float = 100.0
    idle_rate: float = 5.0
    constant: bool = False
    parity: int = 20
    spool: int = 1024
    when_full: Literal["drop", "stop"] = "drop"

    def as_dict(self) -> dict[str, object]:
        """What is not as usual."""
        usual = Sending()
        return {name: value for name, value in asdict(self).items() if value != getattr(usual, name)}


@dataclass(frozen=True)
class StreamFields:
    """What of one stream may leave: fields by name, and patterns of what in them becomes ``***``."""

    stream: str
    fields: tuple[str, ...]
    redact: tuple[str, ...] = ()


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
    ``folder`` holds keys and spool, on the node.  ``select`` says what may leave; None: everything.
    """

    mac: str | None
    pci: str | None
    address: IPv4Address
    receiver: Receiver
    folder: str = FOLDER
    sources: Sources = Sources()
    sending: Sending = Sending()
    select: tuple[StreamFields, ...] | None = None

    def as_dict(self) -> dict[str, object]:
        """As roles receive it."""
        sources, sending = self.sources.as_dict(), self.sending.as_dict()
        return {
            "match": {"mac": self.mac} if self.mac else {"pci": self.pci},
            "address": str(self.address),
            "receiver": self.receiver.as_dict(),
            "folder": self.folder,
            **({"sources": sources} if sources else {}),
            **({"sending": sending} if sending else {}),
            **({} if self.select is None else {"select": _streams(self.select)}),
        }


def _streams(select: tuple[StreamFields, ...]) -> dict[str, object]:
    return {each.stream: {"fields": list(each.fields), "redact": list(each.redact)} for each in select}
