#!/usr/bin/python
"""Install packages from staged flat repositories, and from nowhere else.

The rules:

* A *root* is a package the bundle's definition names. It is satisfied when dpkg has it fully installed
  at the staged version or a newer one; a node is never taken back to an older package.
* Everything a root depends on is apt's choice from the same repositories.
* apt runs with a configuration of its own: the staged folders are the only source, the node's sources,
  preferences, hooks and proxies are not read, and nothing is written to the node's package lists.
* Nothing is removed, and files an operator changed are kept.

The staged files were verified against the signed bundle before they were put there, which is why the
repositories are marked as trusted.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Callable

    Repository = dict[str, Any]  # path, packages, files; as in DOCUMENTATION
    Change = dict[str, str]  # name, before, after; as in RETURN
    Present = dict[str, tuple[str, str]]  # name to dpkg's status and version

DOCUMENTATION = r"""
module: staged_packages
short_description: Install packages from staged flat repositories only
description:
  - Brings the named packages to the staged version or newer with apt, which sees no other source.
options:
  repositories:
    description: Staged C(debian) components, installed in one transaction.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Folder with C(Packages) and the packages.
        type: path
        required: true
      packages:
        description: The roots. Empty means every package of the repository.
        type: list
        elements: str
        default: []
      files:
        description: Every package of the repository, as the manifest names it.
        type: list
        elements: dict
        required: true
  lock_timeout:
    description: Seconds to wait for another apt or dpkg to finish.
    type: int
    default: 120
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Install the system packages
  staged_packages:
    repositories:
      - path: /var/lib/appliance/staged/0123/payload/system
        packages: [ufw]
        files:
          - {name: ufw, version: "0.36.2-9", path: ufw_0.36.2-9_all.deb}
"""

RETURN = r"""
packages:
  description: What was, or in check mode would be, installed or upgraded.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Package name., type: str}
    before: {description: Version before, empty if it was not installed., type: str}
    after: {description: Version after., type: str}
complete:
  description: Whether C(packages) lists dependencies too; before staging only the roots are known.
  returned: always
  type: bool
"""

#: How dpkg's state of a package ends that is there and configured; the first word is what was asked for
#: (install, hold), not what is (dpkg-query(1), Status).
INSTALLED = " ok installed"

#: apt-get --simulate: "Inst NAME [OLD] (NEW SOURCE [ARCH])"; OLD is absent for a new package.
SIMULATED = re.compile(r"^Inst (?P<name>\S+)(?: \[(?P<before>[^]]+)\])? \((?P<after>\S+) ")

ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "APT_LISTCHANGES_FRONTEND": "none"}


class Refused(Exception):
    """The packages cannot be installed; the text says why and what to do."""


def wanted_roots(repositories: list[Repository]) -> dict[str, str]:
    """The roots with their staged versions, ``{name: version}``.

    Raises:
        Refused: a root is not in its repository, or two repositories stage different versions of it.
    """
    wanted: dict[str, str] = {}
    for repository in repositories:
        debs = (entry for entry in repository["files"] if entry["path"].endswith(".deb"))
        staged = {entry["name"]: entry["version"] for entry in debs}
        for name in repository["packages"] or sorted(staged):
            if name not in staged:
                raise Refused(
                    f"package {name} is named by the definition but not among the files of "
                    f"{repository['path']}; the bundle contradicts itself"
                )
            if wanted.setdefault(name, staged[name]) != staged[name]:
                raise Refused(f"package {name} is staged as {wanted[name]} and as {staged[name]}")
    return wanted


def parse_status(listing: str) -> Present:
    """``{name: (status, version)}`` from ``dpkg-query``'s tab-separated listing.

    A package installed for several architectures is listed several times; the one of the node's own
    architecture comes first and counts.
    """
    packages: Present = {}
    for line in listing.splitlines():
        name, status, version = line.split("\t")
        packages.setdefault(name, (status, version))
    return packages


def unsatisfied(
    wanted: dict[str, str], present: Present, is_older: Callable[[str, str], bool]
) -> list[Change]:
    """The roots to install, ``[{name, before, after}]``, sorted.

    Args:
        wanted: ``{name: version}``.
        present: ``{name: (status, version)}``.
        is_older: ``(version, version) -> bool``, in Debian's order.
    """
    missing = []
    for name, version in sorted(wanted.items()):
        status, installed = present.get(name, ("", ""))
        if not status.endswith(INSTALLED):
            missing.append({"name": name, "before": "", "after": version})
        elif installed != version and is_older(installed, version):
            missing.append({"name": name, "before": installed, "after": version})
    return missing


def half_installed(present: Present) -> list[str]:
    """Packages an interrupted dpkg left behind, sorted; removed ones with configuration do not count."""
    settled = {"installed", "config-files", "not-installed"}
    return sorted(name for name, (status, _) in present.items() if status.split()[-1] not in settled)


def parse_simulation(output: str) -> list[Change]:
    """``[{name, before, after}]`` from ``apt-get --simulate``, sorted."""
    found = (SIMULATED.match(line) for line in output.splitlines())
    rows = [{key: value or "" for key, value in match.groupdict().items()} for match in found if match]
    return sorted(rows, key=lambda row: row["name"])


def apt_configuration(folder: Path) -> str:
    """An apt.conf that knows ``folder`` and the node's dpkg database, and nothing else of the node."""
    settings: dict[str, str | list[str]] = {
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": f"{folder}/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::netrc": "/dev/null",
        "Dir::Etc::netrcparts": "/dev/null",
        "Dir::State::lists": f"{folder}/lists",
        "Dir::Cache": f"{folder}/cache",
        "Acquire::Languages": "none",
        "APT::Install-Recommends": "false",
        "APT::Get::Remove": "false",
        # The staged folder is root's; reading it needs no helper user, and no user may be added for it.
        "APT::Sandbox::User": "root",
        # Keep what an operator changed; ask nobody.
        "DPkg::Options::": ["--force-confdef", "--force-confold"],
    }
    lines = []
    for key, value in settings.items():
        lines += [f'{key} "{each}";' for each in (value if isinstance(value, list) else [value])]
    return "\n".join(lines) + "\n"


