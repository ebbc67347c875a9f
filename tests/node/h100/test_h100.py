"""The definition that ships for an H100: built for real, and installed on a node as far as that can go.

``make test-h100``; not among what ``make test`` runs: it fetches five gigabytes, preflight wants 27 on
the node, and dkms compiles for minutes.  It is ``bundles/h100-vllm.yaml`` itself, from the live archive
and index, but for the model and the section ``hardware`` (``tests.node.shipped``).  That section reaches
preflight and Ollama's launcher alone: with it, preflight refuses a practice node, as the first test shows;
without it, all that a node with GPUs gets is installed.  vLLM's build for CUDA then finds no GPU, and the
installation has to say so.  What metal alone can show is in docs/hardware-checklist.md.

One node, three installations: this one while nothing is there yet; one of the same packages with the
demonstration's engine, which repairs the node and closes its network; and this one again.
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
from tests.node.shipped import SHIPPED, read_shipped, with_demonstrations_engine, with_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.manifest import Manifest

pytestmark = [pytest.mark.node, pytest.mark.archive, pytest.mark.h100]

UNIT: Final = "appliance-inference.service"
#: What the installation is to say where vLLM ends for lack of a GPU.
NO_GPU: Final = "this vLLM computes on GPUs, and there is none: found nothing in /proc/driver/nvidia/gpus"

MOST_LEFT_OUT: Final = 5
#: A client's first question.
ASK: Final = """
import urllib.request
urllib.request.urlopen("http://127.0.0.1:8000/v1/models", timeout=30)
"""

#: What is installed beside the Python that runs this.
WHEELS: Final = """
import importlib.metadata as m, json
print(json.dumps([[each.metadata["Name"], each.version] for each in m.distributions()]))
"""

#: What serving compiles: Triton's modules in C against Python's headers, and Inductor's loops in C++.
COMPILES: Final = """
import torch
from triton.runtime.build import compile_module_from_src
source = (
    "#include <Python.h>\\n"
    'static struct PyModuleDef tried = {PyModuleDef_HEAD_INIT, "tried", NULL, -1, NULL};\\n'
    "PyMODINIT_FUNC PyInit_tried(void) { return PyModule_Create(&tried); }\\n"
)
print("triton compiled", compile_module_from_src(source, "tried").__name__)
twice = torch.compile(lambda numbers: torch.cos(numbers) * 2)
print("inductor compiled", float(twice(torch.zeros(8)).sum()), "cuda", torch.cuda.is_available())
"""

#: The unit as it is, with another program in it that ends by itself.
INSTEAD: Final = """\
[Service]
Type=oneshot
Restart=no
ExecStartPre=
ExecStart=
ExecStart={python} -I -B /run/appliance-test/compiles.py
"""


@dataclass(frozen=True)
class Built:
    """A signed bundle, and what it is made of."""

    folder: Path
    manifest: Manifest

    def versions(self, component: str, kind: str) -> dict[str, str]:
        """Versions by name, of what a component brings from origins of that kind."""
        files = self.manifest.components[component].files
        return {file.name: file.version for file in files if file.origin["kind"] == kind}

    @property
    def kernel(self) -> str:
        """The kernel that it has headers of."""
        (found,) = {kernel for name in self.versions("system", "debian") if (kernel := headers_for(name))}
        return found


@dataclass(frozen=True)
class Installed:
    """A node after one run of ``appliance install``, what that said, and its network before."""

    lab: Any
    network: str
    code: int
    result: Any
    told: str
    environment: str

    @property
    def node(self) -> Any:
        return self.lab.node


def built(new_bundle: Any, definition: Path) -> Built:
    """Lock, build and sign; what it took is printed."""
    began = time.monotonic()
    folder: Path = new_bundle(definition, definition.parent)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    manifest = parse_manifest((folder / "manifest.json").read_bytes())
    artefacts = ", ".join(f"{len(part.files)} of {name}" for name, part in manifest.components.items())
    print(
        f"\n{manifest.product}: {sum(1 for _ in manifest.payload())} artefacts ({artefacts}); {len(sizes)} "
        f"files, {sum(sizes) / 1e9:.2f} GB; locked, built and signed in {time.monotonic() - began:.0f} s"
    )
    return Built(folder, manifest)


def install(new_installer: Any, lab: Any, bundle: Built) -> Installed:
    """Install it on the lab's node; how long that took is printed."""
    installer, network = new_installer(lab, bundle.folder), network_of(lab.node)
    installer.timeout = 3600
    began = time.monotonic()
    code, result, told = installer()
    print(
        f"\n{bundle.manifest.product}: installation ended with {code} in {time.monotonic() - began:.0f} s"
    )
    when = lab.node.run("stat -c '%Y %n' /opt/appliance/inference/*/venv/appliance-environment.json")
    return Installed(lab, network, code, result, told, when.stdout)


