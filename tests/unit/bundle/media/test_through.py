"""Writing past the page cache: the same bytes whatever the file system makes of it, and not in memory."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.media.through import BlockWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = os.urandom(2 * BLOCK_SIZE + 5000)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    yield fd
    os.close(fd)


def aligned(data: bytes) -> memoryview:
    memory = mmap.mmap(-1, BLOCK_SIZE)
    memory[: len(data)] = data
    return memoryview(memory)[: len(data)]


def write(fd: int, data: bytes = DATA) -> bool:
    """Write all blocks as a copy does; whether the last one still went past the cache."""
    with BlockWriter(fd, len(data)) as writer:
        for start in range(0, len(data), BLOCK_SIZE):
            block = aligned(data[start : start + BLOCK_SIZE])
            (writer.write if len(block) == BLOCK_SIZE else writer.leave)(block, start)
        return writer.is_direct


def in_memory(fd: int) -> int:
    """Bytes of a file that are in the page cache: those that can be read without waiting (RWF_NOWAIT)."""
    size, found = os.fstat(fd).st_size, 0
    page = bytearray(mmap.PAGESIZE)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read ahead by looking
    for start in range(0, size, mmap.PAGESIZE):
        try:
            found += os.preadv(fd, [page], start, os.RWF_NOWAIT)
        except BlockingIOError:
            continue
    return found


def test_whole_blocks_go_past_the_cache_and_the_rest_is_left_there(file: int) -> None:
    assert write(file)
    assert 5000 <= in_memory(file) < BLOCK_SIZE  # the kernel may keep a page around it, rarely
    os.fsync(file)
    assert os.pread(file, len(DATA), 0) == DATA


def test_a_block_in_the_middle_is_written_alone(file: int) -> None:
    write(file)
    with BlockWriter(file, len(DATA)) as writer:
        writer.write(aligned(bytes(BLOCK_SIZE)), BLOCK_SIZE)
    assert os.pread(file, len(DATA), 0) == DATA[:BLOCK_SIZE] + bytes(BLOCK_SIZE) + DATA[2 * BLOCK_SIZE :]


def test_a_small_file_is_not_opened_twice(file: int) -> None:
    with BlockWriter(file, BLOCK_SIZE - 1) as writer:
        assert not writer.is_direct


def test_a_file_system_that_refuses_when_it_comes_to_writing(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the flag and does not keep to it: then by way of the cache, and not asked a second time."""
    real, refused = os.pwrite, []

    def pwrite(fd: int, block: memoryview, offset: int) -> int:
        if fd != file:
            refused.append(offset)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, block, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert not write(file)
    assert refused == [0]
    assert os.pread(file, len(DATA), 0) == DATA


def test_a_write_that_stops_half_way_is_gone_on_with(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, block, at: real(fd, block[: max(1, len(block) // 2)], at))
    write(file, DATA[:BLOCK_SIZE])
    assert os.pread(file, len(DATA), 0) == DATA[:BLOCK_SIZE]


def test_what_a_medium_says_is_not_lost(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(OSError, match="Input/output error"):
        write(file)
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with pytest.raises(OSError, match="No space left"):
        write(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_file_system_without_it(tmp_path: Path) -> None:
    """One that lies in memory only, without the flag (ramfs)."""
    script = """
import os, sys
from tests.unit.bundle.media.test_through import DATA, write
fd = os.open(sys.argv[1] + "/x", os.O_RDWR | os.O_CREAT)
print(write(fd), os.pread(fd, len(DATA), 0) == DATA)
"""
    shell = 'mount -t ramfs none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "sh", "-c", shell, "sh", str(tmp_path), sys.executable, script]
    modules = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=modules)
    assert done.stdout == "False True\n", done.stderr
