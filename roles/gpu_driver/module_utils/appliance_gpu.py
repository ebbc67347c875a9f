"""What a node's GPUs need so that they compute, and what is in the way.  Pure.

The rules:

* A GPU computes when NVIDIA's module drives it, and that was built for the kernel that runs.
* nouveau lets a GPU go only when nobody uses it; where it does not, the next start does it.
* With secure boot, a module that the kernel refuses wants a key, and a key is enrolled at the console.
* Fabric Manager runs where there are NVSwitches, and nowhere else: without one it fails for lack of work.
* A GPU without ECC, with memory errors, or with rows that wait to be remapped serves nobody.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

NVIDIA = "0x10de"
#: PCI device numbers of NVSwitches (PCI ID database); their class is a bridge of another kind.
SWITCHES = ("0x1af1", "0x22a3")
BRIDGE = "0x0680"
DISPLAY = "0x03"
CONSOLE = (
    "needs the console: secure boot is on and the kernel does not take the driver's module. Enrol the key "
    "that dkms signs with (mokutil --import /var/lib/dkms/mok.pub), restart the node, confirm the key in "
    "MOK management before the system starts, and run this again"
)


class InTheWay(Exception):
    """A GPU cannot compute, and no program can change that; the text says what to do."""


@dataclass(frozen=True)
class Node:
    """What was found.

    ``module_release``: the kernel that the module on the disk is for, empty where there is none;
    ``loaded``: kernel modules with the count of their users; ``units``: states of file and unit, by name.
    """

    gpus: int
    switches: int
    kernel: str
    module_release: str
    loaded: dict[str, int]
    units: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One thing to do; ``word`` is what the node's programs are told."""

    verb: str
    word: str

    def __str__(self) -> str:
        return f"{self.verb} {self.word}"


def count_devices(devices: list[dict[str, str]]) -> tuple[int, int]:
    """GPUs and NVSwitches among PCI devices, each with sysfs's vendor, device and class."""
    ours = [each for each in devices if each["vendor"] == NVIDIA]
    return (
        sum(each["class"].startswith(DISPLAY) for each in ours),
        sum(each["class"].startswith(BRIDGE) and each["device"] in SWITCHES for each in ours),
    )


def modules_to_change(node: Node) -> list[Step]:
    """What is to be done so that the driver has the GPUs.

    Raises:
        InTheWay: the module is missing or for another kernel, or nouveau is in use.
    """
    if not node.gpus or "nvidia" in node.loaded:
        return []
    if not node.module_release:
        raise InTheWay(
            f"there is no module nvidia for kernel {node.kernel}: dkms has built none. Look into "
            "/var/lib/dkms/nvidia*/*/build/make.log"
        )
    if node.module_release != node.kernel:
        raise InTheWay(
            f"the module nvidia is for kernel {node.module_release}, and {node.kernel} runs: start the "
            "kernel that it is for"
        )
    steps = []
    if "nouveau" in node.loaded:
        if node.loaded["nouveau"]:
            raise InTheWay(
                "nouveau holds the GPUs and is in use; from the next start on it is barred: restart"
            )
        steps.append(Step("unload", "nouveau"))
    return [*steps, Step("load", "nvidia"), Step("load", "nvidia_uvm")]


def units_to_change(node: Node, persistence: str, manager: str) -> list[Step]:
    """Which units are to be turned on, and Fabric Manager off where it has nothing to manage.

    Raises:
        InTheWay: there are NVSwitches and no Fabric Manager.
    """
    steps = []
    if node.gpus and not _is_on(node, persistence):
        steps.append(Step("enable", persistence))
    if node.switches:
        if manager not in node.units:
            raise InTheWay(
                f"{node.switches} NVSwitches and no {manager}: CUDA finds no GPU without it (error 802). "
                "Name nvidia-fabricmanager of the driver's version among the bundle's packages"
            )
        if not _is_on(node, manager):
            steps.append(Step("enable", manager))
    elif manager in node.units and (
        node.units[manager][0] == "enabled" or node.units[manager][1] in {"active", "failed"}
    ):
        steps.append(Step("disable", manager))
    return steps


def _is_on(node: Node, unit: str) -> bool:
    # Debian's persistenced is started by udev and is static then
    file, active = node.units.get(unit, ("", ""))
    return file in {"enabled", "static", "alias", "indirect"} and active == "active"


def is_cut(memory: str) -> bool:
    """Whether a GPU is in MIG mode, by the same answer that ``ailments`` takes."""
    return any(mig == "Enabled" for *_, mig in _rows(memory, 5))


