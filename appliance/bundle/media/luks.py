"""Media that are encrypted for the road: LUKS2 below, ext4 inside, volumes as on any other medium.

The passphrase goes to cryptsetup through a pipe of its own, never by command line or environment.
Nothing is destroyed before the device was looked at, the kernel can open what would be made, and a
person has typed the device's serial number.  A device that this command began is opened, not formatted
again, so a second run goes on where the first one stopped.

Why LUKS and no format of ours: docs/decisions/0014.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.bundle.media.device import (
    Device,
    examine_device,
    last_words,
    refuse_in_use,
    run_tool,
    signatures,
)
from appliance.bundle.media.write import write_media
from appliance.errors import MediumFailed, MediumUnsuitable, PreflightFailed, ToolMissing, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Unpack

    from appliance.bundle.media.write import Settings, WrittenMedia

LEAST_PASSPHRASE: Final = 12
_MOST_PASSPHRASE: Final = 512  # what cryptsetup takes from a terminal on the far side
_MISC: Final = Path("/proc/misc")
#: cryptsetup(8), return codes.
_WRONG_PASSPHRASE: Final = 2


def write_encrypted(
    bundle: Path,
    devices: Sequence[Path],
    *,
    passphrase: bytes,
    confirm: Callable[[Device], str],
    erase: Sequence[Path] = (),
    **settings: Unpack[Settings],
) -> WrittenMedia:
    """Write a bundle onto encrypted media; everything is closed again, whatever happens.

    Args:
        bundle: the bundle's folder.
        devices: block devices, one for each medium; empty ones are formatted.
        passphrase: of all of them.
        confirm: has a person type the serial number, or size, of a device that will be formatted.
        erase: devices that are formatted although they hold something.
        settings: as ``write_media``.

    Raises:
        MediumOccupied: a device is mounted, or holds something and is not to be erased.
        MediumUnsuitable: no block device, or the passphrase does not open it.
        PreflightFailed: not root, or a kernel without dm-crypt.
        Usage: what was typed is not the device's, or a device is to be erased that is no target.
        MediumFailed: formatting, opening, mounting or closing failed.
    """
    if stray := [path for path in erase if path not in devices]:
        raise Usage(
            f"{stray[0]} shall be erased, but is no target", wanted="--erase with the target's name"
        )
    if len(set(devices)) != len(devices):
        raise Usage("a device is given twice", wanted="each device once")
    check_passphrase(passphrase)
    seen = [examine_device(path) for path in devices]
    fresh = [one for one in seen if one.path in erase or not one.is_luks]
    for device in seen:
        refuse_in_use(device, erase=device not in fresh or device.path in erase)
    require_dm_crypt()
    for device in fresh:
        if (typed := confirm(device).strip()) != device.proof:
            raise Usage(
                f"{device.path} was not erased: this is not what it is",
                found=ascii(typed),
                wanted="its serial number, or its size in bytes if it has none",
            )
    for device in fresh:
        format_device(device.path, passphrase)
    with ExitStack() as media:
        targets = [media.enter_context(opened(device.path, passphrase)) for device in seen]
        return write_media(bundle, targets, **settings)


def format_command(device: Path) -> list[str]:
    """The command that makes a LUKS2 volume; the passphrase is its standard input."""
    return [
        *("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2"),
        *("--cipher", "aes-xts-plain64", "--key-size", "512", "--pbkdf", "argon2id"),
        *("--key-file", "-", str(device)),
    ]


def format_device(device: Path, passphrase: bytes) -> None:
    """Erase a device: afterwards it is an encrypted volume with this passphrase.

    Raises:
        MediumFailed: cryptsetup could not.
    """
    _must(format_command(device), f"{device} cannot be formatted", given=passphrase)


@contextmanager
def opened(device: Path, passphrase: bytes) -> Iterator[Path]:
    """Open an encrypted device and mount what is inside, at a place only this user can enter.

    Args:
        device: a LUKS device.
        passphrase: opens it.  A file system is made inside where there is none yet.

    Raises:
        MediumUnsuitable: the passphrase does not open it.
        MediumFailed: it cannot be opened, mounted or closed.
    """
    name = f"appliance-{secrets.token_hex(4)}"
    with ExitStack() as undo:
        done = run_tool(
            ["cryptsetup", "open", "--type", "luks2", "--key-file", "-", str(device), name],
            given=passphrase,
        )
        if done.returncode == _WRONG_PASSPHRASE:
            raise MediumUnsuitable(
                f"the passphrase does not open {device}",
                hint=f"type it again; to start over and lose what is on it: --erase {device}",
            )
        if done.returncode != 0:
            raise MediumFailed(f"{device} cannot be opened", found=last_words(done))
        undo.callback(_must, ["cryptsetup", "close", name], f"{device} cannot be closed")
        inside = Path(f"/dev/mapper/{name}")
        if not signatures(inside):
            _must(["mkfs.ext4", "-q", "-m", "0", str(inside)], f"no file system can be made in {device}")
        place = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="appliance-medium-")))
        mount = ["mount", "-t", "ext4", "-o", "nodev,nosuid,noexec", str(inside), str(place)]
        _must(mount, f"{device} cannot be mounted")
        undo.callback(_must, ["umount", str(place)], f"{device} cannot be unmounted")
        yield place


def check_passphrase(passphrase: bytes) -> None:
    """Refuse a passphrase that is guessed in an afternoon, or cannot be typed on the far side.

    Raises:
        Usage: too short, too long, or with a line end.
    """
    if not LEAST_PASSPHRASE <= len(passphrase) <= _MOST_PASSPHRASE or b"\n" in passphrase:
        raise Usage(
            "this passphrase cannot be used",
            wanted=f"{LEAST_PASSPHRASE} to {_MOST_PASSPHRASE} bytes in one line, without a line end",
            hint="six random words; a key file is made with: printf %s 'WORDS' > FILE",
        )


def read_key_file(path: Path) -> bytes:
    """The passphrase in a file that nobody else may read.

    Raises:
        Usage: it cannot be read, others may read it, or it holds no usable passphrase.
    """
    try:
        with path.open("rb") as file:
            others = os.fstat(file.fileno()).st_mode & 0o077
            data = file.read(_MOST_PASSPHRASE + 1)
    except OSError as fault:
        raise Usage(f"{path} cannot be read", found=fault.strerror) from fault
    if others:
        raise Usage(f"others may read {path}", hint=f"chmod 600 {path}, and think about a new passphrase")
    check_passphrase(data)
    return data


def require_dm_crypt() -> None:
    """Refuse to begin where a medium could be formatted but not opened.

    Raises:
        PreflightFailed: not root, or the kernel lacks the device mapper.
    """
    if os.geteuid() != 0:
        raise PreflightFailed("only root can format and mount media", hint="run the command with sudo")
    found = "no device mapper"
    if not _has_device_mapper():
        try:
            run_tool(["modprobe", "dm_crypt"])
        except ToolMissing as fault:
            found += f", and no modprobe that could load it ({fault.hint})"
    if not _has_device_mapper():
        raise PreflightFailed(
            "this kernel cannot open encrypted media",
            found=found,
            wanted="a kernel with dm-crypt",
            hint="write encrypted media on another system; nothing was changed on the device",
        )


def _has_device_mapper() -> bool:
    return "device-mapper" in _MISC.read_text()


def _must(command: Sequence[str], failure: str, *, given: bytes = b"") -> None:
    done = run_tool(command, given=given)
    if done.returncode != 0:
        raise MediumFailed(failure, found=last_words(done), hint="look at the device with lsblk and dmesg")
