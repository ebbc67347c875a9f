"""What this node's GPUs are cut into, what they shall be, and who gets which part.  Pure.

Read is what nvidia-smi says: its list (``-L``) names slices and their UUIDs, its report (``-q -x``) says
which GPU instance each of them is.  Both count slices of a GPU from 0, and that number joins them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from xml.etree import ElementTree as ET

#: The one configuration of our file, by mig-parted's ``--selected-config``.
CONFIG = "appliance"
_GPU = re.compile(r"GPU (\d+): .*\(UUID: (GPU-[0-9a-f-]+)\)")
_SLICE = re.compile(r"MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[0-9A-Za-z/-]+)\)")


class Trouble(Exception):
    """The GPUs are not as they shall be, or cannot be asked; the text says what to do."""


@dataclass(frozen=True)
class Slice:
    """A slice with its compute instance.  ``instance``: numbers of GPU instance and compute instance."""

    profile: str
    uuid: str
    instance: tuple[int, int]


@dataclass(frozen=True)
class Gpu:
    """One GPU: ``minor`` numbers its device node, ``processes`` are those that use it."""

    index: int
    uuid: str
    minor: int
    mig: bool
    pending: bool
    slices: tuple[Slice, ...]
    processes: tuple[int, ...]

    @property
    def profiles(self) -> list[str]:
        """What it is cut into, in alphabetical order."""
        return sorted(each.profile for each in self.slices)


@dataclass(frozen=True)
class Team:
    """Whom a part is for; ``slice`` is empty for whole GPUs."""

    name: str
    unit: str
    gpus: tuple[int, ...]
    slice: str


@dataclass(frozen=True)
class Wanted:
    """``layout``: of each GPU, the slices with the memory slice at which each begins."""

    layout: tuple[tuple[tuple[str, int], ...], ...]
    teams: tuple[Team, ...]


def read_wanted(file: str, settings: str) -> Wanted:
    """What the installation wrote.

    Args:
        file: the layout in mig-parted's form, as JSON.
        settings: where slices begin, and who gets what, as JSON.

    Raises:
        Trouble: the two do not say the same, or one of them is not what was written.
    """
    try:
        said = json.loads(settings)
        layout = tuple(tuple((cut["name"], cut["start"]) for cut in cuts) for cuts in said["layout"])
        teams = tuple(
            Team(each["name"], each["unit"], tuple(each["gpus"]), each["slice"]) for each in said["teams"]
        )
        found = {
            index: dict(row.get("mig-devices", {}))
            for row in json.loads(file)["mig-configs"][CONFIG]
            for index in row["devices"]
        }
    except (ValueError, LookupError, TypeError, AttributeError) as fault:
        raise Trouble(f"the layout was changed on the node: {fault}; install again") from fault
    wanted = {index: dict(Counter(name for name, _ in cuts)) for index, cuts in enumerate(layout)}
    if found != wanted:
        raise Trouble(f"the layout was changed on the node: found {found}, wanted {wanted}; install again")
    return Wanted(layout, teams)


def read_gpus(listed: str, report: str) -> list[Gpu]:
    """Every GPU, by its number.

    Args:
        listed: ``nvidia-smi -L``.
        report: ``nvidia-smi -q -x``.

    Raises:
        Trouble: one of them is not that, or they contradict each other.
    """
    names: dict[str, tuple[int, dict[int, tuple[str, str]]]] = {}
    slices: dict[int, tuple[str, str]] = {}
    for line in filter(None, map(str.strip, listed.splitlines())):
        if found := _GPU.fullmatch(line):
            slices = {}
            names[found[2]] = (int(found[1]), slices)
        elif names and (found := _SLICE.fullmatch(line)):
            slices[int(found[2])] = (found[1], found[3])
        else:
            raise Trouble(f"nvidia-smi -L answers otherwise than it did: {line}")
    try:
        # Of root's own program, and its text of no one else: the standard library's parser is enough.
        root = ET.fromstring(report.strip())  # noqa: S314
        gpus = [_gpu(each, names) for each in root.iter("gpu")]
    except (ET.ParseError, LookupError, ValueError) as fault:
        raise Trouble(f"nvidia-smi -L and -q -x do not fit: {fault!r}") from fault
    if len(gpus) != len(names):
        raise Trouble(f"nvidia-smi lists {len(names)} GPUs and reports {len(gpus)}: ask again")
    return sorted(gpus, key=lambda gpu: gpu.index)


def _gpu(gpu: ET.Element, names: dict[str, tuple[int, dict[int, tuple[str, str]]]]) -> Gpu:
    uuid = gpu.findtext("uuid", "").strip()
    index, listed = names[uuid]
    instances = {
        int(each.findtext("index", "")): (
            int(each.findtext("gpu_instance_id", "")),
            int(each.findtext("compute_instance_id", "")),
        )
        for each in gpu.iter("mig_device")
    }
    current, pending = (gpu.findtext(f"mig_mode/{word}_mig", "").strip() for word in ("current", "pending"))
    return Gpu(
        index,
        uuid,
        int(gpu.findtext("minor_number", "")),
        current == "Enabled",
        current != pending,
        tuple(Slice(*listed[device], instances[device]) for device in sorted(listed)),
        tuple(sorted({int(each.findtext("pid", "")) for each in gpu.iter("process_info")})),
    )


def differences(gpus: list[Gpu], wanted: Wanted) -> list[str]:
    """What is not as it shall be, one line a GPU.

    Raises:
        Trouble: there are more GPUs, or fewer.
    """
    if len(gpus) != len(wanted.layout):
        raise Trouble(f"found {len(gpus)} GPUs, wanted {len(wanted.layout)}: the inventory's count")
    return [
        f"GPU {gpu.index}: found {_told(gpu.profiles) if gpu.mig else 'whole'}, "
        f"wanted {_told(sorted(name for name, _ in cuts))}"
        + ("; MIG mode waits for a reset of the GPU: restart the node" if gpu.pending else "")
        for gpu, cuts in zip(gpus, wanted.layout, strict=True)
        if not fits(gpu, cuts)
    ]


def _told(profiles: list[str]) -> str:
    return ", ".join(profiles) or "whole"


def fits(gpu: Gpu, cuts: tuple[tuple[str, int], ...]) -> bool:
    """Whether a GPU is cut like this, and stays so."""
    if gpu.pending or gpu.mig != bool(cuts):
        return False
    return gpu.profiles == sorted(name for name, _ in cuts)


def creation(cuts: tuple[tuple[str, int], ...]) -> str:
    """The slices as ``nvidia-smi mig -cgi`` takes them, each with its place: no order then has no room."""
    return ",".join(f"{name}:{start}" for name, start in sorted(cuts, key=lambda cut: cut[1]))


def shares(gpus: list[Gpu], wanted: Wanted) -> dict[str, list[tuple[Gpu, Slice | None]]]:
    """What each team gets, by its name: whole GPUs, or a slice and the GPU that it is of.

    Teams that share a kind of slice of one GPU get them in the order of the inventory, and the GPU
    instances' numbers: the same after every start, as long as the layout is.

    Raises:
        Trouble: there are not as many as teams.
    """
    left = {gpu.index: sorted(gpu.slices, key=lambda each: each.instance) for gpu in gpus}
    found: dict[str, list[tuple[Gpu, Slice | None]]] = {}
    for team in wanted.teams:
        if not team.slice:
            found[team.name] = [(gpus[index], None) for index in team.gpus]
            continue
        (index,) = team.gpus
        mine = next((each for each in left[index] if each.profile == team.slice), None)
        if mine is None:
            raise Trouble(f"{team.name}: GPU {index} has no {team.slice} left")
        left[index].remove(mine)
        found[team.name] = [(gpus[index], mine)]
    return found


def environment(share: list[tuple[Gpu, Slice | None]]) -> str:
    """The variables that a team's server is started with."""
    return f"CUDA_VISIBLE_DEVICES={','.join(part.uuid if part else gpu.uuid for gpu, part in share)}\n"


