"""What the firmware says of a machine: the text of dmidecode, in which SMBIOS structures are blocks.

Structures by DSP0134 (SMBIOS Reference Specification) 3.7: type 0 the firmware, 1 the system, 16 an array
of memory, 17 a memory device, 38 the interface to a BMC.  All of it is what a maker wrote; nothing here
was measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from appliance.hardware.readings import MOST_MEMORY, whole

_HANDLE: Final = re.compile(r"Handle 0x[0-9A-Fa-f]+, DMI type ([0-9]+), [0-9]+ bytes")
_SIZE: Final = re.compile(r"([0-9]+) (kB|MB|GB|TB)")
_POWER: Final = {"kB": 10, "MB": 20, "GB": 30, "TB": 40}
_FIRMWARE, _SYSTEM, _ARRAY, _DEVICE, _IPMI = 0, 1, 16, 17, 38


@dataclass(frozen=True)
class Module:
    """A memory module.  ``size`` in bytes, widths in bits, rates in MT/s; None where nothing is said."""

    place: str
    size: int
    kind: str
    width: int | None
    data_width: int | None
    rated: int | None
    configured: int | None
    part: str

    @property
    def has_ecc(self) -> bool | None:
        """Whether there are bits beside the data (DSP0134, 7.18: total width counts error correction)."""
        if self.width is None or self.data_width is None:
            return None
        return self.width > self.data_width


@dataclass(frozen=True)
class Firmware:
    """What a machine says it is.  ``correction``: of each array of memory, as dmidecode words it."""

    maker: str = ""
    product: str = ""
    version: str = ""
    date: str = ""
    correction: tuple[str, ...] = ()
    modules: tuple[Module, ...] = ()
    bmc: str = ""


def parse_dmidecode(text: str) -> Firmware:
    """Read what ``dmidecode`` prints; of text that is something else, nothing.

    Raises:
        ImpossibleReadingError: a module larger than any machine's memory.
    """
    structures: dict[int, list[dict[str, str]]] = {}
    for block in re.split(r"\n\s*\n", text):
        lines = block.strip("\n").splitlines()
        kind = next((found for line in lines if (found := _HANDLE.match(line))), None)
        if kind:
            pairs = (line.split(":", 1) for line in lines if line[:1].isspace() and ":" in line)
            structures.setdefault(int(kind[1]), []).append(
                {key.strip(): value.strip() for key, value in pairs}
            )
    firmware = structures.get(_FIRMWARE, [{}])[0]
    system = structures.get(_SYSTEM, [{}])[0]
    devices = [_module(fields) for fields in structures.get(_DEVICE, ())]
    interfaces = structures.get(_IPMI, ())
    return Firmware(
        maker=system.get("Manufacturer", ""),
        product=system.get("Product Name", ""),
        version=" ".join(filter(None, (firmware.get("Vendor", ""), firmware.get("Version", "")))),
        date=firmware.get("Release Date", ""),
        correction=tuple(
            fields.get("Error Correction Type", "")
            for fields in structures.get(_ARRAY, ())
            # The flash chip of the firmware is an array too.
            if fields.get("Use", "System Memory") == "System Memory"
        ),
        modules=tuple(module for module in devices if module.size),
        bmc=", ".join(fields.get("Interface Type", "?") for fields in interfaces),
    )


def _module(fields: dict[str, str]) -> Module:
    found = _SIZE.fullmatch(fields.get("Size", ""))
    return Module(
        place=fields.get("Locator", ""),
        size=whole("memory module", found[1], MOST_MEMORY, unit=1 << _POWER[found[2]]) if found else 0,
        kind=fields.get("Type", ""),
        width=_number(fields.get("Total Width", "")),
        data_width=_number(fields.get("Data Width", "")),
        rated=_number(fields.get("Speed", "")),
        # "Configured Clock Speed" before dmidecode 3.2
        configured=_number(fields.get("Configured Memory Speed", fields.get("Configured Clock Speed", ""))),
        part=fields.get("Part Number", ""),
    )


def _number(text: str) -> int | None:
    found = re.match(r"[0-9]+", text)
    return int(found.group()) if found else None
