"""Numbers that a machine says of itself, refused where no machine has them.

What is judged may be a recording that was edited, or the answer of a node that is not trusted yet: memory
of 10^26 kB would pass for enough of it, and a disk of less than nothing for none.
"""

from __future__ import annotations

import re
from typing import Final

#: Physical addresses of a processor have at most 52 bits (Intel SDM 3A, 4.1.4; AMD APM 2, 5.1).
MOST_MEMORY: Final = 1 << 52
#: Linux counts positions on a block device in a signed number of 64 bits (loff_t).
MOST_DISK: Final = (1 << 63) - 1
#: The most that Linux can be built for on amd64 (NR_CPUS, NODES_SHIFT).
MOST_PROCESSORS: Final = 8192
MOST_NODES: Final = 1024
#: Linux tells a link's rate in an unsigned number of 32 bits, in Mbit/s (ethtool_link_settings).
MOST_RATE: Final = (1 << 32) - 2
#: EDAC counts in an unsigned number of 32 bits.
MOST_ERRORS: Final = (1 << 32) - 1


class ImpossibleReadingError(ValueError):
    """No machine has this; the text names what, as found and as it may be."""


def flag(name: str, value: object) -> bool:
    """A yes or no of JSON.

    Raises:
        ImpossibleReadingError: anything else; "no" as text would pass for a yes.
    """
    if not isinstance(value, bool):
        raise ImpossibleReadingError(f"{name} {str(value)[:60]}, wanted true or false")
    return value


def whole(name: str, value: object, most: int, *, unit: int = 1, least: int = 0) -> int:
    """A whole number, times ``unit``.

    Args:
        name: what it is of, for the message.
        value: a number of JSON, or its text as the kernel gives it.
        most: that a machine may have, counted after ``unit``.
        unit: what it is counted in.
        least: likewise.

    Raises:
        ImpossibleReadingError: no whole number, less or more.
    """
    found: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        found = value * unit
    elif isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,40}", value):
        found = int(value) * unit
    if found is None or not least <= found <= most:
        times = f" x {unit}" if unit > 1 else ""
        raise ImpossibleReadingError(
            f"{name} {str(value)[:60]}{times}, wanted a number of {least} to {most}"
        )
    return found
