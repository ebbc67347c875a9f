"""From the archive to sinks: each record once in a file, whenever the process is killed."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import socket
import ssl
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from appliance.errors import ExportLogDamaged, ExportSinkUnready
from appliance.export.archive import Archive
from appliance.export.segments import Place
from appliance.export.sinks import cursor as cursor_module
from appliance.export.sinks import feed as feed_module
from appliance.export.sinks import file as file_module
from appliance.export.sinks.feed import Feed
from appliance.export.sinks.file import FileSink
from appliance.export.sinks.lines import json_lines, of_each, syslog_message
from appliance.export.sinks.tls import TlsSink, octet_counted
from tests.unit.export.nodes import Node, chance
from tests.unit.export.test_archive import arrivals, keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Desk:
    """An archive of blocks that come one by one, and a file that is fed from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "archive").mkdir(exist_ok=True)
        self.node = Node()
        for number in range(12):
            self.node.block(
                *(b'{"n":%d,"x":"%s"}' % (number, chance(number).randbytes(90).hex().encode()),) * 3
            )
        self.archive = Archive(str(folder / "archive"), self.node.identity.sender, segment=2000)

    @property
    def output(self) -> Path:
        return self.folder / "records.jsonl"

    def feed(self, piece: int = 0) -> Feed[bytes]:
        cursor = self.folder / "cursor.json"
        return Feed(self.archive, FileSink(self.output), json_lines, cursor, piece)

    def receive(self, first: int, last: int) -> None:
        found = arrivals(self.node, self.archive.ledger, self.node.stream(self.node.blocks[first:last]))
        keep(self.archive, found)

    def sequences(self) -> list[int]:
        lines = [json.loads(each) for each in self.output.read_bytes().splitlines()]
        return [each["sequence"] for each in lines if "sequence" in each]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.archive.close()


def test_what_is_archived_is_written_once_and_in_order(place: Desk) -> None:
    place.receive(0, 5)
    feed = place.feed()
    assert feed.run() == 13
    assert feed.run() == 0
    place.receive(5, 13)
    feed.run()
    assert place.sequences() == list(range(1, 37))
    again = place.feed()
    assert again.run() == 0
    assert place.sequences() == list(range(1, 37))


def test_what_is_not_on_the_archive_s_disk_is_not_given_on(place: Desk) -> None:
    place.receive(0, 2)
    feed = place.feed()
    place.archive.synced = Place(1, 0)
    assert feed.run() == 0


def test_what_is_half_written_just_now_is_not_looked_at(place: Desk) -> None:
    """A sink has a thread of its own, and the archive is written meanwhile."""
    place.receive(0, 3)
    feed = place.feed()
    last = max((place.folder / "archive").iterdir())
    with last.open("ab") as file:
        file.write(b"\x01\0\0")
    assert feed.run() == 7
    assert feed.run() == 0
    (place.folder / "archive/0000000099.seg").touch()
    assert feed.run() == 0
    assert place.sequences() == list(range(1, 7))


def test_how_far_a_sink_is_behind_is_known_in_bytes(place: Desk) -> None:
    feed = place.feed()
    assert place.archive.behind(feed.place) == place.archive.size
    place.receive(0, 6)
    feed.run()
    assert place.archive.behind(feed.place) == 0
    before = place.archive.size
    place.receive(6, 13)  # several segments more
    assert place.archive.behind(feed.place) == place.archive.size - before > 2000
    feed.run()
    assert place.archive.behind(feed.place) == 0


def all_of(feed: Feed[bytes]) -> None:
    """One piece after the other."""
    while feed.run():
        pass


class Killed(BaseException):
    """The process is no more."""


