"""The key ``export`` of a node in ``inventory.yml``, as pydantic models."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Annotated, Final, Self

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

from appliance.definition.export import FOLDER, TAKEN, Export, Receiver, Sources
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


class ExportKey(_Model):
    """What stands below ``export``."""

    match: _Match
    address: _Address
    receiver: _Receiver
    folder: _Folder = FOLDER
    sources: _Sources = _Sources()

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
        )
