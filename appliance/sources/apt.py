"""apt in a root of its own: real resolution, downloads and signature checks, for another suite.

The private root has its own source list, package lists, cache and an empty dpkg status, so that
nothing of this station's packages takes part.  The station's apt.conf stays in force for what belongs
to the station: proxies, credentials, certificates.  Its hooks do not run.

apt ends with the program that started it, however that ends; until it has ended, nobody else gets at the
root.  What it had fetched by then it goes on with in the next run.

apt answers with exit status 100 whatever went wrong; what it was, is found out by asking again in
another way, never by reading its messages.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.errors import ArchiveUntrusted, SourceUnreachable, SpaceExhausted, ToolMissing
from appliance.sources.apt_configuration import configuration, preferences
from appliance.sources.stopping import check, run_program

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from appliance.sources.apt_repositories import Repository

# Without it apt goes on, and keeps its own lock, when this program is killed (prctl(2), PR_SET_PDEATHSIG).
_MORTAL: Final = ("setpriv", "--pdeathsig", "TERM")


@dataclass(frozen=True)
class Package:
    """One version of a Debian package, as the signed index names it.

    ``file`` is its name in the pool.  ``source`` is the source package it was built from, with
    ``source_version``; each is empty where it is the package's own.  ``archive`` is the name of the
    repository it comes from, empty where that is Debian's archive.
    """

    name: str
    version: str
    architecture: str
    section: str
    file: str
    size: int
    sha256: str
    source: str = ""
    source_version: str = ""
    archive: str = ""

    @property
    def pinned(self) -> str:
        """The one version, as apt's command line names it."""
        return f"{self.name}={self.version}"

    @property
    def cached(self) -> str:
        """File name under ``AptRoot.archives``: with the epoch, its colon quoted."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    @property
    def component(self) -> str:
        """The archive's component: "main" unless the section says otherwise."""
        area, slash, _ = self.section.partition("/")
        return area if slash else "main"


class AptFailed(Exception):
    """apt-get said no; why, is for the caller to find out.  The text is apt's own."""


