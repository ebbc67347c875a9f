"""Messages of Kafka as a sink: what a broker has acknowledged counts as taken, and nothing else.

The producer is idempotent, waits for all replicas in step (``acks=all``) and gives every message the
node's name as its key: so those of one node lie in one partition, in order.  A cut between the broker's
word and ours makes messages come twice.  Their headers tell: ``node``, ``epoch``, ``sequence`` and
``kind``; those of another history have ``fork``, too.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from appliance.errors import ExportSinkUnready, ToolMissing
from appliance.export.sinks.lines import json_line
from appliance.export.sinks.pause import Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.export.sinks.lines import Entry
    from appliance.export.sinks.settings import KafkaSettings

_TIMEOUT: Final = 10.0
_POLL: Final = 0.1


class Message(NamedTuple):
    """One message."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def message_of(entry: Entry) -> Message:
    """The message of an entry: its value is the same line as in a file, without the end."""
    headers = {
        "node": entry.node,
        "epoch": str(entry.epoch),
        "block": str(entry.block),
        "sequence": str(entry.first),
        "kind": entry.kind,
    }
    if entry.kind != "record":
        headers["last"] = str(entry.last)
    if entry.fork:
        headers["fork"] = "1"
    return Message(
        entry.node.encode("ascii"),
        json_line(entry)[:-1],
        [(name, value.encode("ascii")) for name, value in headers.items()],
    )


def configuration(settings: KafkaSettings, password: str | None, timeout: float) -> dict[str, Any]:
    """What librdkafka is told (its CONFIGURATION.md); ``timeout`` in seconds."""
    found: dict[str, Any] = {
        "bootstrap.servers": ",".join(settings.servers),
        "client.id": "appliance-export",
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "compression.type": settings.compression,
        "message.timeout.ms": int(timeout * 1000),
        "security.protocol": ("SASL_" if settings.sasl else "")
        + ("PLAINTEXT" if settings.tls == "none" else "SSL"),
    }
    if settings.tls != "none":
        found |= {
            "ssl.ca.location": settings.tls.authority,
            "ssl.endpoint.identification.algorithm": "https",
        }
        if settings.tls.certificate is not None:
            found |= {
                "ssl.certificate.location": settings.tls.certificate,
                "ssl.key.location": settings.tls.key,
            }
    if settings.sasl is not None:
        found |= {
            "sasl.mechanism": settings.sasl.mechanism,
            "sasl.username": settings.sasl.user,
            "sasl.password": password,
        }
    return found


class KafkaSink:
    """One producer for all nodes, made when there is something to write, and anew after a fault.

    Args:
        settings: where to, and how.
        password: of SASL.
        timeout: seconds in which a broker must have acknowledged what it was given.
        clock: seconds that never go back.

    Raises:
        ToolMissing: the program is here without the client for Kafka.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        password: str | None = None,
        *,
        timeout: float = _TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            from confluent_kafka import KafkaException, Producer
        except ImportError as fault:
            raise ToolMissing(
                "this installation has no client for Kafka",
                found=str(fault),
                hint="install the program with its extra: pip install 'appliance[kafka]'",
            ) from fault
        self._make, self._fault = Producer, KafkaException
        self._topic, self._configuration = settings.topic, configuration(settings, password, timeout)
        self._clock, self._timeout = clock, timeout
        self._producer: Any = None
        self._pause = Pause(clock)
        self._said = ""
        self._taken = 0
        self._refused = ""

    def ready(self) -> bool:
        self._pause.heed()
        return False

    def write(self, found: Sequence[Message]) -> None:
        """Give these to the broker, and wait until it has all of them.

        Raises:
            ExportSinkUnready: it has not in time, or refused one.
        """
        self._pause.heed()
        self._taken, self._refused, self._said = 0, "", ""
        until = self._clock() + self._timeout
        try:
            producer = self._connected()
            for each in found:
                self._produce(producer, each, until)
            producer.flush(max(until - self._clock(), _POLL))
        except self._fault as fault:  # what was configured makes no sense, or an error that is for good
            self._refused = str(fault)
        if self._taken == len(found) and not self._refused:
            return
        unready = ExportSinkUnready(
            f"Kafka acknowledged {self._taken:,} of {len(found):,} messages for the topic {self._topic}: "
            + (self._said or self._refused or "no answer")
        )
        self.close()
        self._pause.begin(unready)
        raise unready

    def _connected(self) -> Any:
        if self._producer is None:
            self._producer = self._make({**self._configuration, "error_cb": self._hear}, logger=_silent())
        return self._producer

    def _produce(self, producer: Any, message: Message, until: float) -> None:
        while True:
            try:
                producer.produce(
                    self._topic,
                    key=message.key,
                    value=message.value,
                    headers=message.headers,
                    on_delivery=self._delivered,
                )
                return
            except BufferError:  # its queue is full: what is on the way makes room
                if self._clock() >= until:
                    return  # it is not acknowledged then, and all of it comes again
                producer.poll(_POLL)

    def _delivered(self, fault: Any, _: object) -> None:
        if fault is None:
            self._taken += 1
        else:
            self._refused = self._refused or fault.str()

    def _hear(self, fault: Any) -> None:
        """What keeps us from a broker says more than that time ran out; that all are down says least."""
        if not self._said or fault.name() != "_ALL_BROKERS_DOWN":
            self._said = fault.str()

    def settle(self) -> str:
        """Nothing is left to wait for: ``write`` has."""
        return ""

    def resume(self, mark: str) -> None:
        """There is no way back in a topic: what is written again comes twice."""

    def close(self) -> None:
        """Forget the producer, and what it was still to deliver."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(_POLL)
        self._producer = None


def _silent() -> logging.Logger:
    """Nobody reads what the library would write to stderr; what matters comes to us as errors."""
    logger = logging.getLogger("appliance.export.kafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
