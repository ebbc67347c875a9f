"""Judges the GPUs: cut as the inventory says, and each team's server on its own part of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from appliance.hardware.smi_list import ListedGpu, ListUnreadableError, parse_list
from appliance.node.qualification.finding import Finding, lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appliance.definition.partition import Partition, Team
    from appliance.node.qualification.service import Service

#: GPUs and slices; what nvidia-smi writes when it cannot tell is no list, and judged so.
LISTING: Final = "nvidia-smi -L 2>&1; true"


def judge_layout(text: str, partition: Partition) -> Finding:
    """What each GPU is cut into, whatever the order of slices."""
    wanted = [_told(cut.name for cut in cuts) for cuts in partition.layout]
    words = "; ".join(f"GPU {index}: {what}" for index, what in enumerate(wanted))
    gpus = _listed(text)
    if isinstance(gpus, str):
        return Finding(kept=False, found=f"nvidia-smi lists no GPUs: {gpus}", wanted=words)
    found = [_told(gpu.slices.values()) for gpu in gpus]
    return Finding(
        found == wanted, "; ".join(f"GPU {index}: {what}" for index, what in enumerate(found)), words
    )


def judge_teams(text: str, partition: Partition, services: Mapping[str, Service]) -> Finding:
    """Each team's process was started with its own part, and that part is still there."""
    wanted = "; ".join(f"{team.unit}: {_part(team)}" for team in partition.teams) + ", each for itself"
    gpus = _listed(text)
    if isinstance(gpus, str):
        return Finding(kept=False, found=f"nvidia-smi lists no GPUs: {gpus}", wanted=wanted)
    parts = {gpu.uuid: (gpu.index, "") for gpu in gpus if not gpu.slices}
    parts |= {uuid: (gpu.index, name) for gpu in gpus for uuid, name in gpu.slices.items()}
    wrong, right = [], []
    taken: Counter[str] = Counter()
    for team in partition.teams:
        service = services.get(team.unit)
        if service is None or not service.pid:
            wrong.append(f"{team.unit}: no process")
            continue
        given = list(filter(None, service.environment.get("CUDA_VISIBLE_DEVICES", "").split(",")))
        taken.update(given)
        if [parts.get(each) for each in given] != [(index, team.slice) for index in team.gpus]:
            wrong.append(f"{team.unit}: {', '.join(_place(each, parts) for each in given) or 'all GPUs'}")
        right.append(f"{team.unit}: {', '.join(given)}")
    wrong += [f"{uuid} is given to {number} teams" for uuid, number in taken.items() if number > 1]
    return Finding(not wrong, lines(wrong, otherwise="\n".join(right)), wanted)


def _listed(text: str) -> tuple[ListedGpu, ...] | str:
    try:
        return parse_list(text)
    except ListUnreadableError as fault:
        return str(fault)


def _told(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "whole"


def _part(team: Team) -> str:
    gpus = ", ".join(map(str, team.gpus))
    return f"{team.slice} of GPU {gpus}" if team.slice else f"GPU {gpus}"


def _place(uuid: str, parts: Mapping[str, tuple[int, str]]) -> str:
    if uuid not in parts:
        return f"{uuid}, which is not there"
    index, name = parts[uuid]
    return f"{uuid}, {name or 'all'} of GPU {index}"
