"""Why apt said no.  Its exit status does not tell, so each question is put to it, or to the disk, anew."""

from __future__ import annotations

import shutil
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from appliance.errors import (
    DefinitionInvalid,
    DigestMismatch,
    PackageMissing,
    SourceUnreachable,
    SpaceExhausted,
)
from appliance.sources.apt import AptFailed, AptRoot, Package

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.sources.kinds import Where

_NAMED: Final = 5  # packages named in a message before "and others"


def unresolvable(
    root: AptRoot, packages: Sequence[str], where: Where, fault: AptFailed
) -> DefinitionInvalid:
    """Which package is to blame: the first that cannot be had even alone; else their combination."""
    for index, package in enumerate(packages):
        try:
            root.closure([package])
        except AptFailed as alone:
            return PackageMissing(
                f"{package} cannot be had from {root.title}",
                found=str(alone),
                hint="look for its name in that suite; packages are often renamed between releases",
                where=where(("packages", index)),
            )
    return DefinitionInvalid(
        "these Debian packages cannot be installed together", found=str(fault), where=where(("packages",))
    )


def check_applied(versions: Mapping[str, str], packages: Sequence[Package], where: Where) -> None:
    """Raise ``DefinitionInvalid`` unless each of ``versions`` is that of a package which was resolved.

    apt says nothing of one that it found nowhere, and takes the newest.
    """
    for glob, version in versions.items():
        named = [package for package in packages if fnmatchcase(package.name, glob)]
        if any(fnmatchcase(package.version, version) for package in named):
            continue
        raise DefinitionInvalid(
            f"no package is of the version {glob}: {version}",
            found=", ".join(f"{package.name} {package.version}" for package in named[:_NAMED])
            or f"no package of the name {glob} among {len(packages)}",
            wanted="a version that one of these packages has, whole or with globs: 580*",
            hint="write what the repository has, or leave this line out",
            where=where(("versions", glob)),
        )


def check_offered(root: AptRoot, packages: Sequence[Package]) -> None:
    """Raise ``PackageMissing`` unless the archive still has exactly these versions."""
    try:
        offered = root.show([package.pinned for package in packages])
    except AptFailed:
        offered = []
    gone = {package.pinned for package in packages} - {package.pinned for package in offered}
    if not offered:
        gone = {package.pinned for package in packages if not _is_offered(root, package)}
    if gone:
        raise PackageMissing(
            "the archive no longer has what was locked",
            found=f"not there: {', '.join(sorted(gone)[:_NAMED])}"
            + (" and others" if len(gone) > _NAMED else ""),
            hint="lock again, and review what changed",
        )


def _is_offered(root: AptRoot, package: Package) -> bool:
    try:
        return bool(root.show([package.pinned]))
    except AptFailed:
        return False


def not_fetched(
    root: AptRoot, wanted: Sequence[Package], fault: AptFailed
) -> DigestMismatch | SpaceExhausted | SourceUnreachable:
    """Why apt could not fetch: it keeps what had a wrong digest aside as ``*.FAILED``."""
    failed = list((root.archives / "partial").glob("*.FAILED"))
    for file in failed:
        file.unlink()
    if failed:
        names = ", ".join(file.name.removesuffix(".FAILED") for file in failed)
        return DigestMismatch(
            "the archive sent other bytes than its signed index promises; they were not kept",
            found=names,
            hint="try again later, or another mirror",
        )
    free = shutil.disk_usage(root.folder).free
    need = sum(package.size for package in wanted)
    if free < need:
        return SpaceExhausted(
            f"no room for the Debian packages under {root.folder}",
            found=f"{free:,} bytes free",
            wanted=f"{need:,} bytes",
            hint="free some space, or name another folder with --store",
        )
    return SourceUnreachable(
        "the Debian archive did not deliver; what came is kept for the next try",
        found=str(fault),
        hint="check this station's network, then run the same command again",
    )
