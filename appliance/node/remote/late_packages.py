"""Packages that count from the next start of the node on: which of those that changed do; their way back.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.

What runs of a kernel or of a driver's module is what was loaded.  A package is such a one if it brings a
kernel, a module, or the source of one that dkms builds (``LATE``), or if what it does as it is installed is
to ask for a restart (Debian Policy's /run/reboot-required).  Both are read from dpkg's own folder: they say
the same before and after a power cut, which forgets what stood below /run.

Back they go all together, from the node's copy of the bundle that was there before: the libraries of a
driver and its module are of one version.  What was not installed then is removed.
"""

from __future__ import annotations

import fcntl
import glob
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

INFO = "var/lib/dpkg/info"
LOCK = "var/lib/dpkg/lock-frontend"
LATE = re.compile(
    r"^(?:/usr)?/lib/modules/[^/]+/.+\.ko(?:\.(?:gz|xz|zst))?$"
    r"|^/boot/vmlinu[xz]-"
    r"|^/usr/src/[^/]+/dkms\.conf$",
    re.MULTILINE,
)
ASKS = re.compile(r"reboot-required")
#: Seconds for which another dpkg is waited for, and that one of ours may take: dkms builds a module in it.
PATIENCE, LONGEST = 120, 1800
ANSWERS = ("--force-confdef", "--force-confold")


def run(command: list[str]) -> tuple[int, str]:
    """Exit status, and what was written."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "DPKG_FRONTEND_LOCKED": "1"}
    environment |= {"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LONGEST,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        return 1, str(fault)
    return done.returncode, done.stdout


class Packages:
    """Those of the system below a root."""

    def __init__(self, root: str, run: Callable[[list[str]], tuple[int, str]] = run) -> None:
        self.root, self.run = root, run

    def present(self) -> dict[str, str]:
        """Versions by name, and in which state those are whose installation was cut off (``1.0 U``)."""
        columns = r"${db:Status-Abbrev}\t${binary:Package}\t${Version}\n"
        _, said = self.run(["dpkg-query", "--show", "--showformat", columns])
        rows = (line.split("\t") for line in said.splitlines() if line.count("\t") == columns.count(r"\t"))
        return {
            name: version if state[1] == "i" else f"{version} {state[1]}"
            for state, name, version in rows
            if state[1:2] not in {"n", "c"}
        }

    def changed(self, before: Mapping[str, str]) -> dict[str, str]:
        """The versions before, by name, of what has another one now; empty for what was not there."""
        now = self.present()
        return {
            name: before.get(name, "")
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        }

    def is_late(self, name: str) -> bool:
        """Whether what is installed of a package counts from the next start on."""
        files, script = self.info(name, "list"), self.info(name, "postinst")
        return bool(LATE.search(files) or ASKS.search(script))

    def info(self, name: str, kind: str) -> str:
        """One of dpkg's files about a package."""
        for each in (name, name.partition(":")[0]):
            try:
                path = os.path.join(self.root, INFO, f"{each}.{kind}")
                with open(path, encoding="utf-8", errors="replace") as stream:
                    return stream.read()
            except FileNotFoundError:
                continue
        return ""

    def late(self, before: Mapping[str, str]) -> list[str]:
        """The names of those that changed and count from the next start on."""
        return [name for name in self.changed(before) if self.is_late(name)]

    def go_back(self, before: Mapping[str, str], folder: str) -> list[str]:
        """Have the versions that there were; what is in the way of that, in words.

        Args:
            before: what was present.
            folder: the copy of a bundle, whose payload has the packages.
        """
        with open(os.path.join(self.root, LOCK), "a", encoding="ascii") as lock:
            until = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > until:
                        return [f"packages stay as they are: dpkg's lock was not free for {PATIENCE} s"]
                    time.sleep(1)
            return self.replace(before, folder)

    def replace(self, before: Mapping[str, str], folder: str) -> list[str]:
        """The same, with dpkg's lock at hand."""
        self.run(["dpkg", "--configure", "--pending", *ANSWERS])  # of whoever was cut off
        differs = self.changed(before)
        files, told = [], ""
        for name, version in differs.items():
            if version and (file := self.file(name, version.partition(" ")[0], folder)):
                files.append(file)
        if files:
            _, told = self.run(["dpkg", "--install", "--force-downgrade", *ANSWERS, *files])
        if new := [name for name, version in differs.items() if not version]:
            _, more = self.run(["dpkg", "--remove", *new])
            told += more
        return self.left(before, told)

    def file(self, name: str, version: str, folder: str) -> str:
        """The package's file in the copy; empty where there is none."""
        short = name.partition(":")[0]
        pattern = os.path.join(glob.escape(folder), "payload", "*", f"{glob.escape(short)}_*.deb")
        for path in sorted(glob.glob(pattern)):
            said = self.run(["dpkg-deb", "--show", "--showformat", r"${Package}\t${Version}", path])
            if said == (0, f"{short}\t{version}"):
                return path
        return ""

    def left(self, before: Mapping[str, str], told: str) -> list[str]:
        """What is not as it was; the last that dpkg said stands with it."""
        differs = self.changed(before)
        last = next((line.strip() for line in reversed(told.splitlines()) if line.strip()), "")
        why = f" ({last})" if last and differs else ""
        return [
            f"{name} is not at {version} again{why}" if version else f"{name} is still installed{why}"
            for name, version in differs.items()
        ]
