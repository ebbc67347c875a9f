"""The same lock gives the same bytes on another machine, Python, day, locale, umask, user and file system.

Here: this checkout's environment.  There: a Debian system of another release, entered with chroot, with
no network, another user, another Python, a clock years ahead, a Turkish locale (which has its own idea of
small and capital letters), and a store that was filled in the opposite order on another kind of file
system.  Both run the real ``appliance build``.  What is said to differ is compared, and must differ.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from appliance.definition.lock import Artefact, LockedComponent, lock_text
from appliance.lab.places import Places
from appliance.lab.recipe import Recipe
from appliance.lab.rootfs import prepare_root
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

pytestmark = [pytest.mark.node, pytest.mark.archive]

CHECKOUT = Path(__file__).resolve().parents[2]
#: What ``appliance build`` never imports, and would take long to bring.
NOT_FOR_BUILDING = {"ansible-core", "paramiko", "pytest", "pytest-testinfra"}
ELSEWHERE = Recipe(packages=("faketime", "locales", "python3"), enabled=(), written={})

DEFINITION = """\
format: 1
product: demo
version: "1.0.0"
sequence: 7
target: {distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}
components:
  engine: {kind: python, requirements: [engine]}
  extras: {kind: files, files: [{path: site/notice.txt, sha256: "%s", licence: proprietary}]}
  model: {kind: tiny-gguf, sentence: An answer., licence: CC0-1.0}
  system: {kind: debian, packages: [base]}
inference: {engine: engine, model: model, file: tiny.gguf, name: demo}
"""
NOTICE = "Çelik, Straße\n".encode()

#: Says, as JSON, what a program here could notice of its surroundings.
LOOK = """\
import hashlib, json, locale, os, platform, sys, time
umask = os.umask(0)
print(json.dumps({
    "cores": len(os.sched_getaffinity(0)),
    "directory": os.getcwd(),
    "distribution": platform.freedesktop_os_release()["VERSION_ID"],
    "hash": hash("appliance"),
    "home": os.environ["HOME"],
    "host": platform.node(),
    "locale": locale.setlocale(locale.LC_ALL, ""),
    "python": sys.version_info[:2],
    "store order": [entry.name for entry in os.scandir(sys.argv[1] + "/objects")],
    "store system": os.statvfs(sys.argv[1]).f_files,
    "umask": umask,
    "user": os.getuid(),
    "year": time.gmtime().tm_year,
    "zone": time.strftime("%z"),
}))
"""

#: Runs in namespaces of its own.  $1: this test's folder, $2: the root, $3: the checkout.
THERE = """\
set -eu
there=$1/there
mount -t tmpfs -o mode=755 tmpfs "$there"
mkdir "$there/upper" "$there/work" "$there/root"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$there/upper,workdir=$there/work" "$there/root"
cd "$there/root"
mkdir opt/appliance opt/packages srv/deep srv/deep/er srv/home
mount -t proc proc proc
mount -o bind,ro "$3" opt/appliance
mount -o bind,ro "$1/packages" opt/packages
cp "$1/small.yaml" "$1/small.lock.json" "$1/root.json" "$1/look.py" srv/
mkdir -p srv/store/partial
(cd "$1/store" && find objects -type f | sort --reverse) | while read -r path; do
    install -D --mode=444 "$1/store/$path" "srv/store/$path"
done
chroot . localedef -i tr_TR -f UTF-8 tr_TR.UTF-8
chown -R 4321:4321 srv
hostname elsewhere
umask 077
env --ignore-environment PATH=/usr/sbin:/usr/bin HOME=/srv/home LC_ALL=tr_TR.UTF-8 TZ=Pacific/Apia \\
    PYTHONPATH=/opt/appliance:/opt/packages PYTHONHASHSEED=4321 PYTHONDONTWRITEBYTECODE=1 \\
    taskset --cpu-list "$4" chroot --userspec=4321:4321 . sh -c '
        cd /srv/deep/er
        export LD_PRELOAD=$(find /usr/lib -name libfaketime.so.1) FAKETIME="@2031-07-05 03:04:05"
        export FAKETIME_DONT_FAKE_MONOTONIC=1
        python3 /srv/look.py /srv/store >/srv/look.json
        python3 -c "from appliance.cli.app import main; main()" build /srv/small.yaml \\
            --out ../bundle --root /srv/root.json --store /srv/store' >&2
