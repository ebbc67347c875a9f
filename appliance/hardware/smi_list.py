"""What ``nvidia-smi -L`` lists: GPUs, and the slices that they are cut into, by UUID.

A slice is named by its MIG profile.  Older drivers write a slice's UUID as
``MIG-GPU-…/instance/instance`` (NVML API, change log); it is kept as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_GPU: Final = re.compile(r"GPU (\d+): .*\(UUID: (GPU-[0-9a-f-]+)\)")
_SLICE: Final = re.compile(r"MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[0-9A-Za-z/-]+)\)")


class ListUnreadableError(Exception):
    """What was given is no list of nvidia-smi; the text is the line that is not."""


@dataclass(frozen=True)
class ListedGpu:
    """One GPU; ``slices``: the profile of each of its slices, by UUID."""

    index: int
    uuid: str
    slices: dict[str, str]


def parse_list(text: str) -> tuple[ListedGpu, ...]:
    """Read a list; an empty one has no GPU.

    Raises:
        ListUnreadableError: a line is of another kind.
    """
    found: list[ListedGpu] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if gpu := _GPU.fullmatch(line):
            found.append(ListedGpu(int(gpu[1]), gpu[2], {}))
        elif found and (part := _SLICE.fullmatch(line)):
            found[-1].slices[part[2]] = part[1]
        else:
            raise ListUnreadableError(line[:200])
    return tuple(found)
