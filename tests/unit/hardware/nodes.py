"""Machines to judge: what the script on a node would gather there, put together from recordings."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

from appliance.hardware.efi import X509

RECORDED = Path(__file__).parent / "recorded"
#: Where the eight GPUs of smi-h100.xml sit.
GPUS = ("53", "64", "75", "86", "97", "a8", "b9", "ca")
SWITCHES = ("05", "06", "07", "08")
KERNEL = "6.12.118+deb13-amd64"
SECURE_BOOT = {on: base64.b64encode(b"\x06\0\0\0" + bytes([on])).decode() for on in (False, True)}


def text(name: str) -> str:
    """A recording."""
    return (RECORDED / name).read_text(encoding="utf-8")


def this_machine() -> dict[str, Any]:
    """What was gathered on a virtual machine without GPUs."""
    gathered: dict[str, Any] = json.loads(text("this-machine.json"))
    return gathered


def gpu(bus: str, device: str = "0x2330", **changed: str) -> dict[str, str]:
    """A GPU in sysfs."""
    return {
        "address": f"0000:{bus}:00.0",
        "vendor": "0x10de",
        "device": device,
        "class": "0x030200",
        "numa_node": "0" if bus < "90" else "1",
        "current_link_speed": "32.0 GT/s PCIe",
        "current_link_width": "16",
        "max_link_speed": "32.0 GT/s PCIe",
        "max_link_width": "16",
        "driver": "nvidia",
        **changed,
    }


def switch(bus: str) -> dict[str, str]:
    """An NVSwitch in sysfs."""
    return {**gpu(bus), "device": "0x22a3", "class": "0x068000"}


def h100_node(**changed: Any) -> dict[str, Any]:
    """Eight H100 on four NVSwitches, in order, with a driver, started by UEFI without secure boot."""
    return {
        **this_machine(),
        "pci": [*(gpu(bus) for bus in GPUS), *(switch(bus) for bus in SWITCHES)],
        "lspci": f"Slot:\t0000:{GPUS[0]}:00.0\nClass:\t3D controller\nVendor:\tNVIDIA Corporation\n"
        "Device:\tGH100 [H100 SXM5 80GB]\n",
        "nvidia_smi": text("smi-h100.xml"),
        "dmidecode": text("dmidecode-epyc.txt"),
        "efi": {"present": True, "secure_boot": SECURE_BOOT[False], "lists": [], "dkms_key": ""},
        "tpm": {"tpm0": "2"},
        "iommu": ["dmar0", "dmar1"],
        "numa_nodes": 2,
        "edac": {"mc0": {"ce_count": "3", "ue_count": "0"}, "mc1": {"ce_count": "0", "ue_count": "0"}},
        "meminfo": "MemTotal:       2113414680 kB\n",
        "disk_free": 10**13,
        "kernel": KERNEL,
        "headers": True,
        "modinfo": "filename:       /lib/modules/x/updates/dkms/nvidia.ko.xz\nversion:        580.105.08\n"
        f"vermagic:       {KERNEL} SMP preempt mod_unload modversions \n",
        "modules": "nvidia 9719808 0 - Live 0x0 (OE)\n",
        "packages": {"nvidia-open-kernel-dkms": "580.105.08-1", "nvidia-fabricmanager": "580.105.08-1"},
        **changed,
    }


def signature_list(*certificates: bytes, kind: bytes = X509.bytes_le) -> bytes:
    """An EFI_SIGNATURE_LIST for each certificate, as shim writes MokListRT."""
    return b"".join(
        kind + struct.pack("<III", 28 + 16 + len(each), 0, 16 + len(each)) + b"o" * 16 + each
        for each in certificates
    )


def base64_of(data: bytes) -> str:
    """As the script on the node gives bytes."""
    return base64.b64encode(data).decode()
