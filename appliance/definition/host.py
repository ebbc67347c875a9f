"""How a node keeps quiet and whole besides its network: time, media, modules, the banner.

Plain values, as the program and the role ``quiet_host`` use them; ``host_schema`` makes them out of
what an operator wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

#: What a person reads before logging in, unless the site words it (NIST SP 800-53 AC-8).
BANNER: Final = """\
This system is for authorised users only. What is done on it is recorded and
may be examined. Whoever goes on agrees to this; unauthorised use is an offence.
"""


@dataclass(frozen=True)
class Time:
    """Where a node's time comes from.

    ``none``: its own clock, running free.  ``ntp``: ``servers``, on the node's own link.  ``ptp``: the
    site's grandmaster, heard on ``interface`` (the inventory's name; None where a node has only one).
    """

    source: Literal["none", "ntp", "ptp"] = "none"
    servers: tuple[IPv4Address | IPv6Address, ...] = ()
    interface: str | None = None

    def as_dict(self) -> dict[str, object]:
        """As roles receive it."""
        return {
            "source": self.source,
            "servers": [str(server) for server in self.servers],
            "interface": self.interface or "",
        }


#: When a node audits itself, unless the site says when: before anybody works, after everybody has.
AUDIT_AT: Final = "03:30"


@dataclass(frozen=True)
class Audit:
    """Whether a node audits itself every day, and when (``HH:MM`` by its own clock)."""

    daily: bool = False
    at: str = AUDIT_AT

    def as_dict(self) -> dict[str, object]:
        """As roles receive it; nothing where it is not asked for, so that older inventories keep theirs."""
        return {"audit": {"at": self.at}} if self.daily else {}


@dataclass(frozen=True)
class Host:
    """``known_units``: units of the site's own that start by themselves, each with its reason."""

    time: Time = Time()
    usb_storage: Literal["deny", "allow"] = "deny"
    module_loading: Literal["locked", "open"] = "open"
    banner: str = BANNER
    known_units: dict[str, str] = field(default_factory=dict)
    audit: Audit = Audit()

    def as_dict(self) -> dict[str, object]:
        """As roles receive it."""
        return {
            "time": self.time.as_dict(),
            "usb_storage": self.usb_storage,
            "module_loading": self.module_loading,
            "banner": self.banner,
            "known_units": dict(self.known_units),
            **self.audit.as_dict(),
        }
