"""A virtual machine's simulated drives: their files, and the process that they are while it is switched on.

They are in the node's folder and have power exactly while the machine has, so what is unlocked on them is
locked after a power cut, and stays unlocked over a reset.  The process, ``python -m appliance.lab.bay``, is
in a network namespace of its own, whose only interface is a cable to the machine.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.lab import kernel, tap
from appliance.lab.drive.control import send_order
from appliance.lab.drive.keeping import profile_of, read_state, state_beside
from appliance.lab.drive.profile import MIB, Profile
from appliance.lab.drive.running import serve_drives
from appliance.lab.drive.simulated import SimulatedDrive
from appliance.lab.network import run_ip
from appliance.lab.slots import DRIVES_ADDRESS, LINK, PORT

if TYPE_CHECKING:
    from appliance.lab.plan import Node

_SIZE = 256 * MIB


@dataclass(frozen=True)
class Bay:
    """Where a node's drives lie; ``folder`` is the node's."""

    folder: Path

    def images(self, node: Node) -> list[Path]:
        """The images of its drives; each has its state beside it."""
        return [self.folder / f"drive{number}.img" for number in range(1, node.drives + 1)]

    @property
    def control(self) -> Path:
        """The socket that takes orders to them, while the machine is on."""
        return self.folder / "drives.sock"

    @property
    def log(self) -> Path:
        """Every method that they were asked for and its status, without parameters."""
        return self.folder / "drives.log"

    def profiles(self, node: Node) -> list[Profile]:
        """What its drives are by their make.

        Raises:
            LabFailed: the state of one of them is damaged.
        """
        states = [read_state(state_beside(image)) for image in self.images(node)]
        return [profile_of(state) for state in states if state is not None]


def make_drives(folder: Path, node: Node) -> list[Profile]:
    """Make a node's drives, as new; what each of them is, the serial number and PSID too."""
    for image in Bay(folder).images(node):
        SimulatedDrive(image, lambda: Profile(size=_SIZE)).close()
    return Bay(folder).profiles(node)


def become_drives(folder: Path, node: Node, cable: socket.socket) -> None:
    """Become the process that is a node's drives.  Never returns.

    Args:
        folder: the node's.
        node: the node.
        cable: the descriptor of the machine's end of the cable is sent over this, when it is laid.
    """
    kernel.leave_shared()
    end = tap.open_tap(LINK)
    run_ip("address", "add", f"{DRIVES_ADDRESS}/30", "dev", LINK)
    run_ip("link", "set", "lo", "up")
    run_ip("link", "set", LINK, "up")
    socket.send_fds(cable, [b"."], [end])
    bay = Bay(folder)
    log = os.open(bay.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    bay.control.unlink(missing_ok=True)
    os.chdir(folder)  # so that the path of the socket is short enough, however long that of the folder is
    images = [image.name for image in bay.images(node)]
    command = [sys.executable, "-P", "-m", "appliance.lab.bay", bay.control.name, *images]
    os.execv(command[0], command)  # noqa: S606 - becoming it is the point


def warm_reset(folder: Path, node: Node) -> None:
    """Let a node's drives know that its machine was reset, as the reset line of a slot does.

    Raises:
        LabFailed: they are not there.
    """
    bay = Bay(folder)
    for profile in bay.profiles(node):
        order: dict[str, Any] = {"order": "warm-reset", "drive": profile.serial}
        send_order(bay.control, order)


def main(arguments: list[str]) -> None:
    """Serve drives until the machine has no power any more.

    Args:
        arguments: path of the socket for orders, and those of the drives' images.
    """
    control, *images = map(Path, arguments)

    def make() -> Profile:
        raise SystemExit("a drive of this machine is not there any more")

    serve_drives(
        [SimulatedDrive(image, make) for image in images],
        DRIVES_ADDRESS,
        PORT,
        control,
        ready=lambda _port: None,
        report=lambda line: print(line, flush=True),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
