"""Security Send and Security Receive: the protocols by which a host reaches a TPer.

TCG Storage Opal SSC 2.30, sections 3.2 and 3.3.  Bytes in, bytes out.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from appliance.lab.drive.discovery import level_0
from appliance.lab.drive.sessions import LARGEST_COMPACKET
from appliance.tcg.packets import PacketInvalid, empty, unpack
from appliance.tcg.uids import TPER_INFO, Reset, TPerInfoColumn

if TYPE_CHECKING:
    from appliance.lab.drive.tper import TPer

# Security protocols, and ComIDs that are no session's: Opal SSC 2.30, section 3.3.2 and Table 14.
_INFORMATION, _TCG, _MANAGEMENT = 0, 1, 2
_DISCOVERY = 0x0001
_TPER_RESET = 0x0004
_BLOCK_SID = 0x0005  # feature set Block SID Authentication
_STACK_RESET = 2


class Refused(Exception):
    """A security command is ended by the interface: protocol, ComID or length is none the drive takes."""


class SecurityInterface:
    """What a controller hands security commands to.

    Args:
        tper: who answers.
    """

    def __init__(self, tper: TPer) -> None:
        self.tper = tper
        self._answer = b""
        self._reset_answer = b""

    def forget(self) -> None:
        """A reset: no answer waits any more."""
        self._answer = self._reset_answer = b""

    def send(self, protocol: int, specific: int, data: bytes) -> None:
        """Security Send (IF-SEND).

        Raises:
            Refused: the interface ends the command.
            PowerLost: as ordered.
        """
        if protocol == _MANAGEMENT:
            self._manage(specific, data)
        elif protocol == _TCG and specific == self.tper.COMID and len(data) <= LARGEST_COMPACKET:
            self._answer = b""
            try:
                packet = unpack(data)
            except PacketInvalid:
                return  # discarded: Opal SSC 2.30, section 3.3.4.1.3
            if packet is not None and packet.comid == self.tper.COMID:
                self._answer = self.tper.answer(packet)
        else:
            raise Refused

    def receive(self, protocol: int, specific: int, length: int) -> bytes:
        """Security Receive (IF-RECV): as many bytes as the host asks for.

        Raises:
            Refused: the interface ends the command.
        """
        if protocol == _INFORMATION and specific == 0:
            told = struct.pack(">6xH", 3) + bytes([_INFORMATION, _TCG, _MANAGEMENT])
        elif protocol == _INFORMATION and specific == 1:
            told = bytes(4)  # no certificate
        elif protocol == _TCG and specific == _DISCOVERY:
            told = level_0(self.tper)
        elif protocol == _TCG and specific == self.tper.COMID:
            return self._taken(length)
        elif protocol == _MANAGEMENT and specific == self.tper.COMID:
            told, self._reset_answer = (
                self._reset_answer or struct.pack(">HHIHH", self.tper.COMID, 0, 0, 0, 0),
                b"",
            )
        else:
            raise Refused
        return told[:length].ljust(length, b"\0")

    def _taken(self, length: int) -> bytes:
        if len(self._answer) > length:
            return empty(self.tper.COMID, len(self._answer))[:length].ljust(length, b"\0")
        told, self._answer = self._answer or empty(self.tper.COMID), b""
        return told[:length].ljust(length, b"\0")

    def _manage(self, specific: int, data: bytes) -> None:
        if specific == _TPER_RESET and self.tper.admin.rows[TPER_INFO][TPerInfoColumn.PROGRAMMATIC_RESET]:
            self.forget()
            self.tper.reset(Reset.PROGRAMMATIC)
        elif specific == _BLOCK_SID and not self.tper.sid_blocked:
            self.tper.sid_blocked, self.tper.unblocked_by_reset = True, bool(data[:1] and data[0] & 1)
        elif (
            specific == self.tper.COMID
            and len(data) >= 8
            and data[:2] == struct.pack(">H", self.tper.COMID)
        ):
            if int.from_bytes(data[4:8], "big") != _STACK_RESET:
                raise Refused
            self.tper.end_session()
            self._reset_answer = struct.pack(">HHIHHI", self.tper.COMID, 0, _STACK_RESET, 0, 4, 0)
        else:
            raise Refused
