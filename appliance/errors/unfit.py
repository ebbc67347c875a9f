"""Exit code 5: a machine is not what a bundle needs; found before anything was changed."""

from __future__ import annotations

from appliance.errors.unready import PreflightFailed


class HardwareUnfit(PreflightFailed):
    """A machine lacks what the bundle's definition asks for, or a part of it is ailing."""


class GpuUnsupported(HardwareUnfit):
    """A machine has a GPU that is not in the table: nobody here knows its memory or slices."""


class GpusMissing(HardwareUnfit):
    """A machine has fewer GPUs of the kind than the definition or its tensor parallelism asks for."""


class SlicesImpossible(HardwareUnfit):
    """The GPUs found cannot be cut into the slices that the definition asks for."""


class PartitionUnfit(HardwareUnfit):
    """An inventory divides GPUs that a machine has not, or into parts that cannot serve the model."""


class ModuleUnsigned(HardwareUnfit):
    """Secure boot is on, and the driver's module is signed by nobody the firmware accepts."""


class FabricManagerDiffers(HardwareUnfit):
    """There are NVSwitches, and no Fabric Manager of exactly the driver's version."""


class HeadersMissing(HardwareUnfit):
    """The driver is built on the node, and the headers of the kernel that runs there are nowhere."""


class DriverForOtherKernel(HardwareUnfit):
    """The driver's module was built for another kernel than the one that runs."""


class BootRoomMissing(HardwareUnfit):
    """Below ``/boot`` there is no room for what the bundle's kernel or module writes there."""


class PatchRoomMissing(HardwareUnfit):
    """The disk holds the bundle, and not the next version beside it."""
