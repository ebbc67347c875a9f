"""To a real broker of Kafka's protocol: what it has not acknowledged comes again, and can be told apart."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from appliance.errors import ExportSinkUnready, ToolMissing
from appliance.export.sinks import cursor as cursor_module
from appliance.export.sinks import feed as feed_module
from appliance.export.sinks.feed import Feed
from appliance.export.sinks.kafka import KafkaSink, Message, configuration, message_of
from appliance.export.sinks.lines import Entry, of_each
from appliance.export.sinks.settings import KafkaSettings, Sasl, Tls
from tests.unit.export.servers import WRITER, Broker, TlsFront, free_ports
from tests.unit.export.test_feed import Desk, Killed, all_of, certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.export.servers import ObjectServer

TOPIC = "appliance-logs"
SHORT = 0.5
#: Long enough for a broker that answers to refuse.
REFUSED = 1.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.archive.close()


def settings(server: str, **others: object) -> KafkaSettings:
    values = {"format": 1, "servers": [server], "topic": TOPIC, "tls": "none"} | others
    return KafkaSettings.model_validate(values)


def feed(place: Desk, sink: KafkaSink) -> Feed[Message]:
    return Feed(place.archive, sink, of_each(message_of), place.folder / "kafka.cursor")


Found = list[tuple[bytes, dict[str, str], dict[str, object]]]


def delivered(server: str, count: int, **options: object) -> Found:
    """Key, headers and value of all messages of the topic; at least so many are waited for."""
    consumer = Consumer(
        {
            "bootstrap.servers": server,
            "group.id": "siem",
            "enable.partition.eof": True,
            "log_level": 0,
            "fetch.wait.max.ms": 10,
            **options,
        }
    )
    partitions = consumer.list_topics(TOPIC, timeout=10.0).topics[TOPIC].partitions
    consumer.assign([TopicPartition(TOPIC, each, 0) for each in partitions])
    found: Found = []
    ended: set[int] = set()
    while len(found) < count or ended != set(partitions):
        message = consumer.poll(10.0)
        assert message is not None, f"{len(found)} of {count} messages came"
        if message.error():
            assert message.error().name() == "_PARTITION_EOF"
            ended.add(message.partition())
            continue
        headers = {name: value.decode() for name, value in message.headers()}
        found.append((message.key(), headers, json.loads(message.value())))
    consumer.close()
    return found


def sequences(messages: Found) -> list[int]:
    return [int(headers["sequence"]) for _, headers, _ in messages if headers["kind"] == "record"]


def test_messages_come_in_order_with_the_key_and_headers_that_tell_them_apart(
    place: Desk, broker: Broker
) -> None:
    place.receive(0, 6)
    made = feed(place, KafkaSink(settings(broker.server)))
    assert made.run() == 16
    place.receive(6, 13)
    assert made.run() == 21
    assert made.run() == 0
    made.close()
    found = delivered(broker.server, 37)
    assert len(found) == 37
    assert sequences(found) == list(range(1, 37))
    assert {key for key, _, _ in found} == {b"gpu-01"}
    (_, opened, _), (_, record, value) = found[:2]
    assert opened == {
        "node": "gpu-01",
        "epoch": "1",
        "block": "0",
        "sequence": "1",
        "kind": "opened",
        "last": "0",
    }
    assert record == {"node": "gpu-01", "epoch": "1", "block": "1", "sequence": "1", "kind": "record"}
    assert (value["sequence"], value["node"], value["record"]["n"]) == (1, "gpu-01", 0)  # type: ignore[index]


def test_killed_at_any_step_nothing_is_missing_and_what_is_twice_is_the_same(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps: before and after the broker has a batch, and before and after the cursor says so."""
    monkeypatch.setattr(feed_module, "_BATCH", 700)
    real_write, real_replace = KafkaSink.write, cursor_module.replace_file
    place = Desk(tmp_path)
    for step in (1, 2, 3, 4):
        place.receive(3 * step - 3, 3 * step)
        steps = iter(range(1, 1 << 30))

        def counted(
            act: object, *arguments: object, step: int = step, steps: Iterator[int] = steps
        ) -> None:
            for before in (True, False):
                if next(steps) == step:
                    raise Killed
                if before:
                    act(*arguments)  # type: ignore[operator]

        with monkeypatch.context() as patch:
            made = feed(place, KafkaSink(settings(broker.server)))
            patch.setattr(KafkaSink, "write", lambda *given, act=counted: act(real_write, *given))
            patch.setattr(
                cursor_module, "replace_file", lambda *given, act=counted: act(real_replace, *given)
            )
            with pytest.raises(Killed):
                made.run()
    place.receive(12, 13)
    all_of(feed(place, KafkaSink(settings(broker.server))))
    place.archive.close()
    found = delivered(broker.server, 37)
    assert sorted(set(sequences(found))) == list(range(1, 37))
    assert len(found) > 37
    by_name: dict[tuple[str, ...], dict[str, object]] = {}
    for _, headers, value in found:
        name = tuple(headers[each] for each in ("node", "epoch", "sequence", "kind"))
        assert by_name.setdefault(name, value) == value
    assert len(by_name) == 37


