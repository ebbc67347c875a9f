"""The launcher of the engine xllamacpp: its options, its promises to systemd, its settings."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.unit.roles.conftest import load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

FILES = Path(__file__).parents[3] / "roles/inference_server/files"
PROGRAM = FILES / "serve_xllamacpp.py"
launching = load(FILES / "launching.py", "launching")
launcher = load(PROGRAM, "serve_xllamacpp")

# Stands in for the engine: answers /health on the port it is given, with the status it is told.
ENGINE = """
import http.server, os, threading
from types import SimpleNamespace

class CommonParams(SimpleNamespace):
    def __init__(self):
        super().__init__(model=SimpleNamespace())

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(os.environ["TEST_HEALTH"]) if self.path == "/health" else 404)
        self.end_headers()

class Server:
    def __init__(self, parameters):
        address = (parameters.hostnames[0], parameters.port)
        self.http = http.server.ThreadingHTTPServer(address, Answer)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The receiving end of the notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(20)
        yield channel


def arguments(weights: Path, **changed: str) -> list[str]:
    values = {"model": str(weights), "name": "demo", "port": "8000", "context": "512", "slots": "2"}
    values |= changed
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def parse(words: list[str]) -> argparse.Namespace:
    return launching.launcher_options("a launcher", launching.model_file).parse_args(words)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start(tmp_path: Path, weights: Path, systemd: socket.socket, health: int) -> subprocess.Popen[str]:
    (tmp_path / "xllamacpp.py").write_text(ENGINE)
    environment = {
        "PYTHONPATH": str(tmp_path),
        "NOTIFY_SOCKET": systemd.getsockname(),
        "TEST_HEALTH": str(health),
    }
    command = [sys.executable, str(PROGRAM), *arguments(weights, port=str(free_port()))]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"model": "tiny.gguf"}, "absolute path"),
        ({"model": "/nonexistent/tiny.gguf"}, "found no file there"),
        ({"port": "0"}, "from 1 to 65535"),
        ({"port": "65536"}, "from 1 to 65535"),
        ({"port": "http"}, "from 1 to 65535"),
        ({"port": "٨٠"}, "from 1 to 65535"),
        ({"context": "0"}, "from 1 to"),
        ({"slots": "-1"}, "from 1 to 1024"),
        ({"host": "0.0.0.0"}, "unrecognized arguments"),  # noqa: S104 -- refused is what is tested
    ],
)
def test_a_wrong_option_ends_with_2_and_says_what_is_wanted(
    weights: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments(weights, **changed))
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_every_option_is_required(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complete = arguments(weights)
    for index in range(0, len(complete), 2):
        with pytest.raises(SystemExit):
            parse(complete[:index] + complete[index + 2 :])
        assert complete[index] in capsys.readouterr().err


def test_the_engine_is_told_to_stay_on_loopback_and_offline(weights: Path) -> None:
    settings = parse(arguments(weights))
    told = launcher.fill(SimpleNamespace(model=SimpleNamespace()), settings)
    assert told.hostnames == ["127.0.0.1"]
    assert told.port == 8000
    assert told.model.path == str(weights)
    assert told.model_alias == {"demo"}
    assert told.offline is True
    off = ("ui", "ui_mcp_proxy", "endpoint_slots", "endpoint_props", "server_tools")
    assert not any(getattr(told, name) for name in off)
    assert told.endpoint_metrics is True


def test_each_slot_has_the_whole_context(weights: Path) -> None:
    """The engine divides what it is given among the slots."""
    settings = parse(arguments(weights, context="512", slots="3"))
    assert launcher.fill(SimpleNamespace(model=SimpleNamespace()), settings).n_ctx == 1536


def test_says_ready_when_healthy_and_ends_cleanly_on_sigterm(
    tmp_path: Path, weights: Path, systemd: socket.socket
) -> None:
    process = start(tmp_path, weights, systemd, health=200)
    with process:
        assert systemd.recv(4096).startswith(b"READY=1\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert systemd.recv(4096) == b"STOPPING=1"


def test_never_says_ready_when_not_healthy(tmp_path: Path, weights: Path, systemd: socket.socket) -> None:
    with start(tmp_path, weights, systemd, health=503) as process:
        assert process.wait(20) != 0
        assert process.stderr is not None
        assert "/health answered 503" in process.stderr.read()
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(4096)


def test_notifies_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"appliance-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        launching.notify("READY=1")
        assert channel.recv(64) == b"READY=1"


def test_notifies_nobody_when_started_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    launching.notify("READY=1")


def test_needs_nothing_but_the_standard_library_before_the_engine() -> None:
    """The launcher runs in an environment that holds the engine's wheels only."""
    help_text = subprocess.run(
        [sys.executable, "-I", "-S", str(PROGRAM), "--help"], check=True, capture_output=True, text=True
    ).stdout
    assert "--model" in help_text
