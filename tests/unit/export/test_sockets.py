"""The ends of the line: the one hears nothing, and the other answers nothing."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from appliance.errors import Usage
from appliance.export.incoming import Incoming
from appliance.export.payload import MAX_RECORD
from appliance.export.sockets import (
    dropped_by,
    parse_address,
    receiving_socket,
    send,
    sending_socket,
)
from appliance.export.sources.local import DatagramSource, LineSource

if TYPE_CHECKING:
    from pathlib import Path

_SO_DETACH_FILTER = 27


def records(source: LineSource) -> list[bytes]:
    return [each.record for each in source.read()]


@pytest.mark.parametrize(
    ("text", "address"),
    [("192.0.2.1:5514", ("192.0.2.1", 5514)), ("[2001:db8::1]:1", ("2001:db8::1", 1))],
)
def test_an_address_is_read(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "192.0.2.1", "192.0.2.1:", "receiver:5514", "192.0.2.1:65536", "192.0.2.1:-1", "[::1]", ":1"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_address(text)


def test_what_is_sent_arrives() -> None:
    with receiving_socket(("127.0.0.1", 0)) as there:
        with sending_socket(there.getsockname()) as here:
            for each in (b"one", b"two", b"three"):
                here.sendto(each, there.getsockname())
        assert Incoming(there).take(2) == [b"one", b"two"]
        assert Incoming(there).take(2) == [b"three"]
        assert Incoming(there).take(2) == []


@pytest.mark.parametrize("length", [1456, 40])
def test_what_leaves_in_one_call_arrives_as_the_datagrams_it_is(length: int) -> None:
    """To whoever knows nothing of it, too."""
    burst = [bytes([number]) * length for number in range(44)]
    with (
        receiving_socket(("127.0.0.1", 0)) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain,
        sending_socket(ours.getsockname()) as here,
    ):
        plain.bind(("127.0.0.1", 0))
        assert send(here, burst, ours.getsockname()) == 44
        assert Incoming(ours).take(1000) == burst
        assert send(here, burst, plain.getsockname()) == 44
        assert [plain.recv(2000) for _ in burst] == burst


def test_more_than_one_call_has_come_in_the_order_they_were_sent() -> None:
    sent = [bytes([number]) * (number + 1) for number in range(100)]
    with receiving_socket(("127.0.0.1", 0)) as there:
        with sending_socket(there.getsockname()) as here:
            for each in sent:
                here.sendto(each, there.getsockname())
        incoming = Incoming(there)
        assert incoming.take(70) == sent[:70]
        assert incoming.take(1000) == sent[70:]


def test_a_burst_leaves_nothing_behind_in_its_slot() -> None:
    with receiving_socket(("127.0.0.1", 0)) as there, sending_socket(there.getsockname()) as here:
        incoming = Incoming(there)
        assert send(here, [bytes(900)] * 9, there.getsockname()) == 9
        assert incoming.take(1000) == [bytes(900)] * 9
        here.sendto(b"x" * 1400, there.getsockname())
        assert incoming.take(1000) == [b"x" * 1400]


def test_a_burst_is_parted_where_a_datagram_alone_was_before_and_its_end_is_shorter() -> None:
    with receiving_socket(("127.0.0.1", 0)) as there, sending_socket(there.getsockname()) as here:
        incoming = Incoming(there)
        here.sendto(b"x" * 60_000, there.getsockname())
        assert incoming.take(1000) == [b"x" * 60_000]
        burst = [*([bytes(900)] * 9), b"end"]
        assert send(here, burst, there.getsockname()) == 10
        assert incoming.take(1000) == burst


def test_a_socket_that_is_gone_is_said() -> None:
    there = receiving_socket(("127.0.0.1", 0))
    incoming = Incoming(there)
    there.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        incoming.take(1)


def test_an_empty_datagram_is_one() -> None:
    with receiving_socket(("127.0.0.1", 0)) as there, sending_socket(there.getsockname()) as here:
        for each in (b"", b"x"):
            here.sendto(each, there.getsockname())
        assert Incoming(there).take(10) == [b"", b"x"]


class Choosy(socket.socket):
    """A socket that takes no bursts, for a reason, and so many datagrams one by one."""

    def __init__(self, reason: int, room: int) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.reason, self.room = reason, room

    def sendmsg(self, *_: object) -> int:
        raise OSError(self.reason, "no")

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:  # type: ignore[override] # of two
        if not self.room:
            raise BlockingIOError
        self.room -= 1
        return super().sendto(data, address)


@pytest.mark.parametrize("reason", [errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP])
def test_where_bursts_cannot_leave_they_leave_one_by_one(reason: int) -> None:
    with receiving_socket(("127.0.0.1", 0)) as there, Choosy(reason, 100) as here:
        assert send(here, [b"one", b"two"], there.getsockname()) == 2
        assert Incoming(there).take(10) == [b"one", b"two"]


def test_of_a_burst_that_finds_no_room_it_is_said_how_much_left() -> None:
    with receiving_socket(("127.0.0.1", 0)) as there, Choosy(errno.EIO, 2) as here:
        assert send(here, [b"one", b"two", b"six"], there.getsockname()) == 2
        with pytest.raises(BlockingIOError):
            send(here, [b"six"], there.getsockname())
        assert Incoming(there).take(10) == [b"one", b"two"]
    with Choosy(errno.ENOBUFS, 2) as here, pytest.raises(OSError, match="no"):
        send(here, [b"one", b"two"], ("127.0.0.1", 9))
    assert here.room == 2


def test_the_sender_hears_nothing_and_nobody_changes_that() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        sending_socket(("127.0.0.1", 1)) as here,
    ):
        here.bind(("127.0.0.1", 0))
        other.sendto(b"an answer", here.getsockname())
        with pytest.raises(BlockingIOError):
            here.recv(100)
        with pytest.raises(PermissionError):
            here.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def test_nobody_there_is_no_error_to_the_sender() -> None:
    """Connected sockets would be told by ICMP."""
    with receiving_socket(("127.0.0.1", 0)) as there:
        gone = there.getsockname()
    with sending_socket(gone) as here:
        for _ in range(3):
            here.sendto(b"x", gone)


def test_what_the_kernel_drops_is_counted() -> None:
    with receiving_socket(("127.0.0.1", 0)) as there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        assert dropped_by(there) == 0
        with sending_socket(there.getsockname()) as here:
            for _ in range(50):
                here.sendto(bytes(1400), there.getsockname())
        assert dropped_by(there) == 50 - len(Incoming(there).take(100))
        assert dropped_by(there) > 0


# --- sources -------------------------------------------------------------------------------------


def test_each_datagram_is_a_record(tmp_path: Path) -> None:
    path = tmp_path / "export.sock"
    source = DatagramSource(path)
    assert path.stat().st_mode & 0o777 == 0o660
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        log.sendto(b"one\nstill one", str(path))
        log.sendto(bytes(MAX_RECORD + 500), str(path))
        assert [len(each.record) for each in source.read()] == [13, MAX_RECORD + 1]
        assert source.read() == []
    source.close()
    assert not path.exists()


def test_the_socket_of_a_killed_sender_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "export.sock"
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.bind(str(path))
    left.close()
    DatagramSource(path).close()


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "export.sock"
    path.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        DatagramSource(path)
    assert path.read_text() == "mine"


def test_lines_are_records_however_they_are_cut() -> None:
    reader, writer = os.pipe()
    source = LineSource(reader)
    os.write(writer, b"one\ntw")
    assert records(source) == [b"one"]
    os.write(writer, b"o\n\nthree")
    assert records(source) == [b"two", b""]
    os.close(writer)
    assert records(source) == [b"three"]
    assert source.ended
    os.close(reader)


def test_a_line_without_an_end_takes_no_more_memory_than_a_record(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * (1 << 20) + b"\nshort\n")
    fd = os.open(path, os.O_RDONLY)
    source, found = LineSource(fd), []
    while not source.ended:
        found += records(source)
        assert len(source._lines._rest) <= MAX_RECORD + 1
    assert found[-1] == b"short"
    assert [len(each) for each in found] == [MAX_RECORD + 1, 5]
    os.close(fd)
