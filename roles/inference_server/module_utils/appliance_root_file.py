"""A text file of root's that everybody may read: compared, shown, and replaced whole.

For modules that make a file together with what depends on it, where a task of its own for the file
would be a round trip more.
"""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MODE = 0o644


@dataclass(frozen=True)
class RootFile:
    """A file as it shall be: regular, with this text in UTF-8, mode 0644, of whoever runs the module."""

    path: Path
    text: str

    @property
    def is_as_wanted(self) -> bool:
        """Whether text, kind, owner, group and mode are right; a link is not."""
        return self._found() == _wanted() and self.path.read_bytes() == self.text.encode()

    def difference(self) -> dict[str, str]:
        """The change as Ansible shows it; the headers tell owner, group and mode."""
        return {
            "before_header": f"{self.path} ({self._found()})",
            "after_header": f"{self.path} ({_wanted()})",
            "before": self.path.read_text("utf-8", "replace") if self.path.is_file() else "",
            "after": self.text,
        }

    def replace(self, check: Callable[[Path], None] = lambda _draft: None) -> None:
        """Put the file in place, its folder too; at no time is there half a file.

        Args:
            check: is given the draft and raises to refuse it; then the former file stays.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=".appliance-")
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.text.encode())
                os.fchmod(file.fileno(), MODE)
                file.flush()
                os.fsync(file.fileno())
            check(draft)
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)

    def _found(self) -> str:
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return "absent"
        return f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"


def _wanted() -> str:
    return f"{stat.filemode(stat.S_IFREG | MODE)} {os.geteuid()}:{os.getegid()}"
