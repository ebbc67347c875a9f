"""One simulated drive: a TPer, its blocks, an image and a state file.

The image holds the blocks, then the shadow MBR and the data store, sparse all of it.  The state lies
beside it, as IMAGE.state.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from appliance.errors import InProgress, LabFailed
from appliance.lab.drive.interface import SecurityInterface
from appliance.lab.drive.keeping import (
    profile_of,
    read_state,
    restore,
    state_beside,
    state_of,
    write_state,
)
from appliance.lab.drive.media import Media
from appliance.lab.drive.profile import DATA_STORE_SIZE, SHADOW_SIZE, Profile
from appliance.lab.drive.space import FileSpace
from appliance.lab.drive.tper import TPer
from appliance.tcg.uids import DATA_STORE, MBR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class SimulatedDrive:
    """A drive that is plugged in.

    Args:
        image: where it lies; made when it is not there.
        make: what a new drive is to be; one that is there is what its state says.

    Attributes:
        powered: whether hosts reach it.
        on_power_loss: called when power fails: whoever serves it ends all connections.

    Raises:
        LabFailed: there is an image without a state or a state that is none.
        InProgress: another process serves it.
    """

    def __init__(self, image: Path, make: Callable[[], Profile]) -> None:
        self.image = image
        self.state = state_beside(image)
        state = read_state(self.state)
        if state is None and image.exists() and image.stat().st_size:
            raise LabFailed(
                f"{image} is no simulated drive's image",
                found=f"no {self.state.name} beside it",
                wanted="a new name, or an image together with its state",
            )
        self.profile = make() if state is None else profile_of(state)
        self._lock = _locked(image)
        if state is not None:  # whoever had it plugged in until now may have changed it since
            state = read_state(self.state) or state
        try:
            size = self.profile.size
            self._spaces = [
                FileSpace(image, 0, size),
                FileSpace(image, size, SHADOW_SIZE),
                FileSpace(image, size + SHADOW_SIZE, DATA_STORE_SIZE),
            ]
        except OSError as error:
            os.close(self._lock)
            raise _unopened(image, error) from error
        spaces = dict(zip((MBR, DATA_STORE), self._spaces[1:], strict=True))
        self.tper = TPer(self.profile, {**spaces}, self.keep)
        if state is not None:
            restore(self.tper, state)
            self.tper.power_cycle()  # however its power failed: it has it again only now
        else:
            self.keep()
        self.security = SecurityInterface(self.tper)
        self.media = Media(self.tper, self._spaces[0])
        self.powered = True
        self.on_power_loss: Callable[[], None] = lambda: None

    def keep(self) -> None:
        """Put the state on disk."""
        write_state(self.state, state_of(self.tper))

    def power_off(self) -> None:
        """The plug is pulled: connections end, and what locks on it is locked."""
        self.powered = False
        self.security.forget()
        self.tper.power_cycle()
        self.on_power_loss()

    def power_on(self) -> None:
        """The plug is put in again."""
        self.powered = True

    def warm_reset(self) -> None:
        """The host resets: connections end, and what was unlocked stays so."""
        self.security.forget()
        self.tper.hardware_reset()
        self.on_power_loss()

    def close(self) -> None:
        """Let go of image and state."""
        for space in self._spaces:
            space.sync()
            space.close()
        os.close(self._lock)


def _locked(image: Path) -> int:
    try:
        descriptor = os.open(image, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unopened(image, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise InProgress(f"the drive {image} is plugged in elsewhere", found=str(error)) from error
    return descriptor


def _unopened(image: Path, fault: OSError) -> LabFailed:
    return LabFailed(
        f"the image {image} cannot be opened",
        found=fault.strerror,
        wanted="a file that can be made, read and written there, and its state beside it",
        hint="correct the folder or its permissions, or name another file with --image",
    )
