"""Figures that say where they come from: every number of a plan, with its arithmetic and its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from decimal import Decimal

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30


@dataclass(frozen=True)
class Figure:
    """One number of a plan.

    ``name`` is stable and stands in JSON; ``how`` is the sum with its numbers put in; ``source`` says who
    states what went into it: the model's own files, a maker's list, the person who asked, or nobody
    (an assumption of ours, which then begins with "assumed").
    """

    name: str
    value: int | Decimal
    unit: str
    how: str
    source: str = ""

    def as_dict(self) -> dict[str, object]:
        """The figure as JSON values; a decimal number stays exact as text."""
        value = self.value if isinstance(self.value, int) else str(self.value)
        return {
            "name": self.name,
            "value": value,
            "unit": self.unit,
            "how": self.how,
            "source": self.source,
        }


def bytes_text(count: int) -> str:
    """Bytes of memory, as people and nvidia-smi count them: in GiB, MiB or KiB."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(count) >= unit:
            return f"{count / unit:,.2f} {name}"
    return f"{count:,} bytes"


def decimal_text(count: int) -> str:
    """Bytes of files, as makers of models count them: in GB of 10**9."""
    return f"{count / 10**9:,.1f} GB"
