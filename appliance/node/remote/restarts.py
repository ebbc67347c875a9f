"""Restarts that a switch waits for, or leaves to be done: kept in files that name the boot they are to end.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from appliance.node.remote.lasting import read, write

if TYPE_CHECKING:
    from collections.abc import Iterable


class Restarts:
    """Of the node whose switches lie in ``home``, and the one that is pending in ``pending``."""

    def __init__(self, home: str, pending: str) -> None:
        self.wanted, self.owed = os.path.join(pending, "restart.json"), os.path.join(home, "loaded.json")

    def want(self, boot: str, late: list[str], *, reboot: bool, changed: Iterable[str]) -> None:
        """The pending switch goes on after a restart; with ``reboot`` the node's own.

        ``changed``: the packages that it brought, late or not.
        """
        write(self.wanted, {"boot": boot, "late": late, "reboot": reboot, "changed": [*changed]})

    def brought(self) -> list[str] | None:
        """The packages that the pending switch brought, if it ever wanted a restart."""
        found: list[str] | None = (read(self.wanted) or {}).get("changed")
        return found

    def asked(self, armed: dict[str, Any]) -> dict[str, Any] | None:
        """What was wanted in the boot in which the switch was armed last."""
        found = read(self.wanted)
        return found if found and found["boot"] == armed["boot"] else None

    def owe(self, boot: str, late: list[str], *, reboot: bool) -> None:
        """What went back is loaded still."""
        write(self.owed, {"boot": boot, "late": late, "reboot": reboot})

    def refused(self) -> None:
        """Systemd does not restart the node: what is owed is left to somebody."""
        if found := read(self.owed):
            write(self.owed, {**found, "reboot": False})

    def waits(self, armed: dict[str, Any] | None, boot: str) -> dict[str, Any] | None:
        """The one without which this boot does not run what is installed: ``late``, ``reboot``, ``for``."""
        for found, what in ((self.asked(armed) if armed else None, "new"), (read(self.owed), "former")):
            if found and found["boot"] == boot:
                return {"late": found["late"], "reboot": found["reboot"], "for": what}
        return None
