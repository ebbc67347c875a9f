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

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.errors import ArchiveUntrusted, SourceUnreachable, ToolMissing
from appliance.sources.stopping import check, run_program

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from appliance.sources.apt_repositories import Repository

# Without it apt goes on, and keeps its own lock, when this program is killed (prctl(2), PR_SET_PDEATHSIG).
_MORTAL: Final = ("setpriv", "--pdeathsig", "TERM")
_HOOKS: Final = (
    "APT::Update::Pre-Invoke",
    "APT::Update::Post-Invoke",
    "APT::Update::Post-Invoke-Success",
    "DPkg::Pre-Invoke",
    "DPkg::Post-Invoke",
    "DPkg::Pre-Install-Pkgs",
)
_SETTINGS: Final = {
    "APT::Sandbox::User": "root",  # the private root lies in a home folder, closed to the user _apt
    "APT::Install-Recommends": "false",
    "APT::Update::Error-Mode": "any",  # stale lists are an error, not a warning
    "APT::Get::AllowUnauthenticated": "false",
    "APT::Color": "false",
    "Acquire::AllowInsecureRepositories": "false",
    "Acquire::AllowWeakRepositories": "false",
    "Acquire::AllowDowngradeToInsecureRepositories": "false",
    "Acquire::GzipIndexes": "false",
    "Acquire::Retries": "2",
    "Dir::Cache::pkgcache": "pkgcache.bin",
    "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::Etc::Preferences": "/dev/null",
    "Dir::Etc::PreferencesParts": "/dev/null",
    "Dir::Etc::Trusted": "/dev/null",
    "Dir::Etc::TrustedParts": "/dev/null",
}


@dataclass(frozen=True)
class Package:
    """One version of a Debian package, as the signed index names it.

    ``file`` is its name in the pool.  ``source`` is the source package it was built from, with
    ``source_version``; each is empty where it is the package's own.
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
        (folder / "apt.conf").write_text(_configuration(folder, architecture), encoding="utf-8")

    @property
    def suite(self) -> str:
        """The release this root resolves for."""
        return self._repositories[0].suite

    def update(self) -> None:
        """Fetch the package lists and check the archive's signatures.

        Raises:
            ArchiveUntrusted: the archive answers, but its signature does not verify with the keyring, or
                its lists are not the signed ones.
            SourceUnreachable: the archive does not answer.
        """
        try:
            self._run("apt-get", "-qq", "update")
        except AptFailed as fault:
            if self._answers():
                raise ArchiveUntrusted(
                    f"what the Debian archive sends does not verify with {self._keyring}",
                    found=str(fault),
                    hint="install the archive's current keyring, try again later, or find out who answers",
                ) from fault
            raise SourceUnreachable(
                "the Debian archive does not answer",
                found=str(fault),
                hint="check this station's network and apt sources, or set APPLIANCE_DEBIAN_MIRROR",
            ) from fault

    def closure(self, packages: Sequence[str]) -> list[Package]:
        """All that must be installed on an empty system to have ``packages``, sorted by name.

        Raises:
            AptFailed: a package does not exist, or no combination satisfies them all.
        """
        uris = self._run("apt-get", "-qq", "--print-uris", "install", *packages)
        # Each line: 'address' file size digest; file is name_version_architecture.deb, epoch as %3a.
        files = [line.split(" ")[-3] for line in uris.splitlines() if line.startswith("'")]
        versions = [file.split("_")[:2] for file in files]
        return self.show([f"{name}={version.replace('%3a', ':')}" for name, version in versions])

    def show(self, packages: Sequence[str]) -> list[Package]:
        """The index entries of ``packages`` ("name" or "name=version"), sorted by name.

        Raises:
            AptFailed: one of them is not in the archive.
        """
        from debian.deb822 import Packages

        text = self._run("apt-cache", "show", "--no-all-versions", *packages)
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
            for entry in Packages.iter_paragraphs(text, use_apt_pkg=False)
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

    def _answers(self) -> bool:
        """Whether the same repositories can be read when signatures are not asked for.

        A throw-away root, and no package lists: nothing unauthenticated is kept or used.
        """
        with tempfile.TemporaryDirectory(prefix="appliance-") as folder:
            root = AptRoot(
                Path(folder), self._architecture, self._repositories, self._keyring, stop=self._stop
            )
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
        return len(releases) == len(self._repositories)

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
) -> Iterator[AptRoot]:
    """The root for these repositories and this keyring, kept between runs; waits for other users of it.

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
    folder = parent / f"{repositories[0].suite}-{architecture}-{identity.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "in-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield AptRoot(folder, architecture, repositories, keyring, lock=lock.fileno(), stop=stop)


def _configuration(folder: Path, architecture: str) -> str:
    places = {
        "APT::Architecture": architecture,
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "state" / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::SourceList": folder / "sources.list",
    }
    lists = {"APT::Architectures": architecture, "Acquire::Languages": "none"}
    return "".join(
        [
            *(f"#clear {name};\n" for name in (*_HOOKS, *lists)),
            *(f'{name} "{value}";\n' for name, value in {**_SETTINGS, **places}.items()),
            *(f'{name} {{ "{value}"; }};\n' for name, value in lists.items()),
        ]
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _said(messages: str) -> str:
    """The errors among apt's messages, shortened."""
    errors = [line for line in messages.splitlines() if line.startswith("E: ")] or messages.splitlines()
    return " ".join(line.removeprefix("E: ").strip() for line in errors)[:400]
