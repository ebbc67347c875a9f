"""What an audit says: what differs, what could not be compared, and by what it was judged."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from appliance.errors import ApplianceError

NOTHING: Final = "not there"

#: What is compared, in the order in which it is told; what to do where it differs.
SUBJECTS: Final[dict[str, str]] = {
    "reference": "find out who wrote it; install again to begin a new baseline",
    "installed": "appliance install brings the node to what the inventory and the bundle say",
    "staged": "appliance install --recheck copies it again",
    "routes": "appliance install puts the network back; find out who changed it",
    "rules": "appliance install puts the declared filter back; find out who changed it",
    "listeners": "find the program, stop it, and what starts it",
    "units": "systemctl status tells more; appliance install puts back what is declared",
    "users": "undo it with usermod, userdel or gpasswd, unless it is wanted: then install again",
    "packages": "packages come from a signed bundle alone: remove it, or install the bundle again",
    "files": "put it back (install, or the package's .deb from the staged copy), and find out who wrote it",
    "mounts": "unmount or mount it as it was; look at /etc/fstab and mount units",
    "kernel": "reboot into the installed kernel with its own command line",
    "modules": "find out what asked for it; a reboot unloads what nothing needs",
    "time": "set the node's clock, or mend its source",
    "drives": "look at the machine: a drive was added, taken or exchanged",
    "storage": "appliance disk mount and install put back what is declared; swapoff what is swapped to",
    "gpus": "appliance install cuts them again; journalctl -u appliance-gpu-partition",
    "host": "appliance install puts the host's settings back",
    "service": "appliance install puts the service back; journalctl -u appliance-inference",
}


@dataclass(frozen=True)
class Drift:
    """One difference.  ``breaks``: promises of the qualification that it breaks, with what was found."""

    subject: str
    what: str
    found: str
    wanted: str
    breaks: tuple[str, ...] = ()

    @property
    def do(self) -> str:
        """What to do next."""
        return SUBJECTS[self.subject]

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "do": self.do}


@dataclass(frozen=True)
class NotCompared:
    """A subject or promise that could not be compared here, and why."""

    what: str
    reason: str


Source = Literal["station", "digest", "node", "none"]

#: Who says what the node should be.
SOURCES: Final[dict[Source, str]] = {
    "station": "kept by this station",
    "digest": "the node's copy, whose digest was known here",
    "node": "the node's own copy: nobody but the node vouches for it",
    "none": "none: what no role declares was not compared",
}


@dataclass(frozen=True)
class NodeAudit:
    """What came of one node.  ``trouble``: it could not be asked, and the rest is empty.

    ``baseline`` is the SHA-256 of what the node was compared with, ``taken`` when that was (RFC 3339 UTC,
    the station's clock); ``compared`` counts what was looked at by subject.
    """

    node: str
    drifts: tuple[Drift, ...] = ()
    not_compared: tuple[NotCompared, ...] = ()
    compared: dict[str, int] = field(default_factory=dict)
    source: Source = "none"
    baseline: str = ""
    taken: str = ""
    seconds: float = 0.0
    trouble: ApplianceError | None = None

    def as_dict(self) -> dict[str, Any]:
        """One node, as JSON values."""
        if self.trouble:
            return {"result": "unreachable", "trouble": self.trouble.as_dict()}
        return {
            "result": "drift" if self.drifts else "same",
            "reference": {"source": self.source, "baseline": self.baseline, "taken": self.taken},
            "drift": [each.as_dict() for each in self.drifts],
            "not_compared": [asdict(each) for each in self.not_compared],
            "compared": self.compared,
            "seconds": self.seconds,
        }
