"""Memory for direct reads and writes: aligned, apart from each other, asked for in huge pages."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.media.buffers import block_buffers


def address(buffer: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def mapping_flags(where: int) -> set[str]:
    """What proc_pid_smaps(5) says of the mapping that holds an address."""
    holds = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            start, end = (int(bound, 16) for bound in bounds.groups())
            holds = start <= where < end
        elif holds and line.startswith("VmFlags:"):
            return set(line.split()[1:])
    return set()


def test_each_is_a_block_that_begins_at_a_huge_page() -> None:
    buffers = block_buffers(3)
    assert [len(buffer) for buffer in buffers] == [BLOCK_SIZE] * 3
    assert [address(buffer) % (2 << 20) for buffer in buffers] == [0, 0, 0]


def test_none_lies_in_another() -> None:
    buffers = block_buffers(3)
    for number, buffer in enumerate(buffers):
        buffer[:] = bytes([number]) * BLOCK_SIZE
    assert [set(bytes(buffer)) for buffer in buffers] == [{0}, {1}, {2}]


def test_the_kernel_is_asked_for_huge_pages() -> None:
    (buffer,) = block_buffers(1)
    flags = mapping_flags(address(buffer))
    assert "hg" in flags or not Path("/sys/kernel/mm/transparent_hugepage").exists()
    assert "sh" not in flags
