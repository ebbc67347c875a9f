"""The status of either side as a table for people; of values alone."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_KILO: Final = 1000
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_BITS: Final = 8
_MEGA: Final = 1e6
_ALARMS: Final = ("forks", "breaks", "contradictions", "walls_changed")


def status_text(values: dict[str, Any]) -> str:
    """The table of a sender or a receiver."""
    lines = _sender(values) if values.get("side") == "sender" else _receiver(values)
    return "\n".join(lines)


def _sender(values: dict[str, Any]) -> list[str]:
    spool, rates = values["spool"], values["rates"]
    dropping = ", DROPPING" if values["dropping"] else ""
    days = "nothing comes" if spool["days_left"] is None else f"{spool['days_left']:,.1f} days left"
    passes = ", ".join(f"{values['next_block'] - each:,}" for each in values["passes"])
    taken = f"{values['next_sequence'] - 1:,} in all, {rates['records']:,.1f}/s"
    sent = f"{values['packets']:,} packets, {_rate(rates['bytes'])}"
    kept = f"{_bytes(spool['bytes'])} of {_bytes(spool['limit'])}"
    lines = [
        f"sender       as of {_time(values['time'])}, epoch {values['epoch']}",
        f"records      {taken}; dropped {values['dropped']:,}{dropping}",
        f"sent         {sent}; filling {values['filling']:,}; faults {values['send_faults']:,}",
        f"blocks       {values['next_block']:,}; to be sent by pass {passes}",
        f"spool        {kept}, {days}; from {spool['oldest']:,}",
    ]
    if values.get("ended"):
        lines.append(f"ENDED        {values['ended']}: what cannot be logged is not done")
    lines += _walls(values.get("line"))
    rows = [
        (name, "waits for room" if each["waits"] else "read", each["trouble"] or "none")
        for name, each in values["sources"].items()
    ]
    return [*lines, *_table(("source", "state", "trouble"), rows)]


def _walls(line: dict[str, Any] | None) -> list[str]:
    """What is known of the walls around the card; nothing of a sender that was not given any."""
    if line is None:
        return []
    state = "watched" if line["watched"] else "NOBODY WATCHES"
    came = f"ALARM, {line['received']:,} frames came in" if line["received"] else "no frame came in"
    return [f"walls        {state}; {came}", *(f"walls        ALARM, {each}" for each in line["faults"])]


def _receiver(values: dict[str, Any]) -> list[str]:
    rates = values["rates"]
    came = f"{values['packets']:,}, {rates['packets']:,.1f}/s, {_rate(rates['bytes'])}"
    lines = [
        f"receiver     as of {_time(values['time'])}",
        f"packets      {came}; dropped by the socket {values['socket_drops']:,}",
        f"refused      {_counts(values['refused'])}",
    ]
    heads = (
        "node",
        "records",
        "records/s",
        "blocks",
        "repaired",
        "loss",
        "dropped",
        "gaps",
        "lost",
        "checkpoint",
    )
    lines += _table(heads, [_row(node) for node in values["nodes"]])
    for node in values["nodes"]:
        name = node["name"]
        lines += [f"{name}: gap {gap['range']} {gap['state']}" for gap in node["gaps"]]
        if node["refused"]:
            lines.append(f"{name}: refused {_counts(node['refused'])}")
        lines += [f"{name}: ALARM, {each} {_count(node[each])}" for each in _ALARMS if node[each]]
        for where, what in node["troubles"].items():
            behind = node["behind"].get(where)
            waits = f"; {_bytes(behind)} of the archive wait" if behind else ""
            lines.append(f"{name}: trouble, {where}: {what}{waits}")
    return lines


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    stated = node["checkpoint"]
    open_gaps = [each for each in node["gaps"] if each["state"] != "lost"]
    loss = f"{100 * node['symbols_lost'] / node['symbols']:.1f} %" if node["symbols"] else "-"
    return (
        node["name"],
        f"{node['records']:,}",
        f"{node['records_rate']:,.1f}",
        f"{node['blocks']:,}",
        f"{node['repaired']:,}",
        loss,
        f"{node['dropped']:,}",
        f"{len(open_gaps):,}",
        f"{len(node['gaps']) - len(open_gaps):,}",
        _time(stated["time"]) if stated else "none",
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as what is in them; a head of names, then a row a line."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return [
        "  ".join(each.ljust(width) for each, width in zip(row, widths, strict=True)).rstrip()
        for row in ([heads, *rows] if rows else [])
    ]


def _time(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rate(size: float) -> str:
    return f"{size * _BITS / _MEGA:,.2f} Mb/s"


def _bytes(size: float) -> str:
    for unit in _UNITS[:-1]:
        if size < _KILO:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= _KILO
    return f"{size:,.1f} {_UNITS[-1]}"


def _count(value: int | list[int]) -> str:
    return f"{value if isinstance(value, int) else len(value):,}"


def _counts(refused: dict[str, int]) -> str:
    return ", ".join(f"{why} {count:,}" for why, count in refused.items()) or "none"
