"""The copy of a bundle that is made of the copy of another one, on the disk of its node.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``receive``.

A file that the other copy has with the same bytes is shared, not copied: by a reflink where the file system
has them, else by a hard link (both copies are read-only, and stay).  It counts for what its mark or its
digest says of it, as in any copy.  A link changes the time of change of the file it leads to, so that the
other copy's mark no longer fits and its files are hashed by whoever asks next; ``keep_copies`` puts that
right once the new version is proven.

Of a file that changed, the station says part after part where its bytes come from (``Parts``); what comes
from the other copy is shared too, block by block, where it lies as far into a block in both.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

from appliance.node.remote.staged_copy import (
    CHUNK,
    Copy,
    Refused,
    fingerprint,
    is_right,
    read_all,
    sync_folder,
    unlink,
    write_all,
)

if TYPE_CHECKING:
    from collections.abc import Callable

#: ioctl_ficlone(2)
FICLONE = 0x40049409
#: What file systems share is whole blocks, of this size nearly everywhere; where it is another, they copy.
SHARED = 4096
#: So much of a stretch is shared at once: each time costs a file system about what writing 1 MiB does.
AHEAD = 64 << 20
#: What kernels and file systems say when they will not copy between two files themselves.
CANNOT = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM})


class PatchedCopy(Copy):
    """A copy beside that of ``base``."""

    def __init__(self, home: str, begin: dict[str, Any], files: list[dict[str, Any]]) -> None:
        super().__init__(home, begin["digest"], files, begin.get("without", ()))
        self.base = os.path.join(home, begin["base"])
        self.marked = {} if begin["recheck"] else Copy(home, begin["base"], []).known()

    def base_place(self, path: str) -> str:
        """Where a file of the other copy lies; it may not lead out of it."""
        if "" in (parts := path.split("/")) or "." in parts or ".." in parts:
            raise Refused("failed", text="a path leaves the bundle: " + path)
        return os.path.join(self.base, path)

    def has(self, file: dict[str, Any]) -> bool:
        """Whether a file lies in its place; one that the other copy has is put there."""
        if super().has(file):
            return True
        if not file["same"]:
            return False
        source, place = self.base_place(file["same"]), self.place(file)
        beside = os.path.join(self.incoming, f"{file['index']}.shared")
        for folder in (self.incoming, os.path.dirname(place)):
            os.makedirs(folder, exist_ok=True)
        unlink(beside)
        before = fingerprint(source)
        if before is None or not (reflink(source, beside) or hard_link(source, beside)):
            return False
        untouched = before == self.marked.get(file["same"]) and same_since(before, source, beside)
        if not untouched and not is_right(beside, file):
            unlink(beside)
            return False
        unlink(place)
        os.rename(beside, place)
        return True


def same_since(before: list[int], source: str, made: str) -> bool:
    """Whether what was shared is what was looked at before: nobody replaced it or wrote to it meanwhile."""
    after, found = fingerprint(source), fingerprint(made)
    if after is None or found is None:
        return False
    if found[3] == before[3]:  # one file with two names, and the second one changed its time of change
        return all(each[:2] + each[3:] == before[:2] + before[3:] for each in (after, found))
    return after == before


def reflink(source: str, place: str) -> bool:
    """Whether ``place`` was made of the blocks of ``source``, at once and in no room."""
    with open(source, "rb") as old, open(place, "xb") as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
        except OSError:
            os.unlink(place)
            return False
        before = os.fstat(old.fileno())
        os.utime(new.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
        os.fchmod(new.fileno(), 0o444)
        os.fsync(new.fileno())
    return True


def hard_link(source: str, place: str) -> bool:
    """Whether ``place`` is another name of ``source`` now, or a copy if that has all it may have."""
    try:
        os.link(source, place, follow_symlinks=False)
    except OSError as fault:
        if fault.errno != errno.EMLINK:
            return False
        shutil.copyfile(source, place, follow_symlinks=False)
        os.chmod(place, 0o444)
        sync_folder(place)
    return True


class Parts:
    """The bytes of one file, told part after part.

    A part is ``{"new": n}`` and n bytes, or ``{"copy": [path, at, n]}``, a stretch of a file of the base.

    Args:
        copy: whose base is copied from.
        read_frame: the station's next message.
        read_into: fills a buffer with what the station sends next.
    """

    def __init__(
        self,
        copy: PatchedCopy,
        read_frame: Callable[[], dict[str, Any]],
        read_into: Callable[[memoryview], None],
    ) -> None:
        self.copy, self.read_frame, self.read_into = copy, read_frame, read_into
        self.left = 0
        self.by_kernel = True
        self.there = 0  # up to here the kernel has put the bytes of this stretch into the part
        self.source = -1
        self.path = ""
        self.at = 0

    def fill(self, data: memoryview, part: int, position: int) -> None:
        """The file's next bytes: into its part, from a position on, and into ``data``."""
        while data:
            if not self.left:
                self.next_part()
            piece = data[: min(self.left, len(data), CHUNK)]
            if self.source < 0:
                self.read_into(piece)
                write_all(part, piece, position)
            else:
                self.from_base(piece, part, position)
            self.left -= len(piece)
            position += len(piece)
            data = data[len(piece) :]
            if not self.left:  # now: of the last part of a file, nothing more is asked
                self.close()

    def next_part(self) -> None:
        self.close()
        self.there = 0
        frame = self.read_frame()
        if "new" in frame:
            self.left = frame["new"]
            return
        self.path, self.at, self.left = frame["copy"]
        try:
            place = self.copy.base_place(self.path)
            self.source = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as fault:
            raise Refused("base", path=self.path, found=os.strerror(fault.errno or 0)) from None
        if not stat.S_ISREG(os.fstat(self.source).st_mode):
            self.close()
            raise Refused("base", path=self.path, found="no plain file")

    def from_base(self, data: memoryview, part: int, position: int) -> None:
        """Bytes of the other copy: what is told of them afterwards is what lies in the part."""
        done = 0
        while done < len(data):
            rest, here = data[done:], position + done
            if here >= self.there:
                self.there = here + self.copied(part, here, min(AHEAD, self.left - done))
            if here < self.there:
                rest = rest[: self.there - here]
                read_all(part, rest, here)
            elif found := os.pread(self.source, len(rest), self.at):
                rest = rest[: len(found)]
                rest[:] = found
                write_all(part, rest, here)
            else:
                raise Refused("base", path=self.path, found=f"it ends at {self.at}")
            done, self.at = done + len(rest), self.at + len(rest)

    def copied(self, part: int, position: int, most: int) -> int:
        """How many bytes the kernel copied, or shared where the file system can; none if it will not.

        Files share whole blocks, so what lies before the first is copied apart; of what lies behind the
        last the kernel knows.
        """
        if not self.by_kernel:
            return 0
        if self.at % SHARED == position % SHARED and (before := -position % SHARED):
            most = min(most, before)
        try:
            return os.copy_file_range(self.source, part, most, self.at, position)
        except OSError as fault:
            if fault.errno not in CANNOT:
                raise
            self.by_kernel = False
            return 0

    def close(self) -> None:
        if self.source >= 0:
            os.close(self.source)
        self.source = -1
