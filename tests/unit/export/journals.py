"""Real journals: written by systemd-journal-remote, which needs no journald."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM: Final = "/lib/systemd/systemd-journal-remote"
_START: Final = 1_700_000_000_000_000


@dataclass
class Journal:
    """A folder with one journal."""

    folder: Path
    entries: int = 0

    def log(self, *messages: bytes) -> None:
        """Put these in, a millisecond after one another."""
        self.folder.mkdir(exist_ok=True)
        exported = b"".join(map(self._entry, messages))
        command = [_PROGRAM, f"--output={self.folder}/system.journal", "-"]
        subprocess.run(command, input=exported, check=True, capture_output=True)

    def _entry(self, message: bytes) -> bytes:
        self.entries += 1
        at = _START + self.entries * 1000
        size = len(message).to_bytes(8, "little")
        return (
            b"__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\nPRIORITY=6\nMESSAGE\n%s%s\n\n"
            % (at, at, b"a" * 32, size, message)
        )
