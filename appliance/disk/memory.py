"""A process that holds secrets keeps its memory to itself: no core dump, no debugger, no swap.

Secrets are strings and bytes of Python, which copies them as it likes and never clears them, so there is no
wiping a few buffers: all of the process's memory is protected, and ends with it.  The limit of core dumps
is inherited by what it starts (ssh, which passes a secret on); the rest ends at the next exec.

prctl(2), PR_SET_DUMPABLE: no core dump, whatever the limit or where the kernel pipes dumps to, and no
attaching by others of the same user.  mlock2(2), MCL_ONFAULT: pages are kept as they come to be used, which
costs a millisecond instead of all of the address space.
"""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_SWAPS: Final = Path("/proc/swaps")


def protect_memory() -> bool:
    """Let nothing of this process's memory get to a disk.

    Returns:
        Whether its pages are locked; a user who is not root is usually not let.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")
    return bool(libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0)


def has_swap(swaps: Path = _SWAPS) -> bool:
    """Whether this machine swaps to anything; true where that cannot be read."""
    try:
        return len(swaps.read_text().splitlines()) > 1  # the first one is a heading
    except OSError:
        return True
