"""The key ``disks`` of a node in ``inventory.yml``, as pydantic models."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictInt,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from appliance.definition.disks import PCRS, USUAL_LAYERS, Disk, Filesystem, Layers, Unlock

#: Mounted otherwise, or needed before any volume is open.
_UNFIT: Final = ("/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/usr", "/var/run")  # noqa: S108
#: What starts first writes below these.
_TOO_WIDE: Final = frozenset({"/var/cache", "/var/lib", "/var/log", "/var/spool"})
#: Where volumes themselves are mounted.
_VOLUMES: Final = "/mnt/appliance"
_PLACE: Final = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._-]*){2,}")
_LONGEST_PLACE: Final = 100
#: Identify Controller's Serial Number has 20 bytes (NVM Express Base 1.4, figure 247), SCSI may have more.
_SERIAL: Final = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?")
_REGISTERS: Final = 24
#: ``/dev/mapper/control`` is the kernel's.
_TAKEN: Final = frozenset({"control"})


def _name(name: str) -> str:
    if name in _TAKEN:
        raise ValueError(f"{name} is the kernel's own name below /dev/mapper")
    return name


def _serial(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError('must be text: write it in quotes, as "0123456789"')  # noqa: TRY004 - pydantic
    if not _SERIAL.fullmatch(value):
        raise ValueError("no serial number: 1 to 64 ASCII characters, as disk status prints it")
    return value


def _place(value: object) -> str:
    if not isinstance(value, str) or not _PLACE.fullmatch(value) or len(value) > _LONGEST_PLACE:
        raise ValueError(
            "not an absolute path of letters, digits and ._- at least two folders deep, as /srv/data"
        )
    if f"{value}/".startswith(tuple(f"{each}/" for each in _UNFIT)):
        raise ValueError("no volume may be mounted there: the system needs it before, or has it otherwise")
    if value in _TOO_WIDE:
        raise ValueError("what starts first writes there: name folders below it")
    if f"{value}/".startswith(f"{_VOLUMES}/") or f"{_VOLUMES}/".startswith(f"{value}/"):
        raise ValueError(f"{_VOLUMES} is where the volumes themselves are mounted")
    return value


# No hyphen: systemd would spell it \x2d in the names of units, and people would not find them.
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,30}$"), AfterValidator(_name)]
_Serial = Annotated[str, PlainValidator(_serial), WithJsonSchema({"type": "string"})]
_Place = Annotated[str, PlainValidator(_place), WithJsonSchema({"type": "string"})]
_Register = Annotated[StrictInt, Field(ge=0, lt=_REGISTERS)]


class DiskKey(BaseModel):
    """What stands below ``disks.NAME``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    serial: _Serial
    namespace: Annotated[StrictInt, Field(ge=1, lt=2**32 - 1)] | None = None
    unlock: Unlock
    filesystem: Filesystem = "ext4"
    mounts: Annotated[tuple[_Place, ...], Field(min_length=1, max_length=32)]
    pcrs: Annotated[tuple[_Register, ...], Field(min_length=1)] | None = None
    layers: Layers = USUAL_LAYERS

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.pcrs is not None and self.unlock != "tpm2":
            raise ValueError(f"pcrs are the TPM's, and unlock is {self.unlock}")
        if self.pcrs is not None and len(set(self.pcrs)) < len(self.pcrs):
            raise ValueError("a register is written twice")
        return self

    def disk(self, name: str) -> Disk:
        """As the program uses it."""
        pcrs = tuple(sorted(self.pcrs or PCRS)) if self.unlock == "tpm2" else ()
        return Disk(
            *(
                name,
                self.serial,
                self.namespace,
                self.unlock,
                self.filesystem,
                self.mounts,
                pcrs,
                self.layers,
            )
        )


Disks = dict[_Name, DiskKey]
