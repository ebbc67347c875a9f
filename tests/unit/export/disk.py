"""The disk whose power can be cut (``tests.unit.node.power``), with what a log needs besides.

Of a file that was synced and appended to since, what was synced is kept, and of the rest anything.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

from appliance.export import segment_log, segments
from tests.unit.node.power import Disk, File, Folder, Power, leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

HOME = "/log"


@dataclass
class Appended(File):
    """A file that is only ever appended to, or cut."""

    def leftovers(self) -> list[bytes]:
        safe = self.safe or b""
        if not self.data.startswith(safe):  # cut, and the cut not synced: either length
            return [self.data, safe]
        tail = self.data[len(safe) :]
        half = len(tail) // 2
        torn = [b"", tail[:half], bytes(len(tail)), tail[:half] + bytes(len(tail) - half), tail]
        return [safe + each for each in dict.fromkeys(torn)]


class LogDisk(Disk):
    """A disk with one folder, ``/log``; ``room`` bytes fit into its files."""

    room = 1 << 40

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd = super().open(path, flags, mode, dir_fd=dir_fd)
        what = self.open_files[fd][0]
        if flags & os.O_CREAT and type(what) is File:
            folder, name = self._find(path, dir_fd)
            made = Appended(what.mode)
            folder.names[name] = folder.history[name][-1] = made
            self.open_files[fd] = (made, [0])
        return fd

    def listdir(self, fd: int) -> list[str]:
        return list(self.folder.names)

    @property
    def folder(self) -> Folder:
        found = self.root.names["log"]
        assert isinstance(found, Folder)
        return found

    def fstat(self, fd: int) -> os.stat_result:
        what = self.open_files[fd][0]
        size = len(what.data) if isinstance(what, File) else 0
        return os.stat_result((what.mode, 0, 0, 1, what.uid, 0, size, 0, 0, 0))

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        what = self.open_files[fd][0]
        assert isinstance(what, File)
        return what.data[offset : offset + size]

    def write(self, fd: int, data: memoryview) -> int:
        used = sum(len(each.data) for each in self.folder.names.values() if isinstance(each, File))
        if used >= self.room:
            raise OSError(28, "No space left on device")
        return super().write(fd, data[: min(len(data), self.room - used)])

    def fdatasync(self, fd: int) -> None:
        self.fsync(fd)

    def ftruncate(self, fd: int, size: int) -> None:
        what = self.open_files[fd][0]
        assert isinstance(what, File)
        self._change("ftruncate")
        what.data = what.data[:size]


def empty_disk(power: Power | None = None) -> LogDisk:
    return LogDisk(power or Power(), Folder(0o755, {"log": Folder(0o700)}))


def with_power(disk: LogDisk, power: Power) -> LogDisk:
    """The same disk as programs see it, without what was open, with this power from now on."""
    made = LogDisk(power, copy.deepcopy(disk.root))
    made.room = disk.room
    return made


def restarted(disk: LogDisk) -> Iterator[LogDisk]:
    """Every disk that may be found when the power is back."""
    for root in leftovers(disk.root):
        yield LogDisk(Power(), root)


def on_disk(monkeypatch: pytest.MonkeyPatch, disk: LogDisk) -> None:
    """Let logs be on this disk from now on."""
    for module in (segments, segment_log):
        monkeypatch.setattr(module, "os", disk)
    monkeypatch.setattr(segment_log, "fcntl", SimpleNamespace(flock=lambda *_: None, LOCK_EX=0, LOCK_NB=0))
