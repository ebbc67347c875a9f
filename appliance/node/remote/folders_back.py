"""Folders in which versions and roles keep files: those that a newer one made go again, others come back.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.

A folder that is not empty stays, whoever made it: somebody uses it; and so does one that a package brought.
"""

from __future__ import annotations

import glob
import os
import stat
from typing import TYPE_CHECKING

from appliance.node.remote.lasting import sync

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: What dpkg says of the files and folders of each package.
DPKG = "var/lib/dpkg/info/*.list"
#: Folders that are ours alone, with all below them: of others a package decides how they are.
OURS = ("etc/appliance", "usr/local/lib/appliance")


def present_folders(root: str, patterns: Iterable[str]) -> dict[str, list[int]]:
    """Mode, user and group of each folder that files of these patterns lie in, by path below the root."""
    found = {}
    for path in sorted({above for pattern in patterns for above in _folders(root, pattern)}):
        status = os.lstat(os.path.join(root, path))
        if stat.S_ISDIR(status.st_mode):
            found[path] = [stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid]
    return found


def make_folders(root: str, before: Mapping[str, list[int]]) -> None:
    """Have those that are ours, or gone, as they were."""
    now = present_folders(root, [os.path.join(path, "*") for path in before])
    for path in sorted(before):
        mode, user, group = before[path]
        place = os.path.join(root, path)
        if now.get(path) == before[path] or (os.path.lexists(place) and not _is_ours(path)):
            continue
        if not os.path.lexists(place):
            os.mkdir(place, mode)
        os.chown(place, user, group)
        os.chmod(place, mode)
        sync(os.path.dirname(place))


def remove_folders(root: str, patterns: Iterable[str], before: Mapping[str, list[int]]) -> None:
    """Remove those that were not there and are empty, the innermost first; not those of a package."""
    new = sorted(present_folders(root, patterns).keys() - before.keys(), reverse=True)
    packages = _of_packages(root, new) if new else set()
    for path in new:
        place = os.path.join(root, path)
        if path in packages:
            continue
        try:
            os.rmdir(place)
        except OSError:  # somebody has put something into it
            continue
        sync(os.path.dirname(place))


def _of_packages(root: str, paths: Iterable[str]) -> set[str]:
    """Those that dpkg has put there: a role that finds none takes its program for absent."""
    wanted, found = {f"/{path}".encode(): path for path in paths}, set[str]()
    for place in glob.glob(os.path.join(glob.escape(root), DPKG)):
        with open(place, "rb") as stream:
            found |= {wanted[line] for line in stream.read().split(b"\n") if line in wanted}
    return found


def _is_ours(path: str) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in OURS)


def _folders(root: str, pattern: str) -> set[str]:
    """The folders above what a pattern finds, and all below it where it ends in ``/**``."""
    found = set()
    fixed = os.path.dirname(pattern)
    if pattern.endswith("/**"):
        found = {path.rstrip("/") for path in glob.glob(f"{pattern}/", root_dir=root, recursive=True)}
    while fixed:
        found.add(fixed)
        fixed = os.path.dirname(fixed)
    return {path for path in found if os.path.lexists(os.path.join(root, path))}
