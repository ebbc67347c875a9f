"""What tests of drives share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.disk.escrow.keeping import Escrowed, escrow_keys
from tests.unit.disk.escrows import CREATED, DRIVE, PSID, escrow
from tests.unit.roles.conftest import role_module

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["role_module"]


@pytest.fixture(scope="session")
def split(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Escrowed]:
    """An escrow that takes two of three."""
    folder = tmp_path_factory.mktemp("split")
    site = escrow("ana", "bo", "cy", threshold=2)
    return folder, escrow_keys(folder, "gpu-01", DRIVE, PSID, escrow=site, created=CREATED)
