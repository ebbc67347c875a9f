"""The checks of what GPUs sit on: memory, firmware, processor, disks, network cards, kernel.  Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from appliance.node.verdict import NOT_ASKED, Check, level_of, on_or_off

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.hardware.machine import Machine
    from appliance.hardware.needs import HardwareNeeds

#: What the firmware keeps of the memory that is plugged in, at most: 512 GiB of modules are 503 for Linux.
_KEPT: Final = 0.03


def board_checks(machine: Machine, needs: HardwareNeeds | None) -> list[Check]:
    """Every check of the board; see ``hardware_checks``."""
    return [*_memory(machine, needs), *_firmware(machine, needs), *_board(machine, needs)]


def _memory(machine: Machine, needs: HardwareNeeds | None) -> Iterator[Check]:
    wanted = needs.memory_gib if needs else 0
    yield Check(
        "memory",
        machine.memory >= (wanted << 30) * (1 - _KEPT) if wanted else None,
        f"{machine.memory / (1 << 30):,.0f} GiB",
        f"{wanted:,} GiB" if wanted else NOT_ASKED,
        "add memory, or use another node; a module the firmware disabled is missing from its list",
        level=level_of(asked=bool(wanted)),
    )
    modules = machine.firmware.modules
    plain = [module.place for module in modules if module.has_ecc is False]
    ecc_asked = needs is not None and "memory-ecc" in needs.firmware
    unsaid = False if ecc_asked else None  # what is asked for and not shown is not there
    yield Check(
        "memory-ecc",
        not plain if modules else unsaid,
        f"{len(modules)} modules, {', '.join(sorted(set(machine.firmware.correction))) or 'ECC not said'}"
        + (f"; without ECC: {', '.join(plain)}" if plain else "")
        if modules
        else "not said: no dmidecode, or no firmware to ask",
        "modules with ECC",
        "use modules with ECC; dmidecode must be on the node for this to be seen",
        level=level_of(asked=ecc_asked),
    )
    sizes = Counter((module.size, module.configured) for module in modules)
    yield Check(
        "memory-modules",
        None if not modules else len(sizes) == 1,
        ", ".join(
            f"{count} of {size / (1 << 30):,.0f} GiB at {rate or '?'} MT/s"
            for (size, rate), count in sorted(sizes.items(), key=str)
        )
        or "not said",
        "modules alike, at one rate",
        "modules that differ slow each other down, and a channel without one halves nothing but the rate",
        level="information",
    )
    counts = machine.memory_errors
    yield Check(
        "memory-errors",
        None if counts is None else counts[1] == 0,
        "no memory controller is watched"
        if counts is None
        else f"{counts[0]} mended, {counts[1]} not, since the start",
        "none that could not be mended",
        "have the module replaced that journalctl -k names",
        level=level_of(asked=counts is not None),
    )


def _firmware(machine: Machine, needs: HardwareNeeds | None) -> Iterator[Check]:
    asked = frozenset(needs.firmware if needs else ())
    yield Check(
        "uefi",
        machine.uefi,
        "started by UEFI" if machine.uefi else "not started by UEFI",
        "UEFI",
        "set the firmware to UEFI and install the system anew",
        level=level_of(asked="uefi" in asked),
    )
    yield Check(
        "secure-boot",
        machine.secure_boot is True,
        on_or_off(on=machine.secure_boot),
        "on",
        "turn it on in the firmware, at the console",
        level=level_of(asked="secure-boot" in asked),
    )
    yield Check(
        "tpm",
        "2" in machine.tpm,
        ", ".join(f"version {version or '?'}" for version in machine.tpm) or "none",
        "a TPM 2.0",
        "enable it in the firmware",
        level=level_of(asked="tpm2" in asked),
    )
    yield Check(
        "iommu",
        bool(machine.iommu),
        f"{len(machine.iommu)} ({', '.join(machine.iommu[:4])})" if machine.iommu else "off",
        "an IOMMU, so that a card reaches only its own memory",
        "enable VT-d or AMD-Vi in the firmware, and intel_iommu=on on the kernel's command line",
        level=level_of(asked="iommu" in asked),
    )


def _board(machine: Machine, needs: HardwareNeeds | None) -> Iterator[Check]:
    firmware = machine.firmware
    asked = frozenset(needs.firmware if needs else ())
    yield _told("machine", f"{firmware.maker} {firmware.product}".strip() or "not said")
    yield _told("firmware", f"{firmware.version} {firmware.date}".strip() or "not said")
    yield Check(
        "bmc-interface",
        bool(firmware.bmc) if "bmc" in asked else None,
        firmware.bmc or "none in the firmware's tables",
        "an interface to a BMC" if "bmc" in asked else NOT_ASKED,
        "enable the BMC's interface to the system (KCS, SSIF) in the firmware; dmidecode must be on the "
        "node for it to be seen",
        level=level_of(asked="bmc" in asked),
    )
    yield _told("processor", f"{machine.processors} x {machine.processor or 'not said'}")
    yield Check(
        "microcode",
        not machine.vulnerable,
        f"{machine.microcode or 'not said'}"
        + (f"; open to {', '.join(machine.vulnerable)}" if machine.vulnerable else ""),
        "no flaw of the processor that the kernel calls open",
        "bring amd64-microcode or intel-microcode with the bundle, or update the firmware",
        level=level_of(asked="microcode" in asked),
    )
    yield _kernel(machine)
    yield from _disks_and_cards(machine, needs)


def _disks_and_cards(machine: Machine, needs: HardwareNeeds | None) -> Iterator[Check]:
    """One disk, and one card with a link: a sum of small ones holds no bundle and carries no traffic."""
    disk, rate = (needs.disk_gb, needs.nic_gbps) if needs else (0, 0)
    yield Check(
        "disks",
        max((each.size for each in machine.disks), default=0) >= disk * 10**9 if disk else None,
        ", ".join(f"{each.name} {each.size / 1e9:,.0f} GB {each.model}".strip() for each in machine.disks)
        or "none",
        f"one of {disk:,} GB or more" if disk else NOT_ASKED,
        "a larger disk, or a smaller disk_gb in the bundle's definition; of disks behind a RAID "
        "controller, the volume that it shows counts",
        level=level_of(asked=bool(disk)),
    )
    yield Check(
        "network-cards",
        max((each.rate or 0 for each in machine.cards), default=0) >= rate * 1000 if rate else None,
        ", ".join(f"{each.name} {_rate(each.rate)} {each.driver}".strip() for each in machine.cards)
        or "none",
        f"one with a link of {rate:,} Gbit/s or more" if rate else NOT_ASKED,
        "a card without a link has no rate: plug the cable in, look at the switch's port, or ask for less "
        "with nic_gbps in the bundle's definition",
        level=level_of(asked=bool(rate)),
    )


def _rate(megabits: int | None) -> str:
    return f"{megabits / 1000:g} Gbit/s" if megabits else "no link"


def _kernel(machine: Machine) -> Check:
    """The kernel that runs, and what there is for it; a bundle's driver is for ``driver_checks``."""
    module = machine.module
    stale = module.release not in {"", machine.kernel}
    return Check(
        "kernel",
        False if stale else None,
        f"{machine.kernel}, its headers are {'' if machine.headers else 'not '}on the node, "
        + (f"module nvidia {module.version}" if module.version else "no module nvidia")
        + (f" for {module.release}" if stale else ""),
        f"a module nvidia for {machine.kernel}" if stale else NOT_ASKED,
        "the node was started with another kernel since: dkms autoinstall, or start the old kernel",
        level="information",
    )


def _told(name: str, found: str) -> Check:
    return Check(name, None, found, NOT_ASKED, level="information")
