"""The key ``export`` of a node in ``inventory.yml``, as pydantic models."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from appliance.definition.export import (
    FOLDER,
    TAKEN,
    Export,
    Receiver,
    Sending,
    Sources,
    StreamFields,
)
from appliance.definition.export_patterns import compiled
from appliance.definition.inventory_values import read_address, read_mac, read_pci

#: Nothing below these lasts, or the unit may not see it.
_UNFIT: Final = ("/dev", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/var/run", "/var/tmp")  # noqa: S108
_FOLDER: Final = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._-]*){2,}")
_STREAM: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_LONGEST: Final = 100  # a UNIX socket below it still has a name


def _address(value: object) -> IPv4Address:
    address = read_address(value)
    if not isinstance(address, IPv4Address):
        raise ValueError("an IPv4 address is needed: the export's wire has no IPv6")  # noqa: TRY004 - pydantic
    return address


def _folder(value: object) -> str:
    if not isinstance(value, str) or not _FOLDER.fullmatch(value) or len(value) > _LONGEST:
        raise ValueError(f"not an absolute path of letters, digits and ._- two folders deep, as {FOLDER}")
    if value.startswith(tuple(f"{each}/" for each in _UNFIT)):
        raise ValueError("keys and spool would not last there, or the unit may not go there")
    return value


def _stream(value: object) -> str:
    if not isinstance(value, str) or not _STREAM.fullmatch(value) or value in TAKEN:
        raise ValueError(
            f"not a stream's name of small letters, digits and -, and none of {', '.join(sorted(TAKEN))}"
        )
    return value


def _listed(value: object) -> str:
    """A stream that a selection may name: one of ours, too, but no other letters."""
    if not isinstance(value, str) or not _STREAM.fullmatch(value):
        raise ValueError("not a stream's name of small letters, digits and -")
    return value


def _pattern(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("not a pattern of printable characters")
    return compiled(value).pattern


_AS_TEXT = WithJsonSchema({"type": "string"})
_Address = Annotated[IPv4Address, PlainValidator(_address), _AS_TEXT]
_Mac = Annotated[str, PlainValidator(read_mac), _AS_TEXT]
_Pci = Annotated[str, PlainValidator(read_pci), _AS_TEXT]
_Folder = Annotated[str, PlainValidator(_folder), _AS_TEXT]
_Stream = Annotated[str, PlainValidator(_stream), _AS_TEXT]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Match(_Model):
    mac: _Mac | None = None
    pci: _Pci | None = None


class _Receiver(_Model):
    address: _Address
    mac: _Mac
    port: Annotated[int, Field(ge=1, le=65535)]


class _Sources(_Model):
    journal: StrictBool = True
    audit: StrictBool = False
    folders: dict[_Stream, _Folder] = {}

    @field_validator("folders")
    @classmethod
    def _own(cls, folders: dict[str, str]) -> dict[str, str]:
        if len(set(folders.values())) != len(folders):
            raise ValueError("two streams have one folder")
        return folders


class _Sending(_Model):
    """As the options of ``appliance export send``, which have the same bounds and defaults."""

    rate: Annotated[float, Field(ge=0.01, le=100_000)] = 100.0
    idle_rate: Annotated[float, Field(ge=0, le=100_000)] = 5.0
    constant: StrictBool = False
    parity: Annotated[int, Field(ge=0, le=300)] = 20
    spool: Annotated[int, Field(ge=8, le=1 << 30)] = 1024
    when_full: Literal["drop", "stop"] = "drop"


class _Fields(_Model):
    fields: tuple[Annotated[str, Field(pattern=r"^[!-~]{1,64}$")], ...]
    redact: tuple[Annotated[str, PlainValidator(_pattern), _AS_TEXT], ...] = ()


class ExportKey(_Model):
    """What stands below ``export``."""

    match: _Match
    address: _Address
    receiver: _Receiver
    folder: _Folder = FOLDER
    sources: _Sources = _Sources()
    sending: _Sending = _Sending()
    select: dict[Annotated[str, PlainValidator(_listed), _AS_TEXT], _Fields] | None = None

    @model_validator(mode="after")
    def _apart(self) -> Self:
        for path in self.sources.folders.values():
            if f"{path}/".startswith(f"{self.folder}/") or f"{self.folder}/".startswith(f"{path}/"):
                raise ValueError(f"{path} and {self.folder}, of keys and spool, lie in one another")
        return self

    def export(self) -> Export:
        """As the program uses it."""
        there = self.receiver
        return Export(
            mac=self.match.mac,
            pci=self.match.pci,
            address=self.address,
            receiver=Receiver(there.address, there.mac, there.port),
            folder=self.folder,
            sources=Sources(
                self.sources.journal, self.sources.audit, tuple(sorted(self.sources.folders.items()))
            ),
            sending=Sending(**self.sending.model_dump()),
            select=None
            if self.select is None
            else tuple(
                StreamFields(stream, each.fields, each.redact)
                for stream, each in sorted(self.select.items())
            ),
        )
