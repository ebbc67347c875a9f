"""What lies where, and in which state: every file of every folder given, hashed once."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.errors import DigestMismatch, FileMissing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from appliance.bundle.manifest import ListedFile
    from appliance.bundle.volume import Volume
    from appliance.progress import Progress

SOUND: Final = "sound"
DAMAGED: Final = "damaged"
MISSING: Final = "missing"

_BUFFER: Final = 256 << 10
_REPORT: Final = 16 << 20


@dataclass(frozen=True, eq=False)
class Place:
    """A folder that holds a bundle or a part of it.

    ``number`` is the volume's, None for a folder that holds everything, or whose label is lost.
    """

    volume: Volume
    number: int | None
    whole: bool

    @property
    def folder(self) -> Path:
        return self.volume.folder


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that belongs at ``path`` of a place.

    ``name`` is its path in the bundle: another one for second copies, which lie under ``spare/``.
    """

    place: Place
    path: str
    name: str
    file: ListedFile


@dataclass
class Survey:
    """What was found: the state of everything wanted, and where a sound copy of each file lies."""

    states: dict[Wanted, str] = field(default_factory=dict)
    sound: dict[str, Path] = field(default_factory=dict)
    damaged: dict[str, list[Wanted]] = field(default_factory=dict)


def survey(wanted: Iterable[Wanted], progress: Progress) -> Survey:
    """Hash everything that is wanted, on all cores.

    A file that cannot be read is damaged.  A link, device or folder in a file's place is no damage but
    somebody's doing, and refused.

    Raises:
        FileUnexpected: something else than a plain file lies where a file belongs.
    """
    every = sorted(wanted, key=lambda each: -each.file.size)
    stop = threading.Event()
    result = Survey()
    progress.begin("read", len(every), sum(each.file.size for each in every))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            states = pool.map(lambda each: _state(each, progress, stop), every)
            result.states = dict(zip(every, states, strict=True))
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            progress.end()
    for each, state in result.states.items():
        if state == SOUND:
            result.sound.setdefault(each.name, each.place.folder / each.path)
        elif state == DAMAGED:
            result.damaged.setdefault(each.name, []).append(each)
    return result


def _state(wanted: Wanted, progress: Progress, stop: threading.Event) -> str:
    digest, size = hashlib.sha256(), 0
    try:
        with wanted.place.volume.tree.open(wanted.path) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            buffer = memoryview(bytearray(_BUFFER))
            told = 0
            while count := os.readv(fd, [buffer]):
                digest.update(buffer[:count])
                size += count
                if size - told >= _REPORT:
                    progress.advance(size - told)
                    told = size
                if size > wanted.file.size or stop.is_set():
                    break
            progress.advance(size - told)
    except FileMissing:
        return MISSING
    except (DigestMismatch, OSError):
        return DAMAGED
    progress.item(wanted.path)
    return SOUND if (digest.hexdigest(), size) == (wanted.file.sha256, wanted.file.size) else DAMAGED
