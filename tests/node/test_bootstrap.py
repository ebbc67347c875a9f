"""From a medium to an installed node, on stock systems without a network: what docs/bootstrap.md promises.

A controller is a Debian root as mmdebstrap makes it, in a container that holds no interface but loopback
or, where it has a node to install, the operator's side of a lab.  The medium is mounted read-only.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from appliance.lab.places import Places
from appliance.lab.recipe import Recipe
from appliance.lab.rootfs import prepare_root
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import NewLab, Operator

    Stock = Callable[[str], "Controller"]

pytestmark = [pytest.mark.node, pytest.mark.archive]

#: Python and OpenSSH's client, and what these need: less than any installation of Debian has.
SUITES = {
    suite: Recipe(suite=suite, packages=("openssh-client", "python3"), enabled=(), written={})
    for suite in ("bookworm", "trixie")
}
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
MEDIUM = "/media/usb stick/demo"
DESK = "/root/desk"
TOOLKIT = "/opt/appliance/toolkit"
PROGRAM = f"{TOOLKIT}/bin/appliance"
INVENTORY = """
format: 1
site: desk
management:
  networks: ["10.20.0.0/28"]
  operator: ["10.20.0.1"]
revert_after: 120
nodes:
  gpu-01:
    connection: local
    address: "10.20.0.11"
    interfaces:
      mgmt:
        match: {name: eno1}
        addresses: ["10.20.0.11/24"]
"""

# All but what only a build station has, and what is run on nodes or by Ansible or pytest.
IMPORT_ALL = """
import importlib, pkgutil, appliance, pytest, testinfra
from appliance.content import content_root
left_out = ("appliance.sources.", "appliance.bundle.sbom.")
left_out += ("appliance.node.remote.", "appliance.node.ansible.callback.")
for module in pkgutil.walk_packages(appliance.__path__, "appliance."):
    name = module.name + "."
    if not name.startswith(left_out) and ".test_" not in name:
        importlib.import_module(module.name)
assert (content_root() / "playbooks/site.yml").is_file()
assert len(list((content_root() / "roles").glob("*/tasks/main.yml"))) >= 5
"""

# $1 folder with root, upper, work, desk; $2 medium; the rest is the container's command.
INSIDE = f"""
set -e
folder=$1 medium=$2; shift 2
layers=lowerdir=$folder/root,upperdir=$folder/upper,workdir=$folder/work
mount -t overlay -o "$layers" overlay "$folder/merged"
mount --bind "$medium" "$folder/medium"
mount -o remount,bind,ro,noexec,nosuid,nodev "$folder/medium"
mount -t tmpfs -o mode=755 tmpfs /run/systemd
exec systemd-nspawn --quiet --register=no --keep-unit --console=pipe --settings=no --as-pid2 \\
    --resolv-conf=off --timezone=off --link-journal=no --private-users=no --directory="$folder/merged" \\
    --bind-ro="$folder/medium:{MEDIUM}" --bind="$folder/desk:{DESK}" "$@"
"""


@dataclass(frozen=True)
class Controller:
    """A computer with a stock system and a medium; it keeps what was set up on it."""

    folder: Path
    medium: Path
    network: str = "--private-network"

    def run(
        self, *command: str, check: bool = True, timeout: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root; unless ``check`` is off, it must succeed."""
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "sh",
                "-c",
                INSIDE,
                "sh",
                self.folder,
                self.medium,
                self.network,
                *command,
            ],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def values(self, *command: str) -> dict[str, object]:
        """The JSON result of one of our commands."""
        result: dict[str, object] = json.loads(self.run(PROGRAM, *command, "--json").stdout)
        return result


