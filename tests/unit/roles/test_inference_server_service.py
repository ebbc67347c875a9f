"""When the module ``stamped_service`` acts, and what it asks of the service."""

from __future__ import annotations

import http.server
import socket
import threading
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).parents[3] / "roles/inference_server/library/stamped_service.py"
spec = spec_from_file_location(PROGRAM.stem, PROGRAM)
assert spec is not None
assert spec.loader is not None
service = module_from_spec(spec)
spec.loader.exec_module(service)

RUNNING = {
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "NeedDaemonReload": "no",
    "Environment": "HOME=/var/cache APPLIANCE_STAMP=s DO_NOT_TRACK=1",
}


@pytest.mark.parametrize(
    ("state", "running", "restart", "verbs"),
    [
        ({}, "s", False, []),
        ({}, "old", False, ["restart"]),
        ({}, None, False, ["restart"]),
        ({}, "s", True, ["restart"]),
        ({"NeedDaemonReload": "yes"}, "old", False, ["daemon-reload", "restart"]),
        ({"NeedDaemonReload": "yes"}, "s", False, ["daemon-reload"]),
        # The unit file was replaced by one with an older time.
        ({"Environment": "APPLIANCE_STAMP=old"}, "old", False, ["daemon-reload", "restart"]),
        ({"UnitFileState": "disabled"}, "s", False, ["enable"]),
        ({"ActiveState": "inactive"}, None, False, ["restart"]),
        ({"ActiveState": "activating"}, "s", False, ["restart"]),
        ({"ActiveState": "failed"}, None, False, ["reset-failed", "restart"]),
        (
            {"ActiveState": "inactive", "UnitFileState": "", "Environment": ""},
            None,
            False,
            ["daemon-reload", "enable", "restart"],
        ),
    ],
)
def test_does_exactly_what_is_missing(
    state: dict[str, str], running: str | None, restart: bool, verbs: list[str]
) -> None:
    assert service.plan({**RUNNING, **state}, running=running, wanted="s", restart=restart) == verbs


def test_reads_properties_whose_values_contain_equals_signs() -> None:
    text = "ActiveState=active\nEnvironment=A=1 B=2\n\nMainPID=0\n"
    assert service.parse_properties(text) == {
        "ActiveState": "active",
        "Environment": "A=1 B=2",
        "MainPID": "0",
    }


@pytest.mark.parametrize(
    ("environ", "stamp"),
    [
        (b"PATH=/bin\0APPLIANCE_STAMP=abc\0HOME=/\0", "abc"),
        (b"APPLIANCE_STAMP=a=b", "a=b"),
        (b"X_APPLIANCE_STAMP=abc\0", None),
        (b"", None),
    ],
)
def test_finds_the_stamp_in_a_process_environment(environ: bytes, stamp: str | None) -> None:
    assert service.stamp_in(environ) == stamp


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on loopback that gives one status to everything; yields its port."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_service_that_answers_200_is_well() -> None:
    with answering(200) as port:
        service.check_health(port, "/health", 5)


def test_another_status_is_a_failure_that_names_it() -> None:
    with answering(503) as port, pytest.raises(service.ServiceFailed) as failed:
        service.check_health(port, "/health", 5)
    assert failed.value.args[1] == "status 503"


def test_a_closed_port_is_a_failure() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(service.ServiceFailed, match="does not answer"):
            service.check_health(reserved.getsockname()[1], "/health", 5)


def test_a_service_that_accepts_but_never_answers_fails_at_the_deadline() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        pytest.raises(service.ServiceFailed, match="does not answer"),
    ):
        service.check_health(mute.getsockname()[1], "/health", 1)
