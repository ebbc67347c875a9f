"""A block device that shall be erased: what it is, and what would be lost."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import MediumOccupied, MediumUnsuitable, ToolMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: The packages that the system's programs are in.
_PACKAGES: Final = {
    "cryptsetup": "cryptsetup",
    "lsblk": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "modprobe": "kmod",
    "mount": "mount",
    "umount": "mount",
    "wipefs": "util-linux",
}


@dataclass(frozen=True, slots=True)
class Device:
    """A block device: ``size`` in bytes; ``holds`` and ``mounted`` are for people, empty if nothing is."""

    path: Path
    size: int
    serial: str
    model: str
    holds: tuple[str, ...]
    mounted: tuple[str, ...]

    @property
    def proof(self) -> str:
        """What a person types to show that it is this very device: serial number, or size in bytes."""
        return self.serial or str(self.size)

    @property
    def is_luks(self) -> bool:
        """Whether it is one encrypted volume, and nothing else."""
        return self.holds == ("crypto_LUKS",)


def examine_device(path: Path) -> Device:
    """Look at a device without changing it.

    Raises:
        MediumUnsuitable: no block device.
        ToolMissing: lsblk or wipefs are not installed.
    """
    try:
        is_device = stat.S_ISBLK(path.stat().st_mode)
    except OSError as fault:
        raise MediumUnsuitable(f"{path} cannot be looked at", found=fault.strerror) from fault
    if not is_device:
        raise MediumUnsuitable(
            f"{path} is no block device",
            wanted="a whole medium, such as /dev/sdb",
            hint="lsblk lists the devices of this system",
        )
    columns = "PATH,SIZE,SERIAL,MODEL,MOUNTPOINTS,TYPE"
    (top,) = _json("lsblk", "--json", "--bytes", "--output", columns, str(path))["blockdevices"]
    whole = [*_with_children(top)]
    holds = [*signatures(path), *(f"{one['type']} {one['path']}" for one in whole[1:])]
    return Device(
        path=path,
        size=int(top["size"]),
        serial=(top["serial"] or "").strip(),
        model=(top["model"] or "").strip(),
        holds=tuple(dict.fromkeys(holds)),
        mounted=tuple(place for one in whole for place in one["mountpoints"] if place),
    )


def signatures(path: Path) -> tuple[str, ...]:
    """The kinds of file systems, partition tables and so on that a device begins with.

    Raises:
        MediumUnsuitable: it cannot be read.
        ToolMissing: wipefs is not installed.
    """
    found = _json("wipefs", "--json", str(path)).get("signatures", [])
    return tuple(one["type"] for one in found)


def refuse_in_use(device: Device, *, erase: bool) -> None:
    """Refuse a device that is in use or, unless it was named for erasing, holds anything.

    Raises:
        MediumOccupied: saying what.
    """
    if device.mounted:
        raise MediumOccupied(
            f"{device.path} is mounted",
            found=", ".join(device.mounted),
            hint="unmount it first, if it is the right one",
        )
    if device.holds and not erase:
        raise MediumOccupied(
            f"{device.path} is not empty",
            found=", ".join(device.holds),
            wanted="an empty device, or an encrypted one that this command began",
            hint=f"if everything on it may be lost, name it again: --erase {device.path}",
        )


def run_tool(command: Sequence[str], *, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run one of the system's programs; secrets go in by its standard input.

    Raises:
        ToolMissing: it is not installed.
    """
    if shutil.which(command[0]) is None:
        raise ToolMissing(f"{command[0]} is not installed", hint=f"install {_PACKAGES[command[0]]}")
    return subprocess.run(command, input=given, capture_output=True, check=False)


def last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    """What a program said last, for people."""
    lines = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
    return ascii(lines[-1])[1:-1][:200] if lines else f"exit code {done.returncode}"


def _json(*command: str) -> dict[str, Any]:
    done = run_tool(command)
    if done.returncode != 0:
        raise MediumUnsuitable(f"{command[0]} cannot look at {command[-1]}", found=last_words(done))
    values: dict[str, Any] = json.loads(done.stdout or b"{}")
    return values


def _with_children(device: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield device
    for child in device.get("children", ()):
        yield from _with_children(child)
