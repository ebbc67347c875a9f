"""Units that are not ours, which roles turn on, off or mask: as they were, and put back.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.

What a unit of a package is after its package was installed is the package's affair, and packages stay.  So
only units that were there before are put back, and of the others those alone that roles turn on.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from appliance.node.remote.policy_places import TURNED_ON

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: What ``systemctl list-unit-files`` says of a unit whose state somebody chose.
CHOSEN = frozenset({"enabled", "disabled", "masked"})
LISTED = ("--no-legend", "--no-pager", "--plain", "--full")


def told(*arguments: str) -> str:
    """All that systemctl prints.

    Raises:
        OSError: it fails.  No answer is not the answer that there is nothing.
    """
    done = subprocess.run(
        ["systemctl", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise OSError(f"systemctl {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


class OtherUnits:
    """The units of a node but ours, and but those that ``apart`` names."""

    def __init__(
        self,
        control: Callable[..., tuple[int, str]],
        ask: Callable[..., str] = told,
        apart: Collection[str] = (),
    ) -> None:
        self.control, self.ask, self.apart = control, ask, frozenset(apart)

    def states(self) -> dict[str, str]:
        """What is chosen for each unit that has a file, in systemd's word."""
        rows = [line.split() for line in self.ask("list-unit-files", *LISTED).splitlines()]
        return {
            row[0]: row[1]
            for row in rows
            if len(row) > 1 and not row[0].startswith("appliance-") and row[0] not in self.apart
        }

    def at_work(self) -> list[str]:
        """Names of active units, among them of those without files."""
        listing = self.ask("list-units", "--state=active,reloading,activating", *LISTED)
        return sorted(line.split()[0] for line in listing.splitlines() if line.strip())

    def keep(self) -> dict[str, Any]:
        """What is to be remembered."""
        return {"states": self.states(), "active": self.at_work()}

    def differ(self, before: dict[str, Any]) -> list[str]:
        """Units for which something else is chosen now, and those that a role has turned on since."""
        was, now = before["states"], self.states()
        chosen = [
            name
            for name in was.keys() & now.keys()
            if was[name] != now[name]
            and ({was[name], now[name]} <= CHOSEN or "masked" in (was[name], now[name]))
        ]
        new = [name for name in TURNED_ON if name not in was and now.get(name) == "enabled"]
        return sorted([*chosen, *new])

    def put_back(self, before: dict[str, Any], names: Collection[str], *, starting: bool) -> None:
        """Have these units be what they were; nothing is mounted or unmounted for it.

        ``starting``: systemd waits for whoever calls, so each job is queued, and not waited for.
        """
        queued = ["--no-block"] if starting else []
        for name in names:
            was, active = before["states"].get(name, "disabled"), name in before["active"]
            moves = not name.endswith((".mount", ".automount")) and "@." not in name
            if moves and not active:
                self.control("stop", *queued, name)
            if was == "masked":
                self.control("mask", name)
                continue
            self.control("unmask", name)
            if was in CHOSEN:
                self.control("enable" if was == "enabled" else "disable", name)
            if moves and active:
                self.control("start", *queued, name)
