"""A bundle on three volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.bundle.verify import verify_bundle
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.trust.root import Root


@pytest.fixture
def three(bundle: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    """The bundle on three media: the engine, the empty file of the extras, the notice and the model."""
    return volumes(bundle, 2, 3)


@pytest.fixture
def verified(two_of_three: Root) -> Callable[..., VerifiedBundle]:
    return lambda folders: verify_bundle(folders, root_bytes(two_of_three), progress=Silent())
