"""What the qualification has to know of the node it is run against, as one JSON file."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.definition.inventory_record import inventory_record, read_record
from appliance.node.qualification.clock import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.connection import Connection

STAGED: Final = "/var/lib/appliance/staged"
#: Stands for the shell command in a stored command line.
_COMMAND: Final = "@command@"


@dataclass(frozen=True)
class Bundle:
    """What is installed: the bundle's digest, the model's path below the staged copy, its name.

    ``task`` is what clients ask of the model, None for a chat.
    """

    digest: str
    model_path: str
    model_name: str
    task: str | None = None

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
            "declared": inventory_record(inventory, node),
            "bundle": {
                "digest": bundle.digest,
                "model_path": bundle.model_path,
                "model_name": bundle.model_name,
                "task": bundle.task,
            },
            "user": inventory.ssh.user if inventory.ssh else "root",
            "clock": [asdict(reading) for reading in clock],
            "argv": connection.argv(_COMMAND),
            "fresh": fresh,
        },
        indent=2,
    )


def load_subject(path: Path) -> Subject:
    """The inverse of ``describe``."""
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    inventory, node = read_record(values["declared"])
    return Subject(
        inventory=inventory,
        node=node,
        bundle=Bundle(**values["bundle"]),
        argv=tuple(values["argv"]),
        fresh={station: tuple(argv) for station, argv in values["fresh"].items()},
        user=values["user"],
        clock=tuple(Reading(**reading) for reading in values["clock"]),
    )