@pytest.fixture(scope="module")
def shipped(new_bundle: Any, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(new_bundle, with_tiny_model(tmp_path_factory.mktemp("h100") / "station"))


@pytest.fixture(scope="module")
def first(bookworm_lab: Any, shipped: Built, new_installer: Any) -> Installed:
    """After it was installed on a node that had nothing."""
    return install(new_installer, bookworm_lab, shipped)


@pytest.fixture(scope="module")
def repaired(first: Installed, new_bundle: Any, new_installer: Any, tmp_path_factory: Any) -> Installed:
    """After an engine that serves on processors was installed over it, with the same packages."""
    definition = with_demonstrations_engine(tmp_path_factory.mktemp("driver") / "station")
    return install(new_installer, first.lab, built(new_bundle, definition))


@pytest.fixture(scope="module")
def again(repaired: Installed, shipped: Built, new_installer: Any) -> Installed:
    """After it was installed once more, over that."""
    return install(new_installer, repaired.lab, shipped)


def network_of(node: Any) -> str:
    """Its addresses and routes."""
    told: str = node.run("ip -brief address; ip route; ip -6 route").stdout
    return told


def venv(node: Any) -> str:
    """The Python of the one environment of vLLM."""
    (python,) = node.run(
        "ls -d /opt/appliance/inference/*/venv/lib/python*/site-packages/vllm"
    ).stdout.split()
    return python.partition("/lib/")[0] + "/bin/python"


def test_as_it_ships_it_is_refused_on_a_node_without_gpus(bookworm_lab: Any) -> None:
    """By its section ``hardware``, and with the name of each thing that is missing."""
    node = bookworm_lab.node
    asked = ["appliance", "hardware", "-i", str(bookworm_lab.inventory), "-d", str(SHIPPED)]
    told = node.operator_side.run(asked, check=False)
    assert told.returncode == HardwareUnfit.exit_code
    assert f"{node.name}: gpus: none" in told.stderr
    assert f"{node.name}: gpus: 1 h100-sxm" in told.stderr


def test_the_bundle_is_what_ships(shipped: Built) -> None:
    ships, manifest = read_shipped(), shipped.manifest
    assert (manifest.product, manifest.version) == (ships["product"], ships["version"])
    assert {key: getattr(manifest.inference, key) for key in ships["inference"]} == ships["inference"]
    assert set(manifest.components) == set(ships["components"])
    assert sorted(manifest.components["system"].packages) == sorted(
        ships["components"]["system"]["packages"]
    )
    (engine,) = ships["components"]["engine"]["requirements"]
    assert engine == f"vllm=={shipped.versions('engine', 'python')['vllm']}"


def test_that_there_is_no_gpu_is_an_error_which_says_so(first: Installed) -> None:
    assert (first.code, first.result["error"]) == (ApplyFailed.exit_code, "ApplyFailed"), first.told[-4000:]
    assert NO_GPU in first.result["found"]
    assert "inference_server" in first.result["found"]


def test_every_wheel_is_installed_and_no_other(first: Installed, shipped: Built) -> None:
    python = venv(first.node)
    found = json.loads(first.node.run(f"{python} -I -", input=WHEELS).stdout)
    wanted = shipped.versions("engine", "python")
    assert {canonicalize_name(name): version for name, version in found} == {
        canonicalize_name(name): version for name, version in wanted.items()
    }


def test_every_package_is_installed_in_the_bundles_version(first: Installed, shipped: Built) -> None:
    listed = first.node.run("dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\\n'").stdout
    there = dict(line.split()[1:] for line in listed.splitlines() if line.startswith("installed "))
    wanted, asked = shipped.versions("system", "debian"), shipped.manifest.components["system"].packages
    # Of two packages that meet a need, the node may have had one already: the other stays in the bundle.
    left_out = wanted.keys() - there.keys()
    print(f"\n{len(wanted) - len(left_out)} of {len(wanted)} packages, without {sorted(left_out)}")
    assert {name: there.get(name, version) for name, version in wanted.items()} == wanted
    assert not left_out & {*asked}
    assert len(left_out) < MOST_LEFT_OUT
    assert first.node.run("dpkg --audit").stdout == ""


def test_the_driver_is_compiled_for_the_bundles_kernel(first: Installed, shipped: Built) -> None:
    for module in ("nvidia-current", "nvidia-current-uvm"):
        told = first.node.run(f"modinfo -k {shipped.kernel} -F vermagic {module}").stdout
        assert told.split()[0] == shipped.kernel


def test_the_unit_is_one_for_gpus_and_systemd_takes_it(first: Installed) -> None:
    node = first.node
    node.run(f"systemd-analyze verify --man=no --recursive-errors=no /etc/systemd/system/{UNIT}")
    shown = node.run(
        f"systemctl show {UNIT} -p DeviceAllow,DevicePolicy,ExecStart,After,UnitFileState"
    ).stdout
    fields = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    assert fields["DevicePolicy"] == "closed"
    assert "char-nvidia-uvm rw" in shown
    assert "nvidia-persistenced.service" in fields["After"]
    served = read_shipped()["inference"]
    for words in ("context {context}", "slots {sequences}", "precision {precision}", "name {name}"):
        assert f"--{words.format(**served)} " in fields["ExecStart"]


def test_the_model_was_compared_and_nothing_is_served(first: Installed, shipped: Built) -> None:
    node = first.node
    log = node.run(f"journalctl -u {UNIT} -o cat").stdout
    files = len(shipped.manifest.components["model"].files)
    assert f"{files} files" in log
    assert "Failed to infer device type" in log, "vLLM itself has looked for a GPU"
    assert node.run(f"systemctl is-active --quiet {UNIT}", check=False).returncode != 0
    assert node.run("python3 -", input=ASK, check=False).returncode != 0


def test_the_service_can_compile_what_serving_compiles(first: Installed) -> None:
    """Confined as it is, by its own user, in its own cache: compilers and headers are all there."""
    node = first.node
    drop_in = f"/run/systemd/system/{UNIT}.d"
    node.run(
        f"mkdir -p {drop_in} /run/appliance-test; cat > {drop_in}/test.conf",
        input=INSTEAD.format(python=venv(node)),
    )
    node.run("cat > /run/appliance-test/compiles.py; systemctl daemon-reload", input=COMPILES)
    try:
        node.run(f"systemctl reset-failed {UNIT}; systemctl restart {UNIT}", timeout=900)
        log = node.run(f"journalctl -u {UNIT} -o cat -n 20").stdout
    finally:
        node.run(f"rm -r {drop_in}; systemctl daemon-reload")
    assert "triton compiled tried" in log
    assert "inductor compiled 16.0 cuda False" in log


def test_the_network_of_a_node_that_is_not_done_is_as_it_was(first: Installed) -> None:
    """What can cut an operator off comes last: a node that failed before is neither closed nor cut off."""
    assert network_of(first.node) == first.network


def test_an_engine_for_processors_repairs_the_node(repaired: Installed) -> None:
    """All that was installed stays, and every promise is kept: the driver's packages are no obstacle."""
    assert repaired.code == 0, (repaired.result, repaired.told[-4000:])
    assert repaired.node.run("ip route get 1.1.1.1", check=False).returncode != 0


def test_a_closed_node_stays_closed_where_that_fails(again: Installed) -> None:
    node = again.node
    assert (again.code, NO_GPU in again.result["found"]) == (ApplyFailed.exit_code, True), again.told[
        -4000:
    ]
    assert node.run("ip route get 1.1.1.1", check=False).returncode != 0
    assert "Default: deny (incoming), deny (outgoing)" in node.run("ufw status verbose").stdout


def test_what_is_there_is_not_installed_again(first: Installed, again: Installed) -> None:
    """Of two of its wheels that bring one file, either counts: ten gigabytes are not written twice."""
    assert first.environment in again.environment
