"""What a node's drives say of themselves, as it was said: one JSON value, which ``appliance.disk`` judges.

Runs on the node's own Python (3.10 or later, standard library only), as root.  Reads; changes nothing: no
session with a drive is opened, no PIN is tried, nothing is written, and nothing is mounted or activated.

How each thing is asked:

* Level 0 Discovery of NVMe drives by the kernel's NVMe passthrough (linux/nvme_ioctl.h): Security Receive,
  protocol 01h, ComID 0001h (NVM Express Base 1.4, section 5.25).  It answers on every kernel, and for
  drives that the kernel's sed-opal does not take: Pyrite, Ruby, Enterprise.
* Of other drives by sed-opal's IOC_OPAL_DISCOVERY (linux/sed-opal.h, 6.6 or later), which knows those only
  that it takes.
* Whether sed-opal takes the drive by IOC_OPAL_GET_STATUS (6.1 or later): what it does not take cryptsetup
  cannot encrypt.
* Model, serial number, firmware, transport, namespace, size from sysfs; what is on a drive and what of it
  is used from lsblk, wipefs (which only reads) and /proc/swaps; LUKS2 headers from cryptsetup.

Why not sedutil-cli or nvme-cli: neither is installed by default, and the one prints prose, the other is one
more package for the same ioctl.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

FORMAT = 2
#: _IOWR('N', 0x41, struct nvme_passthru_cmd), which has 72 bytes.
NVME_ADMIN = 0xC0484E41
#: _IOR('p', 236, struct opal_status) and _IOW('p', 239, struct opal_discovery).
OPAL_GET_STATUS = 0x800870EC
OPAL_DISCOVERY = 0x401070EF
SECURITY_RECEIVE = 0x82
TCG, LEVEL_0 = 0x01, 0x0001
#: What ioctl says where sed-opal has not taken the drive, or the kernel has no such ioctl.
UNKNOWN_TO_KERNEL = (errno.ENOTTY, errno.EOPNOTSUPP)
#: As much as Linux asks for (block/sed-opal.c, IO_BUFFER_LENGTH).
ANSWER = 2048
SECTOR = 512
#: Devices that are made of others, or of memory.
NO_DRIVES = ("dm-", "fd", "loop", "md", "nbd", "ram", "sr", "zd", "zram")
COLUMNS = "NAME,PATH,TYPE,FSTYPE,MOUNTPOINTS,PTTYPE"
#: A file under /proc or /sys is no longer.
LONGEST = 1024 * 1024


def text_of(path: Path) -> str:
    """A short file's text without the end of its line; empty when it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(LONGEST).strip(" \n\0")
    except OSError:
        return ""


def run(*command: str) -> tuple[int, str]:
    """Exit status and output of a program; 127 when it is not installed, 124 when it hung."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=60, stdin=subprocess.DEVNULL, env=environment
        )
    except subprocess.TimeoutExpired:
        return 124, ""
    except OSError:
        return 127, ""
    return done.returncode, done.stdout.decode("utf-8", "replace")


def nvme_command(address: int) -> bytearray:
    """A struct nvme_passthru_cmd for Security Receive into ANSWER bytes at an address."""
    head = (SECURITY_RECEIVE, 0, 0, 0, 0, 0)
    data = (0, address, 0, ANSWER)
    words = (TCG << 24 | LEVEL_0 << 8, ANSWER, 0, 0, 0, 0)
    return bytearray(struct.pack("=BBHIIIQQII6III", *head, *data, *words, 0, 0))


def nvme_discovery(descriptor: int) -> dict[str, Any]:
    """Level 0 Discovery of an NVMe drive; ``status`` is what the drive says instead of an answer."""
    answer = ctypes.create_string_buffer(ANSWER)
    try:
        status = fcntl.ioctl(descriptor, NVME_ADMIN, nvme_command(ctypes.addressof(answer)))
    except OSError as fault:
        return {"by": "nvme", "error": reason(fault)}
    return {"by": "nvme", "status": status} if status else {"by": "nvme", "hex": answer.raw.hex()}


def opal_discovery(descriptor: int) -> dict[str, Any]:
    """Level 0 Discovery as sed-opal passes it on."""
    answer = ctypes.create_string_buffer(ANSWER)
    request = bytearray(struct.pack("=QQ", ctypes.addressof(answer), ANSWER))
    try:
        fcntl.ioctl(descriptor, OPAL_DISCOVERY, request)
    except OSError as fault:
        return {"by": "sed-opal", "error": reason(fault), "unknown": fault.errno in UNKNOWN_TO_KERNEL}
    return {"by": "sed-opal", "hex": answer.raw.hex()}


def taken_by_kernel(descriptor: int) -> bool:
    """Whether sed-opal takes the drive."""
    try:
        fcntl.ioctl(descriptor, OPAL_GET_STATUS, bytearray(8))
    except OSError:
        return False
    return True


def reason(fault: OSError) -> str:
    """What the kernel said."""
    return fault.strerror or str(fault)


def asked(path: str, nvme: bool) -> dict[str, Any]:
    """What is asked of the drive itself, or why it could not be."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as fault:
        return {"discovery": {"by": "none", "error": reason(fault)}, "kernel": False}
    try:
        discovery = nvme_discovery(descriptor) if nvme else opal_discovery(descriptor)
        return {"discovery": discovery, "kernel": taken_by_kernel(descriptor)}
    finally:
        os.close(descriptor)


