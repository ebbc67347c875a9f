"""Places that a volume is mounted at: what is mounted there, what lies there, and that nothing gets there.

What is written to a place while its volume is closed would lie in the open, and be hidden when the volume
is mounted.  So a place that holds something is refused, and one that is empty is made immutable below the
mount (FS_IMMUTABLE_FL, ioctl_iflags(2)): until the volume is mounted, nobody writes there, root included.
"""

from __future__ import annotations

import array
import fcntl
import os
from pathlib import Path

#: linux/fs.h: _IOR('f', 1, long), _IOW('f', 2, long), and the flag.
GET_FLAGS, SET_FLAGS, IMMUTABLE = 0x80086601, 0x40086602, 0x10
MOUNTS = Path("/proc/self/mountinfo")
#: What every new ext4 has, and is nobody's data.
NOBODYS = frozenset({"lost+found"})

#: By place: what is mounted there, and which part of it.
Mounts = dict[str, tuple[str, str]]


class Refused(Exception):
    """Something stands against it.

    Attributes:
        name: stays, for programs.
    """

    def __init__(self, name: str, says: str) -> None:
        super().__init__(says)
        self.name = name


def read_mounts(table: Path = MOUNTS) -> Mounts:
    """What is mounted, the last at each place: proc_pid_mountinfo(5)."""
    found = {}
    for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields, _, after = line.partition(" - ")
        root, place = fields.split(" ")[3:5]
        found[place] = (after.split(" ")[1], root)
    return found


def refuse_place(place: str) -> None:
    """Raise where something would be hidden, or no folder is.

    Raises:
        Refused: hidden-data, or no-folder.
    """
    path = Path(place)
    for each in (path, *path.parents):
        if each.is_symlink() or (each.exists() and not each.is_dir()):
            raise Refused("no-folder", f"{each} is a link or a file, and {place} shall be a folder")
    there = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if data := [name for name in there if name not in NOBODYS]:
        raise Refused(
            "hidden-data",
            f"{place} holds {', '.join(data[:5])}{' and more' if data[5:] else ''}, which the volume would "
            "hide; nothing was changed: move it away, mount the volume, and move it back onto it",
        )


def hold_empty(place: str) -> None:
    """Have an empty folder below a mount that nothing can be written to, where its file system has that."""
    path = Path(place)
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(descriptor, GET_FLAGS, flags)
        flags[0] |= IMMUTABLE
        fcntl.ioctl(descriptor, SET_FLAGS, flags)
    except OSError:
        return  # a file system without flags; the mount alone keeps the place
    finally:
        os.close(descriptor)


def make_folder(volume: str, place: str) -> None:
    """The folder of a volume that is mounted at a place, with the owner and mode that the place has."""
    folder = Path(volume + place)
    if folder.is_dir():
        return
    like = Path(place)
    folder.mkdir(mode=0o755, parents=True)
    if like.is_dir():
        status = like.stat()
        os.chown(folder, status.st_uid, status.st_gid)
        folder.chmod(status.st_mode & 0o7777)
