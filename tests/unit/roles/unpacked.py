"""The real netplan and ufw of a Debian suite, unpacked into a folder and run there as root of a namespace.

Nothing is installed: no maintainer script runs and nothing outside the folder is touched.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from appliance.definition.components import Debian
from appliance.definition.names import Target
from appliance.progress import Silent
from appliance.sources.debian_packages import DebianPackages
from appliance.sources.station import Station, read_settings
from appliance.sources.store import Store

#: Suites whose netplan a node may have, and their Python.
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
PACKAGES = (
    *("netplan.io", "ufw", "nftables", "python3", "iproute2", "util-linux"),
    *("libc-bin", "dash", "coreutils", "grep", "sed"),
)

#: What maintainer scripts would set up and programs need.
_ALTERNATIVES = [
    f"{name}{part}" for name in ("iptables", "ip6tables") for part in ("", "-save", "-restore")
]
_LINKS = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")}


def unpack(suite: str, folder: Path) -> Path:
    """Resolve, fetch and unpack; returns the root folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appliance/store"
    station = Station(Store(cache), read_settings(os.environ), Silent(), folder)
    target = Target(distribution="debian", suite=suite, architecture="amd64", python=PYTHONS[suite])
    source = DebianPackages(target, station)
    found = source.resolve(
        Debian(kind="debian", packages=PACKAGES), lambda name: pytest.fail(f"no such package: {name}")
    )
    source.fetch(found)
    root = folder / "root"
    for name, to in _LINKS.items():  # before the packages: some still ship /lib and /sbin
        (root / to).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(to)
    for artefact in found:
        if artefact.path.endswith(".deb"):
            deb, to = (shlex.quote(str(path)) for path in (station.store.path(artefact.sha256), root))
            command = f"dpkg-deb --fsys-tarfile {deb} | tar -x --keep-directory-symlink -C {to}"
            subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, capture_output=True)
    for name in _ALTERNATIVES:
        family = name.partition("-")[0]
        (root / "usr/sbin" / name).unlink(missing_ok=True)
        (root / "usr/sbin" / name).symlink_to(name.replace(family, f"{family}-nft", 1))
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("dash")
    for path in sorted((root / "usr/share/ufw").rglob("*.*")):  # ufw's postinst, and nothing more of it
        if path.suffix in {".conf", ".rules"}:
            (root / "etc/ufw" / path.name).write_text(path.read_text())
    for name in ("proc", "sys", "run", "tmp", "dev"):
        (root / name).mkdir(exist_ok=True)
    (root / "dev/null").touch()
    done = enter(root, "ldconfig")  # netplan of bookworm looks its library up in the loader's cache
    assert done.returncode == 0, done.stderr
    return root


def enter(root: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in the folder, in a network and mount namespace of its own."""
    inside = (
        f"mount -t proc proc {shlex.quote(str(root))}/proc && exec chroot {shlex.quote(str(root))} sh -e"
    )
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--", "sh", "-c", inside]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        command, input=script, capture_output=True, text=True, check=False, env=environment
    )
