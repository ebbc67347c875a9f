"""The program that a node runs to have something done to a drive: one line of JSON in, one out.

→ {"act": name, "name": the kernel's, as nvme1n1, "serial", "nsid", "comid", and what the act wants}
← {"done": {…}}, {"refused": {"method", "status"}} by the drive, or {"error": text}

As root, on Python 3.10 or later, standard library only.  Secrets come by standard input and stay in memory.
The kernel's names move, so the drive is known by what is open: its number in sysfs, and that entry's serial
number and namespace.

Security Send and Receive by the kernel's NVMe passthrough (linux/nvme_ioctl.h; NVM Express Base 1.4,
sections 5.25 and 5.26): Linux's sed-opal changes no PIN of SID before 6.13.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

from appliance.tcg.acts import (
    change_first,
    dismiss_second,
    open_owner,
    open_ranges,
    prepare_second,
    read_names,
    revert,
    set_owner,
)
from appliance.tcg.asking import DriveSilent, MethodRefused
from appliance.tcg.blocks import sample

#: _IOWR('N', 0x41, struct nvme_passthru_cmd), which has 72 bytes.
NVME_ADMIN = 0xC0484E41
#: Milliseconds: a drive that erases may hold its answer back for longer than the kernel's minute.
TIMEOUT = 120_000
#: BLKFLSBUF: _IO(0x12, 97), linux/fs.h.
FORGET = 0x1261
SECURITY_SEND, SECURITY_RECEIVE = 0x81, 0x82
DEVICES = Path("/sys/dev/block")

#: What of a request each act takes, in its order; all of it text but numbers.
ACTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "read-names": (read_names, ()),
    "prepare-second": (prepare_second, ("pin", "new", "mark")),
    "change-first": (change_first, ("new", "mark")),
    "dismiss-second": (dismiss_second, ("new",)),
    "open-owner": (open_owner, ("pin",)),
    "set-owner": (set_owner, ("new",)),
    "open-ranges": (open_ranges, ("pin",)),
    "revert": (revert, ("pin",)),
}


class NvmeDrive:
    """Security commands to an open NVMe drive."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, protocol: int, specific: int, data: bytes) -> None:
        """Security Send."""
        self._command(SECURITY_SEND, protocol, specific, ctypes.create_string_buffer(data, len(data)))

    def receive(self, protocol: int, specific: int, length: int) -> bytes:
        """Security Receive."""
        buffer = ctypes.create_string_buffer(length)
        self._command(SECURITY_RECEIVE, protocol, specific, buffer)
        return buffer.raw

    def _command(self, opcode: int, protocol: int, specific: int, buffer: Any) -> None:
        head = (opcode, 0, 0, 0, 0, 0)
        data = (0, ctypes.addressof(buffer), 0, len(buffer))
        words = (protocol << 24 | specific << 8, len(buffer), 0, 0, 0, 0)
        command = struct.pack("=BBHIIIQQII6III", *head, *data, *words, TIMEOUT, 0)
        if status := fcntl.ioctl(self._descriptor, NVME_ADMIN, bytearray(command)):
            raise DriveSilent(f"NVMe status {status & 0x7FF:03x}h")


def answer(request: dict[str, Any], drive: Any) -> dict[str, Any]:
    """Carry out what a request asks of a drive that is known to be the one."""
    act, wanted = ACTS[request["act"]]
    try:
        return {"done": act(drive, request["comid"], *(request[name].encode("ascii") for name in wanted))}
    except MethodRefused as refused:
        return {"refused": {"method": refused.method, "status": refused.status}}
    except (DriveSilent, OSError) as fault:
        return {"error": str(fault)}


def other_drive(number: int, request: dict[str, Any], devices: Path = DEVICES) -> str:
    """What says that an open device is another drive than was meant; empty where nothing does."""
    place = devices / f"{os.major(number)}:{os.minor(number)}"
    for attribute, wanted in (("device/serial", request["serial"]), ("nsid", request["nsid"])):
        try:
            found = (place / attribute).read_text(encoding="utf-8", errors="replace").strip(" \n\0")
        except OSError:
            found = ""
        if not wanted or found != wanted:
            return f"another drive is there now: {attribute} is not what it was"
    return ""


def main() -> None:
    """One request, one answer."""
    request: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    path = f"/dev/{request['name']}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as fault:
        print(json.dumps({"error": f"{path}: {fault.strerror}"}))
        return
    try:
        if trouble := other_drive(os.fstat(descriptor).st_rdev, request):
            told: dict[str, Any] = {"error": trouble}
        elif request["act"] == "sample":
            # What the kernel remembers of a drive that was reset is not what is on it.
            fcntl.ioctl(descriptor, FORGET)
            # By the descriptor: the name may mean another drive by now.
            here, key = f"/proc/self/fd/{descriptor}", bytes.fromhex(request["key"])
            told = {"done": {"told": sample(here, request["places"], request["length"], key)}}
        else:
            told = answer(request, NvmeDrive(descriptor))
    except OSError as fault:
        told = {"error": str(fault)}
    finally:
        os.close(descriptor)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
