"""The preflight checks of how GPUs are divided: the inventory's `gpus` against machine and bundle.

What contradicts itself within the inventory was refused when it was read; here the three meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.hardware.gpus import find_gpu, find_slice, gpu_of_device, parse_layout
from appliance.node.serving_checks import leaves_gpus_idle
from appliance.node.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.bundle.manifest import Manifest
    from appliance.definition.partition import Partition, Team
    from appliance.hardware.machine import Machine

_MIB: Final = 1 << 20


def partition_checks(machine: Machine, manifest: Manifest, partition: Partition | None) -> Iterator[Check]:
    """Whether the GPUs can be divided as the inventory says, and the model be served on each part.

    Args:
        machine: the node.
        manifest: the bundle's.
        partition: the inventory's; None: it divides nothing.
    """
    needs = manifest.hardware
    if partition is None:
        if needs is not None and needs.mig:
            yield Check(
                "partition",
                False,
                "the inventory says nothing of the node's GPUs: gpus is missing",
                f"{needs.mig} of each GPU, as the bundle is made for",
                f"gpus: {{model: {needs.gpu}, count: {needs.gpus}, layout: [{{gpus: [0], slices: "
                f'"{needs.mig}"}}], teams: {{NAME: {{port: 8001, gpus: [0], slice: '
                f"{parse_layout(find_gpu(needs.gpu), needs.mig)[0].name}}}}}}}",
            )
        return
    yield _there(machine, partition)
    troubles = [
        f"{team.name}: {why}" for team in partition.teams if (why := _unserved(team, partition, manifest))
    ]
    yield Check(
        "teams",
        not troubles,
        "; ".join(troubles) or ", ".join(f"{team.name}: {_part(team)}" for team in partition.teams),
        "for each team a part of the GPUs on which the bundle's model can be served",
        "appliance plan size MODEL --gpu "
        f"{partition.model} says what would do; change gpus in the inventory, or build another bundle",
    )
    idle = leaves_gpus_idle(manifest)
    yield Check(
        "teams-engine",
        idle is None,
        f"{idle} computes on the processor alone" if idle else "an engine for GPUs",
        "an engine that computes on GPUs, since each team is given a part of them",
        "take gpus out of the inventory, then all share one server; or build a bundle for GPUs",
    )


def _there(machine: Machine, partition: Partition) -> Check:
    found = [known.name if (known := gpu_of_device(each.device)) else each.numbers for each in machine.gpus]
    wanted = [partition.model] * len(partition.layout)
    return Check(
        "partition",
        found == wanted,
        _counted(found),
        f"{_counted(wanted)}, as the inventory's gpus says, and no others",
        "write model and count of the node's GPUs into the inventory; all of them, since they are numbered",
    )


def _counted(names: list[str]) -> str:
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names)) or "none"


def _part(team: Team) -> str:
    return team.slice or f"{len(team.gpus)} GPUs"


def _unserved(team: Team, partition: Partition, manifest: Manifest) -> str:
    """Why the model cannot be served on a team's part; empty where nothing speaks against it."""
    needs = manifest.hardware
    together = needs.tensor_parallel if needs else 1
    if team.slice and together > 1:
        return (
            f"{team.slice} is one slice, the bundle divides its model over {together}: slices do not join"
        )
    if not team.slice and len(team.gpus) != together:
        return f"{len(team.gpus)} GPUs, the bundle divides its model over {together}"
    gpu = find_gpu(partition.model)
    mib = find_slice(gpu, team.slice).memory_mib if team.slice else gpu.visible_mib * together
    files = manifest.components[manifest.inference.model].files
    size = sum(file.size for file in files)
    if size > mib * _MIB:
        return f"{_part(team)} has {mib:,} MiB, and the model's files are {size // _MIB:,} MiB"
    return ""