def names(folder: Path) -> list[str]:
    """What is in a folder; nothing where there is none."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def controllers(device: Path) -> list[Path]:
    """Folders of an NVMe drive's controllers; ``device`` leads to one, or to a subsystem of several."""
    real = device.resolve()
    if not real.name.startswith("nvme-subsys"):
        return [real]
    return [real / name for name in names(real) if name.startswith("nvme") and name[4:].isdigit()]


def identity(path: Path) -> dict[str, str]:
    """Model, serial number, firmware, transport: NVMe's own attributes, or those of SCSI."""
    device = path / "device"
    nvme = path.name.startswith("nvme")
    transports = {text_of(one / "transport") for one in controllers(device)} if nvme else set()
    return {
        "model": text_of(device / "model"),
        "serial": text_of(device / "serial") or scsi_serial(device),
        "firmware": text_of(device / "firmware_rev") or text_of(device / "rev"),
        "transport": ", ".join(sorted(transports - {""}))
        if nvme
        else scsi_transport(str(device.resolve())),
        "namespace": text_of(path / "nsid"),
        "wwid": text_of(path / "wwid") or text_of(device / "wwid"),
    }


def scsi_serial(device: Path) -> str:
    """The unit serial number page (SPC-5, 80h): four bytes of head, then the number."""
    try:
        with (device / "vpd_pg80").open("rb") as stream:
            return stream.read(256)[4:].decode("ascii", "replace").strip(" \0")
    except OSError:
        return ""


def scsi_transport(device: str) -> str:
    """How a drive that is no NVMe drive is connected, by its way through sysfs."""
    for part, name in (("/usb", "usb"), ("/ata", "sata"), ("/end_device-", "sas"), ("/virtio", "virtio")):
        if part in device:
            return name
    return ""


def drive(path: Path) -> dict[str, Any]:
    """One drive; ``path`` is its folder below /sys/block."""
    node = f"/dev/{path.name}"
    return {
        "name": path.name,
        **identity(path),
        "size": int(text_of(path / "size") or 0) * SECTOR,
        "block_size": int(text_of(path / "queue/logical_block_size") or 0),
        "read_only": text_of(path / "ro") == "1",
        "removable": text_of(path / "removable") == "1",
        "holders": names(path / "holders"),
        **asked(node, path.name.startswith("nvme")),
        "luks": luks(node),
        "signatures": signatures(node),
    }


def is_drive(path: Path) -> bool:
    """Whether hardware stands behind it, and it is no hidden path to a drive that has several."""
    return (path / "device").exists() and text_of(path / "hidden") != "1"


def luks(path: str) -> dict[str, Any]:
    """A LUKS header on the drive itself: exit status of cryptsetup's dump, its JSON, and the UUID."""
    status, text = run("cryptsetup", "luksDump", "--dump-json-metadata", path)
    if status != 0:
        return {"status": status, "json": "", "uuid": ""}
    known, uuid = run("cryptsetup", "luksUUID", path)
    return {"status": status, "json": text, "uuid": uuid.strip().lower() if known == 0 else ""}


def signatures(path: str) -> list[str] | None:
    """Kinds of all signatures on the drive itself; None when they cannot be looked for.

    lsblk shows none where libblkid finds two that do not go together, and then a full drive looks empty.
    Without --all wipefs opens a device to read, and lists them.
    """
    status, text = run("wipefs", "--json", "--output", "TYPE", path)
    try:
        found = [str(one["type"]) for one in json.loads(text)["signatures"]]
    except (ValueError, KeyError, TypeError):
        return None
    return sorted(set(found)) if status == 0 else None


def tree() -> list[dict[str, Any]] | None:
    """What lsblk shows, whole; None when it cannot be asked."""
    status, text = run("lsblk", "--json", "--output", COLUMNS)
    try:
        found: list[dict[str, Any]] = json.loads(text)["blockdevices"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if status == 0 else None


def readings(sys_block: Path = Path("/sys/block")) -> dict[str, Any]:
    """Everything, of every drive; sizes and block sizes are bytes."""
    drives = [sys_block / name for name in names(sys_block) if not name.startswith(NO_DRIVES)]
    return {
        "format": FORMAT,
        "root": os.geteuid() == 0,
        "kernel": os.uname().release,
        "cryptsetup": run("cryptsetup", "--version")[1].strip(),
        "tree": tree(),
        "swaps": text_of(Path("/proc/swaps")),
        "drives": [drive(path) for path in drives if is_drive(path)],
    }
