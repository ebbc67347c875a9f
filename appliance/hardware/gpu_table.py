"""The GPUs that are known here: memory, slices and PCI numbers, each with who states it.

``memory_mib`` is ``memory.total`` of nvidia-smi with ECC on; ``reserved_mib`` what the driver keeps of it,
so that a process sees the difference.  Where no listing of a machine gives what is reserved, 640 MiB are
assumed: more than any listing at hand shows.

Slices: names, places and numbers from NVIDIA's MIG User Guide ("Supported MIG Profiles";
``nvidia-smi mig -lgip`` and ``-lgipp``).  All GPUs here have eight memory slices, 0 to 7, and seven compute
slices; places are those of the guide's ``-lgipp`` listing, the same for every one of them.  Memory of a
slice is what ``-lgip`` says in GiB.  It differs by some hundred MiB between drivers (7g.94gb was listed as
92.62 and as 93.12, 7g.80gb of an A100 with 78.50 to 79.25): on a real machine, plan with ``--memory`` and
what nvidia-smi says there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_ASSUMED_RESERVE: Final = 640  # MiB

#: Of each kind of slice: where it may begin, and how many of the eight memory slices it takes.
_PLACES: Final[dict[str, tuple[tuple[int, ...], int]]] = {
    "1g": ((0, 1, 2, 3, 4, 5, 6), 1),
    "1g wide": ((0, 2, 4, 6), 2),
    "2g": ((0, 2, 4), 2),
    "3g": ((0, 4), 4),
    "4g": ((0,), 4),
    "7g": ((0,), 8),
}


@dataclass(frozen=True)
class Slice:
    """A MIG profile: ``starts`` are memory slices at which it may begin, ``width`` how many it takes."""

    name: str
    memory_mib: int
    starts: tuple[int, ...]
    width: int
    source: str


@dataclass(frozen=True)
class Gpu:
    """One product.  Memory in MiB; ``slices`` is empty where the GPU knows no MIG.

    ``pci``: its PCI device numbers, as the PCI ID database names them; ``generation``: of its PCI Express
    link, which is 16 lanes wide for all of them (NVIDIA's product briefs).
    """

    name: str
    product: str
    memory_mib: int
    reserved_mib: int
    slices: tuple[Slice, ...]
    source: str
    pci: tuple[int, ...] = ()
    generation: int = 5

    @property
    def visible_mib(self) -> int:
        """What a process sees, and an engine takes its share of."""
        return self.memory_mib - self.reserved_mib


def _slices(listed: dict[str, tuple[str, str]], source: str) -> tuple[Slice, ...]:
    """Slices by name: the kind of place, and GiB of memory as listed; "at least" marks a lower bound."""
    found = []
    for name, (kind, gib) in listed.items():
        starts, width = _PLACES[kind]
        bound = gib.startswith("at least ")
        mib = int(float(gib.removeprefix("at least ")) * 1024)  # listed to two places; rounded down
        note = "; a lower bound: no listing at hand has it" if bound else ""
        found.append(Slice(name, mib, starts, width, source + note))
    return tuple(found)


_H100: Final = _slices(
    {
        "1g.10gb": ("1g", "9.75"),
        "1g.20gb": ("1g wide", "19.62"),
        "2g.20gb": ("2g", "19.62"),
        "3g.40gb": ("3g", "39.5"),
        "4g.40gb": ("4g", "39.5"),
        "7g.80gb": ("7g", "79.25"),
    },
    "nvidia-smi mig -lgip of an H100 80GB HBM3 (jbarrow.ai, field notes on MIG, 2026-06)",
)
_H100_94: Final = _slices(
    {
        "1g.12gb": ("1g", "10.75"),
        "1g.24gb": ("1g wide", "21.62"),
        "2g.24gb": ("2g", "21.62"),
        "3g.47gb": ("3g", "46.375"),
        "4g.47gb": ("4g", "46.375"),
        "7g.94gb": ("7g", "92.62"),
    },
    "nvidia-smi mig -lgip of an H100 NVL (NVIDIA/mig-parted pull request 101; Azure NC40ads)",
)
_H200: Final = _slices(
    {
        "1g.18gb": ("1g", "16.0"),
        "1g.35gb": ("1g wide", "at least 32.0"),
        "2g.35gb": ("2g", "32.5"),
        "3g.71gb": ("3g", "at least 65.0"),
        "4g.71gb": ("4g", "at least 65.0"),
        "7g.141gb": ("7g", "at least 139.0"),
    },
    "nvidia-smi mig -lgip of an H200 (recorded in tests of gpu_cosplay)",
)
_A100_80: Final = _slices(
    {
        "1g.10gb": ("1g", "9.5"),
        "1g.20gb": ("1g wide", "at least 19.0"),
        "2g.20gb": ("2g", "19.5"),
        "3g.40gb": ("3g", "at least 39.0"),
        "4g.40gb": ("4g", "at least 39.0"),
        "7g.80gb": ("7g", "78.5"),
    },
    "nvidia-smi mig -lgip of an A100 80GB (MLSysOps/MIGProfiler and others; the lowest that was seen)",
)
_A100_40: Final = _slices(
    {
        "1g.5gb": ("1g", "4.75"),
        "1g.10gb": ("1g wide", "at least 9.5"),
        "2g.10gb": ("2g", "9.75"),
        "3g.20gb": ("3g", "19.62"),
        "4g.20gb": ("4g", "19.62"),
        "7g.40gb": ("7g", "39.5"),
    },
    "nvidia-smi mig -lgip of an A100-SXM4-40GB (recorded in tests of gpu_cosplay)",
)

_QUERY: Final = "nvidia-smi -q -x recorded on the machine (NVIDIA/k8s-test-infra, testdata/hardware)"
_TOTAL: Final = (
    "memory.total of nvidia-smi in public listings; 640 MiB assumed to be reserved by the driver"
)

GPUS: Final = (
    Gpu("h100-sxm", "NVIDIA H100 SXM5 80GB", 81559, 480, _H100, _QUERY, (0x2330,)),
    Gpu("h100-pcie", "NVIDIA H100 PCIe 80GB", 81559, _ASSUMED_RESERVE, _H100, _TOTAL, (0x2331,)),
    Gpu("h100-nvl", "NVIDIA H100 NVL 94GB", 95830, _ASSUMED_RESERVE, _H100_94, _TOTAL, (0x2321,)),
    Gpu("h200", "NVIDIA H200 141GB", 143771, _ASSUMED_RESERVE, _H200, _TOTAL, (0x2335, 0x233B)),
    Gpu(
        "a100-80gb",
        "NVIDIA A100 80GB",
        81920,
        1024,
        _A100_80,
        _TOTAL.replace("640", "1024"),
        (0x20B2, 0x20B5),
        4,
    ),
    Gpu("a100-40gb", "NVIDIA A100-SXM4-40GB", 40960, 518, _A100_40, _QUERY, (0x20B0, 0x20B1, 0x20F1), 4),
    Gpu("l40s", "NVIDIA L40S 48GB", 46068, 609, (), _QUERY, (0x26B9,), 4),
)
