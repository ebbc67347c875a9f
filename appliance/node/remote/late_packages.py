"""Packages that count from the next start of the node on: which of those that changed do; their way back.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.

What runs of a kernel or of a driver's module is what was loaded.  A package is such a one if it brings a
kernel, a module, or the source of one that dkms builds (``LATE``), or if what it does as it is installed is
to ask for a restart (Debian Policy's /run/reboot-required).  Both are read from dpkg's own folder: they say
the same before and after a power cut, which forgets what stood below /run.

Back they go all together, from the node's copy of the bundle that was there before: the libraries of a
driver and its module are of one version.  What was not installed then is removed.  A file that moved from
one package to another, or a conflict, can let one of them go back only once the other has: so it is done
in passes, for as long as each one brings something back.  They go back too where dpkg was cut off at any of
them: half of a library is worse than an older one.
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
#: How dpkg begins what it says of one package that failed; the reason is on the next line.
FAILED = "dpkg: error processing "
#: What dpkg says when it leaves a file of what it installs to a package that is there and ``Replaces`` it.
KEPT = re.compile(
    r"^Unpacking (\S+) .*\n(?:Replac.*\n)*?Replaced by files in installed package ", re.MULTILINE
)


class DpkgError(Exception):
    """Nobody can say which packages there are, or change them."""


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
        #: Those that count, if not all do: what others install meanwhile is theirs.
        self.ours: list[str] | None = None

    def present(self) -> dict[str, str]:
        """Versions by name, and in which state those are whose installation was cut off (``1.0 U``).

        Raises:
            DpkgError: dpkg does not say; nothing of what it said would be all.
        """
        columns = r"${db:Status-Abbrev}\t${binary:Package}\t${Version}\n"
        status, said = self.run(["dpkg-query", "--show", "--showformat", columns])
        if status:
            raise DpkgError(f"dpkg-query ended with {status}: {reason(said)}")
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
            if before.get(name) != now.get(name) and (self.ours is None or name in self.ours)
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

    def cut_off(self, before: Mapping[str, str]) -> list[str]:
        """The names of those that changed, and are neither the one version nor the other."""
        now = self.present()
        return [name for name in self.changed(before) if " " in now.get(name, "")]

    def go_back(self, before: Mapping[str, str], folder: str) -> list[str]:
        """Have the versions that there were; what is in the way of that, in words.

        Args:
            before: what was present.
            folder: the copy of a bundle, whose payload has the packages.

        Raises:
            DpkgError: dpkg cannot be asked.
        """
        if not os.path.isdir(os.path.join(self.root, INFO)):
            raise DpkgError(f"no folder /{INFO}")
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
        native = self.run(["dpkg", "--print-architecture"])[1].strip()
        first = differs = self.unlike(before)
        told, more, torn = "", bool(first), set[str]()
        while more:
            told = self.once(differs, folder, native)
            torn |= {*KEPT.findall(told)}
            left = self.unlike(before)
            more, differs = 0 < len(left) < len(differs), left
        if again := {name: first[name] for name in torn & (first.keys() - differs.keys())}:
            self.once(again, folder, native)  # what they left to a newer package went with that
        why = f" ({last})" if (last := reason(told)) else ""
        return [
            f"{name} is not at {version} again{why}" if version else f"{name} is still installed{why}"
            for name, version in differs.items()
        ]

    def unlike(self, before: Mapping[str, str]) -> dict[str, str]:
        """As ``changed``; but what was cut off before, and is whole at the same version, is as it was."""
        now = self.present()
        whole = {name: version.partition(" ")[0] for name, version in before.items()}
        differs = self.changed(before).items()
        return {name: version for name, version in differs if whole.get(name) != now.get(name)}

    def once(self, differs: Mapping[str, str], folder: str, native: str) -> str:
        """One pass over all that differs; what dpkg said."""
        files, told = [], ""
        for name, version in differs.items():
            if version and (file := self.file(name, version.partition(" ")[0], folder, native)):
                files.append(file)
        if files:
            _, told = self.run(["dpkg", "--install", "--force-downgrade", *ANSWERS, *files])
        if new := [name for name, version in differs.items() if not version]:
            _, more = self.run(["dpkg", "--remove", "--force-remove-reinstreq", *new])
            told += more
        return told

    def file(self, name: str, version: str, folder: str, native: str) -> str:
        """The package's file in the copy; empty where there is none.

        dpkg names a package without an architecture only if that is the node's own (``native``), or all.
        """
        short, _, architecture = name.partition(":")
        fits = {architecture} if architecture else {native, "all"}
        pattern = os.path.join(glob.escape(folder), "payload", "*", f"{glob.escape(short)}_*.deb")
        for path in sorted(glob.glob(pattern)):
            columns = r"${Package}\t${Version}\t${Architecture}"
            status, said = self.run(["dpkg-deb", "--show", "--showformat", columns, path])
            if status == 0 and said in {f"{short}\t{version}\t{each}" for each in fits}:
                return path
        return ""


def reason(told: str) -> str:
    """Why the last one failed, of what dpkg said; its last line, if it does not say."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    failed = [index for index, line in enumerate(lines[:-1]) if line.startswith(FAILED)]
    return lines[failed[-1] + 1] if failed else lines[-1] if lines else ""
