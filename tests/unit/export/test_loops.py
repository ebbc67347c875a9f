"""Both loops over loopback, and what is made good by hand: nothing is asked of the clock."""

from __future__ import annotations

import json
import os
import signal
import socket as socketlib
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import SpoolFull
from appliance.export import exporter as exporter_module
from appliance.export import loops as loops_module
from appliance.export.block import BlockKind, parse_block
from appliance.export.checking import check_folders
from appliance.export.exporter import Exporter
from appliance.export.incoming import Incoming
from appliance.export.loops import ReceiveLoop, SendLoop
from appliance.export.moments import moment, tolerant
from appliance.export.pacing import TokenBucket
from appliance.export.payload import records_of
from appliance.export.places import SPOOL, found_sender, read_identity, read_senders, sender_file
from appliance.export.ranges import range_text
from appliance.export.receiver import Receiver
from appliance.export.replaying import frames_of
from appliance.export.sending import Sending
from appliance.export.sockets import receiving_socket, sending_socket
from appliance.export.sources.following import FileSource
from appliance.export.sources.local import DatagramSource, LineSource
from appliance.export.spool import MIN_LIMIT, Spool
from tests.unit.export.nodes import chance
from tests.unit.export.test_receiver import lines_of, written

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

_PATIENCE = 120  # seconds that nothing here should ever need
_ROOT = Path(__file__).parents[3]


