"""The outputs that were asked for, for each node: files of its own, and what all nodes share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appliance.errors import Usage
from appliance.export.sinks.feed import FILE_PIECE, Feed
from appliance.export.sinks.file import FileSink
from appliance.export.sinks.lines import json_lines, of_each, syslog_message
from appliance.export.sinks.pause import Pause
from appliance.export.sinks.tls import TlsSink, octet_counted
from appliance.export.sockets import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.export.archive import Archive
    from appliance.export.segments import Frame
    from appliance.export.sinks.feed import Outlet

    Made = Callable[[Archive, Path], Outlet]


def outlets(
    *,
    syslog: bool = False,
    tls: str | None = None,
    authority: Path | None = None,
    certificate: Path | None = None,
    kafka: Path | None = None,
    s3: Path | None = None,
) -> Callable[[Archive, Path], list[Outlet]]:
    """Makes the outputs of one node, given its archive and folder; lines of JSON are always one of them.

    Args:
        syslog: also a file of RFC 5424.
        tls: ``ADDRESS:PORT`` of a collector for RFC 5424 over TLS.
        authority: PEM file of who vouches for that collector.
        certificate: PEM file with our certificate and key for it.
        kafka: settings of a Kafka cluster.
        s3: settings of a bucket.

    Raises:
        Usage: what was asked for makes no sense, or a file is not there.
        SettingsInvalid: settings are malformed.
        ToolMissing: a client library is not there.
    """
    if (tls is None) != (authority is None):
        raise Usage("--syslog-tls and --ca go together", wanted="both, or neither")
    found = [_file("records.jsonl", json_lines)]
    if syslog:
        found.append(_file("records.log", of_each(lambda each: syslog_message(each) + b"\n")))
    if tls is not None and authority is not None:
        found.append(_collector(tls, authority, certificate))
    if kafka is not None:
        found.append(_kafka(kafka))
    if s3 is not None:
        found.append(_s3(s3))
    return lambda archive, folder: [make(archive, folder) for make in found]


def _file(name: str, render: Callable[[Frame, str], list[bytes]]) -> Made:
    return lambda archive, folder: Feed(
        archive, FileSink(folder / name), render, folder / f"{name}.cursor", FILE_PIECE
    )


def _collector(tls: str, authority: Path, certificate: Path | None) -> Made:
    host, port = parse_address(tls)
    pause = Pause(time.monotonic)  # each node has its own connection: one that fails speaks for all
    return lambda archive, folder: Feed(
        archive,
        TlsSink(host, port, authority, certificate=certificate, pause=pause),
        of_each(lambda each: octet_counted(syslog_message(each))),
        folder / "syslog-tls.cursor",
        target=f"collector {host}",  # as its certificate names it; the port may be another one
    )


def _kafka(path: Path) -> Made:
    from appliance.export.sinks.kafka import KafkaSink, message_of
    from appliance.export.sinks.settings import read_kafka_settings

    settings, password = read_kafka_settings(path)
    sink = KafkaSink(settings, password)
    return lambda archive, folder: Feed(
        archive, sink, of_each(message_of), folder / "kafka.cursor", target=f"topic {settings.topic}"
    )


def _s3(path: Path) -> Made:
    from appliance.export.sinks.object_feed import ObjectFeed
    from appliance.export.sinks.s3 import S3Store
    from appliance.export.sinks.settings import read_s3_settings

    settings, secret = read_s3_settings(path)
    store = S3Store(settings, secret)
    target = f"bucket {settings.bucket}, prefix {settings.prefix or 'none'}"
    return lambda archive, folder: ObjectFeed(
        archive, store, settings.prefix, folder / "s3.cursor", settings.every, target=target
    )