class AptRoot:
    """apt with its own state, usable by one process at a time (see ``private_root``).

    ``lock`` is a descriptor that apt inherits: whoever waits for it waits for apt too.  When ``stop`` is
    set, apt is ended, and every method raises ``Stopped``.
    """

    def __init__(
        self,
        folder: Path,
        architecture: str,
        repositories: Sequence[Repository],
        keyring: Path,
        *,
        versions: Mapping[str, str] | None = None,
        lock: int | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.folder, self._stop = folder, stop
        self._inherited = [] if lock is None else [lock]
        self.archives = folder / "cache" / "archives"
        self._repositories, self._architecture, self._keyring = repositories, architecture, keyring
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "state" / "status").write_bytes(b"")
        lines = "".join(repository.line(keyring) for repository in repositories)
        (folder / "sources.list").write_text(lines, encoding="utf-8")
        (folder / "preferences").write_text(preferences(versions or {}), encoding="utf-8")
        (folder / "apt.conf").write_text(configuration(folder, architecture), encoding="utf-8")

    @property
    def title(self) -> str:
        """What is asked, for messages: the release, and repositories beside Debian's archive."""
        others = dict.fromkeys(each.title for each in self._repositories if each.name)
        return ", ".join([f"Debian {self._repositories[0].suite}", *others])

    def update(self) -> None:
        """Fetch the package lists and check the archive's signatures.

        Raises:
            ArchiveUntrusted: the archive answers, but its signature does not verify with the keyring, or
                its lists are not the signed ones.
            SourceUnreachable: the archive does not answer.
            SpaceExhausted: there is no room for the lists.
        """
        try:
            self._run("apt-get", "-qq", "update")
        except AptFailed as fault:
            if os.strerror(errno.ENOSPC) in str(fault):
                raise SpaceExhausted(
                    f"the package lists do not fit the disk of {self.folder}",
                    found=str(fault),
                    hint="free some space, or name another folder with --store",
                ) from fault
            to_blame = self._to_blame()
            title, keyring = to_blame[0].title, to_blame[0].keyring or self._keyring
            if self._answers(to_blame):
                raise ArchiveUntrusted(
                    f"what {title} sends does not verify with {keyring}",
                    found=str(fault),
                    hint="install the archive's current keyring, try again later, or find out who answers",
                ) from fault
            raise SourceUnreachable(
                f"{title} does not answer",
                found=str(fault),
                hint="check this station's network and apt sources, or set APPLIANCE_DEBIAN_MIRROR"
                if not to_blame[0].name
                else f"check this station's network and its setting repositories.{to_blame[0].name}",
            ) from fault

    def closure(self, packages: Sequence[str]) -> list[Package]:
        """All that must be installed on an empty system to have ``packages``, sorted by name.

        Raises:
            AptFailed: a package does not exist, or no combination satisfies them all.
        """
        uris = self._run("apt-get", "-qq", "--print-uris", "install", *packages)
        # Each line: 'address' file size digest; file is name_version_architecture.deb, epoch as %3a.
        lines = [line.split(" ") for line in uris.splitlines() if line.startswith("'")]
        versions = [line[-3].split("_")[:2] for line in lines]
        addresses = {name: line[0].strip("'") for (name, _), line in zip(versions, lines, strict=True)}
        shown = self.show([f"{name}={version.replace('%3a', ':')}" for name, version in versions])
        return [replace(each, archive=self._archive(addresses[each.name])) for each in shown]

    def show(self, packages: Sequence[str]) -> list[Package]:
        """The index entries of ``packages`` ("name" or "name=version"), sorted by name.

        Raises:
            AptFailed: one of them is not in the archive.
            ArchiveUntrusted: a signed index says nothing of a package by which its bytes could be known.
        """
        from debian.deb822 import Packages

        text = self._run("apt-cache", "show", "--no-all-versions", *packages)
        paragraphs = list(Packages.iter_paragraphs(text, use_apt_pkg=False))
        if without := sorted(entry["Package"] for entry in paragraphs if "SHA256" not in entry):
            raise ArchiveUntrusted(
                "a repository's signed index has no SHA-256 of a package",
                found=", ".join(without),
                wanted="SHA256 beside each package",
                hint="have its index made anew, by apt-ftparchive or dpkg-scanpackages",
            )
        # "Source: name" or "Source: name (version)" (Debian Policy, 5.6.1).
        entries = {
            entry["Package"]: Package(
                name=entry["Package"],
                version=entry["Version"],
                architecture=entry["Architecture"],
                section=entry.get("Section", ""),
                file=entry["Filename"].rpartition("/")[2],
                size=int(entry["Size"]),
                sha256=entry["SHA256"],
                source=entry.get("Source", "").partition(" ")[0],
                source_version=entry.get("Source", "").partition(" ")[2].strip("()"),
            )
            for entry in paragraphs
        }
        return [entries[name] for name in sorted(entries)]

    def download(self, packages: Sequence[str], advanced: Callable[[float], None]) -> None:
        """Bring "name=version" packages into ``archives``, going on where an earlier try stopped.

        Args:
            packages: a complete closure, so that apt has nothing to choose.
            advanced: told the percentage done, 0 to 100.

        Raises:
            AptFailed: not all came.
        """
        reading, writing = os.pipe()
        command = [
            "apt-get",
            "-qq",
            "--yes",
            "--download-only",
            "-o",
            f"APT::Status-Fd={writing}",
            "install",
        ]
        with (
            os.fdopen(reading, encoding="utf-8", errors="replace") as status,
            tempfile.TemporaryFile() as messages,
            subprocess.Popen(
                [*_MORTAL, command[0], "-c", self.folder / "apt.conf", *command[1:], *packages],
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                pass_fds=[writing, *self._inherited],
                env=_environment(),
            ) as process,
        ):
            os.close(writing)
            try:
                for line in status:  # "dlstatus:<item>:<percent>:<text>", apt's README.progress-reporting
                    kind, _, percent, *_ = [*line.split(":", 3), "", ""]
                    check(self._stop)
                    if kind == "dlstatus":
                        advanced(float(percent))
            except BaseException:
                process.terminate()
                raise
            if process.wait() != 0:
                messages.seek(0)
                raise AptFailed(_said(messages.read().decode(errors="replace")))

    def _archive(self, address: str) -> str:
        """The name of the repository that an address is in; empty for Debian's archive.

        One may lie below another: the nearest has it.
        """
        holding = [each for each in self._repositories if each.holds(address)]
        return max(holding, key=lambda each: len(each.place)).name if holding else ""

    def _to_blame(self) -> Sequence[Repository]:
        """Which repositories apt could not update: the first of them that cannot be alone; else all."""
        groups: dict[str, list[Repository]] = {}
        for each in self._repositories:
            groups.setdefault(each.name, []).append(each)
        for group in groups.values() if len(groups) > 1 else ():
            with tempfile.TemporaryDirectory(prefix="appliance-") as folder:
                root = AptRoot(Path(folder), self._architecture, group, self._keyring, stop=self._stop)
                try:
                    root._run("apt-get", "-qq", "update")
                except AptFailed:
                    return group
        return self._repositories

    def _answers(self, repositories: Sequence[Repository]) -> bool:
        """Whether these repositories can be read when signatures are not asked for.

        A throw-away root, and no package lists: nothing unauthenticated is kept or used.
        """
        with tempfile.TemporaryDirectory(prefix="appliance-") as folder:
            root = AptRoot(Path(folder), self._architecture, repositories, self._keyring, stop=self._stop)
            try:
                root._run(
                    "apt-get",
                    "-qq",
                    *("-o", "Acquire::AllowInsecureRepositories=true"),
                    *("-o", "Acquire::IndexTargets::deb::Packages::DefaultEnabled=false"),
                    "update",
                )
            except AptFailed:
                return False
            releases = list((root.folder / "state" / "lists").glob("*Release"))
        return len(releases) == len(repositories)

    def _run(self, program: str, *arguments: str) -> str:
        run = run_program(
            [*_MORTAL, program, "-c", self.folder / "apt.conf", *arguments],
            self._stop,
            environment=_environment(),
            descriptors=self._inherited,
        )
        if run.returncode != 0:
            raise AptFailed(_said(run.stderr))
        return run.stdout