def test_a_broker_that_is_away_leaves_everything_where_it_is(place: Desk, broker: Broker) -> None:
    broker.kill()
    place.receive(0, 6)
    made = feed(place, KafkaSink(settings(broker.server), timeout=SHORT))
    with pytest.raises(ExportSinkUnready, match=r"acknowledged 0 of 16 .*Connection refused"):
        made.run()
    assert json.loads((place.folder / "kafka.cursor").read_bytes())["offset"] == 0
    made.close()
    broker.start()
    again = feed(place, KafkaSink(settings(broker.server)))
    assert again.run() == 16
    again.close()
    assert sequences(delivered(broker.server, 16)) == list(range(1, 16))


def test_a_broker_that_hears_and_does_not_answer_has_nothing(place: Desk, broker: Broker) -> None:
    first = feed(place, KafkaSink(settings(broker.server)))
    place.receive(0, 3)
    first.run()
    first.close()
    broker.hold()
    place.receive(3, 6)
    made = feed(place, KafkaSink(settings(broker.server), timeout=SHORT))
    with pytest.raises(ExportSinkUnready, match="acknowledged 0 of 9"):
        made.run()
    assert made.place == first.place
    made.close()
    broker.release()
    again = feed(place, KafkaSink(settings(broker.server)))
    again.run()
    assert sorted(set(sequences(delivered(broker.server, 16)))) == list(range(1, 16))


def test_a_broker_that_was_away_is_not_waited_for_by_every_node() -> None:
    (port,) = free_ports(1)
    now = [0.0]
    sink = KafkaSink(settings(f"127.0.0.1:{port}"), timeout=SHORT, clock=lambda: now[0])
    message = Message(b"gpu-01", b"{}", [])
    with pytest.raises(ExportSinkUnready) as first:
        sink.write([message])
    asked: list[object] = []
    sink._make = lambda *_, **__: asked.append(1)  # type: ignore[assignment] # nobody may ask now
    with pytest.raises(ExportSinkUnready) as second:
        sink.write([message])
    assert str(second.value) == str(first.value)
    assert asked == []
    now[0] += 6.0
    with pytest.raises(AttributeError):  # it asks again
        sink.write([message])
    assert asked == [1]


def test_a_broker_that_keeps_things_is_killed_and_comes_back(
    place: Desk, tmp_path: Path, objects: ObjectServer
) -> None:
    """Tansu on a bucket: what it had acknowledged is there after ``kill -9``, and the rest comes again."""
    broker = Broker(
        tmp_path,
        ("--storage-engine=s3://broker/",),
        {
            "AWS_ACCESS_KEY_ID": WRITER[0],
            "AWS_SECRET_ACCESS_KEY": WRITER[1],
            "AWS_ENDPOINT": objects.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
        },
    )
    try:
        broker.start()
        made = feed(place, KafkaSink(settings(broker.server)))
        place.receive(0, 6)
        assert made.run() == 16
        made.close()
        broker.kill()
        place.receive(6, 13)
        cut = feed(place, KafkaSink(settings(broker.server), timeout=SHORT))
        with pytest.raises(ExportSinkUnready):
            cut.run()
        cut.close()
        broker.start()
        again = feed(place, KafkaSink(settings(broker.server)))
        assert again.run() == 21
        again.close()
        assert sequences(delivered(broker.server, 37)) == list(range(1, 37))
    finally:
        broker.kill()


