"""What a source of records is: something that is read without waiting, and that can go on where it stopped.

Two kinds.  A *patient* one reads what somebody else keeps, the journal or a file: as long as the spool has
no room it is not read, and nothing is lost unless its keeper throws it away, which is said.  All others
must be read at once, or whoever logs would wait: what there is no room for is dropped with a signed word.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The stream of the systemd journal.
JOURNAL: Final = "journal"
#: The stream of what the exporter itself says: of its walls, and of its sources.
EXPORT: Final = "export"
#: A record as a source has it, before fields are left out of it: more than a record may be that leaves.
MAX_TAKEN: Final = 1 << 20
#: Why a record's text is missing: what its keeper threw away before it was read, and what is too long.
LOST: Final = "lost-at-source"
TOO_LONG: Final = "too-long"


class Taken(NamedTuple):
    """A record, and where its source is once it is in the spool; empty if it cannot go back there.

    What is ``stated`` is the source's own word, of which nothing is to be withheld.
    """

    record: bytes
    position: str = ""
    stated: bool = False


class Source(Protocol):
    """Something to be read without waiting."""

    #: Of its positions in the spool.
    name: str
    ended: bool
    #: What is not read now can be read later.
    patient: bool
    #: What it could not do, in a few words; empty if all is well.
    trouble: str

    def fileno(self) -> int:
        """What to wait for; -1 if it is to be read now and then."""

    def read(self) -> list[Taken]:
        """Some records, if there are any now."""

    def rest(self) -> list[Taken]:
        """At an orderly end: what somebody gave us and was not read; from now on nothing is taken."""

    def settled(self, position: str) -> None:
        """All up to this position is on the spool's disk."""

    def close(self) -> None: ...


def tombstone(stream: str, reason: str, time: int, **more: int | str | None) -> bytes:
    """A record in place of those that nobody can have.

    Args:
        stream: whose they were.
        reason: why they are not there.
        time: now, in ms since 1970.
        more: what is known of them.
    """
    return as_record({"stream": stream, "time": time, "withheld": reason, **more})


def own_word(time: int, event: str, message: str, **more: int | str) -> bytes:
    """A record of the exporter's own, which no selection keeps back.

    Args:
        time: now, in ms since 1970.
        event: what it is about, in one word.
        message: what it says, for people.
        more: fields.
    """
    fields = {"event": event, "MESSAGE": message, **more}
    return as_record({"stream": EXPORT, "time": time, "fields": fields})


def as_record(values: Mapping[str, object]) -> bytes:
    """A record of these values; without text that is no UTF-8, and without numbers that JSON has not."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
