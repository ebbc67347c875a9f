"""A disk and a TPM whose power can be cut before, in and after everything that is done to them.

The disk keeps what the worst of real ones may: of a file that was not synced anything (nothing, a part, the
right length with zeros, all), of a folder that was not synced any mixture of old and new names, each for
itself, so that changes are lost, kept and reordered.  What was synced is kept.  The TPM keeps what it did.
"""

from __future__ import annotations

import itertools
import os
import stat
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class PowerCut(BaseException):
    """The power went."""


@dataclass
class Power:
    """Counts the steps; goes before one of them, or ``half`` way through it where there is such a way."""

    goes_at: int | None = None
    half: bool = False
    steps: int = 0

    def step(self, *, divisible: bool = False) -> bool:
        """Before each change.  True: do half of it and call ``cut``."""
        self.steps += 1
        if self.goes_at is None or self.steps < self.goes_at:
            return False
        if self.steps == self.goes_at and self.half and divisible:
            return True
        raise PowerCut

    def cut(self) -> None:
        self.half = False
        raise PowerCut


@dataclass
class File:
    """``data`` as programs see it; ``safe`` as of the last sync, None before the first."""

    mode: int
    data: bytes = b""
    safe: bytes | None = None
    uid: int = 0

    def leftovers(self) -> list[bytes]:
        """What may be found after a cut."""
        if self.safe == self.data:
            return [self.data]
        half = len(self.data) // 2
        torn = [b"", self.data[:half], bytes(len(self.data)), self.data[:half] + bytes(half), self.data]
        return list(dict.fromkeys([*torn, *([] if self.safe is None else [self.safe])]))


@dataclass
class Folder:
    """``names`` as programs see them; ``history`` since the last sync, for each name that changed."""

    mode: int
    names: dict[str, File | Folder] = field(default_factory=dict)
    history: dict[str, list[File | Folder | None]] = field(default_factory=dict)
    uid: int = 0

    def put(self, name: str, what: File | Folder | None) -> None:
        self.history.setdefault(name, [self.names.get(name)]).append(what)
        if what is None:
            del self.names[name]
        else:
            self.names[name] = what

    def sync(self) -> None:
        self.history.clear()