def ailments(memory: str, rows: str, report: str = "") -> list[str]:
    """What is wrong with the memory of GPUs, one line each.

    Args:
        memory: ``nvidia-smi --query-gpu=pci.bus_id,ecc.mode.current,ecc.mode.pending,``
            ``ecc.errors.uncorrected.volatile.total,mig.mode.current --format=csv,noheader,nounits``.
        rows: ``nvidia-smi --query-remapped-rows=gpu_bus_id,remapped_rows.pending,remapped_rows.failure``,
            in the same format.
        report: ``nvidia-smi -q -x``, where a GPU is cut: only there slices have counters of their own.

    Raises:
        InTheWay: an answer is another than that: it judges nothing.
    """
    found = []
    cut = set()
    slices = _slice_errors(report) if report else {}
    for bus, ecc, pending, told, mig in _rows(memory, 5):
        errors = told
        # A GPU that is cut counts errors by slice; some drivers tell neither these nor rows of the whole.
        if mig == "Enabled":
            cut.add(bus)
            errors = _errors_of_parts(told, slices.get(bus.lower(), []))
        if (ecc, pending) != ("Enabled", "Enabled"):
            found.append(f"{bus}: ECC {ecc}, after the next start {pending}: nvidia-smi -e 1, then restart")
        if errors != "0":
            found.append(
                f"{bus}: {errors} memory errors that ECC could not mend: restart, then dcgmi diag -r 3"
            )
    for bus, pending, failed in _rows(rows, 3):
        if bus in cut and (pending, failed) == ("[N/A]", "[N/A]"):
            continue
        if _yes(failed):
            found.append(f"{bus}: a row of memory could not be remapped: have the GPU replaced")
        elif _yes(pending):
            found.append(f"{bus}: a row of memory waits to be remapped: restart the node")
    return found


def _slice_errors(report: str) -> dict[str, list[int | None]]:
    """Memory errors that ECC could not mend, of each slice of a GPU, by the GPU's address."""
    try:
        # Of root's own program, and its text of no one else: the standard library's parser is enough.
        root = ET.fromstring(report.strip())  # noqa: S314
    except ET.ParseError as fault:
        raise InTheWay(f"nvidia-smi -q -x answered with no report: {fault}") from fault
    return {
        gpu.get("id", "").lower(): [_uncorrectable(each) for each in gpu.iter("mig_device")]
        for gpu in root.iter("gpu")
    }


def _uncorrectable(part: ET.Element) -> int | None:
    counters = part.find("ecc_error_count/volatile_count")
    each_of = () if counters is None else counters
    told = [(each.text or "").strip() for each in each_of if "uncorrectable" in each.tag]
    return sum(int(each) for each in told) if told and all(each.isdecimal() for each in told) else None


def _errors_of_parts(whole: str, slices: list[int | None]) -> str:
    """Errors of a GPU that is cut: by the whole or by its slices, whichever are more.

    Whether the whole has those of the slices in it, no source says.  One that is to be cut only by the role
    gpu_partition has no slices yet, and says nothing of the whole: nothing is known against it.
    """
    if None in slices:
        return "unknown"
    if whole == "[N/A]":
        return str(sum(filter(None, slices)))
    return str(max(int(whole), sum(filter(None, slices)))) if whole.isdecimal() else whole


def cuda_devices(listed: str, modes: str) -> list[str] | None:
    """What CUDA must be able to use, each for itself: slices, and GPUs that are whole.

    Args:
        listed: ``nvidia-smi -L``.
        modes: ``nvidia-smi --query-gpu=uuid,mig.mode.current --format=csv,noheader,nounits``.

    Returns:
        Their UUIDs; None where no GPU is cut: then CUDA counts all GPUs at once.  Where one is, it shows a
        process one slice and no more (MIG User Guide, "CUDA Device Enumeration").
    """
    cut = {uuid for uuid, mode in _rows(modes, 2) if mode == "Enabled"}
    gpus: dict[str, list[str]] = {}
    for kind, uuid in re.findall(r"^ *(GPU|MIG) .*\(UUID: (\S+)\)$", listed, re.MULTILINE):
        if kind == "GPU":
            gpus[uuid] = []
        elif gpus:
            gpus[next(reversed(gpus))].append(uuid)
    if not cut:
        return None
    # One in MIG mode and without slices is nothing to CUDA, until the role gpu_partition cuts it.
    return [each for gpu, slices in gpus.items() for each in (slices if gpu in cut else [gpu])]


def _yes(cell: str) -> bool:
    """nvidia-smi prints Yes and No, older ones 1 and 0; whatever else is no good sign."""
    return cell not in {"No", "0"}


def _rows(text: str, columns: int) -> list[list[str]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.strip().splitlines())]
    for row in rows:
        if len(row) != columns:
            raise InTheWay(f"nvidia-smi answered otherwise than asked: {', '.join(row)}")
    return rows
