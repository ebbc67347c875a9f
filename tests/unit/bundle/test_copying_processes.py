"""Many short files are copied by processes: the same bundle, and the same promises."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import copying_processes, payload
from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.writer import write_bundle
from appliance.definition.lock import lock_text, read_lock_bytes
from appliance.errors import (
    DigestMismatch,
    FileMissing,
    Interrupted,
    PreflightFailed,
    SettingsInvalid,
    SpaceExhausted,
)
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.bundle.manifest import ListedFile
    from appliance.bundle.streams import Digests
    from appliance.definition.lock import Lock
    from appliance.sources.store import Store
    from tests.conftest import BundleMaker

LONG = os.urandom(BLOCK_SIZE + 5)
FILES = {f"d{number % 3}/f{number}": b"%d" % number * 1000 for number in range(11)}
CONTENTS = {
    "engine": ("python", {"engine-1.0-py3-none-any.whl": b"wheel"}),
    "extras": ("files", {**FILES, "empty": b"", "a/long": LONG, "z/block": bytes(BLOCK_SIZE)}),
    "model": ("tiny-gguf", {"tiny.gguf": b"GGUF"}),
}
COUNT = sum(len(files) for _, files in CONTENTS.values())
SIZE = sum(len(data) for _, files in CONTENTS.values() for data in files.values())


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take the few files of a test for many, in batches of two; notes the numbers of processes."""
    numbers: list[int] = []

    class Noted(copying_processes.CopyingProcesses):
        def __init__(self, *others: object) -> None:
            numbers.append(others[-1])  # type: ignore[arg-type]
            super().__init__(*others)  # type: ignore[arg-type]

    monkeypatch.setattr(payload, "MANY", 1)
    monkeypatch.setattr(copying_processes, "_BATCH", 2)
    monkeypatch.setattr(copying_processes, "CopyingProcesses", Noted)
    return numbers


class Heard(Silent):
    """Progress that remembers."""

    def __init__(self) -> None:
        self.items = self.bytes = 0
        self.phases: list[tuple[int, int | None]] = []
        self.at_end: tuple[int, int] | None = None

    def begin(self, phase: str, items: int, size: int | None = None) -> None:
        assert multiprocessing.active_children()  # showing progress may take a thread
        self.phases.append((items, size))

    def advance(self, count: int) -> None:
        self.bytes += count

    def item(self, name: str, count: int = 1) -> None:
        self.items += count

    def end(self) -> None:
        self.at_end = self.items, self.bytes


def write(maker: BundleMaker, name: str = "bundle", heard: Silent | None = None) -> Path:
    lock = maker.lock(CONTENTS)
    return write_bundle(maker.folder / name, lock, maker.store(), root=None, progress=heard or Silent())


def stored(maker: BundleMaker, path: str = "d1/f4") -> Path:
    """Where the store keeps one of the files."""
    [artefact] = [each for each in maker.lock(CONTENTS).components["extras"].artefacts if each.path == path]
    return maker.store().path(artefact.sha256)


def assert_nothing_is_left(maker: BundleMaker) -> None:
    assert sorted(path.name for path in maker.folder.iterdir() if path.name != "store") == []
    assert multiprocessing.active_children() == []


def as_text(lock: Lock) -> Lock:
    return read_lock_bytes(lock_text(lock).encode())


@pytest.mark.parametrize("kept", ["objects", "text"])
def test_the_bundle_is_the_same(
    kept: str, maker: BundleMaker, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = maker.lock(CONTENTS)
    if kept == "text":
        lock = as_text(lock)
    one = maker.write("processes", None, lock)
    assert asked == [len(os.sched_getaffinity(0))]
    monkeypatch.setattr(payload, "MANY", 1 << 60)
    other = maker.write("threads", None, lock)
    assert len(asked) == 1
    names = sorted(path.relative_to(one) for path in one.rglob("*"))
    assert names == sorted(path.relative_to(other) for path in other.rglob("*"))
    assert Path("blocks.bin") in names
    for name in names:
        assert (one / name).stat().st_mode == (other / name).stat().st_mode
        assert (one / name).is_dir() or (one / name).read_bytes() == (other / name).read_bytes()


def test_every_file_is_told_of_once_and_before_the_end(maker: BundleMaker) -> None:
    heard = Heard()
    write(maker, heard=heard)
    assert heard.phases == [(COUNT, SIZE)]
    assert heard.at_end == (heard.items, heard.bytes) == (COUNT, SIZE)
    assert multiprocessing.active_children() == []


def test_the_mode_does_not_depend_on_the_umask(maker: BundleMaker) -> None:
    before = os.umask(0o077)
    try:
        bundle = write(maker)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o7777 for path in bundle.rglob("*") if path.is_file()} == {0o644}


def damage(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))


