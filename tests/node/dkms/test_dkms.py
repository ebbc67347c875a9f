"""Definitions that ship: their driver compiled by dkms on a booted node without a network, from a bundle.

``make test-dkms``; not among what ``make test`` runs: it compiles for minutes.  The packages are those of
``bundles/h100-vllm.yaml`` for Debian 12 and of ``bundles/h100-vllm-trixie.yaml`` for Debian 13, and there
once more by the names of the first, which are branch 550; from the live archive.  The model and its engine
are the demonstration's, since what serves takes no part here.  A practice node has neither GPUs nor a
kernel of its own: the module is compiled for the kernel that the bundle brings, and whether it loads, only
metal shows.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from appliance.hardware.driver_packages import branch, headers_for, is_dkms, upstream
from tests.node.shipped import BUNDLES, DEMO, read_shipped, with_demonstrations_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.node, pytest.mark.archive, pytest.mark.dkms]

PARTS = ("", "-modeset", "-drm", "-uvm")


@dataclass(frozen=True)
class Case:
    """A release, by which definition's packages, what dkms calls the driver, and its branch."""

    suite: str
    definition: str
    driver: str
    branch: int

    @property
    def suffix(self) -> str:
        """The end of a module's file: as Debian's kernel of that release has its own."""
        return "ko.xz" if self.suite == "trixie" else "ko"

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(f"{self.driver}{part}" for part in PARTS)


@pytest.fixture(
    scope="module",
    params=[
        Case("bookworm", "h100-vllm", "nvidia-current", 535),
        Case("trixie", "h100-vllm-trixie", "nvidia-tesla-535", 535),
        Case("trixie", "h100-vllm", "nvidia-current", 550),
    ],
    ids=["bookworm", "trixie-535", "trixie-550"],
)
def case(request: pytest.FixtureRequest) -> Case:
    """What is installed: one after the other, each on a node of its own."""
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def bundle(case: Case, new_bundle: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the driver's packages as they ship; it asks for no hardware, as the node has none."""
    folder = tmp_path_factory.mktemp("driver")
    target = read_shipped(DEMO)["target"] if case.suite == "trixie" else None
    definition = with_demonstrations_engine(folder / "plan", BUNDLES / f"{case.definition}.yaml", target)
    made: Path = new_bundle(definition, folder)
    return made


@pytest.fixture(scope="module")
def brought(bundle: Path) -> dict[str, str]:
    """Versions of the Debian packages in the bundle, by name."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    files = manifest["components"]["system"]["files"]
    return {file["name"]: file["version"] for file in files if file["origin"]["kind"] == "debian"}


@pytest.fixture(scope="module")
def kernel(brought: dict[str, str]) -> str:
    """The kernel that the bundle has headers of."""
    (found,) = {headers for name in brought if (headers := headers_for(name))}
    return found


@pytest.fixture(scope="module")
def installed(
    case: Case, bundle: Path, bookworm_image: str, new_lab: Any, new_installer: Any
) -> Iterator[Any]:
    """The node, after all stages."""
    with new_lab(suite=bookworm_image if case.suite == "bookworm" else case.suite) as lab:
        installer = new_installer(lab, bundle)
        installer.timeout = 2400
        began = time.monotonic()
        code, result, told = installer()
        print(f"\n{case.suite}, {case.driver}: installed, compiled, in {time.monotonic() - began:.0f} s")
        assert code == 0, (result, told[-4000:])
        yield installer


def test_dkms_has_built_the_drivers_modules_for_the_bundles_kernel(
    case: Case, installed: Any, brought: dict[str, str], kernel: str
) -> None:
    (driver,) = {upstream(version) for name, version in brought.items() if is_dkms(name)}
    node = installed.lab.node
    assert branch(driver) == case.branch
    status = node.run("dkms status").stdout.splitlines()
    assert status == [f"{case.driver}/{driver}, {kernel}, x86_64: installed"]
    for module in case.modules:
        told = node.run(f"modinfo -k {kernel} {module}").stdout
        fields = dict(line.split(":", 1) for line in reversed(told.splitlines()) if ":" in line)
        assert fields["vermagic"].split()[0] == kernel, module
        assert fields["filename"].strip().startswith(f"/lib/modules/{kernel}/updates/dkms/"), module
        assert "DKMS module signing key" in fields["signer"], "a node with secure boot asks for one"
    assert node.run(f"modinfo -k {kernel} -F version {case.driver}").stdout.strip() == driver


def test_what_the_driver_is_asked_by_is_of_its_version(
    case: Case, installed: Any, brought: dict[str, str]
) -> None:
    """Debian keeps the parts of several branches in folders of their own, and leads to one by links."""
    (driver,) = {upstream(version) for name, version in brought.items() if is_dkms(name)}
    node = installed.lab.node
    library = node.run("readlink -f /usr/lib/x86_64-linux-gnu/libcuda.so.1").stdout.strip()
    assert library.endswith(f"/libcuda.so.{driver}")
    node.run("test -x /usr/bin/nvidia-smi && test -x /usr/bin/nvidia-persistenced")
    assert f"modprobe -i {case.driver} " in node.run("modprobe --showconfig").stdout, "modprobe nvidia"


def test_the_running_kernel_got_none_and_nothing_was_fetched_for_it(installed: Any, kernel: str) -> None:
    node = installed.lab.node
    assert node.run("uname -r").stdout.strip() != kernel
    assert node.run("ls /lib/modules").stdout.split() == [kernel]
    assert node.run("ip route get 1.1.1.1", check=False).returncode != 0, "there was no network"


def test_the_second_run_changes_nothing_and_compiles_nothing(
    case: Case, installed: Any, kernel: str
) -> None:
    node = installed.lab.node
    when = f"stat -c %Y /lib/modules/{kernel}/updates/dkms/{case.driver}.{case.suffix}"
    before = node.run(when).stdout
    code, result, told = installed()
    assert code == 0, (result, told[-4000:])
    assert result["changes"] == []
    assert node.run(when).stdout == before
