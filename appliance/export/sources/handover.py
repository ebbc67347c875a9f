"""A folder in which local programs put files for the export: one file is one record.

A program writes its file beside the folder, or under a name that begins with a dot or ends in ``.partial``,
and renames it when it is whole.  A file is removed once its record is on the spool's disk, and not before.
What was taken and not removed yet is in the position; so after a cut it is removed and not taken twice.
A file whose record is too long to leave is kept, under another name, and a tombstone says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import sync_folder
from appliance.export.payload import MAX_RECORD
from appliance.export.sources.source import MAX_TAKEN, TOO_LONG, Taken, as_record, tombstone
from appliance.trust.canonical import NotCanonicalError, parse_foreign

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Files that are on their way at once: all of them are named in the position.
_AT_ONCE: Final = 16
_PARTIAL: Final = ".partial"
#: A file that is too long for a record is left to whoever wrote it, under its name with this behind it.
KEPT: Final = ".too-long"
_FILE: Final = "_FILE"


class FolderSource:
    """The files of a folder, the oldest first.

    Args:
        name: the stream.
        folder: where; its files must be ours to remove.
        position: which files are in the spool already.
        select: what of a record may leave; None: all.  A record is too long by what is left of it.
        now: ms since 1970.
    """

    patient = True

    def __init__(
        self,
        name: str,
        folder: Path,
        position: str,
        *,
        select: Callable[[bytes], bytes] | None = None,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.name, self.ended, self.trouble = name, False, ""
        self._folder, self._select, self._now = folder, select, now
        #: By print, the files that were taken and are there still, and what becomes of them.
        self._taken: dict[str, tuple[str, bool]] = {}
        #: By print, those that cannot be removed, and why.
        self._stuck: dict[str, str] = {}
        self._known = position
        with contextlib.suppress(OSError):
            self._remove_known()

    def _remove_known(self) -> None:
        """Remove what is in the spool already, as the position says."""
        known = set(filter(None, self._known.split(",")))
        for name, status in self._files() if known else []:
            if (mark := _mark(name, status)) in known:
                keep = True  # what cannot be read any more may not have left
                with contextlib.suppress(OSError):
                    keep = self._record(name, status)[1]
                self._taken[mark] = (name, keep)
        position, self._known = self._known, ""
        self.settled(position)

    def fileno(self) -> int:
        return -1

    def read(self) -> list[Taken]:
        """Some files, unless those before them are on their way still; what cannot be read is said."""
        if self._taken:
            return []
        found, troubles = [], []
        try:
            if self._known:
                self._remove_known()
            files = self._files()
        except OSError as fault:
            self.trouble = f"{self._folder}: {fault.strerror}"
            return []
        there = {_mark(name, status): (name, status) for name, status in files}
        self._stuck = {mark: why for mark, why in self._stuck.items() if mark in there}
        for mark, (name, status) in there.items():
            if mark in self._stuck or len(self._taken) == _AT_ONCE:
                continue
            try:
                record, stated = self._record(name, status)
            except FileNotFoundError:
                continue
            except OSError as fault:
                troubles.append(f"{self._folder / name}: {fault.strerror}")
                continue
            self._taken[mark] = (name, stated)
            found.append(Taken(record, ",".join(self._taken), stated))
        self.trouble = next(iter([*troubles, *self._stuck.values()]), "")
        return found

    def _files(self) -> list[tuple[str, os.stat_result]]:
        """Regular files that are whole, by name, the oldest first.

        Raises:
            OSError: of the folder.
        """
        found = []
        with os.scandir(self._folder) as entries:
            for each in entries:
                if each.name.startswith(".") or each.name.endswith((_PARTIAL, KEPT)):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = each.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found.append((each.name, status))
        return sorted(found, key=lambda each: (each[1].st_mtime_ns, each[0]))

    def _record(self, name: str, status: os.stat_result) -> tuple[bytes, bool]:
        """The record of a file; and whether it is but a word on one that is too long."""
        fd = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            if status.st_size > MAX_TAKEN:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                return self._too_long(shown, status.st_size, digest), True
            data = file.read(MAX_TAKEN + 1)
        fields: dict[str, object] = {_FILE: shown}
        try:
            value = parse_foreign(data, limit=MAX_TAKEN)
            fields |= value if isinstance(value, dict) else {"value": value}
            fields[_FILE] = shown
            record = as_record(
                {"stream": self.name, "time": status.st_mtime_ns // 1_000_000, "fields": fields}
            )
        except (NotCanonicalError, ValueError, RecursionError):
            text = data.decode("utf-8", "backslashreplace")
            fields = {_FILE: shown, "text": text}
            record = as_record(
                {"stream": self.name, "time": status.st_mtime_ns // 1_000_000, "fields": fields}
            )
        if len(record if self._select is None else self._select(record)) > MAX_RECORD:
            return self._too_long(shown, status.st_size, hashlib.sha256(data).hexdigest()), True
        return record, False

    def _too_long(self, name: str, size: int, digest: str) -> bytes:
        return tombstone(self.name, TOO_LONG, self._now(), file=name, bytes=size, sha256=digest)

    def rest(self) -> list[Taken]:
        """Nothing: the folder keeps it."""
        return []

    def settled(self, position: str) -> None:
        """Remove the files whose records are on the spool's disk, for good before the next position."""
        removed = False
        for mark in position.split(","):
            if mark not in self._taken:
                continue
            name, keep = self._taken.pop(mark)
            path = self._folder / name
            try:
                if _mark(name, path.lstat()) != mark:
                    continue  # another file was put in its place, which is a record of its own
                if keep:
                    path.rename(self._kept_as(name))
                else:
                    path.unlink()
                removed = True
            except FileNotFoundError:
                continue
            except OSError as fault:
                self._stuck[mark] = self.trouble = f"{path}: {fault.strerror}"
        if removed:
            try:
                sync_folder(self._folder)
            except OSError as fault:
                self.trouble = f"{self._folder}: {fault.strerror}"

    def _kept_as(self, name: str) -> Path:
        """A name that no file kept before it has."""
        path, number = self._folder / (name + KEPT), 0
        while os.path.lexists(path):
            number += 1
            path = self._folder / f"{name}.{number}{KEPT}"
        return path

    def close(self) -> None:
        pass


def _mark(name: str, status: os.stat_result) -> str:
    what = f"{status.st_ino}:{status.st_mtime_ns}:{status.st_size}:{name}"
    return hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:24]
