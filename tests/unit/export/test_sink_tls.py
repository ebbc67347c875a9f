"""A collector that is away: it is asked now and then, everybody is told, and it gets everything later."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import ExportSinkUnready
from appliance.export.receiver import Receiver
from appliance.export.sinks import outlets as outlets_module
from appliance.export.sinks import tls as tls_module
from appliance.export.sinks.outlets import outlets
from appliance.export.sinks.pause import Pause
from tests.unit.export.nodes import Node, identity
from tests.unit.export.test_feed import Collector, certificate, messages

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When somebody tried to connect, by the turned clock; its last entry is now."""
    real, times = socket.create_connection, [0.0]

    def connect(*given: Any, **more: Any) -> socket.socket:
        times.insert(-1, times[-1])
        return real(*given, **more)

    monkeypatch.setattr(tls_module.socket, "create_connection", connect)
    monkeypatch.setattr(outlets_module, "Pause", lambda _: Pause(lambda: times[-1]))
    return times


def test_a_collector_that_is_away_is_asked_every_five_seconds_and_nothing_is_lost(
    tmp_path: Path, asked: list[float]
) -> None:
    """Three nodes, each with a connection of its own: what one learnt counts for all."""
    pem = certificate(tmp_path)
    nodes = [Node(identity(f"gpu-0{number}")) for number in range(3)]
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        (tmp_path / "received").mkdir()
        made = outlets(tls=f"127.0.0.1:{port}", authority=pem)
        receiver = Receiver(tmp_path / "received", [each.identity.sender for each in nodes], made)
        for node in nodes:
            node.many(4)
            receiver.take(node.stream())
        for tenth in range(101):
            asked[-1] = tenth / 10
            assert not receiver.feed("syslog-tls.cursor")
        assert asked[:-1] == [0.0, 5.0, 10.0]
    for each in receiver.status()["nodes"]:
        assert f"the collector 127.0.0.1:{port} takes nothing: " in each["troubles"]["syslog-tls.cursor"]
        assert each["behind"]["syslog-tls.cursor"] > 0
    collector = Collector(pem, port)
    served = [collector.serve(1) for _ in nodes]  # beside one another
    asked[-1] = 15.0
    assert receiver.feed("syslog-tls.cursor")
    assert [each["troubles"] for each in receiver.status()["nodes"]] == [{}, {}, {}]
    assert {each["behind"]["syslog-tls.cursor"] for each in receiver.status()["nodes"]} == {0}
    receiver.close()
    for each in served:
        each.join(20)
    collector.close()
    assert sorted(map(len, map(messages, collector.taken))) == [5, 5, 5]


def test_a_collector_that_takes_nothing_more_is_left_alone_for_a_while(
    tmp_path: Path, asked: list[float]
) -> None:
    """It takes the connection and reads nothing: what was not acknowledged comes again."""
    pem = certificate(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        sink = tls_module.TlsSink(
            "127.0.0.1", deaf.getsockname()[1], pem, timeout=0.2, pause=Pause(lambda: asked[-1])
        )
        for _ in range(9):
            with pytest.raises(ExportSinkUnready, match=r"takes nothing: .*timed out"):
                sink.write([b"line"])
            with pytest.raises(ExportSinkUnready, match="takes nothing"):
                sink.ready()
    assert asked[:-1] == [0.0]
