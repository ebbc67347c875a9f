"""What checking media found: per volume what is damaged and where, and what lies on none of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.paths import MENDED_PARTIAL
from appliance.bundle.volume_rules import WRITE_AGAIN
from appliance.errors import MediumFailed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.bundle.media.layout import Layout

#: How the problem of a file begins of which nothing was read.
MISSING: Final = "missing"
UNREADABLE: Final = "cannot be read"


@dataclass(frozen=True, slots=True)
class BadBlocks:
    """Blocks of 4 MiB in a row that are wrong (or cannot be read): numbered from 0, both ends included."""

    first: int
    last: int
    readable: bool

    @property
    def offset(self) -> int:
        """The first byte of them."""
        return self.first * BLOCK_SIZE

    @property
    def end(self) -> int:
        """One more than the last byte they can have."""
        return (self.last + 1) * BLOCK_SIZE

    def __str__(self) -> str:
        numbers = str(self.first) if self.first == self.last else f"{self.first} to {self.last}"
        count = "block" if self.first == self.last else "blocks"
        kind = "wrong" if self.readable else "unreadable"
        return f"{count} {numbers} {kind} (from byte {self.offset:,})"


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that is not what was signed; ``bad`` is empty where the block index cannot tell which part."""

    path: str
    problem: str
    bad: tuple[BadBlocks, ...] = ()

    @property
    def was_read(self) -> bool:
        """Whether something was read, and is wrong; else nothing could be."""
        return not self.problem.startswith((MISSING, UNREADABLE))


@dataclass(frozen=True)
class CheckedVolume:
    """One volume: ``files`` and ``size`` (bytes) of what belongs there and was found, right or wrong.

    ``name`` says its number if the labels tell it.  ``strange`` are names that do not belong there.
    ``gone`` is what the system said when the medium stopped to answer: the rest of it was not read.
    """

    name: str
    folder: Path
    number: int | None
    files: int
    size: int
    damaged: tuple[DamagedFile, ...]
    strange: tuple[str, ...]
    unfinished: bool
    gone: str | None = None

    @property
    def sound(self) -> bool:
        """Whether all that is there is right, and nothing else is there."""
        return not (self.damaged or self.strange or self.unfinished or self.gone)


@dataclass(frozen=True)
class CheckedRecovery:
    """A recovery volume: it covers ``volumes``; ``stripes`` and ``size`` (bytes) count what was found.

    Right means that no damage was found: its packets are whole, and cover the files of the bundle.
    """

    name: str
    folder: Path
    volumes: int
    stripes: int
    size: int
    damaged: tuple[DamagedFile, ...]
    strange: tuple[str, ...]
    gone: str | None

    @property
    def sound(self) -> bool:
        """Whether no damage was found, and nothing else is there."""
        return not (self.damaged or self.strange or self.gone)


@dataclass(frozen=True)
class MediaCheck:
    """The result.

    ``holders`` have signatures that verify; ``signers`` are those that counted by the root, empty if no
    root was given.  ``absent`` are the files that lie on none of the volumes, by the number of the volume
    that should hold them; under None where no label tells.  ``parity`` says of every recovery set
    whether it is "sound", "damaged", "missing" or "absent": on a volume that was not given.  ``copies``
    are volumes, by their names, that hold what another one holds, with that one.
    """

    digest: str
    product: str
    version: str
    holders: tuple[str, ...]
    signers: tuple[str, ...]
    volumes: tuple[CheckedVolume, ...]
    absent: Mapping[int | None, tuple[str, ...]]
    parity: Mapping[str, str]
    layout: Layout | None = None
    notes: tuple[str, ...] = ()
    recovery: tuple[CheckedRecovery, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)

    @property
    def media(self) -> tuple[CheckedVolume | CheckedRecovery, ...]:
        """All that was given."""
        return (*self.volumes, *self.recovery)

    @property
    def sound(self) -> bool:
        """Whether all that was given is right; volumes that were not given do not count."""
        return all(each.sound for each in self.media)

    @property
    def complete(self) -> bool:
        """Whether every file of the bundle lies on one of the volumes."""
        return not self.absent

    @property
    def failure(self) -> MediumFailed | None:
        """That a medium was pulled out or broke meanwhile; what is said of the others stands."""
        gone = [each for each in self.media if each.gone]
        if not gone:
            return None
        return MediumFailed(
            f"{', '.join(each.name for each in gone)} cannot be read any more: pulled out, or broken",
            found=gone[0].gone,
            wanted="a medium that stays in until this has ended",
            hint="put it in and mount it again, and check it again; what is said of the others stands",
        )

    def advice(self) -> list[str]:
        """What to do next."""
        steps = []
        for volume in self.volumes:
            if volume.gone:
                steps.append(f"put {volume.name} in, mount it again, and check it again")
            elif volume.unfinished:
                steps.append(f"write {volume.name} to its end: the same `appliance media write` goes on")
            elif volume.strange == (MENDED_PARTIAL,):
                steps.append(f"`appliance media repair` with {volume.name} again: it was interrupted there")
            elif volume.strange:
                steps.append(f"find out how other files came onto {volume.name}, and remove them yourself")
        if any(volume.damaged for volume in self.volumes):
            steps.append(self._mend())
            steps += [f"or else: {WRITE_AGAIN}"] if self.layout else []
        steps += [
            f"make {each.name} again, from all volumes: `appliance media parity`"
            for each in self.recovery
            if each.damaged or each.strange
        ]
        if self.absent and not steps:
            steps.append("check the other volumes too, each alone or all at once")
        if not self.signers:
            steps.append("give --trust ROOT: these were compared with a list that nobody vouched for")
        if self.sound and self.complete:
            steps.append("`appliance verify` and `appliance install` take all volumes at once")
            steps += [
                f"name only one of them to these: {copy} holds what {other} holds"
                for copy, other in self.copies.items()
            ]
            steps += [f"leave out {each.name}: it is no part of the bundle" for each in self.recovery]
        return steps

    def _mend(self) -> str:
        if any(state == "sound" for state in self.parity.values()):
            return "`appliance media repair` with all the volumes there are: the parity lies on them too"
        if self.parity:
            return "`appliance media repair` with the volumes that hold the parity, too: none was given"
        return "`appliance media repair` mends what has a second copy; there is no parity for the rest"
