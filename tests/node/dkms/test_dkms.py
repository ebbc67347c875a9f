"""A definition that ships: its driver compiled by dkms on a booted node without a network, from a bundle.

``make test-dkms``; not among what ``make test`` runs: it compiles for minutes.  The packages are those of
``bundles/h100-vllm.yaml``, from the live archive; the model and its engine are the demonstration's, since
what serves takes no part here.  A practice node has neither GPUs nor a kernel of its own: the module is
compiled for the kernel that the bundle brings, and whether it loads, only metal shows.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.hardware.driver_packages import headers_for, is_dkms, upstream

pytestmark = [pytest.mark.node, pytest.mark.archive, pytest.mark.dkms]

BUNDLES = Path(__file__).resolve().parents[3] / "bundles"
MODULES = ("nvidia-current", "nvidia-current-modeset", "nvidia-current-drm", "nvidia-current-uvm")


@pytest.fixture(scope="module")
def bundle(new_bundle: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the driver's packages as they ship; it asks for no hardware, as the node has none."""
    folder = tmp_path_factory.mktemp("driver")
    shipped, demo = (
        yaml.safe_load((BUNDLES / f"{name}.yaml").read_text()) for name in ("h100-vllm", "demo")
    )
    components = {name: demo["components"][name] for name in ("model", "engine", "toolkit")}
    values = {
        **demo,
        "product": "driver-test",
        "target": shipped["target"],
        "components": {**components, "system": shipped["components"]["system"]},
        "parity": 0,
    }
    definition = folder / "driver-test.yaml"
    definition.write_text(yaml.safe_dump(values, sort_keys=False))
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
def installed(bookworm_lab: Any, bundle: Path, new_installer: Any) -> Any:
    """The node, after all stages."""
    installer = new_installer(bookworm_lab, bundle)
    installer.timeout = 2400
    began = time.monotonic()
    code, result, told = installer()
    print(f"\ninstalled, and the modules compiled, in {time.monotonic() - began:.0f} s")
    assert code == 0, (result, told[-4000:])
    return installer


def test_dkms_has_built_the_drivers_modules_for_the_bundles_kernel(
    installed: Any, brought: dict[str, str], kernel: str
) -> None:
    (driver,) = {upstream(version) for name, version in brought.items() if is_dkms(name)}
    node = installed.lab.node
    status = node.run("dkms status").stdout.splitlines()
    assert status == [f"nvidia-current/{driver}, {kernel}, x86_64: installed"]
    for module in MODULES:
        told = node.run(f"modinfo -k {kernel} {module}").stdout
        fields = dict(line.split(":", 1) for line in reversed(told.splitlines()) if ":" in line)
        assert fields["vermagic"].split()[0] == kernel, module
        assert fields["filename"].strip().startswith(f"/lib/modules/{kernel}/updates/dkms/"), module
        assert "DKMS module signing key" in fields["signer"], "a node with secure boot asks for one"
    assert node.run(f"modinfo -k {kernel} -F version nvidia-current").stdout.strip() == driver


def test_the_running_kernel_got_none_and_nothing_was_fetched_for_it(installed: Any, kernel: str) -> None:
    node = installed.lab.node
    assert node.run("uname -r").stdout.strip() != kernel
    assert node.run("ls /lib/modules").stdout.split() == [kernel]
    assert node.run("ip route get 1.1.1.1", check=False).returncode != 0, "there was no network"


def test_the_second_run_changes_nothing_and_compiles_nothing(installed: Any, kernel: str) -> None:
    node = installed.lab.node
    when = f"stat -c %Y /lib/modules/{kernel}/updates/dkms/nvidia-current.ko"
    before = node.run(when).stdout
    code, result, told = installed()
    assert code == 0, (result, told[-4000:])
    assert result["changes"] == []
    assert node.run(when).stdout == before
