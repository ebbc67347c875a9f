r"""What of a record may leave the node: fields by name, text redacted, and a tombstone for the rest.

Before anything is framed or written down.  A record of a stream that is not listed leaves a tombstone: the
stream, the time and the word ``withheld``; so a sequence is never missing without a reason.  The settings
are YAML::

    format: 1
    streams:
      journal:
        fields: [MESSAGE, PRIORITY, _SYSTEMD_UNIT]   # of others only the number is told
        redact: ["(?i)(password|token)=\\S+"]           # every match in any text becomes ***
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance.definition.document import read_document, validate_document
from appliance.definition.export_patterns import compiled
from appliance.errors import SettingsInvalid
from appliance.export.sources.source import JOURNAL, MAX_TAKEN, TOO_LONG
from appliance.trust.canonical import NotCanonicalError, parse_foreign

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REDACTED: Final = "***"
_UNKNOWN: Final = "unknown"
_MAX_STREAM: Final = 64
_BYTE: Final = 255
#: Microseconds since 1970, as journald writes them.
_STAMP: Final = re.compile(r"[0-9]{1,18}")

Name = Annotated[str, Field(min_length=1, max_length=64)]


class _Stream(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    fields: list[Name]
    redact: list[str] = []


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    format: Literal[1]
    streams: dict[Name, _Stream]


@dataclass(frozen=True)
class StreamRule:
    """What of one stream may leave."""

    fields: frozenset[str]
    redact: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True)
class Selection:
    """The rules by stream."""

    streams: Mapping[str, StreamRule]

    def apply(self, record: bytes) -> bytes:
        """The record as it may leave; of what is none, a tombstone."""
        if len(record) > MAX_TAKEN:
            return json.dumps({"stream": _UNKNOWN, "withheld": TOO_LONG}).encode("ascii")
        values = _values(record)
        try:
            return json.dumps(
                self._kept(values), sort_keys=True, separators=(",", ":"), allow_nan=False
            ).encode("ascii")
        except (ValueError, RecursionError):  # an infinite number, or nested too deeply
            return json.dumps({"stream": _UNKNOWN, "withheld": "malformed"}).encode("ascii")

    def _kept(self, values: Mapping[str, Any]) -> dict[str, Any]:
        stream, fields = values.get("stream"), values.get("fields")
        if not isinstance(stream, str) or len(stream) > _MAX_STREAM:
            stream = _UNKNOWN
        kept: dict[str, Any] = {"stream": stream}
        if type(values.get("time")) is int:
            kept["time"] = values["time"]
        rule = self.streams.get(stream)
        if rule is None:
            kept["withheld"] = "stream"
        elif not isinstance(fields, dict):
            kept["withheld"] = "no fields"
        else:
            plain = _as_text if stream == JOURNAL else lambda value: value
            kept["fields"] = {
                name: _redacted(plain(value), rule.redact)
                for name, value in fields.items()
                if name in rule.fields
            }
            if left_out := len(fields) - len(kept["fields"]):
                kept["left_out"] = left_out
        return kept


def read_selection(text: str, path: Path | str) -> Selection:
    """Read the settings.

    Raises:
        SettingsInvalid: malformed, or a pattern is none or matches where nothing is; with the place.
    """
    document = read_document(text, path, SettingsInvalid)
    settings = validate_document(document, _Settings, SettingsInvalid)
    streams = {}
    for name, stream in settings.streams.items():
        patterns = []
        for place, pattern in enumerate(stream.redact):
            where = document.where(("streams", name, "redact", place))
            try:
                patterns.append(compiled(pattern))
            except ValueError as fault:
                raise SettingsInvalid(str(fault), where=where) from fault
        streams[name] = StreamRule(frozenset(stream.fields), tuple(patterns))
    return Selection(streams)


def _values(record: bytes) -> dict[str, Any]:
    """The record as JSON; one of ``journalctl --output=json`` in our form."""
    try:
        value = parse_foreign(record, limit=MAX_TAKEN)
    except NotCanonicalError:
        return {}
    if not isinstance(value, dict):
        return {}
    if "__CURSOR" not in value:
        return value
    stamp = value.get("__REALTIME_TIMESTAMP")
    time = {"time": int(stamp) // 1000} if isinstance(stamp, str) and _STAMP.fullmatch(stamp) else {}
    fields = {name: each for name, each in value.items() if not name.startswith("__")}
    return {"stream": JOURNAL, "fields": fields, **time}


def _as_text(value: object) -> object:
    """The value of a field of the journal; a list of bytes, or several of them, as text.

    That is how journalctl prints what holds a byte that cannot be printed (its JSON format's description):
    a colour before a password would else hide it from every pattern.
    """
    if not isinstance(value, list) or not value:
        return value
    if all(type(each) is int and 0 <= each <= _BYTE for each in value):
        return bytes(value).decode("utf-8", "backslashreplace")
    return [_as_text(each) for each in value]


def _redacted(value: object, patterns: tuple[re.Pattern[str], ...]) -> object:
    """The value with every match in any text of it replaced; names of fields within are text, too."""
    if isinstance(value, str):
        for pattern in patterns:
            value = pattern.sub(REDACTED, value)
        return value
    if isinstance(value, list):
        return [_redacted(each, patterns) for each in value]
    if isinstance(value, dict):
        return {str(_redacted(name, patterns)): _redacted(each, patterns) for name, each in value.items()}
    return value
