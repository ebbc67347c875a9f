"""The names under which scanners look packages up: package URLs and CPEs.

A purl is made for every package but plain data (purl-spec, types pypi, deb, huggingface, oci).  A CPE
only where the vulnerability database's own names are known (``cpe.toml``): a guessed one would match
nothing and look as if there were nothing.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from packageurl import PackageURL

    from appliance.bundle.manifest import Target
    from appliance.bundle.packages import Package

#: Scanners know releases by number; a suite that is not here stands under its own name.
_RELEASES: Final = {
    ("debian", "bookworm"): "12",
    ("debian", "trixie"): "13",
    ("ubuntu", "jammy"): "22.04",
    ("ubuntu", "noble"): "24.04",
}
_EPOCH = re.compile(r"[0-9]+:")
#: What packagers add to an upstream version: repacked sources, snapshots, rebuilds.
_REPACKED = re.compile(r"[+~](?:dfsg|ds|repack|git|deb|ubuntu|[0-9]{8}).*|\+[0-9]+$")
_PATCH = re.compile(r"([0-9][0-9.]*)(p[0-9]+)")  # OpenSSH 9.2p1, sudo 1.9.13p3
_CPE_SPECIAL = re.compile(r"([^A-Za-z0-9._\-])")


def purl(package: Package, target: Target) -> PackageURL | None:
    """The package URL; None for plain and generated data, which nobody publishes."""
    from packageurl import PackageURL

    type_, group, name, qualifiers = "generic", "", package.name, dict[str, str]()
    match package.kind:
        case "python":
            type_ = "pypi"
            qualifiers = {"file_name": package.files[0].path.rpartition("/")[2]}
        case "debian":
            # Advisories of Debian do not speak of other makers' packages, whatever their names.
            group = package.origin.get("archive", target.distribution)
            type_, qualifiers = "deb", _debian_qualifiers(package, target)
        case "huggingface":
            type_ = "huggingface"
            group, _, name = package.name.rpartition("/")
        case "oci":
            type_, name = "oci", package.name.rpartition("/")[2].lower()
            if platform := package.origin.get("platform"):  # "linux/amd64"
                qualifiers = {"arch": platform.partition("/")[2]}
        case "toolkit":
            pass
        case _ if package.is_model and package.sha256:
            qualifiers = {"checksum": f"sha256:{package.sha256}"}
        case _:
            return None
    return PackageURL(type_, group or None, name, package.version, qualifiers or None)


def _debian_qualifiers(package: Package, target: Target) -> dict[str, str]:
    """Architecture, release, and the source package, which advisories speak of, where it is another."""
    release = _RELEASES.get((target.distribution, target.suite), target.suite)
    source = package.origin.get("source", package.name)
    version = package.origin.get("source_version")
    qualifiers = {
        "arch": package.origin["architecture"],
        "distro": f"{target.distribution}-{release}",
    }
    if "archive" in package.origin:  # another maker's, for no release of this distribution
        del qualifiers["distro"]
    if source != package.name or version:
        qualifiers["upstream"] = f"{source}@{version}" if version else source
    return qualifiers


def cpe(package: Package) -> str | None:
    """The CPE 2.3 name (NISTIR 7695) of the upstream release, where its names are known."""
    table = _table().get(package.kind)
    if table is None:
        return None
    name = package.origin.get("source", package.name) if package.kind == "debian" else package.name
    known = table.get(name if package.kind == "debian" else _normalised(name))
    if known is None:
        return None
    version, update = upstream_version(package), "*"
    if patched := _PATCH.fullmatch(version):
        version, update = patched[1], patched[2]
    return f"cpe:2.3:{known}:{_escaped(version)}:{update}:*:*:*:*:*:*"


def upstream_version(package: Package) -> str:
    """The version its authors gave it: a Debian version without epoch, revision and packagers' marks."""
    if package.kind != "debian":
        return package.version
    version = package.origin.get("source_version", package.version)
    version = _EPOCH.sub("", version, count=1)
    version = version.rpartition("-")[0] or version
    version = version.rpartition("+really")[2]  # 5.8+really5.4 is 5.4
    return _REPACKED.sub("", version)


def _normalised(project: str) -> str:
    return re.sub(r"[-_.]+", "-", project).lower()  # PEP 503


def _escaped(text: str) -> str:
    return _CPE_SPECIAL.sub(r"\\\1", text)


@cache
def _table() -> dict[str, dict[str, str]]:
    return tomllib.loads(files("appliance.bundle.sbom").joinpath("cpe.toml").read_text(encoding="utf-8"))
