"""Keeps the copies and environments of two versions, the new one and the one before; the rest goes.

Runs on the node's own Python (3.10 or later, standard library only), once the new version is proven.

→ {"home": …, "environments": …, "bundle": the new one}
← {"kept": [digest…], "removed": [digest or path…]}

Copies may share files by hard links, whose times of change move when another name of them goes.  Of what
was as its copy's mark says just before, the mark is told the new times.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from typing import Any

from appliance.node.remote.staged_copy import Copy, fingerprint, unlink

NAME = re.compile("[0-9a-f]{64}")
SHORT = 12


def main() -> None:
    """One question, one answer."""
    asked: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    kept = keep(asked["home"], asked["bundle"])
    staged = os.path.join(asked["home"], "staged")
    with open(os.path.join(staged, ".lock"), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a receiver may be at work for another station
        removed = prune(staged, kept)
    for kind in ("inference", "export"):
        folder = os.path.join(asked["environments"], kind)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if not any(digest.startswith(name) for digest in kept) and len(name) == SHORT:
                unlink(os.path.join(folder, name))
                removed.append(os.path.join(folder, name))
    print(json.dumps({"kept": kept, "removed": removed}))


def keep(home: str, bundle: str) -> list[str]:
    """The new version, and the one that ran before it."""
    try:
        with open(os.path.join(home, "installed.json"), encoding="utf-8") as stream:
            said = json.load(stream)
    except (OSError, ValueError):
        said = {}
    before = said.get("digest") if said.get("digest") != bundle else said.get("previous")
    return [bundle, *([before] if isinstance(before, str) and before else [])]


def prune(home: str, kept: list[str]) -> list[str]:
    """Remove all other copies; the marks of those that stay are right again, if they were before."""
    names = sorted({name[:64] for name in os.listdir(home) if NAME.match(name)})
    copies = [Copy(home, name, []) for name in names if name in kept]
    settled = [(copy, sound(copy)) for copy in copies]
    gone = [name for name in names if name not in kept]
    for name in gone:
        copy = Copy(home, name, [])
        unlink(copy.mark)  # first: a copy that is being removed is none
        unlink(copy.incoming)
        if os.path.isdir(copy.folder):
            copy.loosen()
            unlink(copy.folder)
    for copy, paths in settled:
        remember(copy, paths)
    return gone


def sound(copy: Copy) -> list[str]:
    """The paths of what is as the mark says; of what has several names, but for its time of change."""
    found = []
    for path, mark in copy.known().items():
        place = os.path.join(copy.folder, path)
        now = fingerprint(place)
        linked = now is not None and os.lstat(place).st_nlink > 1
        if now == mark or (linked and now and mark and now[:2] + now[3:] == mark[:2] + mark[3:]):
            found.append(path)
    return found


def remember(copy: Copy, paths: list[str]) -> None:
    """Put what these files are now into the mark."""
    if not os.path.exists(copy.mark):
        return
    with open(copy.mark, encoding="utf-8") as stream:
        said = json.load(stream)
    now = {path: fingerprint(os.path.join(copy.folder, path)) for path in paths}
    if all(said["files"].get(path) == each for path, each in now.items()):
        return
    said["files"].update(now)
    beside = copy.mark + ".new"
    with open(beside, "w", encoding="utf-8") as stream:
        json.dump(said, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(beside, copy.mark)


if __name__ == "__main__":
    main()
