"""A machine as it was found: what the script on the node gathered, read by the parsers of this package.

What is gathered is text as the kernel and programs give it (``appliance.node.remote.hardware``), so that a
recording of it can be judged again, anywhere.  A part that a machine does not have is empty.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.hardware.dmi import Firmware, parse_dmidecode
from appliance.hardware.efi import certificates, secure_boot_on
from appliance.hardware.nvidia_smi import SmiReport, SmiUnreadableError, parse_report
from appliance.hardware.pci import PciDevice, device_of, lspci_names
from appliance.hardware.readings import (
    MOST_DISK,
    MOST_ERRORS,
    MOST_MEMORY,
    MOST_NODES,
    MOST_PROCESSORS,
    MOST_RATE,
    flag,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SECTOR: Final = 512  # sysfs counts a disk's size in these, whatever the disk has
#: Block devices that are no disks: loops, memory, optical and device-mapper ones.
_NO_DISKS: Final = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd")
_NO_LINK: Final = ("-1", "4294967295")


@dataclass(frozen=True)
class Disk:
    """``size`` in bytes."""

    name: str
    size: int
    model: str


@dataclass(frozen=True)
class Card:
    """A network card: its name, rate in Mbit/s (None without a link), driver and PCI address."""

    name: str
    rate: int | None
    driver: str
    pci: str


@dataclass(frozen=True)
class DriverModule:
    """The kernel module ``nvidia`` on the disk, as modinfo describes it; empty texts where there is none.

    ``release`` is the kernel it was built for.
    """

    version: str = ""
    release: str = ""
    signer: str = ""


@dataclass(frozen=True)
class Machine:
    """Everything the judgement looks at.

    ``smi`` is None where there is no nvidia-smi, ``smi_trouble`` why it could not be read.  ``uefi`` says
    how the machine was started.  ``dkms_trusted``: whether the key that dkms signs with is among those the
    firmware accepts; None where there is no such key yet.  Sizes in bytes.
    """

    devices: tuple[PciDevice, ...]
    smi: SmiReport | None
    smi_trouble: str
    firmware: Firmware
    uefi: bool
    secure_boot: bool | None
    dkms_trusted: bool | None
    tpm: tuple[str, ...]
    iommu: tuple[str, ...]
    processors: int
    processor: str
    microcode: str
    vulnerable: tuple[str, ...]
    memory: int
    numa_nodes: int
    memory_errors: tuple[int, int] | None
    disks: tuple[Disk, ...]
    disk_free: int
    cards: tuple[Card, ...]
    kernel: str
    headers: bool
    module: DriverModule
    loaded: frozenset[str]
    packages: dict[str, str]

    @property
    def gpus(self) -> tuple[PciDevice, ...]:
        """NVIDIA's GPUs, in order of address."""
        return tuple(each for each in self.devices if each.is_gpu)

    @property
    def nvswitches(self) -> tuple[PciDevice, ...]:
        """NVIDIA's switches between GPUs."""
        return tuple(each for each in self.devices if each.is_nvswitch)


def read_machine(gathered: Mapping[str, Any]) -> Machine:
    """Make sense of what was gathered; see ``appliance.node.remote.hardware`` for its keys.

    Raises:
        ImpossibleReadingError: a number that no machine has.
        KeyError, TypeError, ValueError, AttributeError: it is not what that script writes.
    """
    names = lspci_names(gathered["lspci"])
    devices = [device_of(attributes, names) for attributes in gathered["pci"]]
    smi, trouble = _smi(gathered["nvidia_smi"])
    efi = gathered["efi"]
    cpu = _fields(gathered["cpuinfo"])
    modinfo = _fields(gathered["modinfo"])
    return Machine(
        devices=tuple(sorted((each for each in devices if each), key=lambda each: each.address)),
        smi=smi,
        smi_trouble=trouble,
        firmware=parse_dmidecode(gathered["dmidecode"]),
        uefi=flag("UEFI", efi["present"]),
        secure_boot=secure_boot_on(_bytes(efi["secure_boot"])),
        dkms_trusted=_trusted(_bytes(efi["dkms_key"]), [_bytes(each) for each in efi["lists"]]),
        tpm=tuple(sorted(gathered["tpm"].values())),
        iommu=tuple(gathered["iommu"]),
        processors=whole("processors", gathered["processors"], MOST_PROCESSORS),
        processor=cpu.get("model name", ""),
        microcode=cpu.get("microcode", ""),
        vulnerable=tuple(
            name
            for name, text in sorted(gathered["vulnerabilities"].items())
            if text.startswith("Vulnerable")
        ),
        memory=_kib(_fields(gathered["meminfo"]).get("MemTotal", "")),
        numa_nodes=whole("NUMA nodes", gathered["numa_nodes"], MOST_NODES),
        memory_errors=_errors(gathered["edac"]),
        disks=tuple(_disks(gathered["disks"])),
        disk_free=whole("bytes free", gathered["disk_free"], MOST_DISK),
        cards=tuple(_cards(gathered["cards"])),
        kernel=str(gathered["kernel"]),
        headers=flag("headers", gathered["headers"]),
        module=DriverModule(
            version=modinfo.get("version", ""),
            release=modinfo.get("vermagic", "").partition(" ")[0],
            signer=modinfo.get("signer", ""),
        ),
        loaded=frozenset(line.split()[0] for line in gathered["modules"].splitlines() if line.strip()),
        packages={str(name): str(version) for name, version in gathered["packages"].items()},
    )


def _smi(text: str) -> tuple[SmiReport | None, str]:
    if not text.strip():
        return None, "no nvidia-smi, or no answer from it"
    try:
        return parse_report(text), ""
    except SmiUnreadableError as fault:
        return None, str(fault)


def _fields(text: str) -> dict[str, str]:
    """The first line with each key, of ``key : value`` lines (proc(5), modinfo(8))."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def _trusted(key: bytes, lists: Sequence[bytes]) -> bool | None:
    return any(key in certificates(each) for each in lists) if key else None


def _kib(text: str) -> int:
    found = re.fullmatch(r"(-?[0-9]+) kB", text)
    return whole("memory in kB", found[1], MOST_MEMORY, unit=1 << 10) if found else 0


def _errors(edac: Mapping[str, Mapping[str, str]]) -> tuple[int, int] | None:
    """Errors that were mended and that were not, of all memory controllers; None where none is watched."""
    if not edac:
        return None
    mended, lost = (
        sum(whole(f"{place} {key}", counts.get(key, "0"), MOST_ERRORS) for place, counts in edac.items())
        for key in ("ce_count", "ue_count")
    )
    return mended, lost


def _disks(found: Mapping[str, Mapping[str, str]]) -> Iterator[Disk]:
    for name, fields in sorted(found.items()):
        size = whole(f"disk {name}, sectors", fields.get("size", "0"), MOST_DISK, unit=SECTOR)
        if not name.startswith(_NO_DISKS) and size:
            yield Disk(name, size, fields.get("model", ""))


def _cards(found: Mapping[str, Mapping[str, str]]) -> Iterator[Card]:
    for name, fields in sorted(found.items()):
        # -1 while there is no link; some drivers then tell the same in 32 bits without a sign, or nothing
        told = fields.get("speed", "-1")
        rate = None if told in _NO_LINK else whole(f"card {name}, Mbit/s", told, MOST_RATE)
        yield Card(name, rate, fields.get("driver", ""), fields.get("pci", ""))
