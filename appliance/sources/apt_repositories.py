"""Which repositories of the Debian archive to ask for a suite.

No address stands here.  In order: the mirror of the settings; the station's own apt sources of the
Debian archive, with its codename replaced by the wanted suite; on a station that has none (another
distribution), what mmdebstrap would use for the suite.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.errors import SettingsInvalid, ToolMissing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appliance.sources.station import DebianSettings, Settings

_KEYRINGS: Final = ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg")
_KEYRING_FOLDER: Final = Path("/usr/share/keyrings")
_FIELDS: Final = ("REPO_URI", "RELEASE", "COMPONENT", "ORIGIN")


@dataclass(frozen=True)
class Repository:
    """One suite of an archive, as a line of an apt source list would name it.

    ``name`` and ``keyring`` are of a repository beside Debian's archive, which has one keyring for all.
    """

    uri: str
    suite: str
    components: tuple[str, ...]
    name: str = ""
    keyring: Path | None = None

    def line(self, keyring: Path) -> str:
        """The line, trusting exactly one keyring: its own, or this one."""
        return (
            " ".join(
                ("deb", f"[signed-by={self.keyring or keyring}]", self.uri, self.suite, *self.components)
            )
            + "\n"
        )

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"the repository {self.name}" if self.name else "the Debian archive"

    @property
    def place(self) -> str:
        """Its address, with which those of its files begin."""
        return f"{self.uri.rstrip('/')}/"

    def holds(self, address: str) -> bool:
        """Whether a file's address is in it."""
        return address.startswith(self.place)


def archive_keyring(settings: DebianSettings) -> Path:
    """The keyring that the archive's signatures must verify with.

    Raises:
        SettingsInvalid: the keyring of the settings does not exist.
        ToolMissing: no setting, and the archive's keyring is not installed.
    """
    if settings.keyring:
        keyring = Path(settings.keyring)
        if not keyring.is_file():
            raise SettingsInvalid("debian.keyring is not a file", found=str(keyring))
        return keyring
    for name in _KEYRINGS:
        if (_KEYRING_FOLDER / name).is_file():
            return _KEYRING_FOLDER / name
    raise ToolMissing(
        "the Debian archive's keyring is not on this station",
        wanted=str(_KEYRING_FOLDER / _KEYRINGS[0]),
        hint="install the package debian-archive-keyring, or set debian.keyring",
    )


def named_repositories(names: Sequence[str], settings: Settings) -> tuple[Repository, ...]:
    """The repositories that a definition names beside Debian's archive.

    Raises:
        SettingsInvalid: the settings do not know one, or its keyring does not exist.
    """
    found = []
    for name in names:
        known = settings.repositories.get(name)
        if known is None:
            raise SettingsInvalid(
                f"this station does not know the repository {name}",
                found=f"settings for: {', '.join(sorted(settings.repositories)) or 'none'}",
                wanted=f"repositories.{name} with its address and keyring",
                hint="write it into the station's settings; docs/sources.md has an example",
            )
        if not Path(known.keyring).is_file():
            raise SettingsInvalid(f"repositories.{name}.keyring is not a file", found=known.keyring)
        address, keyring = _copied(known.address), Path(known.keyring)
        found.append(Repository(address, known.suite, known.components, name=name, keyring=keyring))
    return tuple(found)


def check_places(found: Sequence[Repository]) -> None:
    """No two of them are at one address: from it alone follows which of them a package is from.

    Raises:
        SettingsInvalid: a repository is where another is, or Debian's archive.
    """
    names: dict[str, Repository] = {}
    for each in found:
        other = names.setdefault(each.place, each)
        if other.name != each.name:
            raise SettingsInvalid(
                f"repositories.{each.name}.address is that of {other.title}",
                found=each.uri,
                wanted="an address for each, by which its packages are told from those of others",
                hint="serve them from two folders",
            )


def _copied(address: str) -> str:
    """The address by which apt brings packages of a folder here, where it would take them in place."""
    scheme, _, path = address.partition(":")
    return f"copy:/{path.lstrip('/')}" if scheme == "file" else address


