"""NVIDIA's driver as packages: which of them must be of one version, and what they tell of a kernel.

The same parts have other names in Debian's archive, in Ubuntu's and in NVIDIA's own repository.  What must
match is theirs to say: kernel module, user-space libraries (NVML, CUDA) and Fabric Manager compare all
digits of the version when they start, and refuse (canonical/apt-packaging-fabric-manager, README;
gpu-driver-container, issue 735).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

FABRIC_MANAGER: Final = re.compile(r"nvidia-fabricmanager(?:-[0-9]+)?")
#: What Debian puts into the names of a branch that it keeps beside its own driver: nvidia-tesla-535-smi.
_TESLA: Final = r"(?:tesla-(?:[0-9]+-)?)?"
#: The kernel module in source, which dkms builds on the node: Debian's, Ubuntu's, NVIDIA's own name for it.
_DKMS: Final = re.compile(
    rf"nvidia-(?:open-|{_TESLA})kernel-dkms|nvidia-dkms-[0-9]+(?:-server)?(?:-open)?|nvidia-kernel-open-dkms"
)
#: Not the part that all kernels of a version share, ``-common``.
_HEADERS: Final = re.compile(r"linux-headers-([0-9].*)(?<!-common)(?<!-common-rt)")
#: Canonical's, built and signed for one kernel: linux-modules-nvidia-580-server-open-6.8.0-60-generic.
_PREBUILT: Final = re.compile(r"linux-modules-nvidia-[0-9]+(?:-server)?(?:-open)?-([0-9]+\.[0-9]+\..+)")


@dataclass(frozen=True)
class OneVersion:
    """Packages that must all be of one upstream version; ``lead`` says which, if it is there.

    Args:
        name: of the rule, for messages.
        lead: the part that the others follow; whole names.
        follow: whole names of these.
        why: what happens otherwise.
        instead: what the others follow where there is no lead; None if they then agree among themselves.
    """

    name: str
    lead: re.Pattern[str]
    follow: re.Pattern[str]
    why: str
    instead: re.Pattern[str] | None = None


#: The driver's other parts.
_LIBRARIES: Final = re.compile(
    # Debian
    rf"nvidia-{_TESLA}(?:driver|open|smi|alternative|legacy-check|driver-bin|driver-libs|driver-cuda)"
    rf"|nvidia-(?:open-|{_TESLA})kernel-(?:support|source)|firmware-nvidia-{_TESLA}gsp"
    rf"|libcuda1|libnvidia-{_TESLA}(?:ml1|cfg1|ptxjitcompiler1|nvvm4|gpucomp|allocator1|fatbinaryloader)"
    rf"|nvidia-{_TESLA}opencl-icd|libcudadebugger1|libnvcuvid1|libnvidia-{_TESLA}encode1"
    rf"|libnvidia-{_TESLA}pkcs11-openssl3|libnvidia-tesla-(?:[0-9]+-)?(?:cuda1|cudadebugger1|nvcuvid1)"
    # Ubuntu and NVIDIA
    r"|nvidia-(?:utils|compute-utils|kernel-common|kernel-source)-[0-9]+(?:-server)?(?:-open)?"
    # the GSP's, which Ubuntu has under the version's own name
    r"|nvidia-firmware-[0-9]+(?:-server)?(?:-[0-9.]+)?"
    r"|libnvidia-(?:compute|cfg1|common|gl|decode|encode)-[0-9]+(?:-server)?"
    r"|cuda-drivers(?:-[0-9]+)?|libnvidia-ml|libcuda"
)
RULES: Final = (
    OneVersion(
        "driver",
        _DKMS,
        _LIBRARIES,
        "the driver's libraries refuse a kernel module of another version",
    ),
    OneVersion(
        "fabric",
        _DKMS,
        re.compile(
            r"nvidia-fabricmanager(?:-dev)?(?:-[0-9]+)?|libnvidia-nscq(?:-[0-9]+)?|libnvsdm(?:-[0-9]+)?"
            r"|nvidia-imex(?:-[0-9]+)?|cuda-drivers-fabricmanager(?:-[0-9]+)?"
        ),
        "Fabric Manager refuses a driver of another version, and CUDA then finds no GPU (error 802)",
        # A module built for one kernel is numbered by that; the libraries beside it are by the driver.
        instead=_LIBRARIES,
    ),
    OneVersion(
        "dcgm",
        re.compile(r"datacenter-gpu-manager(?:-4-core)?"),
        re.compile(
            r"datacenter-gpu-manager-4-"
            r"(?:cuda[0-9]+|cuda-all|proprietary(?:-cuda[0-9]+)?|multinode(?:-cuda[0-9]+)?|dev)"
        ),
        "DCGM loads its parts by their exact version",
    ),
)


@dataclass(frozen=True)
class Unbuildable:
    """A module in source that does not compile with the headers of kernels from ``since`` on.

    Args:
        package: its name.
        version: exactly; the next one may have been mended.
        since: the first kernel.
        why: with who found it.
    """

    package: str
    version: str
    since: tuple[int, int, int]
    why: str


_RESIZE: Final = (
    "pci_resize_resource() has another argument since (NVIDIA/open-gpu-kernel-modules, issue 1272)"
)
UNBUILDABLE: Final = tuple(
    Unbuildable("nvidia-open-kernel-dkms", version, (6, 12, 97), _RESIZE)
    # Both tried with 6.12.118; the proprietary module of that version makes no such call and compiles.
    for version in ("550.163.01-2", "550.163.01-4~bpo13+1")
)

#: NVIDIA, CUDA Compatibility, table 1: the oldest driver branch that runs programs of a CUDA release.
CUDA_DRIVERS: Final[dict[int, int]] = {11: 450, 12: 525, 13: 580}
#: The wheel that says for which CUDA an engine's wheels are: nvidia-cuda-runtime-cu12, since 13 without it.
CUDA_WHEEL: Final = re.compile(r"nvidia-cuda-runtime(?:-cu[0-9]+)?")


def upstream(version: str) -> str:
    """The upstream part of a Debian version (Policy 5.6.12): of ``1:580.95.05-0ubuntu1`` 580.95.05."""
    without_epoch = version.partition(":")[2] or version
    head, dash, _ = without_epoch.rpartition("-")
    return head if dash else without_epoch


def is_dkms(name: str) -> bool:
    """Whether a package brings the module in source, to be built on the node."""
    return _DKMS.fullmatch(name) is not None


def unbuildable(packages: Mapping[str, str], kernel: str) -> Unbuildable | None:
    """What among these packages is known not to compile for a kernel; None where nothing is known.

    Args:
        packages: versions by name.
        kernel: its release, as ``uname -r`` says.
    """
    found = re.match(r"([0-9]+)\.([0-9]+)\.([0-9]+)", kernel)
    if found is None:
        return None
    release = tuple(int(part) for part in found.groups())
    for each in UNBUILDABLE:
        if packages.get(each.package) == each.version and release >= each.since:
            return each
    return None


def headers_for(name: str) -> str | None:
    """The kernel whose own headers a package has; None for the part that kernels share, and all others."""
    found = _HEADERS.fullmatch(name)
    return found[1] if found else None


def prebuilt_for(name: str) -> str | None:
    """The kernel that a package of built modules is for; None for any other package."""
    found = _PREBUILT.fullmatch(name)
    return found[1] if found else None


def driver_version(packages: Mapping[str, str]) -> str | None:
    """The driver's version by its packages; None where there is none.

    Args:
        packages: versions by name.
    """
    # A package of built modules is numbered by its kernel; the libraries beside it are by the driver.
    for pattern in (_DKMS, _LIBRARIES):
        for name in sorted(packages):
            if pattern.fullmatch(name):
                return upstream(packages[name])
    return None


def cuda_needed(wheels: Mapping[str, str]) -> int | None:
    """The CUDA release that an engine's wheels are built for; None where they use none.

    Args:
        wheels: versions by project.
    """
    for name, version in sorted(wheels.items()):
        if CUDA_WHEEL.fullmatch(name):
            return branch(version)
    return None


def oldest_driver(cuda: int) -> int:
    """The oldest driver branch for a CUDA release; of one that is not in the table, the newest known."""
    return CUDA_DRIVERS.get(cuda, max(CUDA_DRIVERS.values()))


def branch(version: str) -> int | None:
    """The branch of a driver's version: of 550.163.01 it is 550; None where it has no number there."""
    found = re.match(r"[0-9]{1,9}(?![0-9])", version)
    return int(found[0]) if found else None


def runs_cuda(driver: str, cuda: int) -> bool:
    """Whether a driver is new enough for a CUDA release; one whose version says nothing is not."""
    found = branch(driver)
    return found is not None and found >= oldest_driver(cuda)
