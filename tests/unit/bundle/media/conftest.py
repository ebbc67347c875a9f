"""A bundle of some blocks and slices, and folders that stand for media."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

MIB = 1 << 20
#: Room for the root files and one slice of 8 MiB, in this bundle.
ONE_SLICE = 9 * MIB


@pytest.fixture(scope="session")
def cut_bundle(
    tmp_path_factory: pytest.TempPathFactory, maker_in: Callable[[Path], BundleMaker], two_of_three: Root
) -> Path:
    """Signed by alice and bob; its model of 18 MiB lies in slices of 8 MiB.  Not to be changed."""
    maker = maker_in(tmp_path_factory.mktemp("cut"))
    model = random.Random(1).randbytes(18 * MIB)  # noqa: S311 - the same bytes in every run
    contents = {
        "engine": (
            "python",
            {"engine-1.0-py3-none-any.whl": b"wheel" * 9999, "requirements.txt": b"engine\n"},
        ),
        "extras": ("files", {"site/Notice.TXT": b"notice\n", "empty": b""}),
        "model": ("tiny-gguf", {"tiny.gguf": model}),
    }
    bundle = maker.write("bundle", two_of_three, maker.lock(contents), slice_size=8 * MIB)
    return maker.sign(bundle, "alice", "bob")


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    """Three empty folders that stand for media."""
    folders = [tmp_path / f"stick-{number}" for number in (1, 2, 3)]
    for folder in folders:
        folder.mkdir()
    return folders
