"""When the module ``stamped_service`` acts, what it writes, and what it asks of the service."""

from __future__ import annotations

import http.server
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def service(role_module: Callable[[str], Any]) -> Any:
    return role_module("inference_server/library/stamped_service.py")


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
        ({}, "old", False, ["reset-failed", "restart"]),
        ({}, None, False, ["reset-failed", "restart"]),
        ({}, "s", True, ["reset-failed", "restart"]),
        ({"NeedDaemonReload": "yes"}, "old", False, ["daemon-reload", "reset-failed", "restart"]),
        ({"NeedDaemonReload": "yes"}, "s", False, ["daemon-reload"]),
        # The unit file was replaced by one with an older time.
        (
            {"Environment": "APPLIANCE_STAMP=old"},
            "old",
            False,
            ["daemon-reload", "reset-failed", "restart"],
        ),
        ({"UnitFileState": "disabled"}, "s", False, ["enable"]),
        ({"ActiveState": "inactive"}, None, False, ["restart"]),
        ({"ActiveState": "activating"}, "s", False, ["reset-failed", "restart"]),
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
    service: Any, state: dict[str, str], running: str | None, restart: bool, verbs: list[str]
) -> None:
    given = {"running": running, "wanted": "s", "rewritten": False, "restart": restart}
    assert service.plan({**RUNNING, **state}, **given) == verbs


def test_what_was_perhaps_started_by_another_unit_file_is_restarted(service: Any) -> None:
    """Who edits the file on the node, loads and restarts it, leaves the stamp as it was."""
    given = {"running": "s", "wanted": "s", "rewritten": True, "restart": False}
    assert service.plan(RUNNING, **given) == ["daemon-reload", "reset-failed", "restart"]


class Systemd:
    """A service that is well; keeps what it is told to do."""

    def __init__(self, service: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file, self.told, self.fault = folder / "x.service", [], False
        monkeypatch.setattr(service, "UNITS", folder)
        monkeypatch.setattr(service, "read_state", lambda _unit: (RUNNING, "s"))
        monkeypatch.setattr(service, "systemctl", lambda *words: self.told.append(" ".join(words)))
        monkeypatch.setattr(service, "check_health", lambda *_: None)
        monkeypatch.setattr(service, "check_units", self.check_units)
        self.refused, self.ensure_ = service.UnitRefused, service.ensure
        self.shown: list[dict[str, str]] = []

    def check_units(self, units: dict[str, Path]) -> None:
        self.shown.append({name: draft.read_text() for name, draft in units.items()})
        if self.fault:
            raise self.refused("systemd finds fault with the unit", "a fault", "none")

    def ensure(self, text: str, *, check_mode: bool = False, socket_text: str = "") -> dict[str, Any]:
        settled = {"restart": False, "health_port": 1, "health_path": "/", "health_seconds": 1}
        options = {"unit": "x.service", "text": text, "socket_text": socket_text, "stamp": "s"}
        options |= settled
        result: dict[str, Any] = self.ensure_(options, check_mode=check_mode)
        return result


@pytest.fixture
def systemd(service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    return Systemd(service, tmp_path, monkeypatch)


def test_a_unit_file_is_checked_written_and_run_by(systemd: Systemd) -> None:
    systemd.file.write_text("old\n")
    rehearsed = systemd.ensure("new\n", check_mode=True)
    assert (systemd.file.read_text(), systemd.told, systemd.shown) == ("old\n", [], [])
    done = systemd.ensure("new\n")
    assert done == rehearsed
    assert done["changed"]
    assert (done["diff"][0]["before"], done["diff"][0]["after"]) == ("old\n", "new\n")
    assert systemd.shown == [{"x.service": "new\n"}]
    assert systemd.file.read_text() == "new\n"
    assert systemd.told == ["daemon-reload", "reset-failed x.service", "restart x.service"]


def test_a_unit_file_that_is_right_is_neither_checked_nor_written(systemd: Systemd) -> None:
    systemd.ensure("new\n")
    before = systemd.file.stat()
    systemd.told.clear()
    assert systemd.ensure("new\n") == {"changed": False, "verbs": [], "diff": []}
    assert (systemd.told, len(systemd.shown), systemd.file.stat()) == ([], 1, before)


def test_a_unit_file_with_a_fault_never_replaces_the_good_one(systemd: Systemd, tmp_path: Path) -> None:
    systemd.ensure("good\n")
    systemd.told.clear()
    systemd.fault = True
    with pytest.raises(systemd.refused):
        systemd.ensure("bad\n")
    assert (systemd.file.read_text(), systemd.told) == ("good\n", [])
    assert list(tmp_path.iterdir()) == [systemd.file], "no draft is left"


def test_a_socket_and_its_service_are_judged_together(systemd: Systemd) -> None:
    """Each names the other.  Whichever is another, the service is started anew, and the socket with it."""
    socket = systemd.file.with_suffix(".socket")
    systemd.ensure("service\n", socket_text="socket\n")
    assert systemd.shown == [{"x.service": "service\n", "x.socket": "socket\n"}]
    assert socket.read_text() == "socket\n"
    systemd.told.clear()
    assert not systemd.ensure("service\n", socket_text="socket\n")["changed"]
    assert systemd.ensure("service\n", socket_text="other port\n")["changed"]
    assert systemd.shown[1:] == [{"x.service": "service\n", "x.socket": "other port\n"}]
    assert systemd.told == ["daemon-reload", "reset-failed x.service", "restart x.service"]


def test_with_a_fault_in_one_of_them_both_stay_as_they_were(systemd: Systemd, tmp_path: Path) -> None:
    systemd.ensure("service\n", socket_text="socket\n")
    systemd.fault = True
    with pytest.raises(systemd.refused):
        systemd.ensure("other\n", socket_text="other\n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "x.service": "service\n",
        "x.socket": "socket\n",
    }


def test_a_socket_that_is_left_over_gives_its_port_up(systemd: Systemd) -> None:
    socket = systemd.file.with_suffix(".socket")
    systemd.ensure("service\n", socket_text="socket\n")
    systemd.told.clear()
    assert systemd.ensure("other service\n", check_mode=True)["changed"]
    assert (socket.exists(), systemd.told) == (True, [])
    systemd.ensure("other service\n")
    assert not socket.exists()
    assert systemd.told[:2] == ["stop x.socket", "daemon-reload"]


def test_reads_properties_whose_values_contain_equals_signs(service: Any) -> None:
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
def test_finds_the_stamp_in_a_process_environment(service: Any, environ: bytes, stamp: str | None) -> None:
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


def test_a_service_that_answers_200_is_well(service: Any) -> None:
    with answering(200) as port:
        service.check_health(port, "/health", 5)


def test_another_status_is_a_failure_that_names_it(service: Any) -> None:
    with answering(503) as port, pytest.raises(service.ServiceFailed) as failed:
        service.check_health(port, "/health", 5)
    assert failed.value.args[1] == "status 503"


def test_a_closed_port_is_a_failure(service: Any) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(service.ServiceFailed, match="does not answer"):
            service.check_health(reserved.getsockname()[1], "/health", 5)


def test_a_service_that_accepts_but_never_answers_fails_at_the_deadline(service: Any) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        pytest.raises(service.ServiceFailed, match="does not answer"),
    ):
        service.check_health(mute.getsockname()[1], "/health", 1)
