"""Keeps the copies and environments of two versions, the new one and the one before; the rest goes.

Runs on the node's own Python (3.10 or later, standard library only), once the new version is proven, or
once the node went back from it.

→ {"home": …, "environments": …, "bundle": the new one, "back"?: whether the node went back from it}
← {"kept": [digest…], "removed": [digest or path…], "refused"?: why nothing was removed}

A copy that is newer than the new version was staged for later, and what is still being received is another
station's: both stay.  Of versions that the node went back from the last one stays, to be tried again; those
before it go, since nothing newer may ever be proven here.  Marks stay as they are then: an audit compares
that of what is installed.

Copies may share files by hard links, whose times of change move when another name comes or goes.  Of what
was as its copy's mark says just before, the mark is told the new times; or as the mark of a copy that
shares the file says, which was written when the link was made.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from typing import Any

from appliance.node.remote.history_log import read_lines
from appliance.node.remote.staged_copy import Copy, fingerprint, unlink

NAME = re.compile("[0-9a-f]{64}")
SHORT = 12
INSTALLED = "installed.json"


def main() -> None:
    """One question, one answer."""
    asked: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    home, back = asked["home"], asked.get("back", False)
    try:
        kept = keep(home, asked["bundle"], back)
    except (OSError, ValueError, AttributeError) as fault:
        print(json.dumps({"kept": [], "removed": [], "refused": f"{INSTALLED} cannot be read: {fault}"}))
        return
    staged = os.path.join(home, "staged")
    with open(os.path.join(staged, ".lock"), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a receiver may be at work for another station
        removed = prune(staged, kept, went_back(home) if back else None)
    for kind in () if back else ("inference", "export"):  # those of a version that went back are gone
        folder = os.path.join(asked["environments"], kind)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if not any(digest.startswith(name) for digest in kept) and len(name) == SHORT:
                unlink(os.path.join(folder, name))
                removed.append(os.path.join(folder, name))
    print(json.dumps({"kept": kept, "removed": removed}))


def keep(home: str, bundle: str, back: bool) -> list[str]:
    """The new version, and the one that ran before it; by a record that can be read.

    After a way back: the version that was left, what is installed, and what was before that.
    """
    with open(os.path.join(home, INSTALLED), encoding="utf-8") as stream:
        said = json.load(stream)
    if back:
        found = [bundle, said.get("digest"), said.get("previous")]
        return [each for each in found if isinstance(each, str) and each]
    before = said.get("digest") if said.get("digest") != bundle else said.get("previous")
    return [bundle, *([before] if isinstance(before, str) and before else [])]


def went_back(home: str) -> set[str]:
    """Digests of the versions that the node went back from, by its history."""
    lines = read_lines(os.path.join(home, "history.jsonl"))
    left = [line.get("to") for line in lines if str(line.get("result")).startswith("went back")]
    return {str(each.get("digest")) for each in left if isinstance(each, dict)}


def prune(home: str, kept: list[str], left: set[str] | None = None) -> list[str]:
    """Remove all other copies that are older; marks of those that stay are right again, if they were.

    ``left``: remove these instead, and touch no mark.
    """
    names = sorted({name[:64] for name in os.listdir(home) if NAME.match(name)})
    copies = [Copy(home, name, []) for name in names if name in kept]
    linked = {tuple(mark) for name in names for mark in Copy(home, name, []).known().values() if mark}
    settled = [(copy, sound(copy, linked)) for copy in copies]
    newest = sequence(home, kept[0])
    others = [name for name in names if name not in kept]
    gone = [name for name in others if (is_older(home, name, newest) if left is None else name in left)]
    for name in gone:
        copy = Copy(home, name, [])
        unlink(copy.mark)  # first: a copy that is being removed is none
        unlink(copy.incoming)
        if os.path.isdir(copy.folder):
            copy.loosen()
            unlink(copy.folder)
    for copy, paths in settled if left is None else ():
        remember(copy, paths)
    return gone


def sequence(home: str, name: str) -> int | None:
    """The sequence of a copy, by its manifest."""
    try:
        with open(os.path.join(home, name, "manifest.json"), encoding="utf-8") as stream:
            return int(json.load(stream)["sequence"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_older(home: str, name: str, newest: int | None) -> bool:
    """Whether a copy is older; what does not say so is, unless somebody is sending it."""
    found = sequence(home, name)
    if found is None or newest is None:
        return not os.path.exists(os.path.join(home, name + ".incoming"))
    return found < newest


def sound(copy: Copy, linked: set[tuple[int, ...]]) -> list[str]:
    """The paths of what is as the mark says, or as another copy's mark says of the same file."""
    found = []
    for path, mark in copy.known().items():
        place = os.path.join(copy.folder, path)
        now = fingerprint(place)
        if now and mark and (now == mark or (tuple(now) in linked and now[3] == mark[3])):
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
