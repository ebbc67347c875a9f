"""A virtual machine's TPM 2.0: swtpm before a folder of the node's, which outlasts power.

Out of band, a TPM can be pulled, put back, or another one put in its place, as happens to a mainboard.  The
machine has to be off then, as a mainboard has.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Literal

from appliance.errors import LabFailed
from appliance.lab.qemu import program

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.lab.qemu import Image

TpmState = Literal["in", "out"]

_IN, _PULLED = "tpm", "tpm.pulled"


def tpm_command(image: Image, folder: Path, connection: int) -> list[str]:
    """The command that is a node's TPM, until whoever is at the other end of the connection is gone.

    Args:
        image: for the root that swtpm is in, beside QEMU.
        folder: the node's.
        connection: descriptor of a connected UNIX socket, for swtpm's control channel.
    """
    return [
        *program(image.qemu, "usr/bin/swtpm"),
        *("socket", "--tpm2", "--terminate"),
        *("--tpmstate", f"dir={folder / _IN}"),
        *("--ctrl", f"type=unixio,clientfd={connection}"),
    ]


def new_tpm(folder: Path) -> None:
    """Put a new TPM into a node, which knows nothing yet; the one it had is gone for good."""
    for name in (_IN, _PULLED):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / _IN).mkdir(mode=0o700)


def pull_tpm(folder: Path) -> None:
    """Take a node's TPM out.

    Raises:
        LabFailed: none is in.
    """
    _move(folder, _IN, _PULLED, "its TPM is out already, or it never had one")


def put_tpm(folder: Path) -> None:
    """Put back the TPM that was taken out of a node.

    Raises:
        LabFailed: none was.
    """
    _move(folder, _PULLED, _IN, "its TPM is in already, or it never had one")


def tpm_state(folder: Path) -> TpmState | None:
    """Whether a node's TPM is in; None for a node that never had one."""
    if (folder / _IN).is_dir():
        return "in"
    return "out" if (folder / _PULLED).is_dir() else None


def _move(folder: Path, source: str, target: str, refused: str) -> None:
    try:
        (folder / source).rename(folder / target)
    except FileNotFoundError as error:
        raise LabFailed(
            f"the TPM of {folder.name} cannot be moved",
            found=refused,
            wanted="a node of a lab that was brought up with --tpm",
        ) from error
