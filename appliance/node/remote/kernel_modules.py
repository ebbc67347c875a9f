"""Kernel modules that stay after a node went back: what is loaded, or locked, is so until its next start.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.

Nothing is unloaded: somebody may use it.  It is told which modules a newer version has let in that the
former one refuses, and whether it has locked the kernel, which loads none then.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

#: Where roles refuse modules, and how (modprobe.d(5)).
FILES = "etc/modprobe.d/appliance*.conf"
REFUSED = re.compile(
    r"^\s*(?:blacklist\s+(\S+)\s*|install\s+(\S+)\s+/bin/(?:false|true)\s*)$", re.MULTILINE
)


class KernelModules:
    """Those of the kernel of a node below a root."""

    def __init__(self, root: str = "/") -> None:
        self.root = Path(root)

    def keep(self) -> dict[str, Any]:
        """What is loaded, and whether that is all; nothing of a kernel that is not the node's own."""
        if not self.is_ours():
            return {}
        return {"loaded": self.loaded(), "locked": self.is_locked()}

    def stay(self, before: dict[str, Any] | None) -> list[str]:
        """What of a newer version counts until the next start, in words; by the former files."""
        if not before or not self.is_ours():
            return []
        try:
            new = ({*self.loaded()} - {*before["loaded"]}) & self.refused()
            is_locked = self.is_locked() and not before["locked"]
        except OSError as fault:
            return [f"nobody knows which kernel modules stay loaded: {fault}"]
        return [
            *(f"the module {name} stays loaded until the next start" for name in sorted(new)),
            *(["the kernel loads no module before the next start"] if is_locked else []),
        ]

    def is_ours(self) -> bool:
        """In a container the kernel is its host's, and its settings cannot be written."""
        place = self.root / "proc/sys/kernel"
        return place.exists() and not os.statvfs(place).f_flag & os.ST_RDONLY

    def loaded(self) -> list[str]:
        """Names as the kernel has them; none in one that is all of one piece."""
        place = self.root / "proc/modules"
        return sorted(line.split()[0] for line in place.read_text().splitlines()) if place.exists() else []

    def is_locked(self) -> bool:
        """Whether it loads no module any more."""
        place = self.root / "proc/sys/kernel/modules_disabled"
        return place.exists() and place.read_text().strip() == "1"

    def refused(self) -> set[str]:
        """Names that the files of our roles keep out, as the kernel has them."""
        texts = [path.read_text(errors="replace") for path in sorted(self.root.glob(FILES))]
        names = (name for text in texts for pair in REFUSED.findall(text) for name in pair if name)
        return {name.replace("-", "_") for name in names}
