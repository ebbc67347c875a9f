"""The root: which holders' keys count for which role, and how many are needed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Root:
    """What a root file says."""

    version: int
    solo: bool
