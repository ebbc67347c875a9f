"""The status of a receiver or sender as Prometheus metrics, in the text format (version 0.0.4).  Pure.

Written to ``metrics.prom`` beside ``status.json``, in one step: the textfile collector of a node exporter
takes it from there, so that nothing here listens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PREFIX: Final = "appliance_export_"

#: name: (type, what it is)
_HELP: Final = {
    "status_time_seconds": ("gauge", "When this was written, seconds since 1970."),
    "packets_total": ("counter", "Packets received, or sent."),
    "bytes_total": ("counter", "Bytes of these packets."),
    "socket_drops_total": ("counter", "Packets that the kernel threw away, the buffer being full."),
    "refused_total": ("counter", "Packets, blocks and checkpoints that were not believed, by cause."),
    "given_up_total": ("counter", "Incomplete blocks that gave way to newer ones."),
    "unkept_total": ("counter", "Blocks and checkpoints that a full disk did not take."),
    "blocks_total": ("counter", "New blocks that were believed and kept."),
    "repaired_total": ("counter", "Of them, blocks that were whole only by repair symbols."),
    "symbols_total": ("counter", "Symbols of these blocks that were sent until they were whole."),
    "symbols_lost_total": ("counter", "Of them, those that did not come."),
    "filling_total": ("counter", "Packets of nothing, received or sent."),
    "records_total": ("counter", "New records that were believed and kept; of a sender, those it took."),
    "dropped_records": ("gauge", "Records that a node dropped, by its own signed word."),
    "gaps": ("gauge", "Gaps, by state."),
    "missing_blocks": ("gauge", "Blocks in gaps, by state."),
    "forks": ("gauge", "Blocks of another history."),
    "breaks": ("gauge", "Blocks that do not follow the one before."),
    "walls_changed": ("gauge", "How often a node's checkpoints named other walls than before."),
    "contradictions": ("gauge", "Checkpoints of another history."),
    "checkpoint_time_seconds": ("gauge", "When the newest checkpoint was made, by the node's clock."),
    "archive_bytes": ("gauge", "Bytes of the archive."),
    "troubles": ("gauge", "Disks and sinks that take nothing."),
    "sink_behind_bytes": ("gauge", "Bytes of the archive that a sink does not have yet."),
    "sink_trouble": ("gauge", "1 while a sink takes nothing."),
    "epoch": ("gauge", "The sender's epoch, which ascends with every start."),
    "waiting_blocks": ("gauge", "Blocks that were not sent yet."),
    "ended": ("gauge", "1 once the sender ended by its policy, its spool being full."),
    "source_waits": ("gauge", "Whether a source is not read, as the spool has no room."),
    "source_trouble": ("gauge", "Whether a source cannot do what it should."),
    "send_faults_total": ("counter", "Datagrams that the system did not take at once."),
    "spool_bytes": ("gauge", "Bytes of the spool."),
    "spool_limit_bytes": ("gauge", "Bytes that the spool may have."),
    "line_received_total": (
        "counter",
        "Frames that came in at the card since its walls are up: none should.",
    ),
    "line_faults": ("gauge", "Walls around the card that do not stand as they were put up."),
    "line_watched": ("gauge", "1 while somebody watches these walls."),
}
_STATES: Final = ("open", "partly lost", "lost")

Sample = tuple[str, "Mapping[str, str]", float]


def metrics_text(status: Mapping[str, Any]) -> str:
    """The metrics of a status, in the order of ``_HELP``."""
    samples = list(_sender(status) if status["side"] == "sender" else _receiver(status))
    lines = []
    for name, (kind, what) in _HELP.items():
        found = [each for each in samples if each[0] == name]
        if found:
            lines += [f"# HELP {_PREFIX}{name} {what}", f"# TYPE {_PREFIX}{name} {kind}"]
            lines += [f"{_PREFIX}{name}{_labels(labels)} {value:.15g}" for _, labels, value in found]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


def _sender(status: Mapping[str, Any]) -> Iterator[Sample]:
    yield "status_time_seconds", {}, status["time"] / 1000
    yield "packets_total", {}, status["packets"]
    yield "bytes_total", {}, status["bytes"]
    yield "records_total", {}, status["records"]
    yield "dropped_records", {}, status["dropped"]
    yield "epoch", {}, status["epoch"]
    yield "waiting_blocks", {}, status["waiting_blocks"]
    yield "send_faults_total", {}, status["send_faults"]
    yield "filling_total", {}, status["filling"]
    yield "ended", {}, bool(status.get("ended"))
    for name, source in status["sources"].items():
        yield "source_waits", {"source": name}, source["waits"]
        yield "source_trouble", {"source": name}, bool(source["trouble"])
    yield "spool_bytes", {}, status["spool"]["bytes"]
    yield "spool_limit_bytes", {}, status["spool"]["limit"]
    if line := status.get("line"):
        yield "line_received_total", {}, line["received"]
        yield "line_faults", {}, len(line["faults"])
        yield "line_watched", {}, line["watched"]


def _receiver(status: Mapping[str, Any]) -> Iterator[Sample]:
    yield "status_time_seconds", {}, status["time"] / 1000
    yield "packets_total", {}, status["packets"]
    yield "bytes_total", {}, status["bytes"]
    yield "socket_drops_total", {}, status["socket_drops"]
    yield "given_up_total", {}, status["given_up"]
    yield "unkept_total", {}, status["unkept"]
    for why, count in status["refused"].items():
        yield "refused_total", {"node": "", "cause": why}, count
    for node in status["nodes"]:
        yield from _node(node)


def _node(node: Mapping[str, Any]) -> Iterator[Sample]:
    name = {"node": str(node["name"])}
    for counted in ("blocks", "repaired", "symbols", "symbols_lost", "filling", "records"):
        yield f"{counted}_total", name, node[counted]
    for why, count in node["refused"].items():
        yield "refused_total", {**name, "cause": why}, count
    yield "dropped_records", name, node["dropped"]
    for state in _STATES:
        gaps = [each["blocks"] for each in node["gaps"] if each["state"] == state]
        labels = {**name, "state": state}
        yield "gaps", labels, len(gaps)
        yield "missing_blocks", labels, sum(last + 1 - first for first, last in gaps)
    yield "forks", name, node["forks"]
    yield "breaks", name, len(node["breaks"])
    yield "contradictions", name, node["contradictions"]
    yield "walls_changed", name, node["walls_changed"]
    if node["checkpoint"]:
        yield "checkpoint_time_seconds", name, node["checkpoint"]["time"] / 1000
    yield "archive_bytes", name, node["archive_bytes"]
    yield "troubles", name, len(node["troubles"])
    for cursor, behind in node["behind"].items():
        labels = {**name, "sink": cursor.removesuffix(".cursor")}
        yield "sink_behind_bytes", labels, behind
        yield "sink_trouble", labels, cursor in node["troubles"]
