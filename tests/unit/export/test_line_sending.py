"""A sender that knows its walls: their digests are in its checkpoints, and alarms leave as records."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from appliance.export.exporter import Exporter
from appliance.export.incoming import Incoming
from appliance.export.line.watched import Watched
from appliance.export.loops import SendLoop, moment
from appliance.export.pacing import TokenBucket
from appliance.export.places import SPOOL, found_sender, read_identity, read_senders, sender_file
from appliance.export.receiver import Receiver
from appliance.export.sending import Sending
from appliance.export.sockets import receiving_socket, sending_socket
from appliance.export.spool import MIN_LIMIT, Spool
from tests.unit.export.test_receiver import lines_of, written

if TYPE_CHECKING:
    from pathlib import Path

DIGESTS = {"ruleset": "a" * 64, "sysctl": "b" * 64, "xdp": "c" * 64}


def exported(folder: Path, watched: Watched, peer: tuple[str, int]) -> dict[str, Any]:
    """One sender's life without any source; its last status."""
    identity = read_identity(folder)
    spool = Spool(str(folder / SPOOL), identity.sender, limit=4 * MIN_LIMIT)
    try:
        exporter = Exporter(identity, spool, moment())
        sending = Sending(identity, exporter, TokenBucket(1e9, 1e9))
        with sending_socket(peer) as line:
            loop = SendLoop(exporter, sending, line, peer, [], lambda _: None, drain=True)
            loop.watched, loop.select = watched, lambda _: b"{}"
            loop.run(threading.Event())
            return loop.status(moment())
    finally:
        spool.close()


def test_what_is_seen_of_the_walls_is_what_the_receiver_has(tmp_path: Path) -> None:
    """No selection keeps an alarm back: it is the exporter's own word."""
    found_sender(tmp_path / "sender", "gpu-01")
    seen = {"time": moment().wall, "digests": DIGESTS, "received": 9, "faults": ["export0 speaks ARP"]}
    with receiving_socket(("127.0.0.1", 0)) as there:
        status = exported(
            tmp_path / "sender", Watched(lambda: json.dumps(seen).encode()), there.getsockname()
        )
        assert status["line"] == {"received": 9, "faults": ["export0 speaks ARP"], "watched": True}
        (tmp_path / "receiver").mkdir()
        senders = read_senders([sender_file(tmp_path / "sender", "gpu-01")])
        receiver = Receiver(tmp_path / "receiver", senders, lines_of)
        receiver.take(Incoming(there).take(512))
        receiver.feed()
    (node,) = receiver.status()["nodes"]
    assert node["checkpoint"]["digests"] == DIGESTS
    told = [each["record"]["fields"] for each in written(tmp_path / "receiver") if "record" in each]  # type: ignore[index]
    assert [each["event"] for each in told] == ["amiss", "received"]
    assert (told[1]["count"], told[1]["total"]) == (9, 9)
    receiver.close()


def test_a_change_of_the_walls_is_an_event_at_the_receiver(tmp_path: Path) -> None:
    found_sender(tmp_path / "sender", "gpu-01")
    (tmp_path / "receiver").mkdir()
    receiver = Receiver(tmp_path / "receiver", read_senders([sender_file(tmp_path / "sender", "gpu-01")]))
    events = []
    for digests in (DIGESTS, DIGESTS, {**DIGESTS, "xdp": "d" * 64}):
        seen = json.dumps({"time": moment().wall, "digests": digests, "received": 0, "faults": []}).encode()
        with receiving_socket(("127.0.0.1", 0)) as there:
            exported(tmp_path / "sender", Watched(lambda seen=seen: seen), there.getsockname())  # type: ignore[misc]
            receiver.take(Incoming(there).take(512))
        events.append([each["event"] for each in receiver.tell(1)])
    assert [("walls-changed" in each) for each in events] == [False, False, True]
    assert receiver.status()["nodes"][0]["walls_changed"] == 1
    receiver.close()