def sources_list(repositories: list[Repository]) -> str:
    """One line per staged folder."""
    return "".join(f"deb [trusted=yes] file:{repository['path']} ./\n" for repository in repositories)


def difference(changes: list[Change], complete: bool) -> dict[str, str]:
    """An Ansible diff: one line per package."""
    note = "" if complete else "(and what these depend on, known once the bundle is staged)\n"
    return {
        "before_header": "installed packages",
        "after_header": "installed packages",
        "before": "".join(f"{row['name']} {row['before']}\n" for row in changes if row["before"]),
        "after": "".join(f"{row['name']} {row['after']}\n" for row in changes) + note,
    }


class Apt:
    """apt-get over the staged repositories, in a private folder that is gone afterwards."""

    def __init__(self, folder: Path, repositories: list[Repository], lock_timeout: int) -> None:
        self.lock_timeout = lock_timeout
        self.environment = {**os.environ, **ENVIRONMENT, "APT_CONFIG": f"{folder}/apt.conf"}
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "apt.conf").write_text(apt_configuration(folder), "ascii")
        (folder / "sources.list").write_text(sources_list(repositories), "ascii")
        self.run("update")

    def run(self, *arguments: str) -> str:
        wait = f"DPkg::Lock::Timeout={self.lock_timeout}"
        return checked(["apt-get", "--quiet", "--yes", "-o", wait, *arguments], self.environment)


def checked(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Standard output of a command; Refused with what it wrote when it fails."""
    done = subprocess.run(
        command,
        env=environment or {**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        wrote = (done.stderr + done.stdout).strip().splitlines()
        raise Refused("\n".join([f"{' '.join(command)} ended with {done.returncode}:", *wrote[-20:]]))
    return done.stdout


def installed_packages() -> Present:
    """``{name: (status, version)}`` of this node."""
    columns = r"${Package}\t${Status}\t${Version}\n"
    return parse_status(checked(["dpkg-query", "--show", "--showformat", columns]))


def is_older(installed: str, version: str) -> bool:
    """Whether ``installed`` comes before ``version`` in Debian's order, as dpkg says."""
    command = ["dpkg", "--compare-versions", installed, "lt", version]
    return subprocess.run(command, check=False).returncode == 0


def bring_about(
    repositories: list[Repository], lock_timeout: int, check: bool
) -> tuple[list[Change], bool]:
    """Install what is missing, or say what would be.

    Returns:
        ``(changes, complete)``, as in RETURN.
    """
    wanted = wanted_roots(repositories)
    present = installed_packages()
    missing = unsatisfied(wanted, present, is_older)
    broken = half_installed(present)
    if not missing and not broken:
        return [], True
    staged = all(Path(repository["path"], "Packages").is_file() for repository in repositories)
    if check and not staged:
        return missing, False
    if not staged:
        raise Refused("the bundle is not staged on this node: no Packages file; run the stage before")
    with tempfile.TemporaryDirectory(prefix="appliance-apt-", dir="/run") as folder:
        apt = Apt(Path(folder), repositories, lock_timeout)
        if broken and not check:
            checked(["dpkg", "--configure", "--pending", "--force-confdef", "--force-confold"])
        targets = [f"{row['name']}={row['after']}" for row in missing]
        if broken and check:  # apt cannot simulate over a half-configured package
            return missing, False
        changes = parse_simulation(apt.run("--simulate", "install", *targets))
        if not check:
            apt.run("install", *targets)
    if not check:
        left = unsatisfied(wanted, installed_packages(), is_older)
        if left:
            names = ", ".join(row["name"] for row in left)
            raise Refused(f"apt finished, but these are still missing: {names}")
    repaired = [{"name": name, "before": "half-installed", "after": present[name][1]} for name in broken]
    return repaired + changes, True


def main() -> None:
    """Run as an Ansible module."""
    entry: dict[str, dict[str, Any]] = {
        "path": {"type": "path", "required": True},
        "packages": {"type": "list", "elements": "str", "default": []},
        "files": {"type": "list", "elements": "dict", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "repositories": {"type": "list", "elements": "dict", "required": True, "options": entry},
            "lock_timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        changes, complete = bring_about(
            module.params["repositories"], module.params["lock_timeout"], module.check_mode
        )
    except Refused as refusal:
        module.fail_json(msg=str(refusal))
    module.exit_json(
        changed=bool(changes), packages=changes, complete=complete, diff=difference(changes, complete)
    )


if __name__ == "__main__":
    main()
