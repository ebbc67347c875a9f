"""Waits for what another machine does by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


def awaited(look: Callable[[], Any], what: str, seconds: float = 100) -> Any:
    """The first true thing that ``look`` finds; it has a deadline."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.2)
    pytest.fail(f"{what}: not within {seconds} s")
