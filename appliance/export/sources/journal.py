"""The systemd journal, read by ``journalctl``, which follows it for us.

Why a program and no library: docs/decisions/0057.  It is started at the last cursor *inclusive*, and its
first entry must be the one of that cursor: if it is another one, the journal was rotated away or vacuumed
meanwhile, and a tombstone says how many entries that cost, as far as their numbers tell.  The same goes for
numbers that are passed over later.  A journal that nobody reads takes no more room than journald allows it,
and journald waits for nobody; so it is patient.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final

from appliance.errors import ToolMissing
from appliance.export.sources.journal_cursor import cursor_in, entry_of, furthest, passed_over
from appliance.export.sources.lines import Lines
from appliance.export.sources.source import JOURNAL, LOST, MAX_TAKEN, TOO_LONG, Taken, tombstone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from appliance.export.sources.lines import Line

_PIECE: Final = 256 << 10
_PIPE: Final = 1 << 20
#: Seconds before the program is started once more after it ended.
_AGAIN: Final = 5.0
_PATIENCE: Final = 5.0


class JournalSource:
    """All entries of a journal, in journald's order.

    Args:
        position: the cursor of the last entry that is in the spool; empty: from the beginning.
        directory: of the journal; None: this machine's.
        now: ms since 1970.

    Raises:
        ToolMissing: there is no journalctl.
    """

    name = JOURNAL
    patient = True

    def __init__(
        self,
        position: str,
        *,
        directory: Path | None = None,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        program = shutil.which("journalctl")
        if program is None:
            raise ToolMissing("there is no journalctl", hint="leave out --journal, or install systemd")
        self.ended = False
        self.trouble = ""
        self._command = [program, "--output=json", "--all", "--follow", "--no-tail", "--no-pager"]
        self._command += ["--directory", str(directory)] if directory is not None else []
        self._now = now
        self._cursor = self._reach = position
        self._lines = Lines(MAX_TAKEN)
        self._nameless = 0
        self._process: subprocess.Popen[bytes] | None = None
        # A pipe of our own, so that what is waited for stays the same when the program is started again.
        self._read_end, self._write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        fcntl.fcntl(self._write_end, fcntl.F_SETPIPE_SZ, _PIPE)
        self._start()

    def _start(self) -> None:
        self._lines.end()
        self._nameless = 0
        #: Whether the next entry must be that of the cursor.
        self._expected = bool(self._cursor)
        self._again = time.monotonic() + _AGAIN
        place: Sequence[str] = ["--cursor", self._cursor] if self._cursor else []
        self._process = subprocess.Popen(
            [*self._command, *place], stdin=subprocess.DEVNULL, stdout=self._write_end
        )

    def fileno(self) -> int:
        return self._read_end

    def read(self) -> list[Taken]:
        """Entries as journalctl prints them, and tombstones for those that are missing between them."""
        try:
            piece = os.read(self._read_end, _PIECE)
        except BlockingIOError:
            self._revive()
            return []
        self.trouble = ""
        return [taken for line in self._lines.feed(piece) for taken in self._entry(line)]

    def _revive(self) -> None:
        """Nothing is there to be read: start the program once more if that is because it ended."""
        if self._process is None or self._process.poll() is None:
            return
        self.trouble = f"journalctl ended with {self._process.returncode}"
        if time.monotonic() >= self._again:
            self._start()

    def _entry(self, line: Line) -> list[Taken]:
        found = []
        cursor = cursor_in(line.data)
        if not cursor:  # it stands behind what was kept of the line
            self._nameless += 1
            return [self._whole(line, "")]
        if self._expected:
            self._expected = False
            if entry_of(cursor) == entry_of(self._cursor):
                return []  # the one that the spool has
            found.append(self._lost(passed_over(self._cursor, cursor), cursor))
        elif (missing := (passed_over(self._reach, cursor) or 0) - self._nameless) > 0:
            found.append(self._lost(missing, cursor))
        self._cursor, self._nameless = cursor, 0
        # Entries of several files may come in another order than they are counted in.
        self._reach = furthest(self._reach, cursor)
        return [*found, self._whole(line, cursor)]

    def _whole(self, line: Line, cursor: str) -> Taken:
        """The record of a line; of one that is too long to be taken, a word."""
        if line.size == len(line.data):
            return Taken(line.data, cursor)
        words = tombstone(self.name, TOO_LONG, self._now(), bytes=line.size)
        return Taken(words, cursor, stated=True)

    def _lost(self, count: int | None, cursor: str) -> Taken:
        """The word on entries between the last one and this; its position is the last one's still."""
        words = tombstone(self.name, LOST, self._now(), count=count, after=self._cursor, before=cursor)
        return Taken(words, stated=True)

    def rest(self) -> list[Taken]:
        """Nothing: journald keeps it."""
        return []

    def settled(self, position: str) -> None:
        """Nothing: journald keeps what it keeps."""

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        os.close(self._read_end)
        os.close(self._write_end)
