"""Ollama's launcher: the store it lays, what Ollama is told, and that nobody is let in before it is right.

A stand-in answers in Ollama's place, on the paths of its docs/api.md and docs/api/openai-compatibility.mdx.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.roles.conftest import load
from tests.unit.roles.launched import FILES, Launched
from tests.unit.roles.ollama_stand_in import STAND_IN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = FILES / "serve_ollama.py"
for each in ("launching", "check_model", "model_store"):
    load(FILES / f"{each}.py", each)
relaying = load(FILES / "relaying.py", "relaying")
store = sys.modules["model_store"]
launcher = load(PROGRAM, "serve_ollama")

WEIGHTS = b"GGUF weights"
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


def arguments(folder: Path, **changed: str) -> list[str]:
    (folder / "model").mkdir(exist_ok=True)
    model = folder / "model/tiny.gguf"
    model.write_bytes(WEIGHTS)
    (folder / "model.sha256").write_text(f"{DIGEST}  {model}\n")
    program = folder / "ollama"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    values = {"model": str(model), "name": "demo", "port": "8000", "context": "512", "slots": "3"}
    values |= {"program": str(program), "digests": str(folder / "model.sha256"), "drain": "30"}
    values |= {"store": str(folder / "store"), "load": "1800", **changed}
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def launch(folder: Path, kind: str, *more: str) -> Launched:
    prepare = f"serve_ollama.ENGINE_PORT = {free_port()}\nserve_ollama.SILENCE = 0.2"
    one = Launched(folder, "serve_ollama", prepare, kind)
    foreign = {"OLLAMA_DEBUG_LOG_REQUESTS": "1", "LLAMA_ARG_OFFLINE": "0", "LLAMA_LOG_VERBOSITY": "9"}
    one.start([*arguments(folder, port=str(one.port)), *more], **foreign)
    return one


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Any]:
    started: list[Launched] = []

    def start(kind: str = "well", *more: str) -> Launched:
        started.append(launch(tmp_path, kind, *more))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_it_serves_the_signed_model_alone_by_its_short_name(launched: Any) -> None:
    one = launched()
    assert one.heard() == f"READY=1\nSTATUS=Serving demo on 127.0.0.1:{one.port}"
    said = json.loads(one.ask())
    assert said["data"] == [{"id": "demo:latest"}]
    description, weights = said["loaded"]
    assert weights.encode() == WEIGHTS, "loaded before anybody was let in"
    assert json.loads(description)["model_format"] == "gguf"
    assert one.stop() == (0, "")


def test_nothing_in_the_store_can_be_written_once_it_serves(launched: Any, tmp_path: Path) -> None:
    launched().heard()
    folder = tmp_path / "store"
    found = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    assert len(found) >= 8
    assert not [path for path in found if path.stat().st_mode & 0o222]
    (link,) = [path for path in folder.rglob("*") if path.is_symlink()]
    assert link.name == f"sha256-{DIGEST}"
    assert link.stat().st_mode & 0o200, "the model's own file is left as it is"


def test_ollama_is_told_what_to_do_and_nothing_of_what_others_set(launched: Any, tmp_path: Path) -> None:
    one = launched()
    one.heard()
    command, told = json.loads(one.told.read_text())
    assert command == ["serve"]
    ours = {name: value for name, value in told.items() if "LLAMA" in name}
    host = ours.pop("OLLAMA_HOST")
    assert host.startswith("127.0.0.1:")
    assert ours == {
        "OLLAMA_MODELS": str(tmp_path / "store"),
        "OLLAMA_CONTEXT_LENGTH": "512",
        "OLLAMA_NUM_PARALLEL": "3",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_LOAD_TIMEOUT": "1800s",
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_NOPRUNE": "1",
        "LLAMA_ARG_OFFLINE": "1",
    }
    assert not {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"} & told.keys()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ends", "Ollama ended by itself with 7"),
        ("refuses", "/api/generate answered 500: "),
        ("more", "Ollama offers ['demo:latest', 'other:latest'], wanted demo:latest and nothing else"),
        ("forgets", "Ollama has loaded 0 models, wanted demo alone"),
        ("processor", "Ollama has 0 of the model's 1000 bytes on GPUs, wanted all of them"),
        ("partly", "Ollama has 999 of the model's 1000 bytes on GPUs, wanted all of them"),
        ("short", "Ollama takes 256 tokens, wanted 512"),
    ],
)
def test_what_cannot_serve_is_never_ready(launched: Any, kind: str, said: str) -> None:
    one = launched(kind, "--gpus")
    status, text = one.end()
    assert status == 1
    assert said in text
    one.systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        one.systemd.recv(1)


@pytest.mark.parametrize("more", [("processor",), ("partly",), ("well", "--gpus")])
def test_where_the_model_lies_is_judged_only_where_it_has_to_be_on_gpus(
    launched: Any, more: tuple[str, ...]
) -> None:
    assert launched(*more).heard().startswith("READY=1")


def test_ollama_that_dies_ends_the_launcher_so_that_systemd_starts_both_again(launched: Any) -> None:
    one = launched()
    one.heard()
    with pytest.raises((OSError, http.client.HTTPException)):
        one.ask("/die")
    status, text = one.end()
    assert status == 1
    assert "Ollama ended by itself with 9" in text


def test_an_answer_is_finished_before_it_ends_and_an_idle_client_keeps_nobody(launched: Any) -> None:
    one = launched()
    one.heard()
    idle = http.client.HTTPConnection("127.0.0.1", one.port, timeout=30)
    idle.request("GET", "/v1/models")
    idle.getresponse().read()
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(json.loads(one.ask("/slow/2"))))
    asking.start()
    time.sleep(0.5)
    began = time.monotonic()
    assert one.stop() == (0, "")
    assert 1 < time.monotonic() - began < 20
    asking.join()
    assert answers[0]["data"] == [{"id": "demo:latest"}]
    idle.close()


def test_who_spoke_last_says_whether_an_answer_is_owed() -> None:
    now = time.monotonic()
    waits = relaying.Conversation(client_last=True, spoke=now - 3600)
    streams = relaying.Conversation(client_last=False, spoke=now - 1)
    idle = relaying.Conversation(client_last=False, spoke=now - launcher.SILENCE - 1)
    assert launcher.unfinished([waits, streams, idle]) == 2
    assert launcher.unfinished([idle]) == launcher.unfinished([]) == 0


def test_the_store_is_as_ollama_reads_it(tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    model.write_bytes(WEIGHTS)
    folder = tmp_path / "store"
    assert store.lay(folder, "demo", model, DIGEST) == "local/appliance/demo"
    manifest = json.loads((folder / "manifests/local/appliance/demo/latest").read_text())
    assert manifest["schemaVersion"] == 2
    assert manifest["layers"] == [
        {
            "mediaType": "application/vnd.ollama.image.model",
            "digest": f"sha256:{DIGEST}",
            "size": len(WEIGHTS),
        }
    ]
    config = folder / "blobs" / manifest["config"]["digest"].replace(":", "-")
    assert config.name == f"sha256-{hashlib.sha256(config.read_bytes()).hexdigest()}"
    assert config.stat().st_size == manifest["config"]["size"]
    assert (folder / f"blobs/sha256-{DIGEST}").readlink() == model


def test_a_store_is_laid_anew_and_the_same_whatever_was_there(tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    model.write_bytes(WEIGHTS)
    folder = tmp_path / "store"

    def content() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    store.lay(folder, "demo", model, DIGEST)
    first = content()
    (folder / "blobs/sha256-left-over").write_text("x")
    store.close(folder)
    store.lay(folder, "demo", model, DIGEST)
    assert content() == first
    assert model.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "library/demo"}, "--name"),
        ({"name": "demo:7b"}, "--name"),
        ({"name": "big-cloud"}, "no -cloud"),
        ({"name": "-demo"}, "--name"),
        ({"model": "tiny.gguf"}, "an absolute path"),
        ({"program": "/nonexistent/ollama"}, "found no file there"),
        ({"drain": "0"}, "--drain"),
        ({"load": "0"}, "--load"),
    ],
)
def test_wrong_settings_are_named(
    tmp_path: Path, changed: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        launcher.parse_arguments(arguments(tmp_path, **changed))
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_model_without_a_digest_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments(tmp_path)
    (tmp_path / "model.sha256").write_text(f"{DIGEST}  /nonexistent/other.gguf\n")
    with pytest.raises(SystemExit):
        launcher.parse_arguments(words)
    assert "--digests: found none of" in capsys.readouterr().err


def test_without_a_socket_of_systemd_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with pytest.raises(OSError, match="handed over no socket"):
        launcher.main(arguments(tmp_path))
    assert not (tmp_path / "store").exists()


def test_a_stop_while_it_loads_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Systemd may change its mind: nobody is told that it serves, and the engine does not stay."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    async def scene() -> float:
        async def never() -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(3600)

        service = relaying.Service(
            command=[sys.executable, "-c", "import time; time.sleep(3600)"],
            environment=None,
            ready=never,
            relay=relaying.Relay(launcher.connected, launcher.unfinished),
            status="",
            drain=30,
            stop=5,
        )
        began = time.monotonic()
        with socket.create_server(("127.0.0.1", 0)) as opened:
            assert await relaying.serve(service, opened) == 0
        return time.monotonic() - began

    assert asyncio.run(scene()) < 20