class Disk:
    """The part of ``os`` that the journal uses, over folders in memory; the rest is the real one."""

    #: Names are put together as ever; installed.json is on none of these disks.
    path = SimpleNamespace(join=os.path.join, dirname=os.path.dirname, lexists=lambda _: False)

    def __init__(self, power: Power, root: Folder) -> None:
        self.power, self.root = power, root
        self.open_files: dict[int, tuple[File | Folder, list[int]]] = {}
        self.faults: dict[str, int] = {}
        self.user = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("O_", "st")):
            return getattr(os, name)
        raise AttributeError(name)

    def geteuid(self) -> int:
        return self.user

    def _change(self, name: str) -> bool:
        """Before each change of the disk: an error that the test wants, or the power goes."""
        if name in self.faults:
            raise OSError(self.faults[name], os.strerror(self.faults[name]))
        return self.power.step(divisible=name == "write")

    def _find(self, path: str, dir_fd: int | None) -> tuple[Folder, str]:
        folder = self.root if dir_fd is None else self.open_files[dir_fd][0]
        *parents, name = path.strip("/").split("/")
        for part in parents:
            folder = folder.names[part] if isinstance(folder, Folder) and part in folder.names else None
            if folder is None:
                raise FileNotFoundError(path)
        assert isinstance(folder, Folder)
        return folder, name

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        folder, name = self._find(path, dir_fd)
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            assert flags & os.O_NOFOLLOW
            self._change("create")
            if name in folder.names:
                raise FileExistsError(path)
            folder.put(name, File(mode))
        if name not in folder.names:
            raise FileNotFoundError(path)
        number = next(each for each in itertools.count(3) if each not in self.open_files)
        self.open_files[number] = (folder.names[name], [0])
        return number

    def close(self, fd: int) -> None:
        del self.open_files[fd]

    def fstat(self, fd: int) -> os.stat_result:
        what = self.open_files[fd][0]
        kind = stat.S_IFDIR if isinstance(what, Folder) else stat.S_IFREG
        return os.stat_result((kind | what.mode, 0, 0, 1, what.uid, 0, 0, 0, 0, 0))

    def read(self, fd: int, size: int) -> bytes:
        what, place = self.open_files[fd]
        assert isinstance(what, File)
        data = what.data[place[0] : place[0] + size]
        place[0] += len(data)
        return data

    def write(self, fd: int, data: memoryview) -> int:
        """Writes at most a kilobyte at once, as a disk may that is nearly full."""
        what, _ = self.open_files[fd]
        assert isinstance(what, File)
        piece = bytes(data[:1024])
        if self._change("write"):
            what.data += piece[: len(piece) // 2]
            self.power.cut()
        what.data += piece
        return len(piece)

    def fchmod(self, fd: int, mode: int) -> None:
        self._change("fchmod")
        self.open_files[fd][0].mode = mode

    def fsync(self, fd: int) -> None:
        what = self.open_files[fd][0]
        self._change("fsync" if isinstance(what, File) else "fsync-folder")
        if isinstance(what, File):
            what.safe = what.data
        else:
            what.sync()

    def rename(self, old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        assert src_dir_fd == dst_dir_fd
        folder = self.open_files[src_dir_fd][0]
        assert isinstance(folder, Folder)
        self._change("rename")
        folder.put(new, folder.names[old])
        folder.put(old, None)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        folder, name = self._find(name, dir_fd)
        if name not in folder.names:
            raise FileNotFoundError(name)
        self._change("unlink")
        folder.put(name, None)

    def mkdir(self, path: str, mode: int) -> None:
        folder, name = self._find(path, None)
        if name in folder.names:
            raise FileExistsError(path)
        self._change("mkdir")
        folder.put(name, Folder(mode))

    def makedirs(self, path: str, mode: int, *, exist_ok: bool) -> None:
        assert exist_ok
        folder, name = self._find(path, None)
        if name not in folder.names:
            self.mkdir(path, mode)

    def restarted(self) -> Iterator[Disk]:
        """Every disk that may be found when the power is back."""
        for root in leftovers(self.root):
            yield Disk(Power(), root)


def leftovers(folder: Folder) -> Iterator[Folder]:
    """Every folder that may be left of one."""
    names = list({**folder.names, **folder.history})
    choices: list[list[File | Folder | None]] = []
    for name in names:
        versions = folder.history.get(name, [folder.names.get(name)])
        found: list[File | Folder | None] = []
        for version in {id(each): each for each in versions}.values():
            if isinstance(version, File):
                found += [File(version.mode, data, data) for data in version.leftovers()]
            elif isinstance(version, Folder):
                found += leftovers(version)
            else:
                found.append(None)
        choices.append(found)
    for chosen in itertools.product(*choices):
        kept = {name: what for name, what in zip(names, chosen, strict=True) if what is not None}
        yield Folder(folder.mode, kept)


@dataclass
class Tpm:
    """What ``tpm_counter.TpmCounter`` does, step by step, in a TPM that forgets nothing."""

    power: Power
    defined: bool = False
    counter: int | None = None
    kept: bool = False
    trouble: str | None = None

    def look(self) -> dict[str, Any]:
        if self.trouble:
            return {"trouble": self.trouble}
        return {"value": self.counter, "kept": self.kept}

    def adopt(self) -> int:
        if not self.defined:
            self.power.step()
            self.defined = True
        return self.increment() if self.counter is None else self.counter

    def keep(self) -> None:
        if not self.kept:
            self.power.step()
            self.kept = True

    def increment(self) -> int:
        self.power.step()
        self.counter = 41 if self.counter is None else self.counter + 1
        return self.counter
