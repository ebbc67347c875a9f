"""A contradiction between values of an inventory that are each well formed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.definition.document import Loc


@dataclass(frozen=True)
class Conflict:
    """A contradiction; ``loc`` is where it is written, ``at_key`` when the key is what to point at."""

    loc: Loc
    message: str
    found: str
    wanted: str
    at_key: bool = False