def capabilities(share: list[tuple[Gpu, Slice | None]]) -> list[str]:
    """What the driver calls the right to use a slice: of its GPU instance, and of its compute instance."""
    return [
        name
        for gpu, part in share
        if part is not None
        for name in (
            f"gpu{gpu.minor}/gi{part.instance[0]}/access",
            f"gpu{gpu.minor}/gi{part.instance[0]}/ci{part.instance[1]}/access",
        )
    ]


def minors(text: str) -> dict[str, int]:
    """Numbers of capability nodes, from ``/proc/driver/nvidia-caps/mig-minors``.

    Raises:
        Trouble: it has another form.
    """
    found = {}
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if not number.isdigit():
            raise Trouble(f"mig-minors has another form than it had: {line}")
        found[name] = int(number)
    return found


def drop_in(share: list[tuple[Gpu, Slice | None]], numbers: dict[str, int]) -> str:
    """What a team's unit may open, instead of all that the unit file says.

    Raises:
        Trouble: the driver knows no such slice.
    """
    nodes = ["/dev/nvidiactl rw", "/dev/nvidia-uvm rw", "/dev/nvidia-uvm-tools rw"]
    nodes += [f"/dev/nvidia{gpu.minor} rw" for gpu, _ in share]
    for name in capabilities(share):
        if name not in numbers:
            raise Trouble(f"the driver has no capability {name}: is it loaded with nv_cap_enable_devfs=1?")
        nodes.append(f"/dev/nvidia-caps/nvidia-cap{numbers[name]} r")
    lines = [
        "# By appliance-gpu-partition.service, at this start of the node.",
        "[Service]",
        "DeviceAllow=",
    ]
    return "\n".join([*lines, *(f"DeviceAllow={node}" for node in nodes), ""])
