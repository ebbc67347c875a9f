"""The way out and the way in, before isolation and after, as rows for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appliance.node.probe import Attempt, OutboundProbe

#: What was aimed at, in the order in which the table lists it.
AIMS: Final[dict[str, str]] = {
    "listener": "a listener of the station",
    "dns": "name lookup",
    "https": "web",
    "quic": "web over UDP",
    "ntp": "time",
    "elsewhere": "beyond the wire",
    "wire": "everybody on the wire",
}
#: Ports that are chosen anew in every run, so that they do not tell rows apart.
_CHOSEN: Final = {"listener", "own"}
_SHORT: Final = {
    "reached": "REACHED",
    "sent": "LEFT THE NODE",
    "denied": "denied",
    "no-route": "no route",
    "silent": "silent",
    "error": "NOT TRIED",
}
NOTHING: Final = "-"


@dataclass(frozen=True)
class Row:
    """One line: what was tried, and a cell per column."""

    label: str
    cells: tuple[str, ...]


def outbound_rows(before: OutboundProbe | None, after: OutboundProbe | None) -> list[Row]:
    """Rows with the columns: root before, root after, the service's user after, the service after."""
    columns = [(before, "root"), (after, "root"), (after, "user"), (after, "unit")]
    keys = sorted(
        {_key(each) for probe in (after, before) if probe for each in probe.attempts if _listed(each)}
    )
    return [
        Row(_label(key), tuple(_cell(probe.attempts if probe else (), key, who) for probe, who in columns))
        for key in keys
    ]


def inbound_rows(before: OutboundProbe | None, after: OutboundProbe | None) -> list[Row]:
    """Rows with the columns: before, after.  Doors that were closed both times are counted in one row."""
    rows: dict[str, list[list[Attempt]]] = {}
    for column, probe in enumerate((before, after)):
        for each in probe.inbound if probe else ():
            label = _door(each)
            rows.setdefault(label, [[], []])[column].append(each)
    return [
        Row(label, (_worst(first, into=True), _worst(second, into=True)))
        for label, (first, second) in rows.items()
    ]


def _listed(attempt: Attempt) -> bool:
    return attempt.target in AIMS


def _key(attempt: Attempt) -> tuple[int, bool, str, str, int]:
    """Aim, family, address, protocol, port: as the table is sorted."""
    port = 0 if attempt.target in _CHOSEN else attempt.port
    aim = list(AIMS).index(attempt.target)
    return aim, attempt.family == "v6", attempt.address, attempt.protocol, port


def _label(key: tuple[int, bool, str, str, int]) -> str:
    aim, _, address, protocol, port = key
    where = f"{protocol.upper()}{f' {port}' if port else ''} to {address}"
    return f"{where}, {list(AIMS.values())[aim]}"


def _cell(attempts: Sequence[Attempt], key: tuple[int, bool, str, str, int], who: str) -> str:
    return _worst([each for each in attempts if each.who == who and _listed(each) and _key(each) == key])


def _worst(attempts: Iterable[Attempt], *, into: bool = False) -> str:
    """The most telling outcome of several attempts at the same thing; in capitals if something got through.

    ``into``: attempts to get in; there silence is the wanted answer and nothing leaves.
    """
    found = sorted(attempts, key=lambda each: (not each.escaped, list(_SHORT).index(each.outcome)))
    if not found:
        return NOTHING
    if into:
        reached = next((each for each in found if each.outcome == "reached"), None)
        if not reached and any(each.arrived for each in found):
            return "GOT IN"
        return (
            "reached"
            if reached
            else {"denied": "refused", "silent": "no answer"}.get(found[0].outcome, "no way")
        )
    short = _SHORT[found[0].outcome]
    return f"{short}, ARRIVED" if found[0].arrived and found[0].outcome != "reached" else short


def _door(attempt: Attempt) -> str:
    source = attempt.who.removeprefix("station ")
    if attempt.target == "ssh":
        return f"SSH from {source} to {attempt.address}"
    if attempt.target == "own":
        return (
            f"{attempt.protocol.upper()} from {source} to a server opened on {attempt.address} for the test"
        )
    return f"TCP from {source} to {attempt.address}, services (inference, web, files, …)"
