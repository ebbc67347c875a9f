"""The console of a practice node: all it printed, over all its boots."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appliance.lab import machines
from appliance.lab.keeping import CONSOLE
from appliance.lab.places import find_node, node_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.lab.places import Places

_PAUSE = 0.2


def read_console(places: Places, name: str, *, lines: int | None = None) -> str:
    """What is on a node's console: the last ``lines`` lines, or all.

    Raises:
        LabFailed: no such lab.
        Usage: the name names no single node.
    """
    _, node, folder = find_node(places, name)
    text = _read(node_folder(folder, node.name) / CONSOLE)
    return text if lines is None else "".join(text.splitlines(keepends=True)[-lines:])


def follow_console(places: Places, name: str, *, lines: int | None = None) -> Iterator[str]:
    """What is on a node's console, and then what comes, until the node is switched off or removed.

    Raises:
        LabFailed: no such lab.
        Usage: the name names no single node.
    """
    lab, node, folder = find_node(places, name)
    path = node_folder(folder, node.name) / CONSOLE
    with path.open(encoding="utf-8", errors="replace", newline="") as console:
        text = console.read()
        yield text if lines is None else "".join(text.splitlines(keepends=True)[-lines:])
        while True:
            running = machines.is_running(lab, node)
            more = console.read()
            if more:
                yield more
            elif not running:
                return
            else:
                time.sleep(_PAUSE)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except FileNotFoundError:  # the lab was made this very moment
        return ""