cp -a srv/look.json "$1/there.json"
cp -a srv/deep/bundle "$1/bundle-there"
"""


@dataclass(frozen=True)
class Built:
    """A finished bundle, and what the program that built it could notice of its surroundings."""

    bundle: Path
    surroundings: Mapping[str, object]


@pytest.fixture
def site(maker: BundleMaker, two_of_three: Root) -> Iterator[Path]:
    """A folder with a definition, its lock, a root, a warm store, and the packages for the other Python."""
    folder = maker.folder
    contents = {
        "engine": (
            "python",
            {"engine-1.0-py3-none-any.whl": b"wheel", "requirements.txt": b"engine==1.0\n"},
        ),
        "extras": ("files", {"site/notice.txt": NOTICE, "INSTALL": b"I", "empty": b"", "io/Iota": b"i"}),
        "model": ("tiny-gguf", {"tiny.gguf": os.urandom(13 << 20)}),
        "system": ("debian", {f"p{number}_1_amd64.deb": b"%d" % number for number in range(200)}),
    }
    lock = maker.lock(contents)
    definition = DEFINITION % hashlib.sha256(NOTICE).hexdigest()
    (folder / "small.yaml").write_text(definition)
    components = {name: _with_origins(name, each) for name, each in lock.components.items()}
    digest = hashlib.sha256(definition.encode()).hexdigest()
    locked = lock.model_copy(update={"definition": digest, "components": components, "parity": 5})
    (folder / "small.lock.json").write_text(lock_text(locked))
    (folder / "root.json").write_bytes(root_bytes(two_of_three))
    (folder / "look.py").write_text(LOOK)
    yield folder
    shutil.rmtree(folder / "packages", ignore_errors=True)  # large, and pytest keeps folders


def _with_origins(name: str, component: LockedComponent) -> LockedComponent:
    """The component with origins as its kind has them, and a licence that is not ASCII."""
    origins = {
        "engine": {"kind": "python", "project": "engine"},
        "extras": {"kind": "file"},
        "model": {"kind": "generated", "generator": "tiny-gguf 1", "sentence": "An answer."},
        "system": {
            "kind": "debian",
            "suite": "trixie",
            "component": "main",
            "package": "base",
            "architecture": "amd64",
        },
    }

    def described(artefact: Artefact) -> Artefact:
        return artefact.model_copy(update={"origin": origins[name], "licence": "Çelik-Lizenz"})

    return component.model_copy(update={"artefacts": tuple(map(described, component.artefacts))})


@pytest.fixture
def built_here(site: Path) -> Built:
    """Built in the environment of this test run."""
    bundle = site / "bundle-here"
    surroundings = {**os.environ, "PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    program = [Path(sys.executable).with_name("appliance")]
    build = ["build", "small.yaml", "--out", bundle, "--root", "root.json", "--store", "store"]
    run([*program, *build], cwd=site, env=surroundings)
    look = run([sys.executable, "look.py", "store"], cwd=site, env=surroundings)
    return Built(bundle, json.loads(look.stdout))


@pytest.fixture
def built_there(site: Path) -> Built:
    """Built in the other system, with no network."""
    install_packages(site / "packages")
    root = prepare_root(Places.from_environment(), ELSEWHERE, progress=Silent())
    (site / "there").mkdir()
    apart = ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
    core = str(min(os.sched_getaffinity(0)))
    run([*apart, "sh", "-c", THERE, "sh", site, root, CHECKOUT, core])
    return Built(site / "bundle-there", json.loads((site / "there.json").read_text()))


def install_packages(target: Path) -> None:
    """The packages that ``appliance build`` needs, for the other system's Python; as pip is configured."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["station"]]
    wanted = [each for each in wanted if Requirement(each).name not in NOT_FOR_BUILDING]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    foreign = ["--only-binary=:all:", "--python-version=3.13", "--platform=manylinux_2_28_x86_64"]
    older = ["--platform=manylinux_2_17_x86_64", "--platform=manylinux2014_x86_64"]
    run([*pip, *foreign, *older, "--no-compile", "--target", target, *wanted])


def run(command: list[object], **more: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command[:4]} failed: {done.stdout}{done.stderr}"
    return done


def everything_in(bundle: Path) -> dict[str, tuple[int, str]]:
    """Mode and digest (of a folder: nothing) of all that lies there."""
    found = {}
    for path in bundle.rglob("*"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(bundle))] = (stat.S_IMODE(path.lstat().st_mode), digest)
    return found


def test_the_same_lock_gives_the_same_bytes_elsewhere(built_here: Built, built_there: Built) -> None:
    here, there = built_here.surroundings, built_there.surroundings
    alike = [name for name in here if here[name] == there[name] and name != "cores"]
    assert alike == []
    assert there["cores"] == 1
    assert (there["locale"], there["python"], there["year"]) == ("tr_TR.UTF-8", [3, 13], 2031)
    made = everything_in(built_here.bundle)
    assert made == everything_in(built_there.bundle)
    assert made.keys() >= {"sbom/bundle.cdx.json", "parity/set-0000.par2", "blocks.bin"}
