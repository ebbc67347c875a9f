"""The packages of a switch that goes back: whether they do, and what is written down before they do.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.

``begun.json`` says which of them count from the next start on (``late``), since nobody could tell once they
are back, and that what went back is not what is loaded (``loaded``: the boot of which that is true;
``again``: the node restarts by itself for it).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from appliance.node.remote.lasting import read, write
from appliance.node.remote.late_packages import DpkgError

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.node.remote.late_packages import Packages


class FormerPackages:
    """Of a switch that was ``armed``, and whose going back is written down in the file ``place``.

    ``boot`` is the present one; below ``staged`` is the copy of the bundle that is gone back to.
    """

    def __init__(
        self, packages: Packages, armed: dict[str, Any], place: str, *, boot: str, staged: str
    ) -> None:
        self.packages, self.armed, self.place = packages, armed, place
        before = armed["record"].get("from") or {}
        self.boot, self.folder = boot, os.path.join(staged, str(before.get("digest")))
        self.kept: dict[str, str] = armed.get("packages", {})

    def bring(
        self, begun: dict[str, Any], free_room: Callable[[], None], *, waits: bool
    ) -> tuple[bool, list[str]]:
        """Have them back, if they are to be; whether they were not, and what is in the way, in words.

        Args:
            begun: what is written down.
            free_room: makes room for writing on a full disk.
            waits: it is too early; they come later.
        """
        if not self.kept:
            return False, []
        try:
            if "late" not in begun:
                late = self.packages.late(self.kept)
                if not late and not self.packages.cut_off(self.kept):
                    return False, []
                free_room()
                write(self.place, begun := {**begun, "late": late})
            differ = bool(self.packages.changed(self.kept))
            return differ, self.go_back(begun) if differ and not waits else []
        except DpkgError as fault:
            return True, [f"packages stay as they are: {fault}"]

    def go_back(self, begun: dict[str, Any]) -> list[str]:
        """The same; a restart is owed only where it would load something else."""
        before = self.new(begun)
        if before:
            loaded = self.armed["first"] != self.boot
            again = loaded and self.armed["reboot"]
            write(self.place, {**begun, "loaded": self.boot if loaded else "", "again": again})
        try:
            stuck, after = self.packages.go_back(self.kept, self.folder), self.new(begun)
        except DpkgError:
            write(self.place, begun)
            raise
        if before and after == before:
            write(self.place, begun)
        return stuck

    def new(self, begun: dict[str, Any]) -> list[str]:
        """Those that count from the next start on, and are not back."""
        changed = self.packages.changed(self.kept)
        return [name for name in begun["late"] if name in changed]

    def restarts(self) -> bool:
        """Whether the node is to restart itself, since it has loaded what is not installed any more."""
        begun = read(self.place) or {}
        return begun.get("loaded") == self.boot and bool(begun["again"])
