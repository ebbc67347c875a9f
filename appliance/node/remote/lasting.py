"""Files that are the old one or the new one after a power cut, whatever the moment.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from typing import Any

#: Capabilities and access lists (capabilities(7), acl(5)).
RIGHTS = ("security.capability", "system.posix_acl_access")


def read(path: str) -> dict[str, Any] | None:
    """A JSON object; None when there is none that can be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write(path: str, content: str | dict[str, Any], mode: int = 0o600) -> None:
    """Replace a file in one step."""
    text = content if isinstance(content, str) else json.dumps(content)
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    rename(f"{path}.new", path)


def replace(source: str, place: str) -> None:
    """Put a copy of a file or link in the place of another one, in one step, with owner and mode."""
    beside = os.path.join(os.path.dirname(place), f".{os.path.basename(place)}.back")
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.lexists(beside):  # of a call that was cut off
        os.unlink(beside)
    copy(source, beside)
    os.utime(beside, follow_symlinks=False)  # systemd looks at times to see that a unit is another one
    rename(beside, place)


def copy(source: str, place: str) -> None:
    """Copy a file or link with owner, mode, rights and times; its bytes are on the disk afterwards."""
    shutil.copyfile(source, place, follow_symlinks=False)
    status = os.lstat(source)
    os.chown(place, status.st_uid, status.st_gid, follow_symlinks=False)
    shutil.copystat(source, place, follow_symlinks=False)  # now: a change of owner takes rights away
    if not os.path.islink(place):
        sync(place)


def rename(source: str, place: str) -> None:
    """Give a file or folder another name, for good."""
    os.rename(source, place)
    sync(os.path.dirname(place))


def sync(path: str) -> None:
    """Have the bytes of a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def same(one: str, other: str) -> bool:
    """Whether two files or links are the same in bytes, owner, mode, rights; what is not there never is."""
    try:
        states = [os.lstat(path) for path in (one, other)]
        if len({(each.st_mode, each.st_uid, each.st_gid) for each in states}) > 1:
            return False
        if stat.S_ISLNK(states[0].st_mode):
            return os.readlink(one) == os.readlink(other)
        if rights(one) != rights(other):
            return False
        with open(one, "rb") as first, open(other, "rb") as second:
            return first.read() == second.read()
    except OSError:
        return False


def rights(path: str) -> dict[str, bytes]:
    """What gives a file rights beside its mode, or takes them away; none where the disk knows no such."""
    try:
        names = [name for name in os.listxattr(path) if name in RIGHTS]
    except OSError:
        return {}
    return {name: os.getxattr(path, name) for name in names}
