"""A security provider: rows of tables, and by which access control elements methods may be called.

Who may do what is in these rows as in a real drive's: TCG Storage Opal SSC 2.30, sections 4.2.1.5 and
4.3.1.6 (AccessControl), 4.2.1.6 and 4.3.1.7 (ACE).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from appliance.tcg.stream import Named, Value
from appliance.tcg.uids import ACE, C_PIN, AceColumn, AuthorityColumn, Common, Method, PinColumn, uid

Row: TypeAlias = "dict[int, Value]"
Access: TypeAlias = "dict[tuple[bytes, bytes], tuple[bytes, ...]]"

AUTHORITY_REFERENCE = b"\x00\x00\x0c\x05"  # the types in a BooleanExpr, as hosts spell them
BOOLEAN_OPERATOR = b"\x00\x00\x04\x0e"
OR = 1

ACE_TABLE = int.from_bytes(ACE[:4], "big")

PASSWORD = 1  # an authority's Operation


@dataclass
class SecurityProvider:
    """One SP with its tables.

    Attributes:
        name: its UID in the SP table.
        rows: every row by its UID, in the order that Next tells; columns by their numbers.
        access: by object and method, the access control elements of which one must be fulfilled.
    """

    name: bytes
    rows: dict[bytes, Row] = field(default_factory=dict)
    access: Access = field(default_factory=dict)

    def rows_of(self, table: bytes) -> list[bytes]:
        """UIDs of the rows of a table."""
        return [name for name in self.rows if name[:4] == table[:4]]

    @property
    def changeable(self) -> frozenset[bytes]:
        """UIDs of rows that a method may change, or that were made for this one drive."""
        written = {Method.SET, Method.GEN_KEY, Method.REVERT}
        credentials = self.rows_of(C_PIN)
        return frozenset({name for name, method in self.access if method in written} | {*credentials})

    def add(self, name: bytes, title: str, **columns: Value) -> None:
        """Add a row; further columns as c3=… by their numbers."""
        row: Row = {Common.UID: name, Common.NAME: title.encode()}
        row.update({int(key[1:]): value for key, value in columns.items()})
        self.rows[name] = row

    def add_ace(self, number: int, title: str, *authorities: bytes, columns: tuple[int, ...] = ()) -> bytes:
        """Add an access control element: any one of the authorities, for these columns or all."""
        name = uid(ACE_TABLE, number)
        self.rows[name] = {
            Common.UID: name,
            Common.NAME: title.encode(),
            Common.COMMON_NAME: b"",
            AceColumn.BOOLEAN_EXPR: any_of(*authorities),
            AceColumn.COLUMNS: list(columns),
        }
        return name

    def add_authority(
        self,
        name: bytes,
        title: str,
        *,
        enabled: bool,
        of: bytes = b"",
        credential: bytes = b"",
        group: bool = False,
    ) -> None:
        """Add somebody who may be authenticated by the PIN in a C_PIN row, or a class of such."""
        self.rows[name] = {
            Common.UID: name,
            Common.NAME: title.encode(),
            Common.COMMON_NAME: b"",
            AuthorityColumn.IS_CLASS: int(group),
            AuthorityColumn.CLASS: of or bytes(8),
            AuthorityColumn.ENABLED: int(enabled),
            AuthorityColumn.SECURE: 0,
            AuthorityColumn.HASH_AND_SIGN: 0,
            AuthorityColumn.PRESENT_CERTIFICATE: 0,
            AuthorityColumn.OPERATION: PASSWORD if credential else 0,
            AuthorityColumn.CREDENTIAL: credential or bytes(8),
        }

    def add_pin(self, name: bytes, title: str, kept: bytes, limit: int) -> None:
        """Add a credential; `kept` is the PIN as pins.seal() gives it."""
        self.rows[name] = {
            Common.UID: name,
            Common.NAME: title.encode(),
            Common.COMMON_NAME: b"",
            PinColumn.PIN: kept,
            PinColumn.CHAR_SET: bytes(8),
            PinColumn.TRY_LIMIT: limit,
            PinColumn.TRIES: 0,
            PinColumn.PERSISTENCE: 0,
        }

    def allow(self, method: bytes, aces: tuple[bytes, ...], *objects: bytes) -> None:
        """Associate a method of objects with access control elements."""
        for name in objects:
            self.access[name, method] = aces

    def copy(self) -> SecurityProvider:
        """Another one with rows of its own."""
        return SecurityProvider(
            self.name, {name: dict(row) for name, row in self.rows.items()}, self.access
        )


def any_of(*authorities: bytes) -> list[Value]:
    """A BooleanExpr in postfix: one authority or another."""
    found: list[Value] = []
    for at, authority in enumerate(authorities):
        found.append(Named(AUTHORITY_REFERENCE, authority))
        if at:
            found.append(Named(BOOLEAN_OPERATOR, OR))
    return found
