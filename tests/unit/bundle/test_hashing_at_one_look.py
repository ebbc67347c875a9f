"""A short file that was settled before it was read needs one look; others are looked at closely."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import hashing_processes
from appliance.bundle.listing import parse_listing
from appliance.bundle.lists import Lists
from appliance.bundle.opening import open_tree

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = "payload/engine/engine-1.0-py3-none-any.whl"
SHA256 = hashlib.sha256(b"wheel").hexdigest()
LATER = 10**18
NOW_AND_THEN = 2  # looks at a file that is looked at closely: before, and after


@pytest.fixture
def size_if_right(bundle: Path) -> Callable[..., int | None]:
    """What a process says of the wheel."""

    def ask(sha256: str = SHA256, settled: int | None = None, path: str = PATH) -> int | None:
        with open_tree(bundle) as tree:
            listed = parse_listing((bundle / "trust/SHA256SUMS").read_bytes())
            batches = hashing_processes._Batches(Lists(listed), ())
            worker = hashing_processes._Worker(tree, batches, lambda: False)
            found = worker.size_if_right(path, (sha256,), settled or time.time_ns() + LATER)
            worker.close()
        return found

    return ask


def test_a_right_file_is_accepted(size_if_right: Callable[..., int | None]) -> None:
    assert size_if_right() == len(b"wheel")
    assert size_if_right(hashlib.sha256(b"").hexdigest(), path="payload/extras/empty") == 0


def test_another_digest_is_not_judged(size_if_right: Callable[..., int | None]) -> None:
    assert size_if_right("0" * 64) is None


def test_a_file_that_was_changed_lately_is_not_judged(
    bundle: Path, size_if_right: Callable[..., int | None]
) -> None:
    found = (bundle / PATH).stat()
    last = max(found.st_mtime_ns, found.st_ctime_ns)
    assert size_if_right(settled=last + 1) == len(b"wheel")
    assert size_if_right(settled=last) is None
    os.utime(bundle / PATH, ns=(0, 0))  # which only the time of the last change of all tells
    assert size_if_right(settled=last + 1) is None
    os.utime(bundle / PATH, ns=(last + LATER, last + LATER))
    assert size_if_right(settled=last + LATER) is None


def test_a_file_written_to_while_it_is_read_is_not_judged(
    bundle: Path, size_if_right: Callable[..., int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = time.time_ns()
    os.utime(bundle / PATH, ns=(0, 0))
    real = os.readv

    def read_then_write(fd: int, buffers: list[memoryview]) -> int:
        count = real(fd, buffers)
        (bundle / PATH).write_bytes(b"wheel")
        return count

    monkeypatch.setattr(os, "readv", read_then_write)
    assert size_if_right(settled=settled) is None


def test_a_longer_file_is_not_judged(
    size_if_right: Callable[..., int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing_processes, "_SHORTEST", 4)
    assert size_if_right() is None
    assert size_if_right(hashlib.sha256(b"whee").hexdigest()) is None


def _link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a link": _link,
    "a second name": lambda path: path.with_name("other").hardlink_to(path),
    "special permissions": lambda path: path.chmod(0o4644),
    "taken away": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "no folder": lambda path: path.parent.rename(path.parent.with_name("elsewhere")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_no_plain_file_is_not_judged(
    change: Callable[[Path], object], bundle: Path, size_if_right: Callable[..., int | None]
) -> None:
    descriptors = os.listdir("/proc/self/fd")  # noqa: PTH208 - counting names
    change(bundle / PATH)
    assert size_if_right() is None
    assert os.listdir("/proc/self/fd") == descriptors  # noqa: PTH208 - counting names


@pytest.mark.parametrize(("settled", "looks"), [(True, 1), (False, 1 + NOW_AND_THEN)])
def test_settled_files_are_looked_at_once(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, *, settled: bool, looks: int
) -> None:
    monkeypatch.setattr(hashing_processes, "_SETTLED", -LATER if settled else LATER)
    listed = parse_listing((bundle / "trust/SHA256SUMS").read_bytes())
    seen: list[int] = []
    real = os.fstat

    def note(fd: int) -> os.stat_result:
        found = real(fd)
        if Path(f"/proc/self/fd/{fd}").readlink().name == Path(PATH).name:
            seen.append(fd)
        return found

    with open_tree(bundle) as tree:
        batches = hashing_processes._Batches(Lists(listed), ())
        worker = hashing_processes._Worker(tree, batches, lambda: False)
        monkeypatch.setattr(os, "fstat", note)
        sizes, faults = worker.check(0)
        worker.close()
    assert len(seen) == looks
    assert sizes[listed.paths.index(PATH)] == len(b"wheel")
    assert faults == []
