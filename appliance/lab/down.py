"""Take a lab down: whatever is there of it, however it came to be in that state.

A half-made lab has a state file or nothing but its folder, because the state file is written first;
what it names may or may not exist.  Every step is content with finding nothing to do, and the folder
goes last, so that an interrupted ``lab down`` is finished by the next one.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from appliance.errors import InProgress
from appliance.lab import cgroup, namespaces, network
from appliance.lab.places import locked, read_state
from appliance.lab.plan import check_name
from appliance.lab.requirements import DOWN_TOOLS, require_root, require_tools
from appliance.lab.rootfs import remove_abandoned

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.lab.places import Places

_LOCK_WAIT = 10.0
_KILL_TIMEOUT = 30.0


def take_down(places: Places, name: str) -> bool:
    """Remove a lab; whether there was one.

    Args:
        places: where labs are kept.
        name: the lab's name.

    Raises:
        Usage: the name cannot be a lab's.
        InProgress: another run is bringing it up or down.
        LabFailed: something of it does not go; run it again after looking at what the message names.
    """
    check_name(name)
    folder = places.folder(name)
    remove_abandoned(places)
    if not folder.is_dir():
        return False
    require_root()
    require_tools(DOWN_TOOLS)
    try:
        with locked(folder, wait=_LOCK_WAIT):
            _remove(folder)
    except FileNotFoundError:
        return False  # another run removed it while this one waited
    return True


def take_all_down(places: Places) -> list[str]:
    """Remove every lab; their names."""
    remove_abandoned(places)
    return [name for name in places.names() if take_down(places, name)]


def _remove(folder: Path) -> None:
    """Remove all there is of the lab kept in ``folder``.  The caller holds its lock."""
    lab = read_state(folder)
    if lab is not None:
        cgroup.kill(cgroup.cgroup_path(lab.cgroup), timeout=_KILL_TIMEOUT)
        if namespaces.network_exists(lab.netns):
            with namespaces.joined(lab.netns):
                network.remove_bridges(lab)
    shutil.rmtree(folder)
    # Other labs are in there, or another run has just removed it: both are fine.
    with contextlib.suppress(OSError, InProgress), locked(folder.parent, wait=_LOCK_WAIT):
        folder.parent.rmdir()
