"""The section ``hardware`` of a bundle definition: what the machine must have.

.. code-block:: yaml

    hardware:
      gpu: h100-sxm          # as `appliance plan` names it
      gpus: 8
      tensor_parallel: 4
      mig: all-3g.40gb       # left out: whole GPUs
      nvswitches: 4
      memory_gib: 512
      disk_gb: 1900          # of one disk; left out: not judged
      nic_gbps: 25           # of one network card's link; left out: not judged
      patch_gb: 150          # left out: the size of the bundle's largest component
      firmware: [memory-ecc, tpm2, uefi]
      driver: 550            # left out: the engine's wheels say which is the oldest that will do

What contradicts itself is found here, before anything is fetched; whether a node has it, preflight says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from appliance.definition.names import Frozen
from appliance.errors import GpusTooFew, GpuUnknown, MigLayoutInvalid, ParallelismImpossible
from appliance.hardware.gpus import find_gpu, parse_layout
from appliance.hardware.needs import HardwareNeeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.definition.document import Loc
    from appliance.errors import Location

Word = Literal["bmc", "iommu", "memory-ecc", "microcode", "numa", "secure-boot", "tpm2", "uefi"]


def _once_sorted(words: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(words)) != len(words):
        raise ValueError("each word once")
    return tuple(sorted(words))


class Hardware(Frozen):
    """See ``HardwareNeeds`` for what the keys mean."""

    gpu: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40)]
    gpus: Annotated[int, Field(ge=1, le=16)]
    tensor_parallel: Annotated[int, Field(ge=1, le=16)] = 1
    mig: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.,*-]*$", max_length=200)] | None = None
    nvswitches: Annotated[int, Field(ge=0, le=16)] = 0
    memory_gib: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    patch_gb: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    disk_gb: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    nic_gbps: Annotated[int, Field(ge=1, le=9999)] | None = None
    firmware: Annotated[tuple[Word, ...], AfterValidator(_once_sorted)] = ()
    driver: Annotated[int, Field(ge=100, le=9999)] | None = None

    def needs(self) -> HardwareNeeds:
        """As the manifest carries it."""
        said = {key: value for key, value in self.model_dump().items() if value is not None}
        return HardwareNeeds(**said)


def check_hardware(hardware: Hardware, where: Callable[[Loc], Location]) -> None:
    """Refuse what no machine could have.

    Raises:
        GpuUnknown: no GPU of this name is known.
        GpusTooFew: one model is to be divided over more GPUs than there are.
        MigLayoutInvalid: the GPU cannot be cut like this.
        ParallelismImpossible: slices were to be joined.
    """
    try:
        gpu = find_gpu(hardware.gpu)
    except GpuUnknown as fault:
        raise _at(fault, where(("gpu",))) from None
    if hardware.tensor_parallel > hardware.gpus:
        raise GpusTooFew(
            "tensor parallelism over more GPUs than the machine is to have",
            found=f"tensor_parallel: {hardware.tensor_parallel}, gpus: {hardware.gpus}",
            wanted="at most one GPU of the machine for each part",
            where=where(("tensor_parallel",)),
        )
    if hardware.mig is None:
        return
    try:
        parse_layout(gpu, hardware.mig)
    except MigLayoutInvalid as fault:
        raise _at(fault, where(("mig",))) from None
    if hardware.tensor_parallel > 1:
        raise ParallelismImpossible(
            "a slice of a GPU cannot be joined with others",
            found=f"mig: {hardware.mig}, tensor_parallel: {hardware.tensor_parallel}",
            wanted="tensor_parallel: 1, or no mig",
            where=where(("tensor_parallel",)),
        )


def _at(fault: MigLayoutInvalid | GpuUnknown, where: Location) -> MigLayoutInvalid | GpuUnknown:
    fault.where = where
    return fault
