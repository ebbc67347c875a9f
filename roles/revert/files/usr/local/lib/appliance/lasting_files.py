"""Files that are on the disk when a function returns, and trees that are copied, compared and removed.

A node may lose its power between any two lines.  What is written here is whole under its name or not there;
what is renamed stays renamed.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Errors of a disk without room, of its own or of a quota.
FULL = {errno.ENOSPC, errno.EDQUOT}


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file whole."""
    draft = beside(path)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    rename(draft, path)


def rename(old: Path, new: Path) -> None:
    """Give a file or folder another name in its folder."""
    old.rename(new)
    settle(new.parent)


def settle(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle_tree(path: Path) -> None:
    """The same of everything below; not of all disks, as ``sync`` does: a model may be on its way there."""
    if path.is_symlink():
        return
    if path.is_dir():
        for child in path.iterdir():
            settle_tree(child)
    settle(path)


def beside(path: Path) -> Path:
    """Where the next version of a path is made ready.  No program reads names like this."""
    return path.with_name(f".{path.name}.appliance-revert")


def copy(source: Path, target: Path) -> None:
    """A file, link or tree with owners and modes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir()
        for child in sorted(source.iterdir()):
            copy(child, target / child.name)
    else:
        shutil.copyfile(source, target)
    status = source.lstat()
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not source.is_symlink():
        shutil.copystat(source, target)


def same(one: Path, other: Path) -> bool:
    """Whether two files, links or trees are the same in kind, content, owner and mode."""
    try:
        first, second = one.lstat(), other.lstat()
    except OSError:
        return False
    if (first.st_mode, first.st_uid, first.st_gid) != (second.st_mode, second.st_uid, second.st_gid):
        return False
    if stat.S_ISLNK(first.st_mode):
        return one.readlink() == other.readlink()
    if stat.S_ISDIR(first.st_mode):
        names, others = (sorted(child.name for child in each.iterdir()) for each in (one, other))
        return names == others and all(same(one / each, other / each) for each in names)
    return filecmp.cmp(one, other, shallow=False)


def put(source: Path, target: Path) -> None:
    """Make ``target`` what ``source`` is.

    On a full disk the new one gets the room of the one that it replaces.  That moment is the only one in
    which there is neither; whoever calls this again after a power cut gets there all the same.
    """
    if same(source, target):
        return
    draft = beside(target)
    remove(draft)
    try:
        copy(source, draft)
    except OSError as fault:
        if fault.errno not in FULL:
            raise
        remove(draft)
        remove(target)
        copy(source, draft)
    settle_tree(draft)
    if any(each.is_dir() and not each.is_symlink() for each in (draft, target)):
        remove(target)  # renaming replaces no folder
    rename(draft, target)


def remove(path: Path) -> None:
    """A file, link or tree that may be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
