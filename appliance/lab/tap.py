"""The operator's end of a virtual machine's cable: a tap device that goes when its descriptor is closed."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from appliance.errors import PreflightFailed

_DEVICE = Path("/dev/net/tun")
# include/uapi/linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def require_tap() -> None:
    """Raises PreflightFailed unless tap devices can be made here."""
    try:
        os.close(os.open(_DEVICE, os.O_RDWR))
    except OSError as error:
        raise PreflightFailed(
            "virtual machines need tap devices",
            found=str(error),
            wanted=f"{_DEVICE}, with the driver in the kernel",
            hint="modprobe tun",
        ) from error


def open_tap(name: str) -> int:
    """Make a tap device in this thread's network namespace; the descriptor carries its frames.

    The descriptor may be handed to a process in another namespace, and the device stays here.
    """
    descriptor = os.open(_DEVICE, os.O_RDWR)
    try:
        request = struct.pack("16sH22x", name.encode("ascii"), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
