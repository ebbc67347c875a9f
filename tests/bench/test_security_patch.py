"""A hole in one package is mended: from the definition's change to a signed medium, with a warm store.

Everything is real but for the day: the bundle that is out in the field is the one that would have been
locked before the package's newest version came, so its lock has the version that the archive had before,
and everything else as it is.  What is measured is what a person types after the change, each command with
its processor time and that of the programs it runs.  The package is the one the station lacks, so it is
fetched; whoever has a slow line waits longer than these seconds say.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.progress import Silent
from appliance.sources.apt import AptRoot
from appliance.sources.building import build_bundle
from appliance.sources.definition_files import open_definition
from appliance.sources.locking import lock_definition, time_of_lock
from appliance.sources.station import open_station
from appliance.trust.root import root_bytes
from tests.unit.bundle.patch.conftest import root_with_patches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from appliance.definition.lock import Lock
    from appliance.sources.apt import Package
    from tests.bench.conftest import Cost
    from tests.conftest import Holders

pytestmark = pytest.mark.bench

#: Seconds of processor time from the changed definition to the medium, and bytes for each of the packages'.
SECONDS = 60
BYTES = 1.02
#: What the patch of any bundle has besides: the review page, its own manifest, list and bill of materials,
#: the signatures, and what is new in those of the bundle that it makes.
DOCUMENTS = 64 << 10
#: Source packages that are mended often: the first of which the archive has two versions.
SOURCES = ("openssh", "openssl", "systemd", "expat", "gnutls28", "sqlite3", "libxml2", "perl")
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
DEFINITION = """\
format: 1
product: gateway
version: "{number}"
sequence: {number}
target: {{distribution: debian, suite: {suite}, architecture: amd64, python: "{python}"}}
components:
  model: {{kind: tiny-gguf, sentence: An answer., licence: CC0-1.0}}
  engine: {{kind: python, requirements: [xllamacpp]}}
  system: {{kind: debian, packages: [auditd, iproute2, kmod, netplan.io, nftables, openssh-client,
                                   openssh-server, python3, systemd, udev, ufw]}}
  toolkit: {{kind: toolkit}}
inference: {{engine: engine, model: model, file: tiny.gguf, name: gateway}}
"""


def write_definition(folder: Path, number: int) -> Path:
    path = folder / "gateway.yaml"
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    path.write_text(DEFINITION.format(number=number, suite=suite, python=PYTHONS[suite]))
    return path


def before_the_update(root: AptRoot, newest: Sequence[Package]) -> list[Package]:
    """What the archive's closure was while the packages of one source had the version before."""
    for source in SOURCES:
        mended = [each for each in newest if (each.source or each.name) == source]
        older = [f"{each.name}={version}" for each in mended if (version := version_before(root, each))]
        if mended and len(older) == len(mended):
            kept = [each for each in newest if each not in mended]
            return sorted([*kept, *root.show(older)], key=lambda each: each.name)
    raise AssertionError(f"the archive has one version only of each of {SOURCES}")


def version_before(root: AptRoot, package: Package) -> str | None:
    """The second newest version of a package that the archive has, if there are two."""
    command = ["apt-cache", "-c", str(root.folder / "apt.conf"), "madison", package.name]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    versions = list(dict.fromkeys(re.findall(r"\| +(\S+) +\| .* Packages$", said, re.MULTILINE)))
    return versions[1] if len(versions) > 1 else None


@pytest.fixture
def root(tmp_path: Path, holders: Holders) -> Path:
    """Carol and Mallory sign patches."""
    path = tmp_path / "root.1.json"
    path.write_bytes(root_bytes(root_with_patches(holders)))
    return path


@pytest.fixture
def in_the_field(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lock:
    """The lock of the bundle ``base``, which was made before the update; the store has all of its files."""
    read = open_definition(write_definition(tmp_path, 1))
    station = open_station(
        tmp_path / "gateway.yaml", store=tmp_path / "store", mirror=None, progress=Silent()
    )
    newest = AptRoot.closure
    monkeypatch.setattr(
        AptRoot, "closure", lambda root, packages: before_the_update(root, newest(root, packages))
    )
    lock = lock_definition(read, station, created=time_of_lock(os.environ))
    monkeypatch.undo()
    build_bundle(lock, tmp_path / "base", root.read_bytes(), station)
    return lock


def test_a_package_is_mended_in_under_a_minute(  # noqa: PLR0917 - the world it needs
    in_the_field: Lock,
    root: Path,
    program: str,
    measure: Callable[[Sequence[str]], Cost],
    tmp_path: Path,
    holders: Holders,
) -> None:
    definition = write_definition(tmp_path, 2)
    patch, medium = tmp_path / "patch", tmp_path / "medium"
    medium.mkdir()
    store = ["--store", str(tmp_path / "store")]
    sign = ["sign", str(patch), "--role", "patch", "--key"]
    steps: dict[str, list[str]] = {
        "lock": ["lock", str(definition), *store],
        "build": ["build", str(definition), "--out", str(tmp_path / "new"), "--root", str(root), *store],
        "patch build": [
            *("patch", "build", "--from", str(tmp_path / "base")),
            *("--to", str(tmp_path / "new"), "--out", str(patch)),
        ],
        "sign, first": [*sign, str(holders.key("carol"))],
        "sign, second": [*sign, str(holders.key("mallory"))],
        "media write": [
            *("media", "write", str(patch), str(medium), "--size", "1GB"),
            *("--trust", str(root), "--role", "patch"),
        ],
    }
    costs = {name: measure([program, *words]) for name, words in steps.items()}

    old = {each.sha256 for each in in_the_field.components["system"].artefacts}
    locked = json.loads((tmp_path / "gateway.lock.json").read_text())["components"]["system"]["artefacts"]
    debs = [each for each in locked if each["sha256"] not in old and each["path"].endswith(".deb")]
    packages = sum(each["size"] for each in debs)
    travels = sum(path.stat().st_size for path in medium.rglob("*") if path.is_file())
    whole = sum(path.stat().st_size for path in (tmp_path / "new").rglob("*") if path.is_file())
    print(f"\n{', '.join(each['path'] for each in debs)}")
    for name, cost in costs.items():
        print(f"  {name:14}{cost.cpu:6.2f} s CPU {cost.wall:6.2f} s, others {cost.others:.0%}")
    cpu, wall = (sum(getattr(cost, what) for cost in costs.values()) for what in ("cpu", "wall"))
    print(f"  {'all':14}{cpu:6.2f} s CPU {wall:6.2f} s")
    print(f"  medium {travels:,} bytes; packages {packages:,}; whole bundle {whole:,}")
    assert debs
    assert cpu < SECONDS
    assert travels <= BYTES * packages + DOCUMENTS
