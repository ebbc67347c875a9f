"""What a bundle needs of the machine it is for: part of a definition, and carried in the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: What firmware and board may have to offer, by the word a definition uses.
FIRMWARE: Final = (
    "bmc",
    "iommu",
    "memory-ecc",
    "microcode",
    "numa",
    "secure-boot",
    "tpm2",
    "uefi",
)


@dataclass(frozen=True, slots=True)
class HardwareNeeds:
    """At least this.

    Args:
        gpu: a name of ``appliance.hardware.gpu_table``.
        gpus: how many of them, in one node.
        tensor_parallel: over how many of them one model is divided.
        mig: what each GPU is cut into, as ``appliance plan`` spells it; empty for whole GPUs.
        nvswitches: how many NVSwitches join them; 0: what is found is not judged.
        memory_gib: of the host, as the kernel counts it; 0: not judged.
        patch_gb: room on the disk beside the bundle, for the next one; 0: that of its largest component.
        firmware: words of ``FIRMWARE``, sorted.
        disk_gb: of one disk, as a whole; 0: not judged.
        nic_gbps: of one network card's link, as it is; 0: not judged.
        driver: the oldest branch of NVIDIA's driver that the engine runs with; 0: its wheels say, or
            nothing does.
    """

    gpu: str
    gpus: int
    tensor_parallel: int = 1
    mig: str = ""
    nvswitches: int = 0
    memory_gib: int = 0
    patch_gb: int = 0
    firmware: tuple[str, ...] = ()
    driver: int = 0
    disk_gb: int = 0
    nic_gbps: int = 0