@pytest.fixture
def there() -> Iterator[socket.socket]:
    with receiving_socket(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def sender(tmp_path: Path) -> Path:
    found_sender(tmp_path / "sender", "gpu-01")
    return tmp_path / "sender"


def send(
    folder: Path,
    peer: tuple[str, int],
    lines: list[bytes],
    tmp_path: Path,
    *,
    told: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> SendLoop:
    """Everything of these lines, sent once."""
    identity = read_identity(folder)
    spool = Spool(str(folder / SPOOL), identity.sender, limit=4 * MIN_LIMIT)
    path = tmp_path / "lines"
    path.write_bytes(b"".join(each + b"\n" for each in lines))
    fd = os.open(path, os.O_RDONLY)
    try:
        exporter = Exporter(identity, spool, moment())
        sending = Sending(identity, exporter, TokenBucket(1e9, 1e9))
        with sending_socket(peer) as line:
            loop = SendLoop(exporter, sending, line, peer, [LineSource(fd)], told, drain=True)
            loop.run(threading.Event())
        return loop
    finally:
        os.close(fd)
        spool.close()


def lines(count: int) -> list[bytes]:
    return [
        b'{"n":%d,"x":"%s"}' % (number, chance(number).randbytes(200).hex().encode())
        for number in range(count)
    ]


def receiver_in(folder: Path, sender: Path) -> Receiver:
    folder.mkdir(exist_ok=True)
    return Receiver(folder, read_senders([sender_file(sender, "gpu-01")]), lines_of)


def numbers(folder: Path) -> list[int]:
    return [each["record"]["n"] for each in written(folder) if "record" in each]  # type: ignore[index]


def test_lines_arrive_whole_and_a_last_checkpoint_with_them(
    tmp_path: Path, sender: Path, there: socket.socket
) -> None:
    statuses: list[Mapping[str, Any]] = []
    loop = send(sender, there.getsockname(), lines(200), tmp_path, told=statuses.append)
    assert (loop.records, loop.dropped, loop.faults) == (200, 0, 0)
    assert statuses[-1]["next_sequence"] == 201
    receiver = receiver_in(tmp_path / "receiver", sender)
    stop, told, events = threading.Event(), [], []

    def tell(values: Mapping[str, Any]) -> None:
        told.append(values)
        if values["nodes"][0]["records"] == 200 and values["nodes"][0]["checkpoint"]:
            stop.set()

    ReceiveLoop(receiver, there, tell, events.append).run(stop)
    receiver.close()
    assert numbers(tmp_path / "receiver") == list(range(200))
    assert told[-1]["nodes"][0]["gaps"] == []
    assert (told[-1]["packets"], told[-1]["socket_drops"]) == (loop.sending.packets, 0)
    proof = check_folders([tmp_path / "receiver/gpu-01/archive"], receiver.reception.senders.popitem()[1])
    assert proof.whole
    assert proof.records == 200


def test_when_the_input_has_ended_no_block_waits_for_more(
    tmp_path: Path, sender: Path, there: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter_module, "LINGER", 1e6)
    monkeypatch.setattr(loops_module, "CHECKPOINT_EVERY", 1e6)  # which seals blocks, too
    arguments = (sender, there.getsockname(), lines(5), tmp_path)
    sent = threading.Thread(target=send, args=arguments, daemon=True)
    sent.start()
    sent.join(20)
    assert not sent.is_alive()


def test_a_restart_goes_on_with_the_numbers(tmp_path: Path, sender: Path, there: socket.socket) -> None:
    send(sender, there.getsockname(), lines(50), tmp_path)
    send(sender, there.getsockname(), lines(50), tmp_path)
    receiver = receiver_in(tmp_path / "receiver", sender)
    receiver.take(Incoming(there).take(10_000))
    receiver.feed()
    sequences = [each["sequence"] for each in written(tmp_path / "receiver") if "sequence" in each]
    assert sequences == list(range(1, 101))
    assert receiver.status()["nodes"][0]["gaps"] == []
    receiver.close()


def test_a_full_spool_ends_the_loop_by_policy_and_what_was_taken_is_kept(
    tmp_path: Path, sender: Path, there: socket.socket
) -> None:
    many = [chance(number).randbytes(30_000).replace(b"\n", b"") for number in range(400)]
    path = tmp_path / "lines"
    path.write_bytes(b"".join(each + b"\n" for each in many))
    identity, peer = read_identity(sender), there.getsockname()
    spool = Spool(str(sender / SPOOL), identity.sender, limit=MIN_LIMIT)
    exporter = Exporter(identity, spool, moment(), stop_when_full=True)
    sending = Sending(identity, exporter, TokenBucket(1.0, 1.0))
    with path.open("rb") as file, sending_socket(peer) as line:
        loop = SendLoop(exporter, sending, line, peer, [LineSource(file.fileno())], lambda _: None)
        with pytest.raises(SpoolFull):
            loop.run(threading.Event())
    assert loop.records == spool.state.head.sequence - 1 < 400
    assert 0 < spool.state.dropped == loop.dropped < 10, "a pipe's lines, read at once with the last ones"
    spool.close()


def test_what_waits_on_the_socket_at_an_orderly_stop_is_taken(
    tmp_path: Path, sender: Path, there: socket.socket
) -> None:
    """And who sends afterwards is told that nobody takes it."""
    identity, peer = read_identity(sender), there.getsockname()
    spool = Spool(str(sender / SPOOL), identity.sender, limit=MIN_LIMIT)
    exporter = Exporter(identity, spool, moment())
    source = DatagramSource(tmp_path / "s")
    stop = threading.Event()
    stop.set()
    with sending_socket(peer) as line, socketlib.socket(socketlib.AF_UNIX, socketlib.SOCK_DGRAM) as giver:
        giver.connect(str(tmp_path / "s"))
        for number in range(3):
            giver.send(b"%d" % number)
        sending = Sending(identity, exporter, TokenBucket(1e9, 1e9))
        loop = SendLoop(exporter, sending, line, peer, [source], lambda _: None)
        loop.run(stop)
        with pytest.raises(BrokenPipeError):
            giver.send(b"late")
    source.close()
    assert loop.records == 3
    assert spool.state.head.sequence == 4
    spool.close()


def test_what_waits_in_a_pipe_at_an_orderly_stop_is_taken() -> None:
    end, start = os.pipe()
    os.write(start, b"one\ntwo")
    source = LineSource(end)
    assert [each.record for each in source.rest()] == [b"one", b"two"]
    assert source.ended
    assert source.rest() == []
    os.close(start)
    os.close(end)


def test_a_source_that_reads_nothing_is_told_beyond_the_node(
    tmp_path: Path, sender: Path, there: socket.socket
) -> None:
    identity, peer = read_identity(sender), there.getsockname()
    spool = Spool(str(sender / SPOOL), identity.sender, limit=MIN_LIMIT)
    exporter = Exporter(identity, spool, moment())
    source = FileSource("audit-log", tmp_path / "audit.log", "", bytes)
    source.read()
    stop = threading.Event()
    sending = Sending(identity, exporter, TokenBucket(1e9, 1e9))
    with sending_socket(peer) as line:
        loop = SendLoop(exporter, sending, line, peer, [source], lambda _: stop.set())
        loop.select = lambda _: b"{}"
        loop.run(stop)
    source.close()
    stored = spool.read(1)
    assert stored
    (record,) = map(json.loads, records_of(parse_block(stored.data)))
    spool.close()
    assert (record["stream"], record["fields"]["event"]) == ("export", "source")
    assert "no such file" in record["fields"]["MESSAGE"]


def test_a_status_that_cannot_be_written_stops_nothing() -> None:
    def full(_: Mapping[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    tolerant(full)({})


# --- by hand, with the real program ----------------------------------------------------------------


def program(*arguments: object) -> list[str]:
    entry = "from appliance.cli.app import main; main()"
    return [sys.executable, "-c", entry, "export", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT)}


def run(*arguments: object, stdin: bytes = b"", code: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        program(*arguments, "--json"),
        input=stdin,
        capture_output=True,
        check=False,
        timeout=_PATIENCE,
        env=environment(),
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def until(what: Callable[[], bool]) -> None:
    """Wait for something that comes, however busy the machine is."""
    end = time.monotonic() + _PATIENCE
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


class Running:
    """A receiver as a process."""

    def __init__(self, folder: Path, sender: Path) -> None:
        self.folder = folder
        arguments = ("receive", folder, "--listen", "127.0.0.1:0", "--sender", sender)
        (folder / "status.json").unlink(missing_ok=True)
        self.process = subprocess.Popen(
            program(*arguments), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until((folder / "status.json").exists)
        self.port = json.loads((folder / "status.json").read_bytes())["address"][1]

    def has(self, records: int) -> bool:
        path = self.folder / "gpu-01/records.jsonl"
        return path.read_bytes().count(b'"record":') >= records

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(_PATIENCE)


def test_a_killed_receiver_goes_on_and_gaps_are_filled_by_hand(tmp_path: Path) -> None:
    """SIGKILL in the middle, blocks that nobody heard, a range with check digits, a medium, and a proof."""
    sender, receiver = tmp_path / "sender", tmp_path / "receiver"
    run("init", sender, "--name", "gpu-01")
    public = sender / "gpu-01.sender.json"
    parts = [
        b"".join(b'{"n":%d}\n' % number for number in range(first, first + 40)) for first in (0, 40, 80)
    ]

    running = Running(receiver, public)
    run("send", sender, "--to", f"127.0.0.1:{running.port}", "--stdin", "--drain", stdin=parts[0])
    until(lambda: running.has(40))
    running.end(signal.SIGKILL)
    run("send", sender, "--to", f"127.0.0.1:{running.port}", "--stdin", "--drain", stdin=parts[1])
    running = Running(receiver, public)
    run("send", sender, "--to", f"127.0.0.1:{running.port}", "--stdin", "--drain", stdin=parts[2])
    until(lambda: running.has(80))
    assert running.end(signal.SIGTERM) == 0

    (node,) = run("status", receiver)["nodes"]
    (gap,) = node["gaps"]
    assert (gap["state"], gap["sequences"]) == ("open", [41, 80])
    archive = receiver / "gpu-01/archive"
    assert run("check", archive, "--sender", public, code=4)["gaps"][0]["range"] == gap["range"]
    medium = tmp_path / "medium"
    wrong = gap["range"][:-1] + str((int(gap["range"][-1]) + 1) % 10)
    assert run("replay", sender, wrong, "--medium", medium, code=2)["error"] == "Usage"
    count = gap["blocks"][1] - gap["blocks"][0] + 1
    assert run("replay", sender, gap["range"], "--medium", medium) == {"blocks": count, "wanted": count}
    assert run("receive", receiver, "--sender", public, "--medium", medium)["kept"] >= count
    proof = run("check", archive, "--sender", public)
    assert (proof["whole"], proof["records"]) == (True, 120)
    assert sorted(numbers(receiver)) == list(range(120))
    events = [json.loads(each) for each in (receiver / "gpu-01/events.jsonl").read_text().splitlines()]
    assert [each["event"] for each in events] == ["gap-opened", "gap-filled"]


def test_only_what_is_selected_leaves(tmp_path: Path, there: socket.socket) -> None:
    sender = tmp_path / "sender"
    run("init", sender, "--name", "gpu-01")
    (tmp_path / "fields.yaml").write_text("format: 1\nstreams: {a: {fields: [n], redact: ['s3cret']}}\n")
    peer = f"127.0.0.1:{there.getsockname()[1]}"
    records = b'{"stream":"a","fields":{"n":"s3cret 1","m":2}}\n{"stream":"b","fields":{"n":3}}\n'
    run(
        "send",
        sender,
        "--to",
        peer,
        "--stdin",
        "--drain",
        "--select",
        tmp_path / "fields.yaml",
        stdin=records,
    )
    receiver = receiver_in(tmp_path / "receiver", sender)
    receiver.take(Incoming(there).take(1000))
    receiver.feed()
    receiver.close()
    assert [each["record"] for each in written(tmp_path / "receiver") if "record" in each] == [
        {"stream": "a", "fields": {"n": "*** 1"}, "left_out": 1},
        {"stream": "b", "withheld": "stream"},
    ]
    spooled = [parse_block(each.data) for each in list(frames_of(sender / "spool", [(0, 99)]))[:-1]]
    kept = [
        each for block in spooled if block.header.kind is BlockKind.RECORDS for each in records_of(block)
    ]
    assert len(kept) == 2
    assert not any(b"s3cret" in each for each in kept)


def test_a_range_is_sent_again_over_the_line(tmp_path: Path, there: socket.socket) -> None:
    sender = tmp_path / "sender"
    run("init", sender, "--name", "gpu-01")
    peer = f"127.0.0.1:{there.getsockname()[1]}"
    run("send", sender, "--to", peer, "--stdin", "--drain", stdin=b'{"n":1}\n')
    first = Incoming(there).take(1000)
    receiver = receiver_in(tmp_path / "receiver", sender)
    receiver.take(first[-5:])
    (gap,) = receiver.reception.ledgers[receiver.reception.senders.popitem()[0]].gaps()
    (known,) = read_senders([sender / "gpu-01.sender.json"])
    assert run("replay", sender, range_text(gap.first, gap.last, known.node), "--to", peer)["blocks"] == 2
    again = Incoming(there).take(1000)
    assert set(again) <= set(first)
    receiver.close()
