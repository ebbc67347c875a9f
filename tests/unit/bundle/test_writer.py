"""A complete bundle or none; the same lock, the same bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import copying, durable, writer
from appliance.bundle.blocks import BLOCK_SIZE, split_blocks
from appliance.bundle.manifest import ListedFile, parse_manifest
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    DigestMismatch,
    FileMissing,
    InProgress,
    LockInvalid,
    RootInvalid,
    SpaceExhausted,
    Usage,
)
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

ENGINE = ("python", {"engine-1.0-py3-none-any.whl": b"wheel"})
BIG = os.urandom(BLOCK_SIZE) + bytes(BLOCK_SIZE) + os.urandom(BLOCK_SIZE + 17)


def model(data: bytes) -> Mapping[str, tuple[str, Mapping[str, bytes]]]:
    return {"engine": ENGINE, "model": ("tiny-gguf", {"tiny.gguf": data})}


def left_over(maker: BundleMaker) -> list[str]:
    return sorted(path.name for path in maker.folder.iterdir() if path.name != "store")


def test_what_lies_in_a_bundle(maker: BundleMaker, two_of_three: Root) -> None:
    bundle = maker.write("bundle", two_of_three)
    found = sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file())
    assert found == [
        "VERIFY.txt",
        "blocks.bin",
        "manifest.json",
        "payload/engine/engine-1.0-py3-none-any.whl",
        "payload/engine/requirements.txt",
        "payload/extras/empty",
        "payload/extras/site/notice.txt",
        "payload/model/tiny.gguf",
        "trust/SHA256SUMS",
        "trust/root.1.json",
    ]
    assert (bundle / "trust/root.1.json").read_bytes() == root_bytes(two_of_three)
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    assert manifest.components["extras"].files[1].path == "payload/extras/site/notice.txt"
    assert left_over(maker) == ["bundle"]


@pytest.mark.parametrize("size", [1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 2 * BLOCK_SIZE, len(BIG)])
def test_long_files_are_cut_and_join_to_the_same_bytes(
    size: int, maker: BundleMaker, two_of_three: Root
) -> None:
    data = BIG[:size]
    bundle = maker.write("bundle", two_of_three, maker.lock(model(data)), slice_size=BLOCK_SIZE)
    parts = sorted((bundle / "payload/model").iterdir())
    assert b"".join(part.read_bytes() for part in parts) == data
    expected = -(-size // BLOCK_SIZE)
    names = (
        ["tiny.gguf"] if expected == 1 else [f"tiny.gguf.slice-{number:04d}" for number in range(expected)]
    )
    assert [part.name for part in parts] == names
    file = parse_manifest((bundle / "manifest.json").read_bytes()).components["model"].files[0]
    assert (file.size, file.sha256) == (size, hashlib.sha256(data).hexdigest())
    maker.sign(bundle, "alice", "bob")
    verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_cat_of_the_slices_is_the_file(maker: BundleMaker, two_of_three: Root) -> None:
    bundle = maker.write("bundle", two_of_three, maker.lock(model(BIG)), slice_size=BLOCK_SIZE)
    command = ["sh", "-c", "cat payload/model/tiny.gguf.slice-*"]
    joined = subprocess.run(command, cwd=bundle, capture_output=True, check=True)
    assert joined.stdout == BIG


@pytest.mark.parametrize("slice_size", [BLOCK_SIZE, 2 * BLOCK_SIZE, 1 << 30])
def test_the_block_index_is_of_the_bytes_that_lie_there(
    slice_size: int, maker: BundleMaker, two_of_three: Root
) -> None:
    bundle = maker.write("bundle", two_of_three, maker.lock(model(BIG)), slice_size=slice_size)
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    for path, digests in split_blocks(manifest, (bundle / "blocks.bin").read_bytes()):
        data = (bundle / path).read_bytes()
        blocks = [data[start : start + BLOCK_SIZE] for start in range(0, len(data), BLOCK_SIZE)]
        assert list(digests) == [hashlib.sha256(block).digest() for block in blocks]


def test_the_kernel_s_copy_and_ours_are_the_same(
    maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system cannot copy by itself, or stops half-way, we do."""
    lock = maker.lock(model(BIG))
    maker.write("kernel", two_of_three, lock)
    asked = []

    def half_then_refuse(origin: int, target: int, size: int, start: int, offset: int) -> int:
        asked.append(size)
        if len(asked) % 2:
            return real(origin, target, size // 2 + 1, start, offset)
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    real = os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", half_then_refuse)
    maker.write("ours", two_of_three, lock)
    assert asked
    for path in sorted((maker.folder / "kernel").rglob("*")):
        other = maker.folder / "ours" / path.relative_to(maker.folder / "kernel")
        assert path.is_dir() or path.read_bytes() == other.read_bytes()


def test_the_same_lock_gives_the_same_bytes(maker: BundleMaker, two_of_three: Root, tmp_path: Path) -> None:
    """At another place, with another umask, in another environment."""
    one = maker.write("one", two_of_three)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    before = os.umask(0o077)
    try:
        other = maker.write("deep/er/two", two_of_three)
    finally:
        os.umask(before)
    listing = (one / "trust/SHA256SUMS").read_bytes()
    assert listing == (other / "trust/SHA256SUMS").read_bytes()
    for path in [other, *other.rglob("*")]:
        assert stat.S_IMODE(path.lstat().st_mode) == (0o755 if path.is_dir() else 0o644)


def test_a_bundle_shares_no_file_with_the_store(maker: BundleMaker, two_of_three: Root) -> None:
    bundle = maker.write("bundle", two_of_three)
    for path in bundle.rglob("*"):
        assert path.is_dir() or path.stat().st_nlink == 1


def test_a_bundle_without_a_root(maker: BundleMaker) -> None:
    bundle = maker.write("bundle", None)
    assert sorted(path.name for path in (bundle / "trust").iterdir()) == ["SHA256SUMS"]


def test_an_existing_folder_is_left_alone(maker: BundleMaker, two_of_three: Root) -> None:
    (maker.folder / "bundle").mkdir()
    (maker.folder / "bundle" / "mine").write_text("x")
    with pytest.raises(Usage, match="exists"):
        maker.write("bundle", two_of_three)
    (maker.folder / "link").symlink_to(maker.folder / "nowhere")
    with pytest.raises(Usage, match="exists"):
        maker.write("link", two_of_three)
    assert left_over(maker) == ["bundle", "link"]
    with pytest.raises(Usage, match="not a folder"):
        maker.write("no/such/place", two_of_three)


def test_an_artefact_the_store_lacks(maker: BundleMaker, two_of_three: Root) -> None:
    lock = maker.lock()
    maker.store().path(lock.components["model"].artefacts[0].sha256).unlink()
    with pytest.raises(FileMissing, match="store"):
        maker.write("bundle", two_of_three, lock)
    assert left_over(maker) == []


@pytest.mark.parametrize("data", [b"WHEEL", b"whee", b"wheels", b""])
def test_an_artefact_that_differs_from_the_lock(
    data: bytes, maker: BundleMaker, two_of_three: Root
) -> None:
    lock = maker.lock(model(b"x"))
    path = maker.store().path(lock.components["engine"].artefacts[0].sha256)
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(DigestMismatch, match="damaged"):
        maker.write("bundle", two_of_three, lock)
    assert left_over(maker) == []


def test_a_disk_too_small_is_noticed_before_anything_is_written(
    maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "free_bytes", lambda _: 1 << 20)
    with pytest.raises(SpaceExhausted, match="too little room"):
        maker.write("bundle", two_of_three)
    assert left_over(maker) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_leaves_nothing_behind(
    code: int, maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(SpaceExhausted, match="full"):
        maker.write("bundle", two_of_three)
    assert left_over(maker) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("many", [4096, 1], ids=["threads", "processes"])
def test_a_really_full_disk(many: int, maker: BundleMaker, tmp_path: Path) -> None:
    """A file system of 1 MB, with the check beforehand switched off."""
    lock = maker.lock(model(os.urandom(2 << 20)))
    (tmp_path / "lock").write_text(lock.model_dump_json())
    script = """
import sys, os
from pathlib import Path
from appliance.bundle import payload, writer
from appliance.definition.lock import parse_lock
from appliance.errors import SpaceExhausted
from appliance.progress import Silent
from appliance.sources.store import Store
writer.free_bytes = lambda _: 1 << 40
payload.MANY = int(sys.argv[2])
base = Path(sys.argv[1])
try:
    writer.write_bundle(base / "small/bundle", parse_lock((base / "lock").read_text()),
                        Store(base / "store"), root=None, progress=Silent())
except SpaceExhausted as error:
    print(error.name, os.listdir(base / "small"))
"""
    (tmp_path / "small").mkdir()
    shell = 'mount -t tmpfs -o size=1m none "$1/small" && exec "$2" -c "$3" "$1" "$4"'
    command = ["unshare", "--mount", "sh", "-c", shell, "sh", str(tmp_path), sys.executable, script]
    command.append(str(many))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "SpaceExhausted []\n"


def test_an_interrupted_build_leaves_nothing_behind(
    maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "_write_root_files", interrupt)
    with pytest.raises(KeyboardInterrupt):
        maker.write("bundle", two_of_three)
    assert left_over(maker) == []


def test_a_bundle_gets_its_name_when_all_of_it_is_on_the_disk(
    maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait comes after the last write and before the name; what fails then leaves nothing."""
    partial = maker.folder / ".bundle.partial"
    lay_there = []

    def wait(fd: int) -> None:
        assert os.path.samestat(os.fstat(fd), partial.stat())
        lay_there.extend(str(path.relative_to(partial)) for path in partial.rglob("*") if path.is_file())
        assert not (maker.folder / "bundle").exists()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(writer, "sync_file_system", wait)
    with pytest.raises(OSError, match="Input/output error"):
        maker.write("bundle", two_of_three)
    assert left_over(maker) == []
    monkeypatch.undo()
    bundle = maker.write("bundle", two_of_three)
    assert sorted(lay_there) == sorted(str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file())


def test_waiting_for_a_file_system_is_real() -> None:
    """What the kernel answers is not lost: here, that the descriptor is none."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        durable.sync_file_system(-1)


def test_what_is_written_is_brought_to_the_disk_while_the_rest_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a descriptor of its own: the kernel tells each opened file of a failure once, and not again."""
    asked = threading.Event()
    folder = os.open(tmp_path, os.O_RDONLY)

    def fail(fd: int) -> None:
        assert os.path.samestat(os.fstat(fd), tmp_path.stat())
        assert fd != folder
        asked.set()
        raise OSError(errno.EIO, "told to the one who asked too early")

    monkeypatch.setattr(durable, "sync_file_system", fail)
    with durable.syncing_beside(folder):
        assert asked.wait(10)
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    with durable.syncing_beside(folder):
        pass
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before
    os.close(folder)


def test_what_a_killed_build_left_is_replaced(maker: BundleMaker, two_of_three: Root) -> None:
    partial = maker.folder / ".bundle.partial"
    (partial / "payload/engine").mkdir(parents=True)
    (partial / "payload/engine/evil.whl").write_bytes(b"x")
    (partial / "link").symlink_to("/etc")
    bundle = maker.sign(maker.write("bundle", two_of_three), "alice", "bob")
    verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert left_over(maker) == ["bundle"]


def test_two_builds_of_one_folder(maker: BundleMaker, two_of_three: Root) -> None:
    import fcntl

    partial = maker.folder / ".bundle.partial"
    partial.mkdir()
    other = os.open(partial, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(InProgress):
        maker.write("bundle", two_of_three)
    os.close(other)
    assert maker.write("bundle", two_of_three).is_dir()


def test_a_failed_copy_ends_the_others(maker: BundleMaker, tmp_path: Path) -> None:
    lock = maker.lock(model(BIG))
    artefact = lock.components["model"].artefacts[0]
    stop = threading.Event()
    stop.set()
    wanted = ListedFile(artefact.sha256, artefact.size)
    with (
        copying.Copier(slice_size=1 << 30, buffers=1, progress=Silent(), stop=stop) as copier,
        pytest.raises(copying.Stopped),
    ):
        copier.copy(maker.store().path(artefact.sha256), str(tmp_path / "copy"), wanted)


WRONG_LOCKS = {
    "version": {"version": "1 0"},
    "sequence": {"sequence": 2**60},
    "served file": {"inference": {"engine": "engine", "model": "model", "file": "none", "name": "demo"}},
    "served component": {
        "inference": {"engine": "none", "model": "model", "file": "tiny.gguf", "name": "demo"}
    },
}


@pytest.mark.parametrize("change", WRONG_LOCKS.values(), ids=WRONG_LOCKS)
def test_a_lock_no_bundle_can_hold(
    change: dict[str, object], maker: BundleMaker, two_of_three: Root
) -> None:
    from appliance.definition.lock import parse_lock

    values = maker.lock().model_dump(mode="json")
    with pytest.raises(LockInvalid):
        maker.write("bundle", two_of_three, parse_lock(json.dumps({**values, **change})))
    assert left_over(maker) == []


@pytest.mark.parametrize(
    "path", ["aux.gguf", "-x", "x.", "tiny.GGUF", "weights.slice-0000", "tiny.gguf/x", "GIT~1"]
)
def test_a_locked_path_no_medium_can_hold(path: str, maker: BundleMaker, two_of_three: Root) -> None:
    contents = {"engine": ENGINE, "model": ("tiny-gguf", {"tiny.gguf": b"x", path: b"y"})}
    with pytest.raises(LockInvalid):
        maker.write("bundle", two_of_three, maker.lock(contents))
    assert left_over(maker) == []


def test_an_absurd_size_is_refused_at_once(maker: BundleMaker) -> None:
    lock = maker.lock()
    component = lock.components["model"]
    artefact = component.artefacts[0].model_copy(update={"size": 2**53 - 1})
    huge = component.model_copy(update={"artefacts": (artefact,)})
    with pytest.raises(LockInvalid, match="slices"):
        maker.write(
            "bundle", None, lock.model_copy(update={"components": {**lock.components, "model": huge}})
        )


def test_a_malformed_root_is_refused_before_anything_is_written(maker: BundleMaker) -> None:
    with pytest.raises(RootInvalid):
        writer.write_bundle(
            maker.folder / "bundle", maker.lock(), maker.store(), root=b"{}", progress=Silent()
        )
    assert left_over(maker) == []


def test_a_slice_size_is_whole_blocks(maker: BundleMaker) -> None:
    with pytest.raises(ValueError, match="block size"):
        maker.write("bundle", None, slice_size=BLOCK_SIZE + 1)


def test_replacing_a_file_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    durable.replace_file(path, b"old")
    durable.replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SpaceExhausted):
        durable.replace_file(path, b"newer")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
