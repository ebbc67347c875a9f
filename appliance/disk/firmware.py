"""What is known of a drive's model and firmware: ``firmware.yml``, and what it says of one drive.

The first entry that matches counts.  A drive that none matches is unknown, which is a warning and no more:
no list can say that firmware is sound, and the second layer (dm-crypt) does not need it to be.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

Verdict = Literal["refused", "caution", "tried", "unknown"]

_LIST: Final = Path(__file__).with_name("firmware.yml")


@dataclass(frozen=True, slots=True)
class Known:
    """One entry; ``model`` and ``firmware`` are regular expressions."""

    model: str
    verdict: Verdict
    says: str
    source: str
    firmware: str = ""

    def matches(self, model: str, firmware: str) -> bool:
        """Whether it speaks of such a drive."""
        return bool(
            re.match(self.model, model, re.IGNORECASE) and re.match(self.firmware, firmware, re.IGNORECASE)
        )


UNKNOWN: Final = Known(
    "", "unknown", "nobody has written down how its own encryption fared", "appliance/disk/firmware.yml"
)


@functools.cache
def known_drives() -> tuple[Known, ...]:
    """The list that ships."""
    return tuple(Known(**entry) for entry in yaml.safe_load(_LIST.read_text("utf-8"))["drives"])


def judge_firmware(model: str, firmware: str, known: Sequence[Known] | None = None) -> Known:
    """What is known of a drive.

    Args:
        model: as the drive says it.
        firmware: likewise.
        known: entries in the order in which they count; None: those that ship.
    """
    entries = known_drives() if known is None else known
    return next((entry for entry in entries if entry.matches(model, firmware)), UNKNOWN)
