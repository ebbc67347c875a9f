"""Metrics: snapshots of endpoints on this machine, all their samples, and a word where one said nothing."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import Usage
from appliance.export.payload import MAX_RECORD
from appliance.export.selection import read_selection
from appliance.export.sources import metrics, scraping
from appliance.export.sources.endpoint import Endpoint, parse_endpoint
from appliance.export.sources.metrics import MetricsSource
from appliance.export.sources.opening import parse_endpoints
from appliance.export.sources.scraping import scrape
from appliance.export.sources.snapshot import snapshot
from appliance.export.sources.source import Taken
from tests.unit.export.nodes import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT = """
# HELP vllm:num_requests_running Requests.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m \\"x\\""} 3
vllm:num_requests_running{model_name="n"} 0.5
# TYPE http_requests_total counter
http_requests_total 1027 1395066363000
# TYPE temperature gauge
temperature NaN
lowest -Inf
highest +Inf
"""


@contextmanager
def served(answer: bytes, *, status: int = 200, path: str | None = None) -> Iterator[Endpoint]:
    """A real HTTP server on loopback, or on a UNIX socket."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/metrics" else 404)
            if status == 302:
                self.send_header("Location", "http://192.0.2.1/")
            self.end_headers()
            self.wfile.write(answer)

        def address_string(self) -> str:
            return "somebody"

        def log_message(self, *_: object) -> None:
            pass

    server: Any = (
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        if path is None
        else socketserver.ThreadingUnixStreamServer(path, Handler)
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Endpoint("vllm", path or server.server_address, "/metrics")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fields(text: str) -> list[dict[str, Any]]:
    return [json.loads(each.record)["fields"] for each in snapshot("vllm", text, NOW)]


def test_every_sample_is_in_the_snapshot() -> None:
    (taken,) = snapshot("vllm", TEXT, NOW)
    assert json.loads(taken.record) == {
        "stream": "vllm",
        "time": NOW,
        "fields": {
            "vllm:num_requests_running": [[{"model_name": 'm "x"'}, 3], [{"model_name": "n"}, 0.5]],
            "http_requests_total": 1027,
            "temperature": "NaN",
            "lowest": "-Inf",
            "highest": "+Inf",
        },
    }


def test_a_long_snapshot_is_several_records_with_all_samples() -> None:
    lines = [f'many{{path="{"x" * 80}{number}"}} {number}' for number in range(3000)]
    lines += [f"single_{number} {number}" for number in range(3000)]
    found = snapshot("node", "\n".join(lines) + "\n", NOW)
    assert len(found) > 3
    assert all(len(each.record) <= MAX_RECORD for each in found)
    parts = fields("\n".join(lines) + "\n")
    many = [value for part in parts for _, value in part.get("many", [])]
    single = {name: value for part in parts for name, value in part.items() if name != "many"}
    assert many == list(range(3000))
    assert single == {f"single_{number}": number for number in range(3000)}


def test_an_endpoint_without_samples_is_a_snapshot_without_fields() -> None:
    assert fields("") == [{}]


def test_what_is_not_the_text_format_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid labels"):
        snapshot("vllm", '{"json": 1}', NOW)


def test_what_the_parser_trips_over_is_refused() -> None:
    with pytest.raises(ValueError, match="text format"):
        snapshot("vllm", 'a{x="y", ="w"} 1\n', NOW)


def test_only_listed_samples_leave() -> None:
    settings = "format: 1\nstreams: {vllm: {fields: [http_requests_total]}}\n"
    (taken,) = snapshot("vllm", TEXT, NOW)
    kept = json.loads(read_selection(settings, "fields.yaml").apply(taken.record))
    assert kept == {
        "stream": "vllm",
        "time": NOW,
        "fields": {"http_requests_total": 1027},
        "left_out": 4,
    }


def test_endpoints_are_asked_over_loopback_and_over_a_socket(tmp_path: Path) -> None:
    with served(b"up 1\n") as one:
        assert scrape(one) == "up 1\n"
    with served(b"up 2\n", path=str(tmp_path / "s")) as other:
        assert scrape(other) == "up 2\n"


@pytest.mark.parametrize("status", [302, 404, 500])
def test_another_answer_is_none(status: int) -> None:
    with served(b"up 1\n", status=status) as one, pytest.raises(ValueError, match=str(status)):
        scrape(one)


def test_an_answer_without_end_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraping, "MAX_BYTES", 1000)
    with served(b"x" * 100_000) as one, pytest.raises(ValueError, match="too much"):
        scrape(one)


