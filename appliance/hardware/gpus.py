"""GPUs by name, and whether a GPU can be cut like this.

A slice may begin at certain memory slices only, so not every sum that fits has a place: there are eight
memory slices, and still no place for eight 1g.10gb.  Places are searched until all slices stand, or none is
left.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from appliance.errors import GpuUnknown, MigLayoutInvalid
from appliance.hardware.gpu_table import GPUS, Gpu, Slice

if TYPE_CHECKING:
    from collections.abc import Sequence

_PART: Final = re.compile(r"(?:(?P<count>[1-9][0-9]?)[x*])?(?P<name>[1-7]g\.[0-9]{1,3}gb)")
_MEMORY_SLICES: Final = 8


def find_gpu(name: str) -> Gpu:
    """The GPU of this name.

    Raises:
        GpuUnknown: the table has none.
    """
    wanted = name.lower().replace("_", "-")
    for gpu in GPUS:
        if gpu.name == wanted:
            return gpu
    raise GpuUnknown(
        "this GPU is not in the table",
        found=name,
        wanted=f"one of: {', '.join(gpu.name for gpu in GPUS)}",
        hint="another one can be planned by its memory: --gpu with the nearest of these and --memory",
    )


def gpu_of_device(device: int) -> Gpu | None:
    """The GPU with this PCI device number of NVIDIA; None for one that is not in the table."""
    return next((gpu for gpu in GPUS if device in gpu.pci), None)


def find_slice(gpu: Gpu, name: str) -> Slice:
    """The slice of this name.

    Raises:
        MigLayoutInvalid: the GPU has no such slice, or cannot be cut at all.
    """
    for each in _slices(gpu, name):
        if each.name == name.lower():
            return each
    raise MigLayoutInvalid(
        f"{gpu.product} has no such slice",
        found=name,
        wanted=f"one of: {', '.join(each.name for each in gpu.slices)}",
        hint="names differ with the GPU's memory; `nvidia-smi mig -lgip` lists those of a machine",
    )


def _slices(gpu: Gpu, asked: str) -> tuple[Slice, ...]:
    if not gpu.slices:
        raise MigLayoutInvalid(
            f"{gpu.product} cannot be cut into slices",
            found=asked,
            wanted="a GPU with MIG, or no slice",
            hint="leave --slice and --mig out",
        )
    return gpu.slices


def parse_layout(gpu: Gpu, text: str) -> tuple[Slice, ...]:
    """What a GPU is cut into: ``3g.40gb,2*2g.20gb``, or a name of mig-parted's: ``all-1g.10gb``.

    Raises:
        MigLayoutInvalid: misspelled, unknown slices, or no place for all of them.
    """
    if text.startswith("all-") and text != "all-balanced":
        each = find_slice(gpu, text.removeprefix("all-"))
        return (each,) * len(each.starts)
    if text == "all-balanced":  # two of the smallest, one of 2g, one of 3g
        smallest, _, two, three, *_ = _slices(gpu, text)
        return place(gpu, [smallest, smallest, two, three])
    asked: list[Slice] = []
    for part in text.split(","):
        found = _PART.fullmatch(part.strip().lower())
        if found is None:
            raise MigLayoutInvalid(
                "a layout is misspelled",
                found=part.strip() or "nothing",
                wanted="slices and how many of each: 3g.40gb,2*2g.20gb, or all-1g.10gb, all-balanced",
            )
        asked += [find_slice(gpu, found["name"])] * int(found["count"] or 1)
    return place(gpu, asked)


def place(gpu: Gpu, asked: Sequence[Slice]) -> tuple[Slice, ...]:
    """The slices asked for, if the GPU has a place for all of them at once.

    Raises:
        MigLayoutInvalid: it has not.
    """
    if placements(asked) is None:
        taken = sum(each.width for each in asked)
        raise MigLayoutInvalid(
            f"{gpu.product} has no place for all of these slices at once",
            found=f"{', '.join(each.name for each in asked)}: {taken} of {_MEMORY_SLICES} memory slices",
            wanted="; ".join(
                f"{each.name} at {','.join(map(str, each.starts))}, {each.width} wide"
                for each in dict.fromkeys(asked)
            ),
            hint="ask for fewer or smaller slices",
        )
    return tuple(asked)


def placements(asked: Sequence[Slice]) -> tuple[int, ...] | None:
    """At which memory slice each may begin, in the order asked; None: there is no place for all."""
    # The widest first: they have the fewest places.
    order = sorted(range(len(asked)), key=lambda index: -asked[index].width)
    starts: dict[int, int] = {}

    def stand(position: int, taken: int) -> bool:
        if position == len(order):
            return True
        each = asked[order[position]]
        for start in each.starts:
            room = ((1 << each.width) - 1) << start
            if not taken & room:
                starts[order[position]] = start
                if stand(position + 1, taken | room):
                    return True
        return False

    return tuple(starts[index] for index in range(len(asked))) if stand(0, 0) else None
