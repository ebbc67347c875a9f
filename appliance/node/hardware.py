"""A node's hardware: asked of the node in one round trip, judged here, told in one table.

The script on the node only gathers; a recording of what it gave can be judged again without the node, which
is how the first real machine becomes a test.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import (
    DriverForOtherKernel,
    FabricManagerDiffers,
    GpusMissing,
    GpuUnsupported,
    HardwareUnfit,
    HeadersMissing,
    ModuleUnsigned,
    PartitionUnfit,
    PatchRoomMissing,
    PreflightFailed,
    SlicesImpossible,
)
from appliance.hardware.machine import read_machine
from appliance.hardware.readings import ImpossibleReadingError
from appliance.node.driver_checks import driver_checks
from appliance.node.hardware_checks import hardware_checks
from appliance.node.partition_checks import partition_checks
from appliance.node.question import BrokenOffError, run_program
from appliance.node.script import load_script
from appliance.node.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from appliance.bundle.manifest import Manifest
    from appliance.hardware.machine import Machine
    from appliance.hardware.needs import HardwareNeeds
    from appliance.node.connection import Connection

#: Eight GPUs that nobody keeps awake start one after the other.
SECONDS: Final = 180
#: The most that a node may answer, and how deep: hundreds of times, and six times, what any has.
MAX_BYTES: Final = 64 << 20
_DEPTH: Final = 32
#: What each failed check is called when it fails alone; together they are HardwareUnfit.
UNFIT: Final[dict[str, type[PreflightFailed]]] = {
    "bmc-interface": HardwareUnfit,
    "cuda-driver": HardwareUnfit,
    "disk-patch": PatchRoomMissing,
    "disks": HardwareUnfit,
    "driver-kernel": DriverForOtherKernel,
    "fabric-manager": FabricManagerDiffers,
    "gpu-ecc": HardwareUnfit,
    "gpu-known": GpuUnsupported,
    "gpu-lanes": HardwareUnfit,
    "gpu-memory": HardwareUnfit,
    "gpu-numa": HardwareUnfit,
    "gpu-rows": HardwareUnfit,
    "gpus": GpusMissing,
    "hardware": HardwareUnfit,
    "headers": HeadersMissing,
    "iommu": HardwareUnfit,
    "memory": HardwareUnfit,
    "memory-ecc": HardwareUnfit,
    "memory-errors": HardwareUnfit,
    "microcode": HardwareUnfit,
    "mig": SlicesImpossible,
    "module-signature": ModuleUnsigned,
    "network-cards": HardwareUnfit,
    "nvidia-smi": HardwareUnfit,
    "nvswitches": HardwareUnfit,
    "partition": PartitionUnfit,
    "secure-boot": HardwareUnfit,
    "teams": PartitionUnfit,
    "teams-engine": PartitionUnfit,
    "tpm": HardwareUnfit,
    "uefi": HardwareUnfit,
}


@dataclass(frozen=True)
class HardwareReport:
    """What a node is made of; ``gathered`` is None where it did not say."""

    name: str
    checks: tuple[Check, ...]
    gathered: Mapping[str, Any] | None

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.stops)


def look_at_hardware(
    connections: Mapping[str, Connection], needs: HardwareNeeds | None
) -> tuple[HardwareReport, ...]:
    """Ask every node at the same time; changes nothing and raises nothing about a node."""

    def look(name: str) -> HardwareReport:
        gathered, trouble = gather(connections[name])
        return report(name, gathered, trouble, needs)

    with ThreadPoolExecutor(max_workers=min(16, len(connections))) as pool:
        return tuple(pool.map(look, connections))


def gather(connection: Connection) -> tuple[Mapping[str, Any] | None, str]:
    """What the node gathered; None and why, where it could not."""
    script = load_script("hardware")
    try:
        said = run_program(connection, script, "hardware", seconds=SECONDS)
    except BrokenOffError as broken:
        return None, f"not reachable: {broken}"
    if len(said.printed) > MAX_BYTES:
        return None, f"{len(said.printed):,} bytes, which no machine has to say"
    try:
        gathered = said.answer()
    except ValueError as fault:
        return None, str(fault)
    if not isinstance(gathered, dict):
        return None, "no JSON object"
    # What could be read at the edge of what Python nests could not be written again.
    return (None, "nested too deeply") if _is_deep(gathered) else (gathered, "")


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def report(
    name: str, gathered: Mapping[str, Any] | None, trouble: str, needs: HardwareNeeds | None
) -> HardwareReport:
    """Judge what was gathered, or recorded."""
    if gathered is None:
        return HardwareReport(name, (_unread(trouble),), None)
    checks = _judged(gathered, lambda machine: hardware_checks(machine, needs))
    if isinstance(checks, Check):
        return HardwareReport(name, (checks,), None)
    return HardwareReport(name, tuple(checks), gathered)


def preflight_checks(connection: Connection, manifest: Manifest, *, staged: int = 0) -> list[Check]:
    """Every check of a node's hardware and driver, for a bundle that asks for some or an inventory
    that divides GPUs; else none.

    Args:
        connection: to the node.
        manifest: the bundle's.
        staged: bytes of the bundle that the node has already.
    """
    needs, partition = manifest.hardware, connection.node.partition
    if needs is None and partition is None:
        return []
    gathered, trouble = gather(connection)
    if gathered is None:
        return [_unread(trouble)]
    checks = _judged(
        gathered,
        lambda machine: [
            *hardware_checks(machine, needs),
            *partition_checks(machine, manifest, partition),
            *driver_checks(machine, manifest, staged=staged),
        ],
    )
    return [checks] if isinstance(checks, Check) else checks


def named(failed: AbstractSet[str]) -> type[PreflightFailed] | None:
    """What to call it when these checks failed; None where not all of them are of hardware."""
    if not failed or not failed <= UNFIT.keys():
        return None
    return UNFIT[next(iter(failed))] if len(failed) == 1 else HardwareUnfit


def refuse(reports: Sequence[HardwareReport]) -> None:
    """Raise what the failed checks are called; returns when there are none."""
    failed = [(each.name, check) for each in reports for check in each.failed]
    if not failed:
        return
    error = named({check.name for _, check in failed}) or HardwareUnfit
    raise error(
        f"{len({name for name, _ in failed})} of {len(reports)} nodes are not what is needed",
        found="\n         ".join(f"{name}: {check.name}: {check.found}" for name, check in failed),
        wanted="\n          ".join(f"{name}: {check.name}: {check.wanted}" for name, check in failed),
        hint="\n      ".join(dict.fromkeys(check.hint for _, check in failed if check.hint)),
    )


def hardware_text(reports: Sequence[HardwareReport]) -> str:
    """One table: node, check, verdict, found, wanted."""
    words = {True: "yes", False: "note", None: "-"}
    rows = [("node", "check", "as wanted", "found", "wanted")]
    rows += [
        (
            each.name,
            check.name,
            "NO" if check.stops else words[check.passed],
            check.found,
            check.wanted,
        )
        for each in reports
        for check in each.checks
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def hardware_values(reports: Sequence[HardwareReport]) -> dict[str, object]:
    """For programs; everything that was gathered is for ``--keep``."""
    return {
        "nodes": {
            each.name: {
                "fit": not each.failed,
                "checks": [check.as_dict() for check in each.checks],
            }
            for each in reports
        }
    }


def _judged(gathered: Mapping[str, Any], judge: Callable[[Machine], list[Check]]) -> list[Check] | Check:
    """What is said of the machine, or why what came is none: no node ends the command for all others."""
    try:
        return judge(read_machine(gathered))
    except ImpossibleReadingError as fault:
        return _unread(
            f"no machine has this: {fault}",
            "ask the node again (appliance hardware -i …), with --keep for a new recording: this one was "
            "edited or damaged, or the node does not tell the truth",
        )
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as fault:
        return _unread(f"not what was asked for: {type(fault).__name__} {fault}")


_ACCESS: Final = "check that the node's python3 works and that the login may become root without a password"


def _unread(trouble: str, hint: str = _ACCESS) -> Check:
    return Check("hardware", False, trouble, "what the machine is made of", hint)
