"""Names of objects, methods and columns.

UIDs: TCG Storage Architecture Core Specification 2.01, section 6.3 (Assigned UIDs), and TCG Storage Opal
SSC 2.30, sections 4.2 and 4.3.  A UID is eight bytes: the table in the upper four, the row in the lower.
PSID: TCG Storage Opal SSC Feature Set: PSID.
"""

from __future__ import annotations

from enum import IntEnum


def uid(table: int, row: int) -> bytes:
    """The UID of a row; row 0 is the table itself."""
    return table.to_bytes(4, "big") + row.to_bytes(4, "big")


def table_of(name: bytes) -> bytes:
    """The table a row is in, by its UID."""
    return name[:4] + bytes(4)


SESSION_MANAGER = uid(0, 0xFF)
THIS_SP = uid(0, 1)
TABLE = uid(0x1, 0)
SP_INFO = uid(0x2, 0)
SP_TEMPLATES = uid(0x3, 0)
METHOD_ID = uid(0x6, 0)
ACE = uid(0x8, 0)
AUTHORITY = uid(0x9, 0)
C_PIN = uid(0xB, 0)
SECRET_PROTECT = uid(0x1D, 0)
TPER_INFO = uid(0x201, 0x30001)
TEMPLATE = uid(0x204, 0)
SP = uid(0x205, 0)
LOCKING_INFO = uid(0x801, 1)
LOCKING = uid(0x802, 0)
MBR_CONTROL = uid(0x803, 1)
MBR = uid(0x804, 0)
K_AES_256 = uid(0x806, 0)
DATA_STORE = uid(0x1001, 0)
DATA_REMOVAL = uid(0x1101, 1)

ADMIN_SP = uid(0x205, 1)
LOCKING_SP = uid(0x205, 2)

ANYBODY = uid(0x9, 1)
ADMINS = uid(0x9, 2)
MAKERS = uid(0x9, 3)
SID = uid(0x9, 6)
ADMIN_SP_ADMIN1 = uid(0x9, 0x201)
PSID = uid(0x9, 0x1FF01)
USERS = uid(0x9, 0x30000)

C_PIN_SID = uid(0xB, 1)
C_PIN_MSID = uid(0xB, 0x8402)
C_PIN_ADMIN_SP_ADMIN1 = uid(0xB, 0x201)
C_PIN_PSID = uid(0xB, 0x1FF01)


def admin(number: int) -> bytes:
    """An administrator of the Locking SP, from 1."""
    return uid(0x9, 0x10000 + number)


def user(number: int) -> bytes:
    """A user of the Locking SP, from 1."""
    return uid(0x9, 0x30000 + number)


def pin_of(authority: bytes) -> bytes:
    """The C_PIN row of an administrator or user of the Locking SP."""
    return C_PIN[:4] + authority[4:]


def locking_range(number: int) -> bytes:
    """A row of the Locking table; 0 is the global range."""
    return uid(0x802, 0x30000 + number if number else 1)


def range_key(number: int) -> bytes:
    """The key of a range, a row of K_AES_256."""
    return uid(0x806, 0x30000 + number if number else 1)


class Method:
    """Methods of sessions and of the session manager."""

    PROPERTIES = uid(0, 0xFF01)
    START_SESSION = uid(0, 0xFF02)
    SYNC_SESSION = uid(0, 0xFF03)
    NEXT = uid(0x6, 0x08)
    GET_ACL = uid(0x6, 0x0D)
    GEN_KEY = uid(0x6, 0x10)
    REVERT_SP = uid(0x6, 0x11)
    GET = uid(0x6, 0x16)
    SET = uid(0x6, 0x17)
    AUTHENTICATE = uid(0x6, 0x1C)
    REVERT = uid(0x6, 0x202)
    ACTIVATE = uid(0x6, 0x203)
    RANDOM = uid(0x6, 0x601)


METHOD_NAMES = {
    value: name.title().replace("_", "") for name, value in vars(Method).items() if isinstance(value, bytes)
}


class Common(IntEnum):
    """Columns that every object table begins with."""

    UID = 0
    NAME = 1
    COMMON_NAME = 2


class AceColumn(IntEnum):
    """Columns of ACE."""

    BOOLEAN_EXPR = 3
    COLUMNS = 4


class AuthorityColumn(IntEnum):
    """Columns of Authority."""

    IS_CLASS = 3
    CLASS = 4
    ENABLED = 5
    SECURE = 6
    HASH_AND_SIGN = 7
    PRESENT_CERTIFICATE = 8
    OPERATION = 9
    CREDENTIAL = 10


class PinColumn(IntEnum):
    """Columns of C_PIN."""

    PIN = 3
    CHAR_SET = 4
    TRY_LIMIT = 5
    TRIES = 6
    PERSISTENCE = 7


class SpColumn(IntEnum):
    """Columns of SP."""

    LIFE_CYCLE = 6
    FROZEN = 7


class TPerInfoColumn(IntEnum):
    """Columns of TPerInfo."""

    PROGRAMMATIC_RESET = 8


class TableColumn(IntEnum):
    """Columns of Table; the last two: Opal SSC 2.30, section 5.3.1."""

    KIND = 4
    ROWS = 7
    WRITE_GRANULARITY = 13
    ACCESS_GRANULARITY = 14


class LockingInfoColumn(IntEnum):
    """Columns of LockingInfo; from the seventh on: Opal SSC 2.30, section 4.3.5.1."""

    VERSION = 2
    ENCRYPT_SUPPORT = 3
    MAX_RANGES = 4
    MAX_REENCRYPTIONS = 5
    KEYS_AVAILABLE = 6
    ALIGNMENT_REQUIRED = 7
    BLOCK_SIZE = 8
    GRANULARITY = 9
    LOWEST_ALIGNED = 10


class LockingColumn(IntEnum):
    """Columns of Locking."""

    RANGE_START = 3
    RANGE_LENGTH = 4
    READ_LOCK_ENABLED = 5
    WRITE_LOCK_ENABLED = 6
    READ_LOCKED = 7
    WRITE_LOCKED = 8
    LOCK_ON_RESET = 9
    ACTIVE_KEY = 10


class MbrColumn(IntEnum):
    """Columns of MBRControl."""

    ENABLE = 1
    DONE = 2
    DONE_ON_RESET = 3


class KeyColumn(IntEnum):
    """Columns of K_AES_256."""

    KEY = 3
    MODE = 4


class LifeCycle(IntEnum):
    """States of a manufactured SP; Opal SSC 2.30, section 5.2.2.1."""

    MANUFACTURED_INACTIVE = 8
    MANUFACTURED = 9


class Reset(IntEnum):
    """What LockOnReset and DoneOnReset list; Opal SSC 2.30, section 3.3.5.2."""

    POWER_CYCLE = 0
    HARDWARE = 1
    PROGRAMMATIC = 3
