"""What lies where, and in which state: every file of every folder given, hashed once.

What the system remembers of a file is dropped first, so that it is the medium's bytes that are hashed.
They are then remembered: par2, which reads them after us, need not fetch them a second time.
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import sync_file_system
from appliance.bundle.presence import require_answers
from appliance.errors import DigestMismatch, FileMissing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet
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

    ``number`` is the volume's, None for a folder that holds everything, or of which nothing tells it.
    ``here`` are the files of a share that lie there, in whatever state.
    """

    volume: Volume
    number: int | None
    whole: bool
    here: AbstractSet[str]

    @property
    def folder(self) -> Path:
        return self.volume.folder


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that belongs at ``path`` of a place.

    ``name`` is its path in the bundle: another one for second copies, which lie under ``spare/``.
    ``leftover`` says that it does not belong there, but may serve to mend the one that does.
    """

    place: Place
    path: str
    name: str
    file: ListedFile
    leftover: bool = False


@dataclass
class Survey:
    """What was found: the state of everything wanted, and where a sound copy of each file lies.

    ``damaged`` are the copies that are not sound, leftovers among them.
    """

    states: dict[Wanted, str] = field(default_factory=dict)
    sound: dict[str, Path] = field(default_factory=dict)
    damaged: dict[str, list[Wanted]] = field(default_factory=dict)


def survey(wanted: Iterable[Wanted], progress: Progress) -> Survey:
    """Hash everything that is wanted, on all cores.

    A file that cannot be read is damaged.  A link, device or folder in a file's place is no damage but
    somebody's doing, and refused.

    Raises:
        FileUnexpected: something else than a plain file lies where a file belongs.
        MediumFailed: a medium was pulled: that is no damage, however much looks so.
    """
    every = sorted(wanted, key=lambda each: -each.file.size)
    _bring_to_media({each.place for each in every})
    stop = threading.Event()
    result = Survey()
    progress.begin("read", len(every), sum(each.file.size for each in every))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            states = pool.map(lambda each: _state(each, progress, stop), every)
            found = dict(zip(every, states, strict=True))
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            progress.end()
    wrong = {each.place for each in every if found[each] != SOUND}
    require_answers([place.volume.tree for place in wrong])
    for each, state in found.items():
        if not each.leftover:
            result.states[each] = state
        if state == SOUND:
            result.sound.setdefault(each.name, each.place.folder / each.path)
        elif state == DAMAGED:
            result.damaged.setdefault(each.name, []).append(each)
    return result


def _bring_to_media(places: Iterable[Place]) -> None:
    """Wait until what was just written to a medium is there: only then can it be forgotten."""
    for place in places:
        fd = os.open(place.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # What cannot be brought there is not there, and that is what will be found.
            with suppress(OSError):
                sync_file_system(fd)
        finally:
            os.close(fd)


def _state(wanted: Wanted, progress: Progress, stop: threading.Event) -> str:
    digest, size = hashlib.sha256(), 0
    try:
        with wanted.place.volume.tree.open(wanted.path) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
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