def test_who_does_not_speak_http_is_no_endpoint() -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"SSH-2.0-OpenSSH\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(ValueError, match="no HTTP"):
            scrape(Endpoint("a", ("127.0.0.1", server.server_address[1]), "/"))
        thread.join()


def test_headers_that_drip_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraping, "PATIENCE", 0.3)
    over = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
            with contextlib.suppress(OSError):
                while not over.wait(0.05):
                    self.wfile.write(b"x")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        try:
            with pytest.raises(OSError, match=r"too slow|timed out"):
                scrape(Endpoint("a", ("127.0.0.1", server.server_address[1]), "/"))
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("fault", [IndexError("string index out of range"), RuntimeError("anything")])
def test_whatever_one_endpoint_says_the_others_are_asked(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def refuse(name: str, *_: object) -> list[Taken]:
        if name == "bad":
            raise fault
        return [Taken(b"{}")]

    monkeypatch.setattr(metrics, "snapshot", refuse)
    monkeypatch.setattr(metrics, "scrape", lambda _: "")
    source = MetricsSource([Endpoint(each, "/s", "/") for each in ("bad", "good")], 1e6, now=lambda: NOW)
    try:
        while not source.trouble:
            threading.Event().wait(0.01)
        word, good = source.read()
    finally:
        source.close()
    assert json.loads(word.record)["cause"] == repr(fault)
    assert good.record == b"{}"
    assert source.trouble.startswith("bad: ")


def test_snapshots_that_were_made_are_given_at_the_end() -> None:
    source = MetricsSource([], 1e6)
    try:
        source._found.append(Taken(b"made"))
        assert source.rest() == [Taken(b"made")]
        assert source._stop.is_set()
    finally:
        source.close()


def test_snapshots_come_at_once_and_what_could_not_be_had_is_said() -> None:
    with served(b"up 1\n") as one:
        gone = Endpoint("gone", ("127.0.0.1", 1), "/metrics")
        source = MetricsSource([one, gone], 1e6, now=lambda: NOW)
        try:
            while not source.trouble:
                threading.Event().wait(0.01)
            first, word = source.read()
        finally:
            source.close()
    assert json.loads(first.record)["fields"] == {"up": 1}
    assert word.stated
    found = json.loads(word.record)
    assert (found["stream"], found["withheld"], found["time"]) == ("gone", "not-scraped", NOW)
    assert "gone" in source.trouble


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a=http://127.0.0.1:9100/metrics", Endpoint("a", ("127.0.0.1", 9100), "/metrics")),
        ("a=http://127.8.9.1:80", Endpoint("a", ("127.8.9.1", 80), "/metrics")),
        ("a=http://[::1]:9/x", Endpoint("a", ("::1", 9), "/x")),
        ("a-b=unix:/run/x.sock", Endpoint("a-b", "/run/x.sock", "/metrics")),
        ("a=unix:/run/x.sock:/m", Endpoint("a", "/run/x.sock", "/m")),
    ],
)
def test_an_endpoint_of_this_machine_is_read(text: str, found: Endpoint) -> None:
    assert parse_endpoint(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://127.0.0.1:9100/metrics",
        "A=http://127.0.0.1:1/",
        "a=http://192.0.2.1:9100/metrics",
        "a=http://0.0.0.0:9100/metrics",
        "a=http://localhost:9100/metrics",
        "a=http://127.0.0.1.example:9100/metrics",
        "a=http://127.0.0.1@192.0.2.1:9100/metrics",
        "a=http://user@127.0.0.1:9100/metrics",
        "a=https://127.0.0.1:9100/metrics",
        "a=ftp://127.0.0.1/",
        "a=http://127.0.0.1:x/metrics",
        "a=http://127.0.0.1:70000/metrics",
        "a=http://127.0.0.1:1/a b",
        "a=http://127.0.0.1:1/m?x=1",
        "a=http://[::ffff:192.0.2.1]:1/metrics",
        "a=unix:run/x.sock",
        "a=unix:/run/x.sock:metrics",
        "a=",
    ],
)
def test_any_other_place_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_endpoint(text)


@pytest.mark.parametrize("name", ["audit", "audit-log", "export", "journal", "metrics", "socket", "stdin"])
def test_no_endpoint_has_another_stream_s_name(name: str) -> None:
    with pytest.raises(Usage):
        parse_endpoints([f"{name}=unix:/a"])


def test_two_endpoints_have_two_names() -> None:
    with pytest.raises(Usage):
        parse_endpoints(["a=unix:/a", "a=unix:/b"])
