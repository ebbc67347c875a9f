"""The keys of ``inventory.yml`` that say how a node keeps quiet and whole, as pydantic models.

They are served by the roles ``quiet_host`` and ``daily_audit``.

A mixin of the inventory's own model: these keys stand at its top level.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from appliance.definition.host import AUDIT_AT, BANNER, Audit, Host, Time

#: A console of 25 lines shows the banner whole.
_BANNER_LINES = 24
_BANNER_COLUMNS = 80
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def _server(value: object) -> IPv4Address | IPv6Address:
    """An address; that it is one on a node's link is for ``host_rules`` to say."""
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes")  # noqa: TRY004 - pydantic collects ValueError
    if "%" in value:
        raise ValueError("an address with a zone (%) means something else on every machine")
    try:
        return ip_address(value)
    except ValueError:
        raise ValueError(
            "not an IP address; a node asks no name server, so a name cannot be used"
        ) from None


def _banner(text: str) -> str:
    """Whole lines that a console and a log show as they are written."""
    lines = text.strip("\n").split("\n")
    if not text.strip():
        raise ValueError("an empty banner warns nobody; leave the key out for the usual one")
    if any(not line.isprintable() or "\\" in line for line in lines):
        raise ValueError("control characters and backslashes would do something else than be read")
    if len(lines) > _BANNER_LINES or max(map(len, lines)) > _BANNER_COLUMNS:
        raise ValueError(f"at most {_BANNER_LINES} lines of {_BANNER_COLUMNS} characters")
    return "\n".join(lines) + "\n"


def _time_of_day(value: object) -> str:
    """A time of day (ISO 8601-1, 5.3.1.2: hours and minutes)."""
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes")  # noqa: TRY004 - pydantic collects ValueError
    if not _CLOCK.fullmatch(value):
        raise ValueError('not a time of day; hours and minutes, from "00:00" to "23:59"')
    return value


_Server = Annotated[IPv4Address | IPv6Address, PlainValidator(_server), WithJsonSchema({"type": "string"})]
_TimeOfDay = Annotated[str, PlainValidator(_time_of_day), WithJsonSchema({"type": "string"})]
_Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
# systemd.unit(5): what a unit may be called, with * for parts of it as in fnmatch.
_Unit = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9:_.\\@*-]+\.(service|socket|timer|path)$", max_length=255)
]
_Reason = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{10,200}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Time(_Model):
    source: Literal["none", "ntp", "ptp"] = "none"
    servers: tuple[_Server, ...] = ()
    interface: _Label | None = None


class _Audit(_Model):
    daily: Annotated[bool, Field(strict=True)] = False
    at: _TimeOfDay = AUDIT_AT

    @field_validator("at")
    @classmethod
    def _only_if_daily(cls, at: str, info: ValidationInfo) -> str:
        if info.data.get("daily") is False:
            raise ValueError("a time is named, but no daily audit is asked for; add daily: true")
        return at


class HostKeys(_Model):
    """The top-level keys of an inventory that say how a node keeps quiet and whole."""

    time: _Time = _Time()
    usb_storage: Literal["deny", "allow"] = "deny"
    module_loading: Literal["locked", "open"] = "open"
    banner: Annotated[str, AfterValidator(_banner)] = BANNER
    known_units: dict[_Unit, _Reason] = {}
    audit: _Audit = _Audit()

    def host(self) -> Host:
        """As the program uses it."""
        return Host(
            time=Time(self.time.source, self.time.servers, self.time.interface),
            usb_storage=self.usb_storage,
            module_loading=self.module_loading,
            banner=self.banner,
            known_units=dict(self.known_units),
            audit=Audit(self.audit.daily, self.audit.at),
        )
