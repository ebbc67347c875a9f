"""Which drives of a node are encrypted, how they open, and what lies on them.

Plain values; ``disks_schema`` makes them out of what an operator wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Unlock = Literal["tpm2", "console", "ssh"]
Filesystem = Literal["ext4", "xfs"]
#: What encrypts: the drive and dm-crypt above it, the drive alone, or dm-crypt alone.
Layers = Literal["opal and dm-crypt", "opal", "dm-crypt"]
USUAL_LAYERS: Final[Layers] = "opal and dm-crypt"

#: Secure Boot's state and keys (TCG PC Client Platform Firmware Profile, 3.3.4.8).  Why: decision 66.
PCRS: Final = (7,)


@dataclass(frozen=True)
class Disk:
    """An encrypted drive of a node.

    Attributes:
        name: of the open volume, below ``/dev/mapper``.
        serial: the drive's serial number.
        namespace: NVMe's number of it; None: the drive has one.
        unlock: how it opens when the node starts: by its TPM, by whoever sits at its console, or not at
            all, until an operator opens it over SSH.
        filesystem: what is made on it while it is empty.
        mounts: places that lie on it, absolute paths.
        pcrs: registers of the TPM that must be as they were; of ``tpm2`` alone.
        layers: what encrypts it; anything but the usual is less, and recorded.
    """

    name: str
    serial: str
    namespace: int | None
    unlock: Unlock
    filesystem: Filesystem
    mounts: tuple[str, ...]
    pcrs: tuple[int, ...] = ()
    layers: Layers = USUAL_LAYERS

    def as_dict(self) -> dict[str, object]:
        """As roles receive it; what is not asked for is left out."""
        return {
            "name": self.name,
            "serial": self.serial,
            **({"namespace": self.namespace} if self.namespace is not None else {}),
            "unlock": self.unlock,
            "filesystem": self.filesystem,
            "mounts": list(self.mounts),
            **({"pcrs": list(self.pcrs)} if self.pcrs else {}),
            **({"layers": self.layers} if self.layers != USUAL_LAYERS else {}),
        }


def read_disk(values: dict[str, Any]) -> Disk:
    """The inverse of ``Disk.as_dict``."""
    optional = {"namespace": values.get("namespace"), "pcrs": tuple(values.get("pcrs", ()))}
    return Disk(**values | optional | {"mounts": tuple(values["mounts"])})
