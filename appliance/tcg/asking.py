"""A host's side: a session with a security provider of a drive, and methods in it.

TCG Storage Architecture Core Specification 2.01, sections 3.3.7 (sessions) and 5.2.3 (session manager);
IF-SEND and IF-RECV: TCG Storage Opal SSC 2.30, section 3.3.  One message, one answer.

A session that is opened with a PIN is one try of that PIN.  Whoever asks here decides before that it is the
right one; nothing is tried twice.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from appliance.tcg.packets import Packet, PacketInvalid, pack, unpack
from appliance.tcg.status import Status
from appliance.tcg.stream import Named, StreamViolation, Token, encode, read_answer
from appliance.tcg.uids import METHOD_NAMES, SESSION_MANAGER, Method

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from appliance.tcg.stream import Value

#: As much as every drive takes, and Linux sends (block/sed-opal.c, IO_BUFFER_LENGTH).
BUFFER = 2048
#: A drive that erases may take its time; seconds between two questions, and until nobody waits any more.
PAUSE, PATIENCE = 0.02, 120.0

_TCG = 1
_HOST_SESSION = 0x41
_WRITE = 1
_HOST_CHALLENGE, _HOST_SIGNING_AUTHORITY = 0, 3
_START_COLUMN, _END_COLUMN = 3, 4
_VALUES = 1


class Interface(Protocol):
    """How security commands get to a drive."""

    def send(self, protocol: int, specific: int, data: bytes) -> None:
        """Security Send (IF-SEND)."""

    def receive(self, protocol: int, specific: int, length: int) -> bytes:
        """Security Receive (IF-RECV)."""


class MethodRefused(Exception):
    """A drive ended a method with another status than success.

    Attributes:
        method: its name.
        status: the name of the status, or its number.
    """

    def __init__(self, method: bytes, status: int) -> None:
        self.method = METHOD_NAMES.get(method, method.hex())
        known = {each.value: each.name for each in Status}
        self.status = known.get(status, f"{status:02x}h")
        super().__init__(f"{self.method}: {self.status}")


class DriveSilent(Exception):
    """What came back is no answer, or none came."""


class Session:
    """A session, to be used as a context; it ends with the context.

    Args:
        drive: how commands get there.
        comid: the drive's, as it says itself (Level 0 Discovery).
        sp: the security provider's UID.
        authority: who opens it; None for Anybody.
        pin: of the authority.
        wait: pauses for so many seconds.
    """

    def __init__(
        self,
        drive: Interface,
        comid: int,
        sp: bytes,
        authority: bytes | None = None,
        pin: bytes = b"",
        *,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._drive = drive
        self._comid = comid
        self._wait = wait
        self._numbers = (0, 0)
        parameters: list[Value] = [_HOST_SESSION, sp, _WRITE]
        if authority is not None:
            parameters += [Named(_HOST_CHALLENGE, pin), Named(_HOST_SIGNING_AUTHORITY, authority)]
        values = self.call(SESSION_MANAGER, Method.START_SESSION, *parameters)
        host, tper = (*values, None, None)[:2]
        if not isinstance(tper, int) or host != _HOST_SESSION:
            raise DriveSilent("a session without numbers")
        self._numbers = (tper, _HOST_SESSION)
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Of a drive that does not answer nothing more is asked.
        if self._open and (kind is None or issubclass(kind, MethodRefused)):
            self._exchange(bytes([Token.END_OF_SESSION]))

    def call(self, invoking: bytes, method: bytes, *parameters: Value) -> list[Value]:
        """Invoke a method; its results.

        Raises:
            MethodRefused: it ended with another status than success.
            DriveSilent: what came back is no answer.
        """
        payload = bytes([Token.CALL]) + encode(invoking) + encode(method) + encode(list(parameters))
        payload += bytes([Token.END_OF_DATA]) + encode([0, 0, 0])
        try:
            values, status = read_answer(self._exchange(payload))
        except StreamViolation as violation:
            raise DriveSilent(str(violation)) from None
        if status != Status.SUCCESS:
            raise MethodRefused(method, status)
        return values

    def get(self, row: bytes, column: int) -> Value:
        """One column of a row; empty where it may not be read.

        Raises:
            MethodRefused, DriveSilent: as ``call``.
        """
        block: list[Value] = [Named(_START_COLUMN, column), Named(_END_COLUMN, column)]
        values = self.call(row, Method.GET, block)
        cells = values[0] if values and isinstance(values[0], list) else []
        return next((one.value for one in cells if isinstance(one, Named) and one.name == column), b"")

    def set(self, row: bytes, columns: Mapping[int, Value]) -> None:
        """New values for columns of a row, all of them or none.

        Raises:
            MethodRefused, DriveSilent: as ``call``.
        """
        cells: list[Value] = [Named(int(column), value) for column, value in sorted(columns.items())]
        self.call(row, Method.SET, Named(_VALUES, cells))

    def is_over(self) -> None:
        """Say that a method has ended the session, so that nobody ends it again."""
        self._open = False

    def _exchange(self, payload: bytes) -> bytes:
        """Send one message, and take what comes back; section 3.3.10 says how long to ask."""
        tper, host = self._numbers
        message = pack(Packet(self._comid, tper, host, payload))
        self._drive.send(_TCG, self._comid, message.ljust(BUFFER, b"\0"))
        waited = 0.0
        while waited < PATIENCE:
            try:
                packet = unpack(self._drive.receive(_TCG, self._comid, BUFFER))
            except PacketInvalid as invalid:
                raise DriveSilent(str(invalid)) from None
            if packet is not None:
                return packet.payload
            self._wait(PAUSE)
            waited += PAUSE
        raise DriveSilent("no answer")
