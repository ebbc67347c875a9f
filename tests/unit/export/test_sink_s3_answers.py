"""Servers of S3 that answer what no server should, and surroundings that the client does not take."""

from __future__ import annotations

import base64
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ApplianceError, ExportSinkUnready, SettingsInvalid, Usage
from appliance.export.sinks import s3 as s3_module
from appliance.export.sinks.objects import LogObject
from appliance.export.sinks.s3 import S3Store
from appliance.export.sinks.settings import Retention, S3Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = b"{}\n"
DIGEST = hashlib.sha256(BODY).digest()
SAID = {
    "Content-Length": "3",
    "x-amz-checksum-sha256": base64.b64encode(DIGEST).decode("ascii"),
    "Last-Modified": "Sun, 29 Nov 2026 22:00:00 GMT",
    "x-amz-object-lock-mode": "GOVERNANCE",
    "x-amz-object-lock-retain-until-date": "2030-01-01T00:00:00Z",
}


class Odd(ThreadingHTTPServer):
    """Takes every object, and says of it what it is told to; ``asked`` counts."""

    daemon_threads = True
    headers: dict[str, str]
    silent = False
    asked = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """As much of the protocol as the client asks for."""

    server: Odd

    def log_message(self, *_: object) -> None:
        pass

    def do_PUT(self) -> None:
        self.server.asked += 1
        if self.server.silent:
            threading.Event().wait(2)
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.send_response(200)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def odd() -> Iterator[Odd]:
    server = Odd(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def store(endpoint: str) -> S3Store:
    settings = S3Settings(
        format=1,
        endpoint=endpoint,
        bucket="logs",
        access_key="EXPORT",
        secret_key_file="secret",  # noqa: S106 - the name of a file
        retention=Retention(mode="GOVERNANCE", days=1),
    )
    return S3Store(settings, "secret")


def put(made: S3Store) -> None:
    made.put(LogObject("one", BODY, DIGEST, 1, {}))


def test_what_is_right_is_believed(odd: Odd) -> None:
    odd.headers = SAID
    put(store(odd.endpoint))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Length", None),
        ("Content-Length", "three"),
        ("Last-Modified", None),
        ("Last-Modified", "yesterday"),
        ("x-amz-checksum-sha256", None),
        ("x-amz-object-lock-retain-until-date", None),
        ("x-amz-object-lock-retain-until-date", "2030-01-01T00:00:00"),  # of no zone
        ("x-amz-object-lock-retain-until-date", "later"),
    ],
)
def test_an_answer_that_is_none_is_named_and_ends_nothing(odd: Odd, name: str, value: str | None) -> None:
    odd.headers = {each: said for each, said in SAID.items() if each != name}
    if value is not None:
        odd.headers[name] = value
    made = store(odd.endpoint)
    with pytest.raises(ExportSinkUnready, match="S3, logs/one: "):
        put(made)
    with pytest.raises(ExportSinkUnready):
        made.ready()


def test_a_server_that_says_nothing_is_asked_once(odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops the receiver waits for it; after a pause it is asked again in any case."""
    monkeypatch.setattr(s3_module, "_READ", 0.2)
    odd.silent = True
    with pytest.raises(ExportSinkUnready, match="Read timeout"):
        put(store(odd.endpoint))
    assert odd.asked == 1


@pytest.mark.parametrize("endpoint", ["https://my_host:9000", "https://-a:1", "https://a b:1"])
def test_an_endpoint_that_the_client_does_not_take_is_named(endpoint: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        store(endpoint)
    assert refused.value.found == endpoint


@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_CONFIG_FILE"])
def test_surroundings_that_the_client_does_not_take_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "odd").write_text("nonsense[[")
    monkeypatch.setenv(name, str(tmp_path / "odd"))
    with pytest.raises(ApplianceError) as refused:
        store("https://192.0.2.9")
    assert type(refused.value) is Usage
    assert name in str(refused.value.hint)