def killing(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever changes the disk ends the process at its n-th step, half way through a write."""
    steps = iter(range(1, 1 << 30))

    def counted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def act(fd: int, *arguments: object) -> object:
            if next(steps) < step:
                return real(fd, *arguments)
            if name == "write":
                real(fd, bytes(arguments[0])[:50])  # type: ignore[arg-type]
            raise Killed

        return act

    def replaced(path: Path, data: bytes) -> None:
        if next(steps) >= step:
            raise Killed
        real_replace(path, data)

    real_replace = cursor_module.replace_file
    patched = {name: counted(name) for name in ("write", "fdatasync", "ftruncate")}
    monkeypatch.setattr(file_module, "os", SimpleNamespace(**{**vars(os), **patched}))
    monkeypatch.setattr(cursor_module, "replace_file", replaced)
    monkeypatch.setattr(feed_module, "_BATCH", 700)


@pytest.mark.parametrize("piece", [0, 1500])
def test_killed_at_any_step_a_file_has_each_record_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    step, ended = 0, False
    while not ended:
        step += 1
        folder = tmp_path / str(step)
        folder.mkdir()
        place = Desk(folder)
        place.receive(0, 6)
        all_of(place.feed())
        place.receive(6, 13)
        with monkeypatch.context() as patch:
            killing(step, patch)
            try:
                all_of(place.feed(piece))
                ended = True
            except Killed:
                pass
        all_of(place.feed())
        assert place.sequences() == list(range(1, 37)), f"killed at step {step}"
        place.archive.close()
    assert step > 8


def test_a_full_disk_is_gone_on_with_where_it_stopped(place: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    place.receive(0, 13)
    feed = place.feed()

    def write(fd: int, data: memoryview) -> int:
        os.write(fd, bytes(data)[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(file_module, "os", SimpleNamespace(**{**vars(os), "write": write}))
        with pytest.raises(OSError, match="No space"):
            feed.run()
    feed.run()
    assert place.sequences() == list(range(1, 37))


def test_a_disk_that_fills_within_a_piece_has_none_of_it(
    place: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor is behind all of it, and so is the file."""
    place.receive(0, 6)
    feed = place.feed(1 << 20)
    feed.run()
    before, writes = place.output.read_bytes(), iter(range(99))
    place.receive(6, 13)

    def write(fd: int, data: memoryview) -> int:
        if next(writes) < 2:
            return os.write(fd, data)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(file_module, "os", SimpleNamespace(**{**vars(os), "write": write}))
        patch.setattr(feed_module, "_BATCH", 700)
        with pytest.raises(OSError, match="No space"):
            feed.run()
        assert place.output.read_bytes() == before
    assert feed.run() == 21
    assert place.sequences() == list(range(1, 37))


def test_a_file_that_was_rotated_away_is_begun_anew(place: Desk) -> None:
    place.receive(0, 6)
    feed = place.feed()
    feed.run()
    place.output.rename(place.folder / "records.jsonl.1")
    place.receive(6, 13)
    feed.run()
    assert place.sequences() == list(range(16, 37))
    place.output.rename(place.folder / "records.jsonl.2")
    assert place.feed().run() == 0


def test_a_file_that_is_rotated_away_within_a_piece_is_on_the_disk_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def fdatasync(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        os.fdatasync(fd)

    sink, old = FileSink(tmp_path / "lines"), tmp_path / "lines.1"
    monkeypatch.setattr(file_module, "os", SimpleNamespace(**{**vars(os), "fdatasync": fdatasync}))
    assert sink.ready()
    sink.settle()
    sink.write([b"one\n"])
    (tmp_path / "lines").rename(old)
    synced.clear()
    assert sink.ready()
    sink.write([b"two\n"])
    assert synced == [old.stat().st_ino]
    sink.settle()
    sink.close()
    assert (old.read_bytes(), (tmp_path / "lines").read_bytes()) == (b"one\n", b"two\n")


def test_a_file_that_somebody_cut_is_said(place: Desk) -> None:
    place.receive(0, 6)
    place.feed().run()
    os.truncate(place.output, 10)
    with pytest.raises(ExportLogDamaged, match="shorter"):
        place.feed()


@pytest.mark.parametrize("data", [b"x", b"{}", b'{"mark":"../x","offset":1,"segment":1}'])
def test_a_cursor_that_is_none_is_said(place: Desk, data: bytes) -> None:
    (place.folder / "cursor.json").write_bytes(data)
    with pytest.raises(ExportLogDamaged):
        place.feed()


# --- TLS -----------------------------------------------------------------------------------------


def certificate(folder: Path, name: str = "127.0.0.1") -> Path:
    """A certificate with its key, which vouches for itself."""
    key = ed25519.Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "collector")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + private)
    return path


class Collector:
    """Takes connections on loopback, one after the other; ``taken`` is what each brought."""

    def __init__(self, pem: Path, port: int = 0) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.taken: list[bytes] = []

    def serve(self, connections: int) -> threading.Thread:
        """Take so many connections, each to its end."""
        thread = threading.Thread(target=self._serve, args=(connections,))
        thread.start()
        return thread

    def _serve(self, connections: int) -> None:
        for _ in range(connections):
            plain, _ = self._listener.accept()
            data = b""
            try:
                with self._context.wrap_socket(plain, server_side=True) as stream:
                    while piece := stream.recv(65536):
                        data += piece
            except OSError:
                pass
            self.taken.append(data)

    def close(self) -> None:
        self._listener.close()


def messages(stream: bytes) -> list[bytes]:
    """What octet counting separates (RFC 5425)."""
    found = []
    while stream:
        length, _, rest = stream.partition(b" ")
        found.append(rest[: int(length)])
        stream = rest[int(length) :]
    return found


def test_messages_go_to_a_collector_over_tls(place: Desk) -> None:
    pem = certificate(place.folder)
    collector = Collector(pem)
    served = collector.serve(2)
    sink = TlsSink("127.0.0.1", collector.port, pem)
    feed = Feed(
        place.archive,
        sink,
        of_each(lambda each: octet_counted(syslog_message(each))),
        place.folder / "c.json",
    )
    place.receive(0, 6)
    assert feed.run() == 16
    sink.close()
    place.receive(6, 13)
    assert feed.run() == 21
    sink.close()
    served.join()
    collector.close()
    one, two = map(messages, collector.taken)
    assert (len(one), len(two)) == (16, 21)
    assert all(each.startswith(b"<134>1 - gpu-01 - - record [appliance@32473 ") for each in two)


def test_a_collector_that_is_somebody_else_gets_nothing(place: Desk) -> None:
    pem = certificate(place.folder)
    other = certificate(place.folder, "127.0.0.2")
    collector = Collector(other)
    served = collector.serve(1)
    sink = TlsSink("127.0.0.1", collector.port, pem)
    feed = Feed(place.archive, sink, json_lines, place.folder / "c.json")
    place.receive(0, 6)
    with pytest.raises(ExportSinkUnready, match="CERTIFICATE_VERIFY_FAILED"):
        feed.run()
    served.join()
    collector.close()
    assert collector.taken == [b""]
    assert json.loads((place.folder / "c.json").read_bytes())["offset"] == 0


def test_without_a_collector_nothing_counts_as_written(place: Desk) -> None:
    pem = certificate(place.folder)
    with socket.socket() as held:  # its port is nobody else's, and nobody listens
        held.bind(("127.0.0.1", 0))
        sink = TlsSink("127.0.0.1", held.getsockname()[1], pem)
        feed = Feed(place.archive, sink, json_lines, place.folder / "c.json")
        place.receive(0, 6)
        with pytest.raises(ExportSinkUnready, match=r"takes nothing: .*refused"):
            feed.run()
    assert json.loads((place.folder / "c.json").read_bytes())["offset"] == 0
