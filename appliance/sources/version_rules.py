"""Versions that must match exactly, looked at when a definition is locked: before gigabytes are fetched.

The rules are data (``appliance.hardware.driver_packages``).  apt keeps what packages declare; what is here,
NVIDIA's packages do not declare, or only across repositories that a station may mix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.errors import VersionsDiffer
from appliance.hardware.driver_packages import (
    RULES,
    branch,
    cuda_needed,
    driver_version,
    headers_for,
    oldest_driver,
    runs_cuda,
    unbuildable,
    upstream,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.definition.lock import Artefact
    from appliance.errors import Location
    from appliance.hardware.driver_packages import OneVersion

_EXPORTER = "datacenter-gpu-manager-exporter"
_MANAGER = "datacenter-gpu-manager-4-core"


def check_versions(
    kinds: Mapping[str, str],
    resolved: Mapping[str, Sequence[Artefact]],
    where: Location,
    oldest: int = 0,
) -> None:
    """Refuse a resolution whose driver cannot work.

    Args:
        kinds: of components, by name.
        resolved: their artefacts.
        where: of the components in the definition, for the message.
        oldest: the oldest branch of the driver that the engine runs with; 0: nothing says it.

    Raises:
        VersionsDiffer: with each part that differs, and the version that the others have.
    """
    debian = [
        artefact
        for name, artefacts in resolved.items()
        if kinds[name] == "debian"
        for artefact in artefacts
    ]
    _check_twice(debian, where)
    packages = {artefact.name: artefact.version for artefact in debian}
    for rule in RULES:
        _check_rule(rule, packages, where)
    _check_builds(packages, where)
    _check_exporter(packages, where)
    wheels = {
        artefact.origin.get("project", artefact.name): artefact.version
        for name, artefacts in resolved.items()
        if kinds[name] == "python"
        for artefact in artefacts
    }
    _check_cuda(packages, wheels, where)
    _check_oldest(packages, oldest, where)


def _check_twice(packages: Sequence[Artefact], where: Location) -> None:
    """A node has one version of a package: two components with two would each get what it does not want."""
    versions: dict[str, set[str]] = {}
    for each in packages:
        if any(rule.lead.fullmatch(each.name) or rule.follow.fullmatch(each.name) for rule in RULES):
            versions.setdefault(each.name, set()).add(each.version)
    for name, found in sorted(versions.items()):
        if len(found) > 1:
            raise VersionsDiffer(
                f"components bring {name} in more than one version",
                found=", ".join(f"{name} {version}" for version in sorted(found)),
                wanted="one version of each package, whichever components name it",
                hint="take all of the driver from one repository, and pin it there to one version",
                where=where,
            )


def _check_rule(rule: OneVersion, packages: Mapping[str, str], where: Location) -> None:
    leads = {name: upstream(version) for name, version in packages.items() if rule.lead.fullmatch(name)}
    if not leads and (instead := rule.instead):
        leads = {name: upstream(version) for name, version in packages.items() if instead.fullmatch(name)}
    follow = {name: upstream(version) for name, version in packages.items() if rule.follow.fullmatch(name)}
    if not leads and len(set(follow.values())) < 2:  # noqa: PLR2004 - they agree among themselves
        return
    lead, wanted = next(iter(sorted((leads or follow).items())))
    differing = {name: version for name, version in {**leads, **follow}.items() if version != wanted}
    if differing:
        raise VersionsDiffer(
            f"versions that must be one: {rule.why}",
            found=", ".join(f"{name} {version}" for name, version in sorted(differing.items())),
            wanted=f"{wanted} for each, as of {lead}",
            hint="take all of the driver from one repository, and pin it there to one version",
            where=where,
        )


def _check_builds(packages: Mapping[str, str], where: Location) -> None:
    """The driver compiles with the headers that come with it, as far as it is known not to."""
    for name in sorted(packages):
        kernel = headers_for(name)
        broken = unbuildable(packages, kernel) if kernel else None
        if broken:
            raise VersionsDiffer(
                f"the driver does not compile for the kernel that comes with it: {broken.why}",
                found=f"{broken.package} {broken.version}, {name}",
                wanted=f"a later driver, or a kernel before {'.'.join(map(str, broken.since))}",
                hint="look for a later driver: in the suite's backports, another suite or repository",
                where=where,
            )


def _check_exporter(packages: Mapping[str, str], where: Location) -> None:
    """NVIDIA tests an exporter with one DCGM; a package shows of that no more than the major version."""
    if _EXPORTER not in packages or _MANAGER not in packages:
        return
    exporter, manager = (upstream(packages[name]) for name in (_EXPORTER, _MANAGER))
    for name, version in ((_EXPORTER, exporter), (_MANAGER, manager)):
        if branch(version) is None:
            raise _unreadable(name, version, where)
    if branch(exporter) != branch(manager):
        raise VersionsDiffer(
            "an exporter that was not made for this DCGM",
            found=f"{_EXPORTER} {exporter}",
            wanted=f"one of major version {branch(manager)}, as of {_MANAGER} {manager}",
            hint="`dcgm-exporter --version` says which DCGM it was tested with",
            where=where,
        )


def _check_cuda(packages: Mapping[str, str], wheels: Mapping[str, str], where: Location) -> None:
    cuda, driver = cuda_needed(wheels), driver_version(packages)
    if cuda is None or driver is None or runs_cuda(driver, cuda):
        return
    if branch(driver) is None:
        raise _unreadable("driver", driver, where)
    raise VersionsDiffer(
        f"the engine's wheels are for CUDA {cuda}, and the driver is too old to run them",
        found=f"driver {driver}",
        wanted=f"branch {oldest_driver(cuda)} or newer",
        hint="pin an engine whose wheels are for an older CUDA, or take the driver from another repository",
        where=where,
    )


def _check_oldest(packages: Mapping[str, str], oldest: int, where: Location) -> None:
    driver = driver_version(packages)
    if not oldest or driver is None:
        return
    found = branch(driver)
    if found is None:
        raise _unreadable("driver", driver, where)
    if found < oldest:
        raise VersionsDiffer(
            "the driver is too old for the engine, which would compute on the processor or not at all",
            found=f"driver {driver}",
            wanted=f"branch {oldest} or newer",
            hint="take the driver from another repository, or an older release of the engine, and say in "
            "hardware.driver what that wants",
            where=where,
        )


def _unreadable(name: str, version: str, where: Location) -> VersionsDiffer:
    """A version that cannot be compared is not taken for one that fits."""
    return VersionsDiffer(
        "a version that begins with no number, so that nothing can be said of what it goes with",
        found=f"{name} {version}",
        wanted="a version like 550.163.01",
        hint="a package that was built anew keeps the maker's number in front",
        where=where,
    )