def shorten(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (Path.unlink, FileMissing, "the store has no file"),
        (damage, DigestMismatch, "a file of the store is damaged"),
        (shorten, DigestMismatch, "a file of the store is damaged"),
    ],
)
def test_what_is_wrong_with_the_store_is_said_as_of_few_files(
    change: Callable[[Path], object],
    error: type[Exception],
    message: str,
    maker: BundleMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock, store = maker.lock(CONTENTS), maker.store()
    change(stored(maker))
    said = []
    for many in (1, 1 << 60):
        monkeypatch.setattr(payload, "MANY", many)
        with pytest.raises(error, match=message) as caught:
            write_bundle(maker.folder / "bundle", lock, store, root=None, progress=Silent())
        said.append([getattr(caught.value, name) for name in ("message", "found", "wanted", "hint")])
        assert_nothing_is_left(maker)
    assert said[0] == said[1]


def test_a_store_that_cannot_be_read(maker: BundleMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads everything, so that the system's refusal is played."""
    real, place = os.open, str(stored(maker))

    def refuse(path: str | Path, *others: int, **named: int) -> int:
        if str(path) == place:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, *others, **named)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SettingsInvalid, match="the store cannot be read"):
        write(maker)
    assert_nothing_is_left(maker)


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, SpaceExhausted), (errno.EDQUOT, SpaceExhausted), (errno.EROFS, PreflightFailed)],
)
def test_a_disk_that_cannot_be_written_to_leaves_nothing_behind(
    code: int, error: type[Exception], maker: BundleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(copying_processes, "write_block", full)
    with pytest.raises(error):
        write(maker)
    assert_nothing_is_left(maker)


def test_blocks_are_shared_where_the_file_system_shares_them(
    maker: BundleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is asked for; what is hashed then is what lies in the bundle (tests/node has real ones)."""
    heard, tell = os.pipe()

    def share(target: int, request: int, origin: int) -> int:
        assert request == 0x40049409  # FICLONE
        size = os.fstat(origin).st_size
        os.write(tell, b"x")
        return os.pwrite(target, os.pread(origin, size, 0), 0)

    monkeypatch.setattr(fcntl, "ioctl", share)
    monkeypatch.setattr(copying_processes, "write_block", None)
    bundle = write(maker)
    monkeypatch.undo()
    assert len(os.read(heard, 1000)) == COUNT - 1  # all but the long one
    for path, data in FILES.items():
        assert (bundle / "payload/extras" / path).read_bytes() == data
    os.close(heard)
    os.close(tell)


def test_what_was_shared_is_read_from_the_copy(maker: BundleMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def share_badly(target: int, _request: int, origin: int) -> None:
        os.pwrite(target, bytes(os.fstat(origin).st_size), 0)

    monkeypatch.setattr(fcntl, "ioctl", share_badly)
    with pytest.raises(DigestMismatch, match="is damaged"):
        write(maker)
    assert_nothing_is_left(maker)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.EINVAL])
def test_where_blocks_cannot_be_shared_they_are_copied(
    code: int, maker: BundleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    assert (write(maker) / "payload/extras/d1/f4").read_bytes() == FILES["d1/f4"]


def test_a_disk_that_is_full_when_blocks_are_shared(
    maker: BundleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fcntl, "ioctl", full)
    with pytest.raises(SpaceExhausted):
        write(maker)


def test_ctrl_c_leaves_nothing_behind(maker: BundleMaker) -> None:
    class Interrupt(Heard):
        def begin(self, phase: str, items: int, size: int | None = None) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        write(maker, heard=Interrupt())
    assert_nothing_is_left(maker)


def test_ctrl_c_is_not_for_the_processes(maker: BundleMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal sends it to all of them."""
    place = type(maker.store()).place

    def interrupted(store: Store, sha256: str) -> str:
        if multiprocessing.parent_process():
            signal.raise_signal(signal.SIGINT)
        return place(store, sha256)

    monkeypatch.setattr(type(maker.store()), "place", interrupted)
    assert write(maker).is_dir()


def test_a_process_that_is_killed_is_an_error(maker: BundleMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    place = type(maker.store()).place

    def killed(store: Store, sha256: str) -> str:
        if multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        return place(store, sha256)

    monkeypatch.setattr(type(maker.store()), "place", killed)
    with pytest.raises(Interrupted, match="a process of this program was ended"):
        write(maker)
    assert_nothing_is_left(maker)


def test_a_failure_ends_the_long_copies_too(maker: BundleMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that copies a long file gives it up at its next block."""
    lock, real = maker.lock(CONTENTS), payload.Copier.copy
    stored(maker).unlink()
    given_up = []

    def after_failure(copier: payload.Copier, source: Path, target: str, wanted: ListedFile) -> Digests:
        assert copier._stop.wait(30)
        try:
            return real(copier, source, target, wanted)
        except payload.Stopped:
            given_up.append(target)
            raise

    monkeypatch.setattr(payload.Copier, "copy", after_failure)
    with pytest.raises(FileMissing):
        write_bundle(maker.folder / "bundle", lock, maker.store(), root=None, progress=Silent())
    assert len(given_up) == 1
    assert given_up[0].endswith("payload/extras/a/long")


def test_a_program_with_threads_is_not_forked(maker: BundleMaker, asked: list[int]) -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        write(maker)
    finally:
        done.set()
        other.join()
    assert asked == []


KILLED = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from appliance.bundle import copying_processes, payload
from appliance.bundle.writer import write_bundle
from appliance.definition.lock import parse_lock
from appliance.progress import Silent
from appliance.sources.store import Store

class Asleep(Store):
    def place(self, sha256):
        time.sleep(60)

class Killed(Silent):
    def begin(self, *_):
        print(*(process.pid for process in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

payload.MANY = 1
base = Path(sys.argv[1])
write_bundle(base / "bundle", parse_lock((base / "lock").read_text()), Asleep(base / "store"),
             root=None, progress=Killed())
"""


def test_processes_end_with_the_one_they_work_for(maker: BundleMaker) -> None:
    (maker.folder / "lock").write_text(lock_text(maker.lock(CONTENTS)))
    command = [sys.executable, "-c", KILLED, maker.folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=50)
    assert done.returncode == -signal.SIGTERM
    processes = done.stdout.split()
    assert processes
    deadline = time.monotonic() + 20
    while running := [pid for pid in processes if Path("/proc", pid).exists()]:
        assert time.monotonic() < deadline, running
        time.sleep(0.05)
