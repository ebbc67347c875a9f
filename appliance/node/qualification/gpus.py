"""Judges the GPUs: cut as the inventory says, and each team's server on its own part of them."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from appliance.hardware.smi_list import ListedGpu, ListUnreadableError, parse_list
from appliance.node.qualification.finding import Finding, lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from appliance.definition.partition import Partition, Team
    from appliance.node.qualification.service import Service

_CAPABILITY: Final = "/dev/nvidia-caps/nvidia-cap"
#: Device nodes of GPUs and slices, which are somebody's; and all that CUDA may open.
_OWN: Final = re.compile(rf"/dev/nvidia\d+|{_CAPABILITY}\d+")
_NVIDIAS: Final = re.compile(rf"{_OWN.pattern}|/dev/nvidiactl|/dev/nvidia-uvm(?:-tools)?")

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
    """Each team's process has its own part, which is still there, and may open no other's."""
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
    wrong += _too_open(partition, services)
    return Finding(not wrong, lines(wrong, otherwise="\n".join(right)), wanted)


def _too_open(partition: Partition, services: Mapping[str, Service]) -> Iterator[str]:
    """What servers may open beyond their parts; slices of one GPU share its node, and no capability."""
    holders: dict[str, list[Team]] = {}
    for team in partition.teams:
        service = services.get(team.unit)
        if service is None or not service.pid:
            continue
        if (policy := service.unit.get("DevicePolicy", "unknown")) != "closed":
            yield f"{team.unit}: may open any device, DevicePolicy={policy}"
        for device in service.devices:
            if not _NVIDIAS.fullmatch(device):
                yield f"{team.unit}: may open {device}"
            elif _OWN.fullmatch(device):
                holders.setdefault(device, []).append(team)
    for device, teams in holders.items():
        shared = device.startswith(_CAPABILITY) or not all(team.slice for team in teams)
        if len(teams) > 1 and shared:
            yield f"{device} is open to {len(teams)} teams"


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
