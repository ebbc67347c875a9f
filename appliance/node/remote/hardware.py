"""Gathers what a machine is made of: one JSON object on standard output, texts as the kernel gives them.

Runs on the node's own Python (3.10 or later, standard library only).  Reads; changes nothing.  What the
texts mean is decided elsewhere (``appliance.hardware.machine``), so that a recording can be judged again.
"""

from __future__ import annotations

import base64
import glob
import json
import os
import platform
import subprocess
from typing import Any

HOME = "/var/lib/appliance"
#: Of each PCI device.
PCI = (
    "vendor",
    "device",
    "class",
    "numa_node",
    "current_link_speed",
    "current_link_width",
    "max_link_speed",
    "max_link_width",
)
#: Vendor and use of UEFI variables stand in their names (UEFI Specification, section 32.3; shim's MokVars).
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
DATABASE = "/sys/firmware/efi/efivars/db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
OWNER_KEYS = "/sys/firmware/efi/mok-variables/MokListRT"
DKMS_KEY = "/var/lib/dkms/mok.pub"
ATTRIBUTES = 4  # bytes before the value of a variable in efivarfs
#: Packages whose versions say which driver there is.
PACKAGES = ("*nvidia*", "libcuda*", "cuda-drivers*", "datacenter-gpu-manager*", "nvlsm", "linux-headers-*")
#: The module's file: NVIDIA's name for it, and Debian's, one of which /etc/modprobe.d leads to.
MODULES = ("nvidia", "nvidia-current", "nvidia-current-open", "nvidia-tesla-535")
LONGEST = 8 * 1024 * 1024
SECONDS = 60  # the first nvidia-smi without persistence starts all GPUs


def text_of(path: str) -> str:
    """A file's text without spaces around it; empty when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(LONGEST).strip()
    except OSError:
        return ""


def bytes_of(path: str, skip: int = 0) -> str:
    """A file's bytes behind the first ``skip``, in base64; empty when it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return base64.b64encode(stream.read(LONGEST)[skip:]).decode()
    except OSError:
        return ""


def output(*command: str) -> str:
    """What a program prints; empty when it cannot be run, fails or takes too long."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")[:LONGEST] if done.returncode == 0 else ""


def linked(path: str) -> str:
    """The last part of what a link leads to; empty when it is none."""
    return os.path.basename(os.path.realpath(path)) if os.path.islink(path) else ""


def attributes(folder: str, names: tuple[str, ...]) -> dict[str, str]:
    """Files of a folder by name, as text; those that are not there are left out."""
    found = {name: text_of(f"{folder}/{name}") for name in names}
    return {name: text for name, text in found.items() if text}


def each(pattern: str, *names: str) -> dict[str, dict[str, str]]:
    """Attributes of everything that a pattern matches, by its last part."""
    return {os.path.basename(path): attributes(path, names) for path in sorted(glob.glob(pattern))}


def pci() -> list[dict[str, str]]:
    """Every PCI device."""
    return [
        {
            **attributes(path, PCI),
            "address": os.path.basename(path),
            "driver": linked(f"{path}/driver"),
        }
        for path in sorted(glob.glob("/sys/bus/pci/devices/*"))
    ]


def efi() -> dict[str, Any]:
    """How the machine was started, and what it accepts modules by."""
    lists = [bytes_of(OWNER_KEYS), bytes_of(DATABASE, ATTRIBUTES)]
    return {
        "present": os.path.isdir("/sys/firmware/efi"),
        "secure_boot": bytes_of(SECURE_BOOT),
        "lists": [found for found in lists if found],
        "dkms_key": bytes_of(DKMS_KEY),
    }


def cards() -> dict[str, dict[str, str]]:
    """Network cards that have a device."""
    found = {}
    for path in sorted(glob.glob("/sys/class/net/*/device")):
        folder = os.path.dirname(path)
        found[os.path.basename(folder)] = {
            **attributes(folder, ("speed",)),
            "driver": linked(f"{path}/driver"),
            "pci": linked(path),
        }
    return found


def packages() -> dict[str, str]:
    """Versions of the installed ones among PACKAGES."""
    form = "${db:Status-Status} ${Package} ${Version}\\n"
    try:  # a pattern that matches nothing makes it fail, and it prints the others all the same
        done = subprocess.run(
            ("dpkg-query", "--show", f"--showformat={form}", *PACKAGES),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    words = [line.split() for line in done.stdout.splitlines() if line.startswith("installed ")]
    return {name: version for _, name, version in words}


def free_bytes(path: str) -> int:
    """Bytes free where ``path`` is or would be."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def gather() -> dict[str, Any]:
    """Everything."""
    release = platform.release()
    return {
        "pci": pci(),
        "lspci": output("lspci", "-D", "-vmm"),
        "nvidia_smi": output("nvidia-smi", "-q", "-x"),
        "dmidecode": output("dmidecode"),
        "efi": efi(),
        "tpm": {
            os.path.basename(path): text_of(f"{path}/tpm_version_major")
            for path in sorted(glob.glob("/sys/class/tpm/tpm[0-9]*"))
        },
        "iommu": sorted(os.path.basename(path) for path in glob.glob("/sys/class/iommu/*")),
        "processors": os.cpu_count() or 0,
        "cpuinfo": text_of("/proc/cpuinfo").partition("\n\n")[0],
        "vulnerabilities": {
            os.path.basename(path): text_of(path)
            for path in sorted(glob.glob("/sys/devices/system/cpu/vulnerabilities/*"))
        },
        "meminfo": text_of("/proc/meminfo"),
        "numa_nodes": len(glob.glob("/sys/devices/system/node/node[0-9]*")),
        "edac": each("/sys/devices/system/edac/mc/mc[0-9]*", "ce_count", "ue_count"),
        "disks": {
            os.path.basename(path): {
                **attributes(path, ("size",)),
                **attributes(f"{path}/device", ("model",)),
            }
            for path in sorted(glob.glob("/sys/block/*"))
        },
        "disk_free": free_bytes(HOME),
        "cards": cards(),
        "kernel": release,
        "headers": os.path.exists(f"/lib/modules/{release}/build/Makefile"),
        "modinfo": next(filter(None, (output("modinfo", name) for name in MODULES)), ""),
        "modules": text_of("/proc/modules"),
        "packages": packages(),
    }


if __name__ == "__main__":
    print(json.dumps(gather()))
