"""Bundles with parity, small enough to be mended in a moment."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.parity.creating import parity_companion
from appliance.bundle.parity.program import find_par2
from appliance.bundle.parity.repair import repair_bundle
from appliance.bundle.writer import write_bundle
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.conftest import BundleMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from appliance.bundle.parity.repaired import Repaired
    from appliance.trust.root import Root
    from tests.conftest import Holders


SLICE = "payload/model/tiny.gguf.slice-0001"
LAST = "payload/model/tiny.gguf.slice-0002"
NOTICE = "payload/extras/site/notice.txt"
SET = "parity/set-0000.par2"


def contents(seed: int = 1) -> Mapping[str, tuple[str, Mapping[str, bytes]]]:
    """A file of several slices of 4 MiB, some small ones, an empty one."""
    noise = random.Random(seed)  # noqa: S311 - the same bytes in every run
    return {
        "engine": ("python", {"engine-1.0-py3-none-any.whl": noise.randbytes(300_000)}),
        "extras": ("files", {"empty": b"", "site/notice.txt": b"notice\n", "z@1=~+": b"odd"}),
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


@pytest.fixture(scope="session")
def pristine_parity(tmp_path_factory: pytest.TempPathFactory, holders: Holders, two_of_three: Root) -> Path:
    """A bundle with a tenth of parity, signed by alice and bob; never changed."""
    maker = BundleMaker(tmp_path_factory.mktemp("parity"), holders)
    return maker.sign(write_with_parity(maker, "bundle", two_of_three), "alice", "bob")


@pytest.fixture
def sick(pristine_parity: Path, tmp_path: Path) -> Path:
    """This test's own copy, to be damaged."""
    return shutil.copytree(pristine_parity, tmp_path / "bundle")


@pytest.fixture
def repair(tmp_path: Path, two_of_three: Root) -> Callable[..., Repaired]:
    def run(*given: Path, out: Path | None = None, trusted: bool = True) -> Repaired:
        return repair_bundle(
            given,
            root=root_bytes(two_of_three) if trusted else None,
            out=out,
            work=tmp_path / "work",
            progress=Silent(),
        )

    return run


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def same(one: Path, other: Path) -> bool:
    files = [
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (one, other)
    ]
    return files[0] == files[1]