def test_over_tls_only_to_whom_the_authority_vouches_for(
    place: Desk, broker: Broker, tmp_path: Path
) -> None:
    pem, other = certificate(tmp_path), certificate(tmp_path, "127.0.0.2")
    (port,) = free_ports(1)
    broker.kill()
    broker.advertised = port
    broker.start()
    front = TlsFront(pem, port, broker.port)
    place.receive(0, 6)
    for authority, why, timeout in ((other, "certificate verify failed", REFUSED), (pem, "", 10.0)):
        tls = Tls(authority=str(authority))
        made = feed(place, KafkaSink(settings(broker.server, tls=tls.model_dump()), timeout=timeout))
        if why:
            with pytest.raises(ExportSinkUnready, match=why):
                made.run()
            assert made.place.offset == 0
        else:
            assert made.run() == 16
        made.close()
    impostor = TlsFront(other, free_ports(1)[0], broker.port)  # believed, and of another address
    tls = Tls(authority=str(other))
    there = settings(f"127.0.0.1:{impostor.port}", tls=tls.model_dump())
    with pytest.raises(ExportSinkUnready, match="certificate verify failed"):
        KafkaSink(there, timeout=REFUSED).write([Message(b"gpu-01", b"{}", [])])
    impostor.close()
    trusting = {"security.protocol": "SSL", "ssl.ca.location": str(pem)}
    assert sequences(delivered(broker.server, 16, **trusting)) == list(range(1, 16))
    front.close()


def test_whoever_asks_for_a_user_it_does_not_know_gets_nothing(place: Desk, tmp_path: Path) -> None:
    """SCRAM with a real broker, which has no users: it refuses by name, and nothing counts as taken."""
    broker = Broker(tmp_path, ("--authentication",))
    place.receive(0, 3)
    sasl = {"mechanism": "SCRAM-SHA-512", "user": "export", "password_file": "-"}
    made = feed(place, KafkaSink(settings(broker.server, sasl=sasl), "secret", timeout=REFUSED))
    try:
        broker.start()
        with pytest.raises(ExportSinkUnready, match="unknown-user") as refused:
            made.run()
    finally:
        broker.kill()
    assert "secret" not in str(refused.value)
    assert json.loads((place.folder / "kafka.cursor").read_bytes())["offset"] == 0
    made.close()


def test_what_the_client_is_told() -> None:
    tls = Tls(authority="/ca.pem", certificate="/us.pem", key="/us.key")
    sasl = Sasl(mechanism="PLAIN", user="export", password_file="-")  # noqa: S106 - a file's name
    found = configuration(settings("siem:9093", tls=tls.model_dump(), sasl=sasl.model_dump()), "secret", 10)
    assert found["enable.idempotence"] is True
    assert (found["acks"], found["security.protocol"]) == ("all", "SASL_SSL")
    assert found["ssl.endpoint.identification.algorithm"] == "https"
    assert (found["ssl.ca.location"], found["ssl.certificate.location"]) == ("/ca.pem", "/us.pem")
    assert (found["sasl.username"], found["sasl.password"]) == ("export", "secret")
    assert configuration(settings("siem:9092"), None, 10)["security.protocol"] == "PLAINTEXT"


def test_another_history_and_statements_are_marked() -> None:
    entry = Entry("gpu-01", 7, 3, 10, 12, "dropped", {"reason": "spool-full"}, fork=True)
    found = message_of(entry)
    assert dict(found.headers) == {
        "node": b"gpu-01",
        "epoch": b"7",
        "block": b"3",
        "sequence": b"10",
        "kind": b"dropped",
        "last": b"12",
        "fork": b"1",
    }
    assert json.loads(found.value)["fork"] is True


def test_without_the_client_it_is_said_which_extra_brings_it() -> None:
    """In a process of its own, where the client cannot be found."""
    program = (
        "import sys; sys.modules['confluent_kafka'] = None\n"
        "from appliance.errors import ToolMissing\n"
        "from appliance.export.sinks.kafka import KafkaSink\n"
        "from appliance.export.sinks.settings import KafkaSettings\n"
        "made = KafkaSettings(format=1, servers=['a:1'], topic='t', tls='none')\n"
        "try: KafkaSink(made)\n"
        "except ToolMissing as fault: print(fault.exit_code, fault.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (
        done.stdout
        == f"{ToolMissing.exit_code} install the program with its extra: pip install 'appliance[kafka]'\n"
    )


def test_what_keeps_us_from_a_broker_is_said_and_not_that_all_are_down() -> None:
    sink = KafkaSink(settings("127.0.0.1:9"))
    sink._hear(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    sink._hear(KafkaError(KafkaError._TRANSPORT, "Connection refused"))
    sink._hear(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert sink._said == "Connection refused"
