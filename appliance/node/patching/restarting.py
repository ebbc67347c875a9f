"""Over a restart of the node: packages that count from its next start on, before the rest of the switch.

Phase one installs packages alone: what serves goes on by the version before.  If one of them is a kernel
or a driver, the node is restarted, by itself or by somebody else; phase two is the whole of the switch, on
what was loaded then.  Where no such package came, phase two follows at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from appliance.errors import ApplyFailed, NodeUnreachable, RestartPending
from appliance.node.patching import switch

if TYPE_CHECKING:
    from appliance.node.connection import Connection
    from appliance.node.patching.target import Target

#: The playbook of phase one.
PACKAGES: Final = "packages.yml"
#: Seconds between two questions to a node that restarts.
PAUSE: Final = 2


def brings_packages(target: Target) -> bool:
    """Whether what nodes come to has packages that the copy of their base does not have."""
    folders = tuple(
        f"payload/{name}/"
        for name, component in target.bundle.manifest.components.items()
        if component.kind == "debian"
    )
    return any(file.path.startswith(folders) and not file.same for file in target.files)


def somebody_elses(connection: Connection, late: tuple[str, ...], version: str) -> RestartPending:
    """The error that ends a run whose node is to be restarted by others."""
    name = connection.node.name
    return RestartPending(
        f"{name} needs a restart before {version} can be proven",
        found=f"installed, and not loaded yet: {', '.join(late)}",
        wanted="a restart of the node, when it suits",
        hint=f"what ran before serves until then; restart {name}, and run the same command again: "
        "its time for the proof begins with the restart; or go back: appliance rollback",
    )


def wait_until_restarted(connection: Connection, seconds: int) -> None:
    """Until the node answers from another boot, and the switch still waits.

    Raises:
        NodeUnreachable: it does not come back in time.
        ApplyFailed: it went back meanwhile.
    """
    name = connection.node.name
    until = time.monotonic() + seconds
    told = "it answers, and has not restarted"
    while time.monotonic() < until:
        connection.close()  # what is open since before leads nowhere
        try:
            found = switch.waits(connection)
        except (
            NodeUnreachable,
            ApplyFailed,
        ) as fault:  # what is asked as it goes down is ended in its answer
            told = fault.found or "no answer"
        else:
            if found.pending is None:
                raise ApplyFailed(
                    f"{name} went back while it restarted",
                    found=str(found) or "the version before",
                    wanted="a node that waits for the proof of the new version",
                    hint=f"appliance history --limit {name} says why",
                )
            if not found.late:
                return
        time.sleep(PAUSE)
    raise NodeUnreachable(
        f"{name} did not come back within {seconds} s after it was told to restart",
        found=told,
        wanted="a node that starts and answers",
        hint=f"look at its console; once it has started, its time runs, and it goes back by itself "
        f"{seconds} s later; the same command again goes on where this one stopped",
    )
