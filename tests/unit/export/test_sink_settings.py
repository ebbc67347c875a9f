"""A catalogue of settings of Kafka and S3, each wrong in one way; and the command that takes them."""

from __future__ import annotations

import json
import socket
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from appliance.errors import ApplianceError, SettingsInvalid, Usage
from appliance.export.segment_log import SegmentLog
from appliance.export.segments import FrameKind
from appliance.export.sinks.settings import read_kafka_settings, read_s3_settings
from tests.unit.export.nodes import Node
from tests.unit.export.servers import WRITER, Broker
from tests.unit.export.test_feed import certificate
from tests.unit.export.test_sink_kafka import TOPIC, delivered, sequences

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.export.servers import ObjectServer

KAFKA = """\
format: 1
servers: ["siem-1.example:9093", "192.0.2.9:9093", "[2001:db8::9]:9093"]
topic: appliance-logs
tls: {authority: ca.pem, certificate: us.pem, key: us.key}
sasl: {mechanism: SCRAM-SHA-512, user: export, password_file: password}
"""
S3 = """\
format: 1
endpoint: https://192.0.2.9:9000
bucket: logs
prefix: site-1/
authority: ca.pem
access_key: EXPORT
secret_key_file: password
retention: {mode: COMPLIANCE, days: 3650}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ca.pem", "us.pem", "us.key", "password"):
        (tmp_path / name).write_text("of-a-file\n")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "pem").mkdir()
    both = certificate(tmp_path / "pem").read_bytes()
    for name in ("ca.pem", "us.pem", "us.key"):
        (tmp_path / name).write_bytes(both)
    return tmp_path


def wrong(
    folder: Path, read: Callable[[Path], object], text: str, old: str, new: str
) -> tuple[ApplianceError, str]:
    assert old in text
    path = folder / "settings.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(ApplianceError) as refused:
        read(path)
    said = " ".join(map(str, refused.value.as_dict().values()))
    assert "of-a-file" not in said
    return refused.value, said


def test_what_is_right_is_read_with_names_made_whole(folder: Path) -> None:
    (folder / "kafka.yaml").write_text(KAFKA)
    kafka, password = read_kafka_settings(folder / "kafka.yaml")
    assert kafka.tls != "none"
    assert (kafka.tls.authority, kafka.tls.key) == (str(folder / "ca.pem"), str(folder / "us.key"))
    assert password == "of-a-file"  # noqa: S105 - of a test
    assert kafka.compression == "lz4"
    (folder / "s3.yaml").write_text(S3)
    s3, secret = read_s3_settings(folder / "s3.yaml")
    assert (s3.authority, secret) == (str(folder / "ca.pem"), "of-a-file")
    assert (s3.every, s3.region, s3.addressing) == (60, "us-east-1", "path")


@pytest.mark.parametrize(
    ("old", "new", "kind", "said"),
    [
        ("format: 1", "format: 2", SettingsInvalid, ":1:9"),
        ("topic: appliance-logs\n", "", SettingsInvalid, "topic"),
        ("topic: appliance-logs", 'topic: "a b"', SettingsInvalid, ":3:8"),
        ("topic:", "topics:", SettingsInvalid, "topics"),
        ("topic: appliance-logs", 'topic: ".."', SettingsInvalid, ":3:8"),
        ('"192.0.2.9:9093"', '"192.0.2.9"', SettingsInvalid, ":2:34"),
        ('"192.0.2.9:9093"', '"192.0.2.9:65536"', SettingsInvalid, "not a server"),
        ('"192.0.2.9:9093"', '"192.0.2.9:0"', SettingsInvalid, "not a server"),
        ('"192.0.2.9:9093"', '"a:1,b:2"', SettingsInvalid, "HOST:PORT"),
        ("tls: {authority: ca.pem, certificate: us.pem, key: us.key}\n", "", SettingsInvalid, "tls"),
        (", key: us.key", "", SettingsInvalid, "certificate and key go together"),
        ("ca.pem", "absent.pem", Usage, "absent.pem"),
        ("us.key", "absent.key", Usage, "absent.key"),
        ("password_file: password", "password_file: absent", Usage, "absent"),
        ("password_file:", "password:", SettingsInvalid, "password"),
        ("SCRAM-SHA-512", "GSSAPI", SettingsInvalid, ":5:19"),
        ("topic: ", "compression: snappy\ntopic: ", SettingsInvalid, "compression"),
    ],
)
def test_wrong_settings_of_kafka(
    folder: Path, old: str, new: str, kind: type[ApplianceError], said: str
) -> None:
    fault, text = wrong(folder, read_kafka_settings, KAFKA, old, new)
    assert type(fault) is kind
    assert said in text


def test_a_password_leaves_in_the_clear_in_no_case(folder: Path) -> None:
    text = KAFKA.replace("tls: {authority: ca.pem, certificate: us.pem, key: us.key}", "tls: none")
    fault, _ = wrong(folder, read_kafka_settings, text, "SCRAM-SHA-512", "PLAIN")
    assert fault.message == "a password would leave in the clear"
    (folder / "settings.yaml").write_text(text)
    assert read_kafka_settings(folder / "settings.yaml")[0].tls == "none"


@pytest.mark.parametrize(
    ("old", "new", "kind", "said"),
    [
        ("https://192.0.2.9:9000", "http://192.0.2.9:9000", SettingsInvalid, "in the clear"),
        ("https://192.0.2.9:9000", "http://localhost.example", SettingsInvalid, "in the clear"),
        ("https://192.0.2.9:9000", "192.0.2.9:9000", SettingsInvalid, ":2:11"),
        ("https://192.0.2.9:9000", "https://192.0.2.9:99999", SettingsInvalid, ":2:11"),
        ("https://192.0.2.9:9000", "https://u:p@192.0.2.9", SettingsInvalid, "HOST:PORT"),
        ("https://192.0.2.9:9000", "https://192.0.2.9/logs", SettingsInvalid, "HOST:PORT"),
        ("https://192.0.2.9:9000", "file:///etc", SettingsInvalid, ":2:11"),
        ("bucket: logs", "bucket: Logs", SettingsInvalid, ":3:9"),
        ("prefix: site-1/", "prefix: site-1", SettingsInvalid, ":4:9"),
        ("prefix: site-1/", "prefix: /", SettingsInvalid, ":4:9"),
        ("prefix: site-1/", "prefix: ../", SettingsInvalid, ":4:9"),
        ("prefix: site-1/", "prefix: a/./", SettingsInvalid, ":4:9"),
        ("mode: COMPLIANCE", "mode: LEGAL", SettingsInvalid, ":8:"),
        ("days: 3650", "days: 0", SettingsInvalid, "days"),
        ("days: 3650", "days: 99999", SettingsInvalid, "days"),
        ("retention: {mode: COMPLIANCE, days: 3650}\n", "", SettingsInvalid, "retention"),
        ("bucket: logs", "bucket: logs\nevery: 0", SettingsInvalid, "every"),
        ("authority: ca.pem", "authority: absent.pem", Usage, "absent.pem"),
        ("secret_key_file: password", "secret_key: written-here", SettingsInvalid, "secret_key"),
    ],
)
def test_wrong_settings_of_s3(
    folder: Path, old: str, new: str, kind: type[ApplianceError], said: str
) -> None:
    fault, text = wrong(folder, read_s3_settings, S3, old, new)
    assert type(fault) is kind
    assert said in text


@pytest.mark.parametrize(
    ("secret", "mode", "said"),
    [
        (b"of-a-file", 0o640, "others may read"),
        (b"of-a-file", 0o604, "others may read"),
        (b"", 0o600, "holds no secret"),
        (b" \n", 0o600, "holds no secret"),
        (b"two\nlines", 0o600, "holds no secret"),
        (b"x" * 1025, 0o600, "holds no secret"),
        (b"\xff\xfe", 0o600, "holds no text"),
    ],
)
def test_wrong_secrets(folder: Path, secret: bytes, mode: int, said: str) -> None:
    (folder / "password").write_bytes(secret)
    (folder / "password").chmod(mode)
    for read, text in ((read_kafka_settings, KAFKA), (read_s3_settings, S3)):
        fault, _ = wrong(folder, read, text, "format: 1", "format: 1")
        assert type(fault) is Usage
        assert said in fault.message


@pytest.mark.parametrize("name", ["ca.pem", "us.pem", "us.key"])
@pytest.mark.parametrize("held", [b"", b"of-a-file", b"locked"])
def test_certificates_that_are_none_are_named_before_anybody_needs_them(
    folder: Path, name: str, held: bytes
) -> None:
    if held == b"locked":
        held = ed25519.Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"of-a-file")
        )
    (folder / name).write_bytes(held)
    fault, said = wrong(folder, read_kafka_settings, KAFKA, "format: 1", "format: 1")
    assert type(fault) is Usage
    assert "cannot be used" in fault.message
    assert name in said
    if name == "ca.pem":
        assert type(wrong(folder, read_s3_settings, S3, "format: 1", "format: 1")[0]) is Usage


@pytest.mark.parametrize(
    "given", [("--ca", "absent"), ("--ca", "password"), ("--ca", "ca.pem", "--cert", "password")]
)
def test_the_command_names_certificates_of_a_collector_that_are_none(
    folder: Path, given: tuple[str, ...]
) -> None:
    (folder / "gpu-01.sender.json").write_bytes(Node().identity.sender.data)
    files = [each if each.startswith("--") else folder / each for each in given]
    done = receive(
        *(folder / "out", "--sender", folder / "gpu-01.sender.json", "--listen", "127.0.0.1:0"),
        *("--syslog-tls", "127.0.0.1:6514", *files),
    )
    assert done.returncode == 2
    assert f"{files[-1]} cannot be used" in done.stderr


def test_the_command_names_a_folder_and_an_address_that_it_cannot_have(folder: Path) -> None:
    (folder / "gpu-01.sender.json").write_bytes(Node().identity.sender.data)
    (folder / "out/gpu-01/records.jsonl").mkdir(parents=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        for where, said in (("ca.pem", "ca.pem"), ("out", "records.jsonl"), ("other", f"error: {listen} ")):
            done = receive(folder / where, "--sender", folder / "gpu-01.sender.json", "--listen", listen)
            assert done.returncode == 2
            assert "cannot be used" in done.stderr
            assert said in done.stderr


def receive(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "appliance", "export", "receive", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_gives_a_medium_to_both_and_a_second_time_to_none(
    folder: Path, objects: ObjectServer
) -> None:
    node = Node()
    node.many(9)
    (folder / "medium").mkdir()
    log = SegmentLog(str(folder / "medium"))
    log.append([(FrameKind.BLOCK, each.data) for each in node.blocks])
    log.close()
    (folder / "gpu-01.sender.json").write_bytes(node.identity.sender.data)
    (folder / "password").write_text(WRITER[1])
    broker = Broker(folder)
    (folder / "kafka.yaml").write_text(
        f"format: 1\nservers: [{broker.server!r}]\ntopic: {TOPIC}\ntls: none\n"
    )
    (folder / "s3.yaml").write_text(
        f"format: 1\nendpoint: {objects.endpoint}\nbucket: logs\nprefix: command/\n"
        f"access_key: {WRITER[0]}\nsecret_key_file: password\n"
        "retention: {mode: GOVERNANCE, days: 1}\n"
    )
    given = (folder / "out", "--sender", folder / "gpu-01.sender.json", "--medium", folder / "medium")
    given += ("--kafka", folder / "kafka.yaml", "--s3", folder / "s3.yaml", "--json")
    try:
        broker.start()
        for _ in range(2):
            done = receive(*given)
            assert done.returncode == 0, done.stderr
            assert '"troubles": {}' in done.stdout
        assert sequences(delivered(broker.server, 10)) == list(range(1, 10))
    finally:
        broker.kill()
    assert len(objects.versions("logs", "command/")) == 1
    assert (
        b"".join(objects.bodies("logs", "command/")) == (folder / "out/gpu-01/records.jsonl").read_bytes()
    )
    for settings, former, other, said in (
        ("kafka.yaml", f"topic: {TOPIC}", "topic: another", f"topic {TOPIC}"),
        ("s3.yaml", "bucket: logs", "bucket: plain", "bucket logs, prefix command/"),
        ("s3.yaml", "prefix: command/", "", "bucket logs, prefix command/"),
    ):
        text = (folder / settings).read_text()
        (folder / settings).write_text(text.replace(former, other))
        elsewhere = receive(*given)
        error = json.loads(elsewhere.stdout)
        assert (elsewhere.returncode, error["error"]) == (3, "ExportTargetChanged")
        assert error["wanted"] == said
        (folder / settings).write_text(text)
    (folder / "password").write_text("another")
    refused = receive(folder / "another", *given[1:5], "--s3", folder / "s3.yaml")
    assert refused.returncode == 0
    assert "kept 10 that were missing\ngpu-01: trouble, s3.cursor: S3, logs/command/" in refused.stdout
    (folder / "s3.yaml").write_text("format: 3")
    refused = receive(*given)
    assert refused.returncode == 3
    assert "s3.yaml:1:1: error: endpoint is missing" in refused.stderr
