"""The results of a node's own audits: the last of them kept in a folder of root's, handed over or waiting.

A result is one file, in the form in which it leaves: ``<number>.waiting.json``, and ``<number>.json`` once
it was handed over.  Numbers ascend by one, and stand in the results too: one that was given up is a hole.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from appliance.bundle.durable import replace_file, sync_folder

if TYPE_CHECKING:
    from pathlib import Path

#: A quarter of a year; and what a disk can spare, if everything differs every day.
MOST: Final = 90
MOST_BYTES: Final = 64 << 20
_NAME: Final = re.compile(r"([0-9]{10})(\.waiting)?\.json")


class Results:
    """What is kept in ``folder``, which is there and is root's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def next_number(self) -> int:
        """The number of the next result."""
        return max((_number(path) for path in self._all()), default=0) + 1

    def keep(self, number: int, record: dict[str, Any]) -> list[int]:
        """Keep a result, durably, and drop the oldest that are too many.

        Returns:
            The numbers of those that were given up before anybody took them.

        Raises:
            SpaceExhausted, PreflightFailed: the disk is full or write-protected; nothing was dropped.
        """
        data = json.dumps(record, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        replace_file(self.folder / f"{number:010}.waiting.json", data)
        lost = []
        for path in self._too_many():
            path.unlink()
            if _waits(path):
                lost.append(_number(path))
        return lost

    def waiting(self) -> list[Path]:
        """Results that nobody took yet, the oldest first."""
        return [path for path in self._all() if _waits(path)]

    def taken(self, path: Path) -> None:
        """Note that a result was handed over."""
        path.rename(self.folder / f"{_number(path):010}.json")
        sync_folder(self.folder)

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def _too_many(self) -> list[Path]:
        """What goes, the oldest first: beyond the number or the size allowed.  The newest stays."""
        size, found = 0, []
        for count, path in enumerate(reversed(self._all()), 1):
            size += path.stat().st_size
            if count > 1 and (count > MOST or size > MOST_BYTES):
                found.append(path)
        return found[::-1]


def _number(path: Path) -> int:
    return int(path.name[:10])


def _waits(path: Path) -> bool:
    return path.name.endswith(".waiting.json")
