"""Encrypted media on a kernel that has dm-crypt: the tests marked ``dmcrypt``, run on a virtual machine.

The machine gets this checkout and the wheels these tests need, for its own Python, and no network.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Machines, NewMachines

    from tests.node.conftest import Operator

pytestmark = [pytest.mark.vm, pytest.mark.archive]

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = "tests/unit/bundle/media/test_luks.py"
# Of what the program needs, what writing, signing and verifying a bundle needs; and what runs tests.
NEEDED = ("cryptography", "packaging", "pydantic", "pynacl", "pyyaml", "rfc8785", "pytest")


@pytest.fixture(scope="module")
def luks_machine(new_machines: NewMachines) -> Iterator[Machines]:
    with new_machines() as machines:
        yield machines


@pytest.fixture(scope="module")
def cargo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar archive of the program, its tests, and the wheels for Python 3.13."""
    folder = tmp_path_factory.mktemp("cargo")
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [line for line in project["dependencies"] if line.startswith(NEEDED)]
    assert {name for name in NEEDED for line in wanted if line.startswith(name)} == set(NEEDED)
    target = ["--python-version", "3.13", "--only-binary", ":all:"]
    target += [part for year in ("2014", "_2_28") for part in ("--platform", f"manylinux{year}_x86_64")]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", *target]
    subprocess.run([*install, "--target", folder / "wheels", *wanted], check=True)
    archive = folder / "cargo.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("appliance", "tests", "pyproject.toml"):
            tar.add(CHECKOUT / name, name, filter=lambda info: None if "__pycache__" in info.name else info)
        tar.add(folder / "wheels", "wheels")
    return archive


def test_luks_media_are_written_interrupted_and_read_back_by_a_real_kernel(
    luks_machine: Machines, desk: Operator, cargo: Path
) -> None:
    node = luks_machine.node
    node.run("mkdir /root/checkout && modprobe dm-crypt && modprobe loop", timeout=120)
    with cargo.open("rb") as file:
        unpack = ["appliance", "lab", "shell", node.name, "--", "tar", "-x", "-C", "/root/checkout"]
        desk.run(unpack, stdin=file, timeout=300)
    report = "/root/report.xml"
    python = "cd /root/checkout && PYTHONPATH=$PWD:$PWD/wheels python3 -m pytest -p no:cacheprovider"
    done = node.run(f"{python} -m dmcrypt --junitxml={report} {TESTS}", check=False, timeout=1200)
    print(done.stdout[-2000:])
    (suite,) = ET.fromstring(node.run(f"cat {report}").stdout).iter("testsuite")  # noqa: S314 - our own
    counts = {name: int(suite.get(name, "-1")) for name in ("tests", "skipped", "failures", "errors")}
    assert counts == {"tests": _marked(), "skipped": 0, "failures": 0, "errors": 0}, done.stdout
    assert node.run("ls /dev/mapper").stdout.split() == ["control"], "nothing stays open"


def _marked() -> int:
    """How many tests are marked, as this machine's pytest counts them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "dmcrypt", TESTS]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return sum("::" in line for line in done.stdout.splitlines())
