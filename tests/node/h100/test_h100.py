"""The definition that ships for an H100, built for real, and installed on a booted node as far as that goes.

``make test-h100``; not among what ``make test`` runs: five gigabytes, and dkms compiles for minutes.  It is
``bundles/h100-vllm.yaml`` itself, from the live archive and index, with a generated model in the place of a
gated one, and without the section ``hardware`` (``shipped``): a practice node has neither GPUs nor a
hundred gigabytes of memory, and with that section preflight refuses it, which the first test shows.

What ``hardware`` says reaches preflight and Ollama's unit alone, so the rest is what a node with GPUs gets:
the driver compiled, every wheel and package, the unit of vLLM's build for CUDA.  That finds no GPU and ends;
the installation must say so, and leave a node that serves nothing.  What metal alone can show is in
docs/hardware-checklist.md.

The tests build on each other: one node is installed once and then looked at.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
from packaging.utils import canonicalize_name

from appliance.bundle.manifest import parse_manifest
from appliance.errors import ApplyFailed, HardwareUnfit
from appliance.hardware.driver_packages import headers_for
from tests.node.h100.shipped import SHIPPED, read_shipped, write_definition

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.manifest import Manifest

pytestmark = [pytest.mark.node, pytest.mark.archive, pytest.mark.h100]

UNIT: Final = "appliance-inference.service"
PYTHON: Final = "/opt/appliance/inference/*/venv/bin/python -I"

#: Names and versions of what is installed, as wheels are told apart.
WHEELS: Final = """
import importlib.metadata as m, json
print(json.dumps([[each.metadata["Name"], each.version] for each in m.distributions()]))
"""

#: What serving compiles on a node: Triton a launcher in C against Python's headers, Inductor loops in C++.
COMPILES: Final = """
import pathlib, sysconfig, tempfile, torch
from triton.runtime.build import _build
with tempfile.TemporaryDirectory() as folder:
    source = pathlib.Path(folder, "launcher.c")
    source.write_text("#include <Python.h>\\nint answer(void) {{ return PY_MAJOR_VERSION; }}\\n")
    print("built", pathlib.Path(_build("launcher", str(source), folder, [], [], [], [])).name)
doubled = torch.compile(lambda x: torch.sin(x) * 2)(torch.zeros(8))
print("compiled", float(doubled.sum()), "cuda", torch.cuda.is_available())
"""


@dataclass(frozen=True)
class Built:
    """The signed bundle, and what it is made of."""

    folder: Path
    manifest: Manifest

    def versions(self, component: str, kind: str) -> dict[str, str]:
        """Versions by name, of what a component brings from such an origin."""
        files = self.manifest.components[component].files
        return {file.name: file.version for file in files if file.origin["kind"] == kind}


@dataclass(frozen=True)
class Attempt:
    """One run of ``appliance install``."""

    code: int
    result: Any
    told: str
    seconds: float


@pytest.fixture(scope="module")
def built(new_bundle: Any, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The bundle, with what it took."""
    station = tmp_path_factory.mktemp("h100") / "station"
    definition = write_definition(station)
    began = time.monotonic()
    folder: Path = new_bundle(definition, station)
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    manifest = parse_manifest((folder / "manifest.json").read_bytes())
    counts = ", ".join(f"{len(part.files)} {name}" for name, part in manifest.components.items())
    print(
        f"\nlocked, built and signed in {time.monotonic() - began:.0f} s: "
        f"{len(files)} files, {sum(files) / 1e9:.2f} GB ({counts})"
    )
    return Built(folder, manifest)


@pytest.fixture(scope="module")
def installer(bookworm_lab: Any, built: Built, new_installer: Any) -> Any:
    one = new_installer(bookworm_lab, built.folder)
    one.timeout = 3600
    return one


@pytest.fixture(scope="module")
def attempt(installer: Any) -> Attempt:
    """The first run, on a node that has nothing yet."""
    return run(installer)


def run(installer: Any) -> Attempt:
    began = time.monotonic()
    attempt = Attempt(*installer(), time.monotonic() - began)
    print(f"\ninstallation ended with {attempt.code} after {attempt.seconds:.0f} s")
    return attempt


def test_as_it_ships_it_is_refused_on_a_node_without_gpus(bookworm_lab: Any) -> None:
    """With its section ``hardware``, before anything is changed, and by the name of each thing missing."""
    node = bookworm_lab.node
    asked = ["appliance", "hardware", "-i", str(bookworm_lab.inventory), "-d", str(SHIPPED)]
    told = node.operator_side.run(asked, check=False)
    assert told.returncode == HardwareUnfit.exit_code
    assert f"{node.name}: gpus: none" in told.stderr
    assert "1 h100-sxm, one model over 1" in told.stderr


def test_the_bundle_is_what_ships(built: Built) -> None:
    shipped = read_shipped()
    manifest = built.manifest
    assert (manifest.product, manifest.version) == (shipped["product"], shipped["version"])
    for key, value in shipped["inference"].items():
        assert getattr(manifest.inference, key) == value, key
    assert list(manifest.components["system"].packages) == sorted(
        shipped["components"]["system"]["packages"]
    )
    (engine,) = shipped["components"]["engine"]["requirements"]
    assert engine == f"vllm=={built.versions('engine', 'python')['vllm']}"


def test_no_gpu_is_an_error_that_says_so(attempt: Attempt) -> None:
    assert attempt.code == ApplyFailed.exit_code, attempt.told[-4000:]
    assert attempt.result["error"] == "ApplyFailed"


def test_every_wheel_of_the_bundle_is_installed_and_no_other(
    attempt: Attempt, installer: Any, built: Built
) -> None:
    found = json.loads(installer.lab.node.run(f"{PYTHON} -", input=WHEELS).stdout)
    wanted = built.versions("engine", "python")
    assert {canonicalize_name(name): version for name, version in found} == {
        canonicalize_name(name): version for name, version in wanted.items()
    }


def test_every_package_of_the_bundle_is_installed(attempt: Attempt, installer: Any, built: Built) -> None:
    listed = installer.lab.node.run(
        "dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\\n'"
    ).stdout
    there = {
        line.split(" ", 2)[1]: line.split(" ", 2)[2]
        for line in listed.splitlines()
        if line.startswith("installed ")
    }
    wanted = built.versions("system", "debian")
    assert {name: there.get(name) for name in wanted} == wanted


def test_the_driver_is_compiled_for_the_bundles_kernel(
    attempt: Attempt, installer: Any, built: Built
) -> None:
    (kernel,) = {found for name in built.versions("system", "debian") if (found := headers_for(name))}
    node = installer.lab.node
    assert node.run(f"modinfo -k {kernel} -F vermagic nvidia-current").stdout.split()[0] == kernel


def test_the_service_could_compile_what_serving_compiles(attempt: Attempt, installer: Any) -> None:
    """As its user, confined as it is: Triton's and Inductor's compilers, and the headers they want."""
