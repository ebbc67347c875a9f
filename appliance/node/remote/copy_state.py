"""What is wrong with the staged copy of a bundle: each file beside the digest that was signed.

Runs on the node's own Python (3.10 or later, standard library only).  Reads; changes nothing.

Weights take long to read.  So a file whose size, times and inode number are still those of the mark that
was written when the copy was whole is believed, unless ``recheck`` is asked for; the mark's own digest is
told, and whoever asks knows what it was.  Whether the list itself is the signed one is judged by whoever
asks, too.
"""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from appliance.node.remote.file_state import digest
from appliance.node.remote.staged_copy import BESIDE, LISTS, RECOVERY

LIST_PATHS = [path for path, _, _ in LISTS]
LIST = LIST_PATHS[0]
MANIFEST = "manifest.json"
NOTHING = "not there"


class Copy:
    """The copy of one bundle below ``home``."""

    def __init__(self, home: str, bundle: str) -> None:
        self.folder = os.path.join(home, "staged", bundle)
        self.mark = f"{self.folder}.complete"
        self.hashed: list[str] = []  # what was read, and not believed for its mark

    def state(self, recheck: bool) -> dict[str, Any]:
        """``{list, mark, files, wrong: {path: [found, wanted]}}``; no digest of what is not there."""
        if not os.path.isdir(self.folder):
            return {"list": None, "mark": None, "files": 0, "wrong": {}}
        wanted, unreadable = self.wanted()
        marked = self.marked()
        for path in self.without():
            if path.startswith(RECOVERY) and not os.path.lexists(os.path.join(self.folder, path)):
                wanted.pop(path, None)

        def look(path: str) -> list[str] | None:
            return self.judge(path, wanted[path], marked.get(path), recheck)

        wrong = {**self.touched(wanted, marked), **self.foreign(wanted, marked), **unreadable}
        with ThreadPoolExecutor(4) as pool:
            judged = zip(wanted, pool.map(look, wanted), strict=True)
            wrong.update({path: found for path, found in judged if found})
        return {
            "list": known(os.path.join(self.folder, LIST)),
            "mark": known(self.mark),
            "files": len(wanted),
            "wrong": wrong,
        }

    def marked(self) -> dict[str, Any]:
        """What the mark remembers of each file."""
        try:
            return dict(self.said()["files"])
        except (KeyError, TypeError, ValueError):
            return {}

    def without(self) -> list[str]:
        """What was left out when the copy was made of an older one and a patch."""
        found = self.said().get("without", [])
        return [path for path in found if isinstance(path, str)] if isinstance(found, list) else []

    def said(self) -> dict[str, Any]:
        """All that the mark says; nothing where it cannot be read."""
        try:
            with open(self.mark, encoding="utf-8") as stream:
                found = json.load(stream)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def wanted(self) -> tuple[dict[str, str], dict[str, list[str]]]:
        """SHA-256 by path, by list and manifest; and what is wrong with these themselves."""
        place = os.path.join(self.folder, MANIFEST)
        signed = ""
        try:
            with open(os.path.join(self.folder, LIST), encoding="utf-8") as stream:
                for line in stream:
                    value, _, path = line.rstrip("\n").partition("  ")
                    signed = value if path == MANIFEST else signed
            found = digest(place)
            if found != signed:
                return {}, {MANIFEST: [f"SHA-256 {found}", f"SHA-256 {signed}, as the list says"]}
            with open(place, encoding="utf-8") as stream:
                manifest = json.load(stream)
            files = [
                *manifest["files"],
                *(each for one in manifest["components"].values() for each in one["files"]),
            ]
            return {MANIFEST: signed, **{each["path"]: each["sha256"] for each in files}}, {}
        except (OSError, ValueError, KeyError, TypeError) as fault:
            return {}, {MANIFEST: [f"cannot be read ({type(fault).__name__})", "the signed manifest"]}

    def judge(self, path: str, wanted: str, mark: Any, recheck: bool) -> list[str] | None:
        """What a listed file is, and should be; None where nothing is wrong."""
        place = os.path.join(self.folder, path)
        try:
            status = os.lstat(place)
        except OSError:
            return [NOTHING, f"SHA-256 {wanted}"]
        if not stat.S_ISREG(status.st_mode):
            return ["no plain file", f"SHA-256 {wanted}"]
        if recheck or mark != fingerprint(status):
            self.hashed.append(path)
            if (found := digest(place)) != wanted:
                return [f"SHA-256 {found}", f"SHA-256 {wanted}"]
        return locked(status)

    def touched(self, wanted: dict[str, str], marked: dict[str, Any]) -> dict[str, list[str]]:
        """Folders that can be written to; and what no list names (signatures) and is not as it was."""
        wrong = {}
        for folder, _, _ in os.walk(self.folder):
            if found := locked(os.lstat(folder)):
                wrong[os.path.relpath(folder, self.folder)] = found
        for path in marked.keys() - wanted.keys() - {LIST}:
            place = os.path.join(self.folder, path)
            if not os.path.lexists(place):
                wrong[path] = [NOTHING, "as it was staged"]
            elif fingerprint(os.lstat(place)) != marked[path]:
                wrong[path] = ["written or touched since", "as it was staged"]
        return wrong

    def foreign(self, wanted: dict[str, str], marked: dict[str, Any]) -> dict[str, list[str]]:
        """What nobody staged.  Signatures are in no list; without a mark nobody knows which there were."""
        wrong = {}
        for folder, _, leaves in os.walk(self.folder):
            for leaf in leaves:
                path = os.path.relpath(os.path.join(folder, leaf), self.folder)
                beside = path == LIST or (not marked and (BESIDE.fullmatch(path) or path in LIST_PATHS))
                if path not in wanted and path not in marked and not beside:
                    wrong[path] = ["there", NOTHING]
        return wrong


def known(path: str) -> str | None:
    """SHA-256 of what is there."""
    return digest(path) if os.path.isfile(path) else None


def locked(status: os.stat_result) -> list[str] | None:
    """What is wrong with mode and owner, if anything is."""
    if status.st_mode & 0o222:
        return [f"mode {stat.S_IMODE(status.st_mode):04o}", "nobody may write"]
    if status.st_uid:
        return [f"owner {status.st_uid}", "owner 0"]
    return None


def fingerprint(status: os.stat_result) -> list[int]:
    """As the mark has it (``staged_copy``)."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
