"""What apt is told in a root of its own; what is not said here, the station's apt.conf says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
    "Dir::Etc::PreferencesParts": "/dev/null",
    "Dir::Etc::Trusted": "/dev/null",
    "Dir::Etc::TrustedParts": "/dev/null",
}


def configuration(folder: Path, architecture: str) -> str:
    """Its apt.conf (apt.conf(5)): nothing of this station's packages, hooks or trust takes part."""
    places = {
        "APT::Architecture": architecture,
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "state" / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::Preferences": folder / "preferences",
    }
    lists = {"APT::Architectures": architecture, "Acquire::Languages": "none"}
    return "".join(
        [
            *(f"#clear {name};\n" for name in (*_HOOKS, *lists)),
            *(f'{name} "{value}";\n' for name, value in {**_SETTINGS, **places}.items()),
            *(f'{name} {{ "{value}"; }};\n' for name, value in lists.items()),
        ]
    )


def preferences(versions: Mapping[str, str]) -> str:
    """Versions by globs of packages, before all others and even if older (apt_preferences(5))."""
    return "\n".join(
        f"Package: {package}\nPin: version {version}\nPin-Priority: 1001\n"
        for package, version in sorted(versions.items())
    )
