"""On file systems that can, a bundle shares its blocks with the store: built at once, and in no room."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import payload
from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.copying import kernel_copies
from tests.loop_disk import mounted
from tests.unit.node.patching.conftest import LONG, NodeHere, make_bundles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import BundleMaker, Holders

pytestmark = pytest.mark.node  # mounting needs root

SIZE = 16 * BLOCK_SIZE + 4321


@pytest.fixture(params=["btrfs", "xfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of half a gigabyte, in a sparse file."""
    with mounted(request.param, tmp_path, 512 << 20) as place:
        yield place


def pieces(path: Path) -> list[tuple[int, set[str]]]:
    """Blocks of 4 KiB and flags of each extent of a file, as FIEMAP gives them."""
    command = ["filefrag", "-v", "-b4096", path]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^ *\d+: +\d+\.\. *\d+: +\d+\.\. *\d+: +(\d+):(.*)$", text, re.MULTILINE)
    return [(int(blocks), set(re.findall(r"[a-z]+", flags))) for blocks, flags in lines]


def extents(path: Path) -> list[set[str]]:
    """The flags of each extent of a file."""
    return [flags for _, flags in pieces(path)]


@pytest.mark.parametrize("slice_size", [1 << 30, 4 * BLOCK_SIZE], ids=["whole", "cut"])
def test_the_payload_shares_its_blocks_with_the_store(
    slice_size: int, disk: Path, maker_in: Callable[[Path], BundleMaker]
) -> None:
    maker = maker_in(disk)
    data = os.urandom(SIZE)
    engine = ("python", {"engine-1.0-py3-none-any.whl": b"wheel"})
    lock = maker.lock({"engine": engine, "model": ("tiny-gguf", {"tiny.gguf": data})})
    os.sync()
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    bundle = maker.write("bundle", None, lock, slice_size=slice_size)
    os.sync()
    taken = free - os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize

    parts = sorted((bundle / "payload/model").iterdir())
    assert len(parts) == -(-SIZE // slice_size)
    flags = [extent for part in parts for extent in extents(part)]
    assert flags
    assert all("shared" in extent for extent in flags)
    assert taken < SIZE / 8
    # Shared blocks are not one file: what is written to the bundle does not change the store.
    with parts[0].open("r+b") as file:
        file.write(b"changed")
    assert maker.store().path(lock.components["model"].artefacts[0].sha256).read_bytes() == data


def test_short_files_that_processes_copy_share_theirs(
    disk: Path, maker_in: Callable[[Path], BundleMaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole blocks or not; as ``test_the_payload_shares_its_blocks_with_the_store`` of long ones."""
    monkeypatch.setattr(payload, "MANY", 1)
    maker = maker_in(disk)
    files = {f"f{number:02}": os.urandom((64 << 10) + number) for number in range(64)}
    lock = maker.lock(
        {
            "engine": ("python", {"engine-1.0-py3-none-any.whl": b"wheel"}),
            "model": ("tiny-gguf", {**files, "tiny.gguf": os.urandom(BLOCK_SIZE)}),
        }
    )
    os.sync()
    bundle = maker.write("bundle", None, lock)
    os.sync()
    for path, data in files.items():
        copy = bundle / "payload/model" / path
        assert copy.read_bytes() == data
        flags = extents(copy)
        assert flags
        assert all("shared" in extent for extent in flags)
    first = bundle / "payload/model/f00"
    with first.open("r+b") as file:
        file.write(b"changed")
    kept = next(each for each in lock.components["model"].artefacts if each.path == "f00")
    assert maker.store().path(kept.sha256).read_bytes() == files["f00"]


def test_a_copy_that_a_patch_makes_shares_what_did_not_change(
    disk: Path, tmp_path: Path, holders: Holders
) -> None:
    """And leaves the older copy as its mark remembers it: nothing of it is read again."""
    (tmp_path / "station").mkdir()
    bundles = make_bundles(tmp_path / "station", holders)
    node = NodeHere(disk, bundles)
    node.install(bundles.old)
    node.patch()
    os.sync()
    kept = [node.copy(bundle) / "payload/engine/b-1.0.whl" for bundle in (bundles.old, bundles.new)]
    assert kept[0].stat().st_ino != kept[1].stat().st_ino
    assert all("shared" in each for each in extents(kept[1]))
    for bundle in (bundles.old, bundles.new):
        held = node.held(bundle)
        assert (held.hashed, held.whole) == (0, True)


@pytest.mark.parametrize("shift", [0, 4096, 100], ids=["in place", "by a block", "by some bytes"])
def test_what_is_the_same_within_a_changed_file_is_shared(
    shift: int, disk: Path, tmp_path: Path, holders: Holders
) -> None:
    """By whole blocks, so not where it lies otherwise in them; the bytes are right in any case."""
    data = os.urandom(SIZE)
    changed = os.urandom(shift) + data[: SIZE // 2] + os.urandom(100_000) + data[SIZE // 2 + 100_000 :]
    (tmp_path / "station").mkdir()
    bundles = make_bundles(tmp_path / "station", holders, (data, changed), parity=0)
    node = NodeHere(disk, bundles)
    node.install(bundles.old)
    os.sync()
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    node.patch()
    os.sync()
    taken = free - os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize

    old, new = (node.copy(bundle) / LONG for bundle in (bundles.old, bundles.new))
    assert new.read_bytes() == (bundles.new.folder / LONG).read_bytes()
    # What is new, and of every stretch the block in which it begins and that in which it ends.
    apart = sum(blocks for blocks, flags in pieces(new) if "shared" not in flags)
    assert apart == -(-len(changed) // 4096) if shift == 100 else apart <= 100_000 // 4096 + 1 + 6
    assert apart >= 100_000 // 4096, "what is new has blocks of its own"
    assert (taken < SIZE / 4) == (shift != 100)
    before = old.read_bytes()
    new.chmod(0o644)
    with new.open("r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"changed")
    assert old.read_bytes() == before


def test_a_range_that_begins_within_a_block_is_shared_from_the_next_one_on(disk: Path) -> None:
    data = os.urandom(SIZE)
    (disk / "one").write_bytes(data)
    with (disk / "one").open("rb") as one, (disk / "other").open("w+b") as other:
        assert kernel_copies(one.fileno(), other.fileno(), 5000, 5000 + 4096, 4 * BLOCK_SIZE)
        os.fsync(other.fileno())
    assert (disk / "other").read_bytes()[5000 + 4096 :] == data[5000 : 5000 + 4 * BLOCK_SIZE]
    apart = sum(blocks for blocks, flags in pieces(disk / "other") if "shared" not in flags)
    assert apart <= 2
