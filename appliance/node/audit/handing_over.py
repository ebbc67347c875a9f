"""A result of an audit as records of the export, and their way to the exporter, by its socket.

A record has at most ``MAX_RECORD`` bytes (docs/export.md).  A longer result becomes several, each with the
head and some of the differences: ``part`` of ``parts``.  A difference that alone is too long is told by its
beginning, and says how much is missing; the result on the node has all of it.
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: As ``appliance.export.payload`` has it, which a node does not have.
MAX_RECORD: Final = 64 * 1024
#: Of each text of a difference that is too long, and of how many promises: so that any fits beside its
#: head, though JSON writes a character in up to twelve bytes.
_BEGINNING: Final = 400
_PROMISES: Final = 4
#: A queue that stays full so long has no reader.  The exporter reads all the time.
SECONDS: Final = 5.0

STREAM: Final = "audit"


def make_record(time: float, fields: dict[str, Any]) -> dict[str, Any]:
    """A record of the stream ``audit``; ``time`` in seconds since 1970 by the node's clock."""
    return {"stream": STREAM, "time": int(time * 1000), "fields": fields}


def parts_of(record: dict[str, Any]) -> list[bytes]:
    """A result as records, each short enough; one of them, as it is, where that is possible."""
    whole = _bytes(record)
    if len(whole) <= MAX_RECORD:
        return [whole]
    fields = record["fields"]
    drifts = [_told_short(each) for each in fields.get("drift", [])]
    # Lengths of numbers are not known yet: more room than any needs.
    head = len(_bytes(_part(record, [], 0, 0))) + 40
    groups: list[list[dict[str, Any]]] = [[]]
    room = MAX_RECORD - head
    for drift in drifts:
        size = len(_bytes(drift)) + 1
        if size > room and groups[-1]:
            groups.append([])
            room = MAX_RECORD - head
        groups[-1].append(drift)
        room -= size
    count = len(groups)
    return [_bytes(_part(record, group, number, count)) for number, group in enumerate(groups, 1)]


def hand_over(records: Iterable[bytes], path: Path) -> str:
    """Give records to the exporter; waits for a full queue, but not for long.

    Args:
        records: those of one result.
        path: the exporter's socket.

    Returns:
        Why not all of them were taken; empty if they were.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(SECONDS)
        try:
            sender.connect(str(path))
            for record in records:
                sender.send(record)
        except FileNotFoundError:
            return f"there is no exporter ({path})"
        except ConnectionRefusedError:
            return f"the exporter does not run ({path})"
        except TimeoutError:
            return f"the exporter took nothing for {SECONDS:.0f} s ({path})"
        except OSError as fault:
            return f"{path}: {fault.strerror}"
    return ""


def _part(record: dict[str, Any], drifts: list[dict[str, Any]], number: int, count: int) -> dict[str, Any]:
    return {**record, "fields": {**record["fields"], "drift": drifts, "part": number, "parts": count}}


def _told_short(drift: dict[str, Any]) -> dict[str, Any]:
    """A difference that fits: long texts by their beginning."""
    if len(_bytes(drift)) <= MAX_RECORD // 4:
        return drift
    return {name: _beginning(value) for name, value in drift.items()}


def _beginning(value: Any) -> Any:
    if isinstance(value, list | tuple):
        more = len(value) - _PROMISES
        left = [f"… ({more} more)"] if more > 0 else []
        return [*(_beginning(each) for each in value[:_PROMISES]), *left]
    if isinstance(value, str) and len(value) > _BEGINNING:
        return f"{value[:_BEGINNING]}… ({len(value) - _BEGINNING} characters more)"
    return value


def _bytes(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
