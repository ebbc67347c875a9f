"""Bundles with parity, small enough to be mended in a moment."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.parity.creating import parity_companion
from appliance.bundle.parity.program import find_par2
from appliance.bundle.writer import write_bundle
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker


def contents(seed: int = 1) -> Mapping[str, tuple[str, Mapping[str, bytes]]]:
    """A file of several slices of 4 MiB, some small ones, an empty one."""
    noise = random.Random(seed)  # noqa: S311 - the same bytes in every run
    return {
        "engine": ("python", {"engine-1.0-py3-none-any.whl": noise.randbytes(300_000)}),
        "extras": ("files", {"empty": b"", "site/notice.txt": b"notice\n", "z@1:=~+": b"odd"}),
        "model": ("tiny-gguf", {"tiny.gguf": noise.randbytes((8 << 20) + 600_017)}),
    }


def write_with_parity(
    maker: BundleMaker, name: str, root: Root, *, percent: int = 10, seed: int = 1
) -> Path:
    """An unsigned bundle with parity, its model cut into three slices."""
    return write_bundle(
        maker.folder / name,
        maker.lock(contents(seed)),
        maker.store(),
        root=root_bytes(root),
        progress=Silent(),
        companions=[parity_companion(percent)],
        slice_size=4 << 20,
    )


@pytest.fixture(scope="session")
def programs() -> Mapping[str, str]:
    """The two implementations that must agree: the toolkit's own, and the system's."""
    system = shutil.which("par2")
    assert system, "the package par2 is missing (system-packages.txt)"
    assert system != find_par2()
    return {"toolkit": find_par2(), "system": system}
