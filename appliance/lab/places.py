"""Where labs are kept, and who may change one: folders, state files and their locks.

A lock is held on the folder it protects, so nothing is left over when the folder goes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import InProgress, LabFailed, SettingsInvalid, Usage
from appliance.lab.plan import check_name, lab_of
from appliance.lab.state import parse_state, state_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.lab.plan import Lab, Node

LABS_VARIABLE = "APPLIANCE_LAB_FOLDER"
CACHE_VARIABLE = "APPLIANCE_LAB_CACHE"
_STATE = "state.json"
_LOCK_PAUSE = 0.05


@dataclass(frozen=True)
class Places:
    """The two folders everything of every lab is in: ``labs`` comes and goes, ``cache`` stays."""

    labs: Path = Path("/var/lib/appliance-lab")
    cache: Path = Path("/var/cache/appliance-lab")

    @classmethod
    def from_environment(cls) -> Places:
        """The usual folders, or those the environment names.

        Raises:
            SettingsInvalid: a folder is relative or has a character that overlay mounts cannot take.
        """
        labs = os.environ.get(LABS_VARIABLE, str(cls.labs))
        cache = os.environ.get(CACHE_VARIABLE, str(cls.cache))
        for variable, folder in ((LABS_VARIABLE, labs), (CACHE_VARIABLE, cache)):
            if not folder.startswith("/") or set(folder) & set(':,\\"'):
                raise SettingsInvalid(
                    f"{variable} names no usable folder",
                    found=repr(folder),
                    wanted='an absolute path without : , \\ and "',
                )
        return cls(Path(labs), Path(cache))

    def folder(self, name: str) -> Path:
        """The folder of a lab."""
        return self.labs / name

    def inventory(self, name: str) -> Path:
        """The inventory folder of a lab."""
        return self.folder(name) / "inventory"

    def names(self) -> list[str]:
        """Names of all labs, whole or half-made, sorted."""
        if not self.labs.is_dir():
            return []
        return sorted(entry.name for entry in self.labs.iterdir() if entry.is_dir())


def node_folder(lab_folder: Path, node: str) -> Path:
    """The folder of a node: ``upper``, ``work``, ``merged``, ``console.log`` and ``machine.json``."""
    return lab_folder / "nodes" / node


def read_state(folder: Path) -> Lab | None:
    """The lab kept in ``folder``; None when nothing but the folder itself was made.

    Raises:
        LabFailed: the state file is damaged.
    """
    path = folder / _STATE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    return parse_state(text, path)


def write_state(folder: Path, lab: Lab) -> None:
    """Write the state file: whole or not at all."""
    temporary = folder / f"{_STATE}.partial"
    temporary.write_text(state_text(lab), "utf-8")
    temporary.rename(folder / _STATE)


def find_lab(places: Places, name: str) -> tuple[Lab, Path]:
    """A lab and its folder.

    Raises:
        LabFailed: there is no such lab, or it is half-made.
    """
    folder = places.folder(name)
    lab = read_state(folder) if folder.is_dir() else None
    if lab is None:
        raise LabFailed(
            f"there is no lab {name}",
            found=", ".join(places.names()) or "no lab at all",
            wanted="the name of a lab that is up",
            hint=f"appliance lab up {name}",
        )
    return lab, folder


def find_node(places: Places, name: str) -> tuple[Lab, Node, Path]:
    """A node by its own name, or by its lab's name when the lab has one node; with the lab's folder.

    Raises:
        LabFailed: no such lab.
        Usage: the lab has several nodes, or no such node.
    """
    lab, folder = find_lab(places, check_name(lab_of(name)))
    nodes = [node for node in lab.nodes if name in {node.name, lab.name}]
    if len(nodes) != 1:
        raise Usage(
            "this names no single node",
            found=name,
            wanted=f"one of {', '.join(node.name for node in lab.nodes)}",
        )
    return lab, nodes[0], folder


@contextlib.contextmanager
def locked(folder: Path, *, wait: float, create: bool = False) -> Iterator[int]:
    """Hold the lock of ``folder``; yields the descriptor that holds it.

    Args:
        folder: an existing folder, unless ``create``.
        wait: seconds to wait for another holder.
        create: make the folder, and again if another process removes it meanwhile.

    Raises:
        InProgress: another process holds it for longer than ``wait``.
        FileNotFoundError: the folder is not there, or goes while waiting.
    """
    deadline = time.monotonic() + wait
    while True:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _lock(descriptor, folder, deadline)
            if _still_there(descriptor, folder):
                yield descriptor
                return
        finally:
            os.close(descriptor)
        if not create:
            raise FileNotFoundError(folder)


def _lock(descriptor: int, folder: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise InProgress(
                    f"another run is working on {folder}",
                    wanted="one run at a time",
                    hint="wait for it, or stop it with Ctrl-C, and run this command again",
                ) from None
        time.sleep(_LOCK_PAUSE)


def _still_there(descriptor: int, folder: Path) -> bool:
    held = os.fstat(descriptor)
    try:
        found = folder.stat()
    except FileNotFoundError:
        return False
    return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)


def claim_folder(places: Places, name: str) -> Path:
    """Make the folder of a new lab.  Call it under the lock of ``places.labs``.

    Raises:
        LabFailed: the lab exists, whole or half-made.
    """
    folder = places.folder(name)
    try:
        folder.mkdir()
    except FileExistsError:
        raise LabFailed(
            f"the lab {name} exists already",
            found=str(folder),
            wanted="a new name, or the old lab taken down first",
            hint=f"appliance lab down {name}",
        ) from None
    return folder
