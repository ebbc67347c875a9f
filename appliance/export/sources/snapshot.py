"""What a Prometheus endpoint says as records, from the text exposition format.  Pure.

``fields`` has the name of each sample; its value is a number, or a list of pairs of labels and a number
where there are labels.  What JSON has no number for stands as text: ``NaN``, ``+Inf``, ``-Inf``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from appliance.export.payload import MAX_RECORD
from appliance.export.sources.source import Taken, as_record
from appliance.trust.canonical import LARGEST_INTEGER

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Of one record's samples, so that the record is not too long with what is around them.
_ROOM: Final = MAX_RECORD - 4096


def snapshot(name: str, text: str, time: int) -> list[Taken]:
    """The records of one snapshot, which all have its time.

    Args:
        name: the stream.
        text: what the endpoint said.
        time: when, in ms since 1970.

    Raises:
        ValueError: it is not the text exposition format.
    """
    found: list[Taken] = []
    fields: dict[str, object] = {}
    size = 0
    for sample, values in _samples(text).items():
        for part in _parts(values):
            length = len(as_record({sample: part}))
            if (size + length > _ROOM and fields) or sample in fields:
                found.append(_record(name, time, fields))
                fields, size = {}, 0
            fields[sample] = part
            size += length
    return [*found, _record(name, time, fields)] if fields or not found else found


def _record(name: str, time: int, fields: dict[str, object]) -> Taken:
    return Taken(as_record({"stream": name, "time": time, "fields": fields}))


def _samples(text: str) -> dict[str, list[tuple[dict[str, str], float | int | str]]]:
    from prometheus_client.parser import text_string_to_metric_families  # 40 ms that others need not wait

    found: dict[str, list[tuple[dict[str, str], float | int | str]]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for each in family.samples:
                found.setdefault(each.name, []).append((each.labels, _number(each.value)))
    except (LookupError, TypeError, AttributeError) as fault:  # the parser trips over some malformed lines
        raise ValueError(f"not the text format: {fault!r}") from fault
    return found


def _parts(values: list[tuple[dict[str, str], float | int | str]]) -> Iterator[object]:
    """The value of a field; in pieces that records have room for."""
    if len(values) == 1 and not values[0][0]:
        yield values[0][1]
        return
    part: list[object] = []
    size = 0
    for labels, value in values:
        length = len(as_record({"": [labels, value]}))
        if part and size + length > _ROOM // 2:
            yield part
            part, size = [], 0
        part.append([labels, value])
        size += length
    yield part


def _number(value: float) -> float | int | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return int(value) if value == int(value) and abs(value) <= LARGEST_INTEGER else value
