"""Mending: what can be mended is, byte for byte; what cannot is refused, and nothing is changed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.parity.repair import Repaired, repair_bundle
from appliance.bundle.verify import verify_bundle
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.conftest import BundleMaker
from tests.unit.bundle.parity.conftest import write_with_parity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import Holders

SLICE = "payload/model/tiny.gguf.slice-0001"
LAST = "payload/model/tiny.gguf.slice-0002"
NOTICE = "payload/extras/site/notice.txt"
SET = "parity/set-0000.par2"


@pytest.fixture(scope="session")
def pristine_parity(
    tmp_path_factory: pytest.TempPathFactory, holders: Holders, two_of_three: Root
) -> Path:
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


DAMAGE: dict[str, Callable[[Path], object]] = {
    "bit rot": lambda b: overwrite(b / SLICE, 12345, b"x"),
    "zeroed sectors": lambda b: overwrite(b / SLICE, 8192, bytes(65536)),
    "a lost last slice": lambda b: (b / LAST).unlink(),
    "a lost small file and its folder": lambda b: shutil.rmtree(b / "payload/extras/site"),
    "truncated": lambda b: (b / SLICE).write_bytes((b / SLICE).read_bytes()[:4_000_000]),
    "overlong": lambda b: (b / SLICE).write_bytes((b / SLICE).read_bytes() + b"more"),
    "an inserted byte": lambda b: (b / SLICE).write_bytes(b"!" + (b / SLICE).read_bytes()),
    "a small file emptied": lambda b: (b / NOTICE).write_bytes(b""),
    "an empty file lost": lambda b: (b / "payload/extras/empty").unlink(),
    "an empty file filled": lambda b: (b / "payload/extras/empty").write_bytes(b"x"),
    "blocks.bin": lambda b: overwrite(b / "blocks.bin", 3, b"xx"),
    "VERIFY.txt": lambda b: (b / "VERIFY.txt").unlink(),
    "the trusted root's copy": lambda b: (b / "trust/root.1.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_mended_in_place(
    damage: str, sick: Path, pristine_parity: Path, repair: Callable[..., Repaired], two_of_three: Root
) -> None:
    DAMAGE[damage](sick)
    result = repair(sick)
    assert result.mended
    assert same(sick, pristine_parity)
    verify_bundle(sick, root_bytes(two_of_three), progress=Silent())
    assert not (sick.parent / "work" / f"appliance-repair-{result.digest[:12]}").exists()
    assert repair(sick).mended == ()
