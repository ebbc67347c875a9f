"""The checks of GPUs and NVSwitches, as the PCI bus, the driver and the tables of GPUs say.  Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from appliance.errors import GpuUnknown, MigLayoutInvalid
from appliance.hardware.gpus import find_gpu, gpu_of_device, parse_layout
from appliance.node.verdict import NOT_ASKED, Check, level_of, on_or_off

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from appliance.hardware.machine import Machine
    from appliance.hardware.needs import HardwareNeeds
    from appliance.hardware.nvidia_smi import SmiGpu
    from appliance.hardware.pci import PciDevice

#: Lanes of every GPU in the table.
LANES: Final = 16


def gpu_checks(machine: Machine, needs: HardwareNeeds | None) -> list[Check]:
    """Every check of GPUs and what joins them; see ``hardware_checks``."""
    return [
        *_gpus(machine, needs),
        *_gpu_health(machine),
        *_slices(machine, needs),
        _switches(machine, needs),
    ]


def _gpus(machine: Machine, needs: HardwareNeeds | None) -> Iterator[Check]:
    unknown = [each for each in machine.gpus if gpu_of_device(each.device) is None]
    yield Check(
        "gpu-known",
        not unknown,
        _listed(unknown) or "none that is unknown",
        "GPUs whose memory and slices are known here (appliance plan size --help)",
        "use another GPU, or a version of this program that knows this one",
        level=level_of(asked=needs is not None),
    )
    found = Counter(known.name for each in machine.gpus if (known := gpu_of_device(each.device)))
    number = found[needs.gpu] if needs else len(machine.gpus)
    yield Check(
        "gpus",
        number >= max(needs.gpus, needs.tensor_parallel) if needs else None,
        ", ".join(f"{count} {name}" for name, count in sorted(found.items())) or "none",
        f"{needs.gpus} {needs.gpu}, one model over {needs.tensor_parallel}" if needs else NOT_ASKED,
        "look for a GPU that the firmware does not see (seating, power), or use another node or definition",
        level=level_of(asked=needs is not None),
    )
    narrow = [each for each in machine.gpus if each.link.width != LANES]
    yield Check(
        "gpu-lanes",
        None if not machine.gpus else not narrow,
        "; ".join(f"{each.address} {each.link}" for each in narrow)
        or (f"{LANES} lanes each ({len(machine.gpus)} GPUs)" if machine.gpus else "no GPU"),
        f"{LANES} lanes for each GPU",
        "reseat the GPU or its riser; a link that trained with fewer lanes stays so until the next start",
        level=level_of(asked=needs is not None and bool(machine.gpus)),
    )
    slow = [
        each
        for each in machine.gpus
        if (known := gpu_of_device(each.device)) and (each.link.generation or 0) < known.generation
    ]
    yield Check(
        "gpu-rate",
        None if not machine.gpus else not slow,
        "; ".join(f"{each.address} {each.link} of {each.best}" for each in slow)
        or ("as the GPUs can" if machine.gpus else "no GPU"),
        "the generation that each GPU can",
        "an idle GPU lowers its rate to save power: look again under load before anything is reseated",
        level="information",
    )
    yield _nodes(machine, asked=needs is not None and "numa" in needs.firmware)


def _nodes(machine: Machine, *, asked: bool) -> Check:
    spread = Counter("unknown" if each.numa is None else f"node {each.numa}" for each in machine.gpus)
    return Check(
        "gpu-numa",
        None if not machine.gpus else "unknown" not in spread or machine.numa_nodes < 2,  # noqa: PLR2004 - with one node, all are near
        ", ".join(f"{count} at {node}" for node, count in sorted(spread.items())) or "no GPU",
        f"each GPU at one of the {machine.numa_nodes} NUMA nodes",
        "enable NUMA (ACPI SRAT, no node interleaving) in the firmware",
        level=level_of(asked=asked),
    )


def _listed(devices: Sequence[PciDevice]) -> str:
    return ", ".join(f"{each.address} {each.numbers}" for each in devices)


def _gpu_health(machine: Machine) -> Iterator[Check]:
    """What only the driver knows; before the first installation there is none."""
    gpus = machine.smi.gpus if machine.smi else ()
    seen = machine.smi.attached if machine.smi else None
    yield Check(
        "nvidia-smi",
        None if machine.smi is None else seen == len(machine.gpus) == len(gpus),
        f"{seen} GPUs, driver {machine.smi.driver}" if machine.smi else machine.smi_trouble,
        f"{len(machine.gpus)} GPUs, as on the PCI bus",
        "before the driver is installed: nothing. Afterwards: journalctl -k, a GPU has fallen off the bus",
        level=level_of(asked=machine.smi is not None),
    )
    yield _all_gpus(
        "gpu-ecc",
        gpus,
        lambda gpu: (gpu.ecc, gpu.ecc_pending) == (True, True),
        lambda gpu: f"ECC {on_or_off(on=gpu.ecc)}, after the next start {on_or_off(on=gpu.ecc_pending)}",
        "ECC on, now and after the next start",
        "nvidia-smi -e 1, then restart the node",
    )
    yield _all_gpus(
        "gpu-memory",
        gpus,
        lambda gpu: gpu.uncorrected == 0,
        lambda gpu: f"{'?' if gpu.uncorrected is None else gpu.uncorrected} errors that ECC could not mend",
        "no memory error that ECC could not mend since the last start",
        "drain the GPU and restart the node; if they come back, run dcgmi diag -r 3 and have it replaced",
    )
    yield _all_gpus(
        "gpu-rows",
        gpus,
        _rows_in_order,
        lambda gpu: (
            "remapping failed"
            if gpu.remap_failed
            else "a row waits for the next start"
            if gpu.remap_pending
            else "not said"
        ),
        "no row of memory waiting to be remapped, and none that could not be",
        "waiting: restart the node. Failed: have the GPU replaced",
    )
    yield _fabric(machine, gpus)


def _fabric(machine: Machine, gpus: Sequence[SmiGpu]) -> Check:
    """Whether each GPU has joined the NVSwitches: before it has, CUDA finds none of them (error 802).

    A note only: Fabric Manager may be what the bundle brings, and the role gpu_driver proves the rest.
    The status counts only once the state is Completed (NVML API, nvmlGpuFabricInfo_t).
    """
    apart = [gpu for gpu in gpus if (gpu.fabric, gpu.fabric_status) != ("Completed", "Success")]
    asked = bool(machine.nvswitches and gpus)
    return Check(
        "gpu-fabric",
        not apart if asked else None,
        "; ".join(
            f"{gpu.address} {gpu.fabric or 'not said'}"
            + (f", {gpu.fabric_status}" if gpu.fabric == "Completed" and gpu.fabric_status else "")
            for gpu in apart
        )
        or f"{len(gpus)} GPUs have joined"
        if asked
        else "no driver to ask"
        if machine.nvswitches
        else "no NVSwitches",
        "each GPU in the fabric of the NVSwitches",
        "systemctl status nvidia-fabricmanager; journalctl -u nvidia-fabricmanager says which link fails",
        level="information",
    )


def _rows_in_order(gpu: SmiGpu) -> bool:
    """Of a GPU that is cut the driver does not say: the role gpu_driver looks before it is."""
    said = (gpu.remap_pending, gpu.remap_failed)
    return said == (False, False) or (gpu.mig is True and said == (None, None))


def _all_gpus(  # noqa: PLR0917 - a check's parts, in their order
    name: str,
    gpus: Sequence[SmiGpu],
    fine: Callable[[SmiGpu], bool],
    told: Callable[[SmiGpu], str],
    wanted: str,
    hint: str,
) -> Check:
    """A check that each GPU must pass; not tried where the driver says of none."""
    ailing = [gpu for gpu in gpus if not fine(gpu)]
    found = "; ".join(f"{gpu.address} {told(gpu)}" for gpu in ailing)
    if not gpus:
        return Check(name, None, "no driver to ask", wanted, level="information")
    return Check(name, not ailing, found or f"{len(gpus)} GPUs in order", wanted, hint)


def _slices(machine: Machine, needs: HardwareNeeds | None) -> Iterator[Check]:
    if needs is None or not needs.mig:
        return
    kinds = {known.name for each in machine.gpus if (known := gpu_of_device(each.device))}
    trouble = ""
    for name in sorted(kinds):
        try:
            parse_layout(find_gpu(name), needs.mig)
        except (GpuUnknown, MigLayoutInvalid) as fault:
            trouble = f"{name}: {fault.message}: {fault.found}"
    yield Check(
        "mig",
        None if not kinds else not trouble,
        trouble or (f"{', '.join(sorted(kinds))} can be cut like this" if kinds else "no GPU to cut"),
        needs.mig,
        "names of slices differ with a GPU's memory: build a bundle for this GPU",
    )


def _switches(machine: Machine, needs: HardwareNeeds | None) -> Check:
    wanted = needs.nvswitches if needs else 0
    return Check(
        "nvswitches",
        len(machine.nvswitches) >= wanted if wanted else None,
        str(len(machine.nvswitches)) if machine.nvswitches else "none",
        str(wanted) if wanted else NOT_ASKED,
        "look for the board's NVSwitches in the firmware's list of PCI devices",
        level=level_of(asked=bool(wanted)),
    )
