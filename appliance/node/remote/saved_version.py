"""What one version runs by, and what roles set beside it: kept in a folder, and put back from it.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.

Kept are the files below ``FILES`` and those of ``policy_places``, which of our units were enabled and at
work, and which environments there were.  Putting back may be cut off anywhere and begun again: what was
found changed is written down before anything is put back (``begun.json``), so that the last pass starts
anew what the first one changed.  For that there is room when the disk is full: a file as large as what is
kept is removed first.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from appliance.node.remote.folders_back import make_folders, present_folders, remove_folders
from appliance.node.remote.lasting import copy, read, replace, same, sync, write
from appliance.node.remote.policy_places import OWN, SHARED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

UNITS = "etc/systemd/system"
KINDS = ("service", "timer", "socket", "path")
FILES = (
    *(f"{UNITS}/appliance-*.{kind}" for kind in KINDS),
    "etc/appliance/**",
    "usr/local/lib/appliance/audit.pyz",
    "usr/local/lib/appliance/gpu_*.py",
)
#: These and what roles set beside them; what is a package's too is never removed.
OURS = (*FILES, *OWN)
EVERY = (*OURS, *SHARED)
PROGRAMS = ("opt/appliance/inference/*", "opt/appliance/export/*")
FOLDERS = (*EVERY, *PROGRAMS)
#: The program that cuts GPUs, and makes them whole.
CUTTER = "usr/local/lib/appliance/gpu_partition.py"
#: Units of the two programs that undo, which belong to no version.
NOT_OURS = ("appliance-switch", "appliance-revert")
SERVES = frozenset({"active", "reloading"})
#: What systemd was to have at work, whether it had come to it or not.
WANTED = SERVES | {"activating", "failed"}
#: Bytes kept free beside what the files themselves take.
ROOM = 1 << 20


def unit_of(path: str) -> str:
    """The unit of ours whose file this is; nothing for settings, programs, and units of packages.

    Drop-ins to our units are no version's: our roles write none, and whoever did may have changed his mind
    since.
    """
    folder, name = os.path.split(path)
    return name if folder == UNITS and name.startswith("appliance-") else ""


def is_policy(path: str) -> bool:
    """Whether roles set this beside what our services run by."""
    return not any(fits(path, pattern) for pattern in FILES)


def fits(path: str, pattern: str) -> bool:
    """As ``glob`` reads our patterns, of which some end in ``/**``."""
    if pattern.endswith("/**"):
        return path.startswith(pattern[:-2])
    return os.path.dirname(path) == os.path.dirname(pattern) and fnmatch.fnmatchcase(path, pattern)


class Running:
    """What our services run by, below a root; ``control`` is systemctl."""

    def __init__(self, root: str, control: Callable[..., tuple[int, str]]) -> None:
        self.root, self.control = root, control

    def place(self, path: str) -> str:
        return os.path.join(self.root, path)

    def files(self, patterns: Iterable[str] = FILES) -> list[str]:
        """Files and links, relative to the root; without folders."""
        found = {path for each in patterns for path in glob.glob(each, root_dir=self.root, recursive=True)}
        return sorted(
            path
            for path in found
            if (os.path.isfile(self.place(path)) or os.path.islink(self.place(path)))
            and not unit_of(path).startswith(NOT_OURS)
        )

    def environments(self) -> list[str]:
        """Folders of programs, one for each version of each service, relative to the root."""
        return sorted(path for pattern in PROGRAMS for path in glob.glob(pattern, root_dir=self.root))

    def left_of(self, armed: dict[str, Any], folder: str) -> bool:
        """Whether something is there again of the version that was left: who goes back removes it.

        Each version has environments of its own; its units name its digest.  Roles' own files name none:
        if they are not what was put back from ``folder``, a run that was killed has set them since, as
        nobody else writes them.
        """
        if any(path not in armed["environments"] for path in self.environments()):
            return True
        if "policy" in armed and not self.is_policy_of(folder):
            return True
        digest = str(armed["record"].get("to", {}).get("digest", "")).encode()
        return bool(digest) and any(self.names(path, digest) for path in self.files())

    def is_policy_of(self, folder: str) -> bool:
        """Whether the files that are roles' alone are those that were kept there, and no more."""
        kept = os.path.join(folder, "files")
        there = Running(kept, self.control).files(OWN)
        return there == self.files(OWN) and all(
            same(os.path.join(kept, path), self.place(path)) for path in there
        )

    def names(self, path: str, digest: bytes) -> bool:
        if not os.path.isfile(self.place(path)):
            return False  # a link to nothing
        with open(self.place(path), "rb") as stream:
            return digest in stream.read()

    def states(self, files: Iterable[str]) -> dict[str, list[str]]:
        """Of the units that have files of their own: whether enabled, whether active, in its words."""
        names = sorted({unit for path in files if (unit := unit_of(path))})
        return {name: [self.control("is-enabled", name)[1], self.state(name)] for name in names}

    def state(self, name: str) -> str:
        return self.control("is-active", name)[1]

    def keep(self, folder: str) -> dict[str, Any]:
        """Copy the files into a new folder; what else is to be remembered."""
        os.makedirs(folder)
        files = self.files(EVERY)
        for path in files:
            kept = os.path.join(folder, "files", path)
            os.makedirs(os.path.dirname(kept), exist_ok=True)
            copy(self.place(path), kept)
        self.keep_room(folder)
        return self.remembered()

    def remembered(self) -> dict[str, Any]:
        """How our units are, and which environments and folders there are."""
        folders = present_folders(self.root, FOLDERS)
        return {
            "units": self.states(self.files()),
            "environments": self.environments(),
            "folders": folders,
        }

    def keep_room(self, folder: str) -> None:
        """Room for every file that is kept, once more."""
        files = Running(os.path.join(folder, "files"), self.control).files(EVERY)
        sizes = [os.lstat(os.path.join(folder, "files", path)).st_size + 4096 for path in files]
        reserve(folder, sum(sizes) + ROOM)

    def put_back(self, folder: str, armed: dict[str, Any], reason: str, *, starting: bool = False) -> None:
        """Files first, then units; ``begun.json`` in the folder says what does not run as it did."""
        place = os.path.join(folder, "begun.json")
        self.free_room(folder)
        kept = os.path.join(folder, "files")
        saved = {
            os.path.relpath(os.path.join(inner, name), kept)
            for inner, _, names in os.walk(kept)
            for name in names
        }
        before = read(place) or {"reason": reason, "changed": []}
        differs = {path for path in saved if not same(os.path.join(kept, path), self.place(path))}
        foreign = [path for path in self.files(OURS if "policy" in armed else FILES) if path not in saved]
        begun = {**before, "changed": sorted({*before.get("changed", ()), *differs, *foreign}), "ill": []}
        if begun != before:
            write(place, begun)  # from here on nobody confirms
        cut = self.make_whole() if CUTTER in foreign and not starting else []
        for path in foreign:
            self.drop(path, armed["units"], starting=starting)
        make_folders(self.root, armed.get("folders", {}))
        for path in sorted(differs):
            replace(os.path.join(kept, path), self.place(path))
        self.run_as_before(begun["changed"], armed["units"], starting=starting)
        if not starting and (ill := [*cut, *self.ill(armed["units"])]):
            write(place, {**begun, "ill": ill})
        for path in self.environments():
            if path not in armed["environments"]:  # nobody runs it now, and audits would ask whose it is
                shutil.rmtree(self.place(path), ignore_errors=True)
        if "folders" in armed:
            remove_folders(self.root, FOLDERS, armed["folders"])

    def make_whole(self) -> list[str]:
        """GPUs that only the newer version cut: who has them all would find the first slice; what is wrong.

        A restart of the node makes them whole by itself.
        """
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-B", self.place(CUTTER), "clear"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        return [f"the GPUs are not whole: {done.stderr.strip()[-300:]}"] if done.returncode else []

    def free_room(self, folder: str) -> None:
        """Nothing can be written on a full disk before that."""
        if os.path.lexists(room := os.path.join(folder, "room")):
            os.unlink(room)

    def drop(self, path: str, units: dict[str, list[str]], *, starting: bool) -> None:
        """Remove a file that was not there; of a unit that was not there nothing runs on."""
        unit = unit_of(path)
        if unit and unit not in units:
            if starting:
                self.control("disable", unit)
                self.control("stop", "--no-block", unit)
            else:
                self.control("disable", "--now", unit)
        elif not unit and os.path.dirname(path) == UNITS:  # /tmp, which stays mounted until the next start
            self.control("disable", os.path.basename(path))
        if os.path.lexists(self.place(path)):
            os.unlink(self.place(path))
            sync(os.path.dirname(self.place(path)))

    def run_as_before(self, changed: list[str], units: dict[str, list[str]], *, starting: bool) -> None:
        """Have units enabled and at work as they were, by files some of which were ``changed`` back.

        ``starting``: whoever waits for systemd now, systemd waits for; but what it is to start was settled
        before links were put back, so each job is queued, and not waited for.
        """
        self.control("daemon-reload")
        settings = any(not unit_of(path) and not is_policy(path) for path in changed)
        moved = {unit_of(path) for path in changed}
        for name, (enabled, active) in sorted(units.items()):
            if enabled in {"enabled", "disabled"} and self.control("is-enabled", name)[1] != enabled:
                self.control("enable" if enabled == "enabled" else "disable", name)
            if starting:
                if active in WANTED and enabled == "enabled":
                    self.control("start", "--no-block", name)
                elif enabled == "disabled" and active not in WANTED:
                    self.control("stop", "--no-block", name)
                continue
            now = self.state(name)
            if active not in WANTED:
                if now in WANTED:
                    self.control("stop", name)
            elif settings or name in moved or now not in SERVES:
                self.control("reset-failed", name)
                self.control("restart", *([] if active in SERVES else ["--no-block"]), name)

    def ill(self, units: dict[str, list[str]]) -> list[str]:
        """What is not as it was, in words."""
        found = []
        for name, (enabled, active) in sorted(units.items()):
            if active in SERVES and self.state(name) not in SERVES:
                found.append(f"{name} does not run")
            if enabled == "enabled" and self.control("is-enabled", name)[1] != enabled:
                found.append(f"{name} is not enabled")
        return found


def reserve(folder: str, size: int) -> None:
    """Bytes of the disk that nobody else gets meanwhile."""
    descriptor = os.open(os.path.join(folder, "room"), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)
