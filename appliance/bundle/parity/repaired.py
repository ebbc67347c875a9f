"""What a repair found and did, and what is to be done next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.media.layout import listed_numbers

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mended:
    """A file that was put right: where it lies now, and what was the matter with it."""

    folder: Path
    path: str
    state: str


@dataclass(frozen=True, slots=True)
class Left:
    """A file that could not be put right, by its path in the bundle, and what to do about it."""

    path: str
    do: str


@dataclass(frozen=True)
class Repaired:
    """The result.

    Every other file that belongs in the folders named has its signed digest now: those of ``mended``
    were read back, the rest was compared when everything was read; with ``out``, the mended ones lie there.

    ``checked`` counts the files that were looked for in ``folders``, ``wrong`` those that were damaged or
    missing.  ``kept`` are files that an earlier run has put under ``out``.  ``left`` are parity files that
    could not be made again, since not everything they cover was at hand, and signatures and provenance of
    which no copy is good.  ``absent`` are the numbers of volumes nobody named, ``restored`` is that of the
    one that was made again under ``out``; ``with_recovery`` says that a recovery volume was named,
    ``joining`` that a folder was in which a join has still to go on.  ``signers`` is empty if there was
    no root.
    """

    digest: str
    product: str
    version: str
    folders: tuple[Path, ...]
    out: Path | None
    mended: tuple[Mended, ...]
    kept: tuple[Mended, ...]
    left: tuple[Left, ...]
    checked: int
    wrong: int
    absent: tuple[int, ...]
    restored: int | None
    with_recovery: bool
    joining: bool
    volumes: int
    signers: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether the bundle lies whole and right in ``folders``."""
        in_place = self.out is None or not self.wrong
        return in_place and not (self.absent or self.left or self.restored)

    def advice(self) -> list[str]:
        """What to do next."""
        given = " ".join(map(str, self.folders))
        missing = listed_numbers(self.absent, self.volumes) if self.absent else ""
        step = None
        if self.restored is not None:
            if not self.wrong:
                step = f"appliance verify {given} {self.out} --trust ROOT"
        elif self.out is not None and (self.mended or self.kept):
            more = f", {missing} named too," if missing else ""
            join = f"appliance media join {given} {self.out} --out NEW"
            step = f"what was given is damaged still: {join}{more} makes one sound folder of both"
        elif self.with_recovery and len(self.absent) == 1:
            step = f"name a medium with --out DIR: {missing} can be made again there"
        elif self.with_recovery and self.absent:
            step = f"name all but one of {missing}: a recovery volume brings back one"
        elif self.joining:
            step = "run the same `appliance media join` again: it goes on with what was mended"
        elif self.complete:
            step = f"appliance verify {given} --trust ROOT"
        return [] if step is None else [step]
