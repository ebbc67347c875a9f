"""Text by real vLLM on a booted node with no network, from a bundle: the same role, unit and promises.

``make test-vllm``; not among what ``make test`` runs.  What it is served by, and how that gets there,
``conftest`` says.  The tests build on each other: one node is installed once and then looked at.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.node.client import send, too_long
from tests.node.vllm.promises import UNIT, assert_apart, assert_promises, main_pid
from tests.node.vllm.tiny_llama import INDEX, write_tiny_llama

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.node, pytest.mark.archive, pytest.mark.vllm]

PROMPT: Final = "orchid-7731-is-nobodys-business"
CONTEXT: Final = 512
#: Variables that must not be there, of those that vLLM reads; and all that it and what it is made of read.
OPENINGS: Final = {"VLLM_SERVER_DEV_MODE", "VLLM_USE_MODELSCOPE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"}
READ: Final = OPENINGS | {
    *("DO_NOT_TRACK", "VLLM_NO_USAGE_STATS", "VLLM_HOST_IP", "RAY_USAGE_STATS_ENABLED"),
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_UPDATE_CHECK"),
    *("FLASHINFER_CUBINS_REPOSITORY", "OTEL_SDK_DISABLED"),
}

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
def bundle(tmp_path_factory: pytest.TempPathFactory, new_vllm_bundle: Any) -> Path:
    """The generated Llama's."""
    model = tmp_path_factory.mktemp("station") / "tiny"
    names = write_tiny_llama(model)
    served = {"name": "tiny", "context": CONTEXT, "sequences": 4, "precision": "fp32", "eager": "true"}
    made: Path = new_vllm_bundle(model, names, {"file": f"tiny/{INDEX}", **served})
    return made


def test_every_promise_is_kept_with_vllm(installed: Any) -> None:
    assert_promises(installed)


def test_vllm_answers_by_the_name_that_was_signed(installed: Any) -> None:
    answer = json.loads(installed.lab.node.run(f"python3 - {PROMPT} 16", input=ASK, timeout=300).stdout)
    assert answer["model"] == "tiny"
    assert answer["usage"]["completion_tokens"] == 16
    models = (
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/v1/models').read().decode())"
    )
    (model,) = json.loads(installed.lab.node.run(f'python3 -c "{models}"').stdout)["data"]
    assert (model["id"], model["max_model_len"]) == ("tiny", CONTEXT)
    assert model["root"].endswith("/payload/model/tiny")


def test_no_prompt_is_in_the_log(installed: Any) -> None:
    log = installed.lab.node.run(f"journalctl -u {UNIT} -o cat").stdout
    assert "vLLM" in log
    assert "7 files" in log, "the digests were compared"
    assert PROMPT not in log


def test_the_engine_is_in_a_network_of_its_own(installed: Any) -> None:
    assert_apart(installed.lab.node)


def test_what_is_longer_than_the_context_is_refused_whole(installed: Any) -> None:
    """In one message, in many, or as a prompt: nothing of it is left out without a word."""
    asked = too_long("tiny", CONTEXT)
    answers = dict(zip(asked, send(installed.lab.node, *asked.values()), strict=True))
    assert {name: status for name, (status, _) in answers.items()} == dict.fromkeys(asked, 400)
    assert all("maximum context length" in body["error"]["message"] for _, body in answers.values())


def test_every_switch_is_read_by_what_is_installed(installed: Any) -> None:
    """A name that nobody reads is no switch: other releases have called some of them otherwise."""
    node = installed.lab.node
    words = " ".join(f"-e {name}" for name in READ)
    found = node.run(f"grep -rhowF --include='*.py' {words} /opt/appliance/inference/*/venv/lib | sort -u")
    assert set(found.stdout.split()) == READ
    environment = node.run(f"tr '\\0' '\\n' < /proc/{main_pid(node)}/environ").stdout
    told = {line.partition("=")[0] for line in environment.splitlines()}
    assert told >= READ - OPENINGS
    assert not told & OPENINGS


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
