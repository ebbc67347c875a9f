"""A medium with a toolkit, and the stock computer it is put into."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.trust.allowed_signers import allowed_signers
from tests.conftest import CONTENTS
from tests.unit.bundle.bootstrap.desk import PYTHONS, Desk, toolkit_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker


@pytest.fixture(scope="session")
def pristine(
    tmp_path_factory: pytest.TempPathFactory,
    maker_in: Callable[[Path], BundleMaker],
    two_of_three: Root,
) -> Path:
    """A bundle with a toolkit, signed by alice and bob; never changed by a test."""
    maker = maker_in(tmp_path_factory.mktemp("pristine"))
    lock = maker.lock({**CONTENTS, "toolkit": ("toolkit", toolkit_files(*PYTHONS))})
    return maker.sign(maker.write("bundle", two_of_three, lock), "alice", "bob")


@pytest.fixture
def medium(pristine: Path, tmp_path: Path) -> Path:
    """This test's own copy."""
    return shutil.copytree(pristine, tmp_path / "medium")


@pytest.fixture
def desk(tmp_path: Path, two_of_three: Root) -> Desk:
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(folder, allowed_signers(two_of_three))
