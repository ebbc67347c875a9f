"""How methods end, as drives say it.

TCG Storage Architecture Core Specification 2.01, section 5.1.5 (Method Status Codes).
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Status codes of methods."""

    SUCCESS = 0x00
    NOT_AUTHORIZED = 0x01
    SP_BUSY = 0x03
    NO_SESSIONS_AVAILABLE = 0x07
    INVALID_PARAMETER = 0x0C
    TRANSACTION_FAILURE = 0x10
    RESPONSE_OVERFLOW = 0x11
    AUTHORITY_LOCKED_OUT = 0x12
    FAIL = 0x3F


class MethodFailed(Exception):
    """A method ends with another status than success, and changes nothing."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status