@pytest.fixture(scope="module")
def stock(demo: Path, trusted: Path, tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """Stock systems by suite, with nothing set up; on the desk lies what was brought by another way."""

    @functools.cache
    def make(suite: str) -> Controller:
        folder = tmp_path_factory.mktemp(suite)
        for name in ("upper", "work", "merged", "medium", "desk"):
            (folder / name).mkdir()
        root = prepare_root(Places.from_environment(), SUITES[suite], progress=Silent())
        (folder / "root").symlink_to(root)
        for name in ("root.1.json", "root.1.allowed_signers"):
            (folder / "desk" / name).write_bytes((trusted.parent / name).read_bytes())
        return Controller(folder, demo)

    return make


@pytest.fixture(scope="module")
def ready(stock: Stock) -> Stock:
    """The same, after ``sh bootstrap.sh``."""

    @functools.cache
    def make(suite: str) -> Controller:
        controller = stock(suite)
        signers = (controller.folder / "desk/root.1.allowed_signers").read_bytes()
        done = controller.run(
            *("sh", f"{MEDIUM}/bootstrap.sh", "--signers", f"{DESK}/root.1.allowed_signers"),
            *("--fingerprint", hashlib.sha256(signers).hexdigest(), "--threshold", "1"),
        )
        assert done.stdout == f"{PROGRAM}\n"
        assert "good signature of alice" in done.stderr
        return controller

    return make


@pytest.mark.parametrize("suite", SUITES)
def test_the_system_is_stock_and_has_no_network(stock: Stock, suite: str) -> None:
    run = stock(suite).run
    assert run("ls", "/sys/class/net").stdout == "lo\n"
    version = run("python3", "-c", "import sys; print(*sys.version_info[:2], sep='.')").stdout
    assert version.strip() == PYTHONS[suite]
    for module in ("pip", "ensurepip"):
        assert run("python3", "-m", module, check=False).returncode != 0


@pytest.mark.parametrize("suite", SUITES)
def test_the_medium_can_neither_be_written_to_nor_run_from(stock: Stock, suite: str) -> None:
    run = stock(suite).run
    options = run("findmnt", "--noheadings", "--output", "OPTIONS", MEDIUM).stdout
    assert {"ro", "noexec", "nosuid", "nodev"} <= set(options.strip().split(","))
    assert run("touch", f"{MEDIUM}/x", check=False).returncode != 0


@pytest.mark.parametrize("suite", SUITES)
def test_what_was_set_up_verifies_the_bundle_and_validates_an_inventory(ready: Stock, suite: str) -> None:
    controller = ready(suite)
    trust = ("--trust", f"{DESK}/root.1.json")
    assert controller.values("verify", MEDIUM, *trust)["product"] == "demo"
    site = controller.folder / "desk/site"
    site.mkdir()
    (site / "inventory.yml").write_text(INVENTORY)
    install = ("install", MEDIUM, "--inventory", f"{DESK}/site", *trust)
    assert controller.values(*install, "--stage", "validate")["product"] == "demo"


@pytest.mark.parametrize("suite", SUITES)
def test_everything_an_installation_runs_is_there(ready: Stock, suite: str) -> None:
    """Nothing is missing that only an installation would miss: modules, playbooks and roles."""
    python, run = f"{TOOLKIT}/bin/python", ready(suite).run
    version = run(python, "-m", "ansible", "playbook", "--version").stdout
    assert version.startswith("ansible-playbook [core 2.")
    run(python, "-c", IMPORT_ALL)


def test_a_stock_debian_12_installs_a_node_from_the_medium(
    ready: Stock, operator: Operator, new_lab: NewLab
) -> None:
    """The real thing: Python and Ansible of the controller are others than the node's.

    A node of trixie sets itself up, and installs itself, in test_install.py.
    """
    alone = ready("bookworm")
    beside = replace(alone, network=f"--network-namespace-path=/run/netns/{operator.netns}")
    with new_lab() as lab:
        shutil.copytree(lab.inventory, alone.folder / "desk/lab")
        done = beside.run(
            *(PROGRAM, "install", MEDIUM, "--inventory", f"{DESK}/lab", "--trust", f"{DESK}/root.1.json"),
            *("--state", "/root/state", "--json"),
            check=False,
            timeout=1200,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    node = json.loads(done.stdout)["nodes"][lab.node.name]
    assert node["apply"]["failed"] == 0
    assert node["apply"]["changed"] > 0
    assert node["qualify"]["verdict"] == "passed"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_folder_is_complete_for_every_python_it_names(python: str, demo: Path, tmp_path: Path) -> None:
    """The resolver of pip, which this time follows dependencies, finds all of them there."""
    toolkit = demo / "payload/toolkit"
    (pip,) = toolkit.glob("pip-*.whl")
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in (35, 34, 28, 17, 12, 5)]
    listed = toolkit / f"requirements-{python}.txt"
    done = subprocess.run(
        [
            *(
                sys.executable,
                f"{pip}/pip",
                "--isolated",
                "--disable-pip-version-check",
                "install",
                "--dry-run",
            ),
            *("--no-index", "--require-hashes", "--only-binary=:all:", "--ignore-installed", "--quiet"),
            *("--python-version", python, *(f"--platform={name}" for name in platforms)),
            *(
                "--target",
                tmp_path / "nowhere",
                "--report",
                "-",
                "--find-links",
                toolkit,
                "--requirement",
                listed,
            ),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [entry["metadata"]["name"] for entry in json.loads(done.stdout)["install"]]
    assert len(found) == len(listed.read_text().splitlines())
