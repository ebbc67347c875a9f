"""PCI devices as the kernel shows them in sysfs, with the names that lspci knows.

Sysfs is what is judged: its attributes are plain numbers (Linux, Documentation/ABI/testing/sysfs-bus-pci),
and are there without any package.  lspci adds names for people, where it is installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NVIDIA: Final = 0x10DE
#: NVSwitches by PCI device number, as the PCI ID database names them.
NVSWITCHES: Final = {0x1AF1: "A100 NVSwitch", 0x22A3: "H100 NVSwitch"}
#: Base classes and sub-classes (PCI Code and ID Assignment Specification, section 1).
_DISPLAY: Final = 0x03
_NETWORK: Final = 0x02
_OTHER_BRIDGE: Final = 0x0680
#: PCI Express generation by its rate in GT/s (PCI Express Base Specification 6.0, table 8-1).
_GENERATIONS: Final = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}
_ADDRESS: Final = re.compile(r"(?:[0-9a-f]{4})?([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")


@dataclass(frozen=True)
class Link:
    """A PCI Express link: generation and lanes; None where the kernel does not know."""

    generation: int | None
    width: int | None

    def __str__(self) -> str:
        return f"generation {self.generation or '?'} x{self.width or '?'}"


@dataclass(frozen=True)
class PciDevice:
    """One function of a device.

    ``kind`` is the 24-bit class code; ``numa`` None where the firmware gives no node; ``link`` is what was
    negotiated, ``best`` what the device could do; ``driver`` and ``name`` may be empty.
    """

    address: str
    vendor: int
    device: int
    kind: int
    numa: int | None
    link: Link
    best: Link
    driver: str = ""
    name: str = ""

    @property
    def is_gpu(self) -> bool:
        """Whether this is a GPU of NVIDIA: class 0300 with a display, 0302 without."""
        return self.vendor == NVIDIA and self.kind >> 16 == _DISPLAY

    @property
    def is_nvswitch(self) -> bool:
        """Whether this is an NVSwitch that is known here."""
        return self.vendor == NVIDIA and self.kind >> 8 == _OTHER_BRIDGE and self.device in NVSWITCHES

    @property
    def is_network(self) -> bool:
        """Whether this is a network card: Ethernet 0200, InfiniBand 0207, others."""
        return self.kind >> 16 == _NETWORK

    @property
    def numbers(self) -> str:
        """Vendor and device as everybody writes them: ``10de:2330``."""
        return f"{self.vendor:04x}:{self.device:04x}"

    def __str__(self) -> str:
        return f"{self.address} {self.name or self.numbers}"


def device_of(attributes: Mapping[str, str], names: Mapping[str, str]) -> PciDevice | None:
    """A device from its attributes in sysfs; None where these are not those of a device.

    Args:
        attributes: ``address``, ``driver``, and of sysfs ``vendor``, ``device``, ``class``, ``numa_node``,
            ``current_link_speed``, ``current_link_width``, ``max_link_speed``, ``max_link_width``, as text;
            what a device does not have is left out.
        names: of devices by address, from ``lspci_names``.
    """
    try:
        vendor, device, kind = (int(attributes[key], 16) for key in ("vendor", "device", "class"))
        address = attributes["address"]
    except (KeyError, ValueError):
        return None
    numa = _whole(attributes.get("numa_node"))
    return PciDevice(
        address=address,
        vendor=vendor,
        device=device,
        kind=kind,
        numa=None if numa is None or numa < 0 else numa,
        link=_link(attributes, "current"),
        best=_link(attributes, "max"),
        driver=attributes.get("driver", ""),
        name=names.get(address, ""),
    )


def lspci_names(text: str) -> dict[str, str]:
    """What ``lspci -D -vmm`` calls each device, by address (lspci(8), "Verbose format").

    Records are separated by empty lines; each line is a tag, a colon, a tab and a value.
    """
    found = {}
    for record in text.split("\n\n"):
        fields = dict(line.split(":\t", 1) for line in record.splitlines() if ":\t" in line)
        if "Slot" in fields and "Device" in fields:
            found[fields["Slot"].strip()] = f"{fields.get('Vendor', '')} {fields['Device']}".strip()
    return found


def plain_address(text: str) -> str:
    """An address as sysfs spells it: nvidia-smi has eight digits for the domain, and capitals."""
    found = _ADDRESS.fullmatch(text.strip().lower())
    return found[1] if found else text


def _link(attributes: Mapping[str, str], which: str) -> Link:
    # "32.0 GT/s PCIe", "8.0 GT/s PCIe" and, of older kernels, "8 GT/s"; "Unknown" where there is none
    rate = attributes.get(f"{which}_link_speed", "").partition(" ")[0]
    width = _whole(attributes.get(f"{which}_link_width"))
    # 255 is what the kernel reads of a device that does not answer, 0 that there is no link
    lanes = width if width and width <= 32 else None  # noqa: PLR2004 - the widest link there is
    return Link(_GENERATIONS.get(rate if "." in rate else f"{rate}.0"), lanes)


def _whole(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None
