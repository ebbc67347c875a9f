"""A bundle on three media, and where it is joined."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.join import join_volumes
from appliance.progress import Silent
from tests.conftest import CONTENTS
from tests.unit.bundle.media.join.joining import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker
    from tests.unit.bundle.media.join.joining import Join


@pytest.fixture(scope="module")
def large(
    tmp_path_factory: pytest.TempPathFactory,
    maker_in: Callable[[Path], BundleMaker],
    two_of_three: Root,
) -> Path:
    """A signed bundle whose model is three slices: of 4, 4 and 2 blocks, the last one short."""
    maker = maker_in(tmp_path_factory.mktemp("large"))
    model = random.Random(6).randbytes(9 * BLOCK + 100)  # noqa: S311 - the same bytes each time
    lock = maker.lock({**CONTENTS, "model": ("tiny-gguf", {"tiny.gguf": model})})
    return maker.sign(maker.write("bundle", two_of_three, lock, slice_size=4 * BLOCK), "alice", "bob")


@pytest.fixture
def three(large: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    """The small files with the first slice; the second slice; the third."""
    return volumes(large, 5, 6)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "joined"


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / ".joined.joining"


@pytest.fixture
def joined(out: Path) -> Join:
    return lambda *folders, **options: join_volumes(folders, out, progress=Silent(), **options)
