"""What a drive is by its make: identity, geometry, feature sets, and how its firmware errs."""

from __future__ import annotations

import dataclasses
import secrets
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from appliance.errors import Usage

Kind = Literal["opal", "pyrite", "ruby"]

MIB = 1 << 20
SHADOW_SIZE = 128 * MIB  # the least an Opal drive may have: Opal SSC 2.30, section 4.3.5.4
DATA_STORE_SIZE = 10 * MIB  # likewise, section 4.3.8.1

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def _label(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(frozen=True)
class Profile:
    """A drive as it left the factory.

    Args:
        size: bytes of the namespace, a multiple of the block size.
        block_size: bytes of a logical block, 512 or 4096.
        opal_block_size: what the TPer says a block is; another number than block_size is a lie, as some
            firmware tells after a change of format.
        granularity: blocks that ranges are aligned to.
        lowest_aligned: the first aligned block.
        kind: "pyrite" locks and does not encrypt; "ruby" is a TPer whose descriptor Linux does not know.
        shadow: whether it can show a shadow MBR.
        range_crossing: whether one command may touch several ranges.
        try_limit: wrong PINs until an authority is locked out; 0 for no limit.
        owner_pin: the PIN of a previous owner who took SID; None for a drive as new.
        msid: PIN that everybody may read; SID's own at first.
        psid: PIN on the label, with which the drive can be taken back to as it was made.
    """

    size: int
    block_size: int = 512
    opal_block_size: int | None = None
    granularity: int = 8
    lowest_aligned: int = 0
    kind: Kind = "opal"
    shadow: bool = True
    range_crossing: bool = True
    ranges: int = 8
    admins: int = 4
    users: int = 9
    try_limit: int = 5
    owner_pin: str | None = None
    model: str = "Simulated Opal drive"
    firmware: str = "SIM1.0"
    serial: str = field(default_factory=lambda: "SIM" + _label(12))
    identifier: str = field(default_factory=lambda: str(uuid.uuid4()))
    msid: str = field(default_factory=lambda: _label(32))
    psid: str = field(default_factory=lambda: _label(32))

    def __post_init__(self) -> None:
        if self.block_size not in {512, 4096} or self.size <= 0 or self.size % self.block_size:
            raise Usage(
                "no drive has such a size",
                found=f"{self.size} bytes in blocks of {self.block_size}",
                wanted="a multiple of the block size, which is 512 or 4096",
            )
        if self.kind not in get_args(Kind):
            raise Usage(f"no drive is of the kind {self.kind!r}", wanted="opal, pyrite or ruby")
        if not 1 <= self.granularity <= self.blocks or not 0 <= self.lowest_aligned < self.granularity:
            raise Usage(
                "such an alignment cannot be",
                found=f"{self.granularity} blocks from block {self.lowest_aligned}",
                wanted="at least one block, and a lowest aligned block below that",
            )

    @property
    def blocks(self) -> int:
        """Blocks of the namespace."""
        return self.size // self.block_size

    @property
    def encrypts(self) -> bool:
        """Whether it has media encryption."""
        return self.kind != "pyrite"

    @property
    def reported_block_size(self) -> int:
        """Bytes of a block as the TPer tells it."""
        return self.opal_block_size or self.block_size

    @property
    def nqn(self) -> str:
        """The NVMe Qualified Name of its NVM subsystem, by the UUID."""
        return f"nqn.2014-08.org.nvmexpress:uuid:{self.identifier}"

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)
