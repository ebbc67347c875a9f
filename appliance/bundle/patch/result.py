"""What building a patch came to, file by file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.bundle.manifest import Base


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the bundle that is made.

    ``carried``: bytes that travel for it.  ``how``: the base holds it, it is made of the base and of
    ``carried`` bytes, or it travels whole; ``why`` in words.
    """

    path: str
    size: int
    carried: int
    how: Literal["held", "made", "whole"]
    why: str


@dataclass(frozen=True)
class BuiltPatch:
    """A patch that was written.

    ``digest`` is its own, ``size`` all its bytes; ``makes`` and ``version`` are of the bundle it leads to.
    """

    folder: Path
    digest: str
    size: int
    base: Base
    makes: str
    version: str
    entries: Sequence[Entry]

    @property
    def whole_size(self) -> int:
        """Bytes of the bundle that the patch stands for."""
        return sum(entry.size for entry in self.entries)