@contextmanager
def private_root(
    parent: Path,
    architecture: str,
    repositories: Sequence[Repository],
    keyring: Path,
    stop: threading.Event | None = None,
    *,
    versions: Mapping[str, str] | None = None,
) -> Iterator[AptRoot]:
    """The root for these repositories and this keyring, kept between runs; waits for other users of it.

    ``versions``: which versions are looked at, by package, both as globs.

    Raises:
        ToolMissing: there is no apt on this station.
    """
    for program in ("apt-get", "apt-cache", "setpriv"):
        if not shutil.which(program):
            raise ToolMissing(
                f"{program} is not on this station",
                hint="Debian packages are resolved by apt: build on Debian or Ubuntu",
            )
    identity = hashlib.sha256(keyring.read_bytes())
    for repository in repositories:
        identity.update(repository.line(keyring).encode())
        if repository.keyring:
            identity.update(repository.keyring.read_bytes())
    folder = parent / f"{repositories[0].suite}-{architecture}-{identity.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "in-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield AptRoot(
            folder, architecture, repositories, keyring, versions=versions, lock=lock.fileno(), stop=stop
        )


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _said(messages: str) -> str:
    """The errors among apt's messages, shortened."""
    errors = [line for line in messages.splitlines() if line.startswith("E: ")] or messages.splitlines()
    return " ".join(line.removeprefix("E: ").strip() for line in errors)[:400]