def repositories(
    suite: str,
    settings: DebianSettings,
    areas: Sequence[str] | None = None,
    *,
    backports: bool = False,
) -> tuple[Repository, ...]:
    """The repositories for ``suite``: the release, its updates and its security updates.

    ``areas`` of the archive go before those that the station uses: a definition that names them is the same
    on every station, and all are signed by the same keys.  So is the suite of ``backports``, which lies
    beside the release; apt takes from it only what is asked for by name.
    """
    found = _repositories(suite, settings)
    if backports:
        found += tuple(replace(each, suite=f"{suite}-backports") for each in found if each.suite == suite)
    return tuple(replace(each, components=tuple(areas)) for each in found) if areas else found


def _repositories(suite: str, settings: DebianSettings) -> tuple[Repository, ...]:
    if settings.mirror:
        mirror = _copied(settings.mirror)
        main = tuple(Repository(mirror, name, ("main",)) for name in (suite, f"{suite}-updates"))
        if not settings.security:
            return main
        return (*main, Repository(_copied(settings.security), f"{suite}-security", ("main",)))
    return _of_station(suite) or _of_mmdebstrap(suite)


def _of_station(suite: str) -> tuple[Repository, ...]:
    """The station's own Debian repositories, turned to ``suite``; empty when it has none."""
    codename = _station_codename()
    if codename is None or not shutil.which("apt-get"):
        return ()
    form = "\t".join(f"$({field})" for field in _FIELDS)
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        return ()
    return map_repositories((line.split("\t") for line in run.stdout.splitlines()), codename, suite)


def map_repositories(targets: Iterable[list[str]], codename: str, suite: str) -> tuple[Repository, ...]:
    """Turn index targets (address, release, component, origin) of ``codename`` to ``suite``.

    Repositories of others, and suites beside updates and security, are left out.  The origin is known
    only once the station has fetched its lists; a foreign repository that slips through without one
    fails later, because its signature is not the archive's.
    """
    wanted = {codename + pocket: suite + pocket for pocket in ("", "-updates", "-security")}
    components: dict[tuple[str, str], list[str]] = {}
    for address, release, component, origin in targets:
        if release not in wanted or origin not in {"Debian", "$(ORIGIN)", ""}:
            continue
        entry = components.setdefault((address, wanted[release]), [])
        if component not in entry:
            entry.append(component)
    return tuple(Repository(address, name, tuple(found)) for (address, name), found in components.items())


def _station_codename() -> str | None:
    """This station's Debian release, or None on another distribution."""
    try:
        lines = shlex.split(Path("/etc/os-release").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    values = dict(line.partition("=")[::2] for line in lines)
    return values.get("VERSION_CODENAME") if values.get("ID") == "debian" else None


def _of_mmdebstrap(suite: str) -> tuple[Repository, ...]:
    """What mmdebstrap writes into a new system's source list; it is stopped right after that."""
    if not shutil.which("mmdebstrap"):
        raise ToolMissing(
            f"this station does not say where Debian {suite} is found",
            wanted="Debian sources in apt's configuration, a mirror in the settings, or mmdebstrap",
            hint="set APPLIANCE_DEBIAN_MIRROR, or install mmdebstrap",
        )
    with tempfile.TemporaryDirectory(prefix="appliance-") as folder:
        answer = Path(folder) / "sources"
        hook = f'cat "$1/etc/apt/sources.list" > {shlex.quote(str(answer))}; false'
        command = ["mmdebstrap", "--quiet", "--mode=chrootless", "--variant=custom", "--format=null"]
        # Nothing is installed here, so chrootless mode cannot harm this system even as root.
        command += ["--skip=check,check/chrootless", f"--setup-hook={hook}", suite, "-"]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        lines = answer.read_text(encoding="utf-8").splitlines() if answer.exists() else []
    found = tuple(_parse_line(line) for line in lines if line.startswith("deb "))
    if not found:
        raise ToolMissing(
            f"mmdebstrap does not know where Debian {suite} is found",
            found=run.stderr.strip()[-300:],
            hint="set APPLIANCE_DEBIAN_MIRROR",
        )
    return found


def _parse_line(line: str) -> Repository:
    rest = line.removeprefix("deb ").lstrip()
    if rest.startswith("["):
        rest = rest.partition("]")[2]
    uri, suite, *components = rest.split()
    return Repository(uri, suite, tuple(components))
