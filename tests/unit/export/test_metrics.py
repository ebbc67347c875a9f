"""Metrics: the status in the text format of Prometheus, whatever is in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from appliance.export.metrics import _HELP, metrics_text
from appliance.export.receiver import Receiver
from tests.unit.export.nodes import NOW, Node, identity

if TYPE_CHECKING:
    from pathlib import Path

SENDER: dict[str, Any] = {
    "side": "sender",
    "time": NOW,
    "packets": 12,
    "bytes": 17_000,
    "records": 5,
    "dropped": 0,
    "epoch": 3,
    "waiting_blocks": 1,
    "send_faults": 0,
    "filling": 2,
    "sources": {"journal": {"waits": True, "trouble": ""}, "checks": {"waits": False, "trouble": "x"}},
    "spool": {"bytes": 1000, "limit": 1 << 30, "oldest": 0},
}
_SAMPLE = re.compile(
    r'([a-z_]+)(\{[a-z]+="(?:[^"\\\n]|\\.)*"(?:,[a-z]+="(?:[^"\\\n]|\\.)*")*\})? (-?[0-9.e+]+)'
)


def read(text: str) -> dict[str, float]:
    """The samples, each by name and labels; every one of a metric that was announced before it."""
    found, known = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            known.add(line.split()[2])
        elif not line.startswith("#"):
            match = _SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] in known
            found[match[1].removeprefix("appliance_export_") + (match[2] or "")] = float(match[3])
    return found


def test_a_sender_s_status_is_given() -> None:
    found = read(metrics_text(SENDER))
    assert found["packets_total"] == 12
    assert found["spool_limit_bytes"] == 1 << 30
    assert found['source_waits{source="journal"}'] == 1
    assert found['source_trouble{source="journal"}'] == 0
    assert found['source_trouble{source="checks"}'] == 1
    assert found["status_time_seconds"] == NOW / 1000


def test_a_receiver_s_status_is_given_by_node(tmp_path: Path) -> None:
    one, two = Node(), Node(identity("gpu-02"))
    one.many(9)
    receiver = Receiver(tmp_path, [one.identity.sender, two.identity.sender])
    receiver.take(one.stream([*one.blocks[:2], *one.blocks[7:]]))
    receiver.take(one.checkpoint_datagrams(one.checkpoint(oldest=4)))
    receiver.take([b"garbage" * 20])
    status = {"side": "receiver", "time": NOW, "packets": 1, "bytes": 2, "socket_drops": 3}
    found = read(metrics_text(status | receiver.status()))
    receiver.close()
    assert found['blocks_total{node="gpu-01"}'] == 5
    assert found['records_total{node="gpu-01"}'] == 4
    assert found['gaps{node="gpu-01",state="partly lost"}'] == 1
    assert found['missing_blocks{node="gpu-01",state="partly lost"}'] == 5
    assert found['gaps{node="gpu-02",state="open"}'] == 0
    assert found['refused_total{node="",cause="not-ours"}'] == 1
    assert found['checkpoint_time_seconds{node="gpu-01"}'] == NOW / 1000
    assert 'checkpoint_time_seconds{node="gpu-02"}' not in found


def test_counters_are_named_as_counters_are() -> None:
    for name, (kind, what) in _HELP.items():
        assert name.endswith("_total") == (kind == "counter")
        assert "\n" not in what


def test_the_walls_of_a_sender_are_given_where_it_has_any() -> None:
    assert not any("line_" in name for name in read(metrics_text(SENDER)))
    walls = {"received": 7, "faults": ["no XDP program is at export0"], "watched": True}
    found = read(metrics_text({**SENDER, "line": walls}))
    assert (found["line_received_total"], found["line_faults"], found["line_watched"]) == (7, 1, 1)
