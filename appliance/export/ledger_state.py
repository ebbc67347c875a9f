"""A ledger as bytes, and back: what each segment of an archive begins with.

So a receiver that starts reads its last segment and no more, however long it has been at it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from appliance.errors import ApplianceError, ExportLogDamaged
from appliance.export.checkpoint import checkpoint_values, parse_values
from appliance.export.gap_history import ALARMS, Look
from appliance.export.ledger import Ledger
from appliance.export.runs import MAX_EPOCHS, Run
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from appliance.export.gap_history import Range

MAX_BYTES: Final = 6 << 20
#: Of all runs together, so that the state has a bound: as ``MAX_EPOCHS``, where there are few of them.
_ALL_EPOCHS: Final = 1 << 16
_TYPE: Final = "appliance-export-ledger"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_KEYS: Final = frozenset(
    {"format", "type", "runs", "newest", "oldest", "dropped", "breaks", "forks", "contradictions"}
)
#: States that were written before there was this count have it not, and one alarm fewer.
_NEWER: Final = frozenset({"walls_changed"})
_RUN: Final = frozenset({"blocks", "sequences", "previous", "hash", "epochs"})


def ledger_bytes(ledger: Ledger, look: Look) -> bytes:
    """The state of a ledger, and what was last told of it."""
    most = max(1, _ALL_EPOCHS // max(1, len(ledger.runs)))
    return canonical_bytes(
        {
            "format": 1,
            "type": _TYPE,
            "runs": [_run_values(run, most) for run in ledger.runs],
            "newest": checkpoint_values(ledger.newest) if ledger.newest else None,
            "oldest": ledger.oldest,
            "dropped": ledger.dropped,
            "breaks": ledger.breaks,
            "forks": [
                {"epoch": epoch, "runs": [_run_values(run) for run in runs]}
                for epoch, runs in ledger.forks.items()
            ],
            "contradictions": ledger.contradictions,
            "walls_changed": ledger.walls_changed,
            "missing": [list(each) for each in look.missing],
            "lost": [list(each) for each in look.lost],
            "alarms": list(look.alarms),
        }
    )


def _run_values(run: Run, most: int = MAX_EPOCHS) -> dict[str, object]:
    return {
        "blocks": [run.first, run.last],
        "sequences": [run.first_sequence, run.last_sequence],
        "previous": run.previous.hex(),
        "hash": run.hash.hex(),
        "epochs": [list(each) for each in run.epochs[-most:]],
    }


def parse_ledger(data: bytes) -> tuple[Ledger, Look]:
    """Read what ``ledger_bytes`` wrote; no bytes at all are a ledger of nothing.

    Raises:
        ExportLogDamaged: anything else.
    """
    if not data:
        return Ledger(), Look()
    try:
        value = parse_canonical(data, limit=MAX_BYTES)
        top = Record(value, "ledger", ExportLogDamaged).exactly(
            _KEYS | {"missing", "lost", "alarms"}, _NEWER
        )
        if top.text("type") != _TYPE or top.number("format") != 1:
            top.refuse("not a ledger of format 1")
        ledger = Ledger(
            runs=[_run(each) for each in top.records("runs")],
            newest=None if top.none("newest") else parse_values(top.raw("newest")),
            oldest=top.number("oldest"),
            dropped=top.number("dropped"),
            breaks=[_whole(each) for each in top.items("breaks")],
            forks=dict(_fork(each) for each in top.records("forks")),
            contradictions=top.number("contradictions"),
            walls_changed=top.number("walls_changed") if top.has("walls_changed") else 0,
        )
        alarms = tuple(_whole(each) for each in top.items("alarms"))
        if not top.has("walls_changed"):
            alarms = (*alarms, 0)
        if len(alarms) != len(ALARMS):
            top.refuse("not so many alarms")
        return ledger, Look(_ranges(top, "missing"), _ranges(top, "lost"), alarms)
    except (NotCanonicalError, ApplianceError, TypeError, ValueError) as fault:
        raise ExportLogDamaged("the state of an archive's ledger is none", found=str(fault)) from fault


def _run(record: Record) -> Run:
    record.exactly(_RUN)
    return Run(
        *_pair(record.items("blocks")),
        *_pair(record.items("sequences")),
        bytes.fromhex(record.text("previous", _HASH)),
        bytes.fromhex(record.text("hash", _HASH)),
        [_pair(each) for each in record.items("epochs")],
    )


def _ranges(record: Record, key: str) -> tuple[Range, ...]:
    return tuple(_pair(each) for each in record.items(key))


def _fork(record: Record) -> tuple[int, list[Run]]:
    record.exactly(frozenset({"epoch", "runs"}))
    return record.number("epoch"), [_run(each) for each in record.records("runs")]


def _pair(value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - a pair
        raise ValueError("not a pair")
    return _whole(value[0]), _whole(value[1])


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value
