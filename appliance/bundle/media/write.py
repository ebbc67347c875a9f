"""Writing a bundle onto media: which volume goes to which target, one after another.

The division is decided once.  Where a target, or the volume named with ``like``, belongs to this bundle
already, its label says how the bundle was divided, and that stands.  Otherwise it follows from the room
the media have, in the order they are given.

With fewer ports than volumes somebody changes the media: targets are taken in turn, and before one is
used again ``ask`` is called until another medium lies there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Protocol, Required, TypedDict

from appliance.bundle.media.cargo import Cargo, read_cargo
from appliance.bundle.media.division import Division, plan_division, told_division
from appliance.bundle.media.entries import volume_entries
from appliance.bundle.media.filesystem import make_folder, writing_to
from appliance.bundle.media.fill import fill_volume
from appliance.bundle.media.layout import listed_numbers
from appliance.bundle.media.medium import Medium, measure_room, read_volume_label
from appliance.bundle.media.plan import Offer, Room
from appliance.bundle.media.targets import (
    examine_target,
    examine_targets,
    holding,
    refuse_shared_room,
    require_room,
)
from appliance.bundle.opening import open_tree
from appliance.errors import (
    ApplianceError,
    LabelInvalid,
    MediaMissing,
    MediumOccupied,
    PreflightFailed,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.opening import BundleTree
    from appliance.progress import Progress


@dataclass(frozen=True, slots=True)
class Wanted:
    """The medium somebody shall insert: for which volume, where, and what to write on its shell.

    ``problem`` says why the one that lies there now will not do.
    """

    number: int
    count: int
    size: int
    target: Path
    inscription: str
    problem: ApplianceError | None


class Ask(Protocol):
    """Has somebody change the medium; returns when that was done."""

    def __call__(self, wanted: Wanted) -> None: ...


@dataclass(frozen=True, slots=True)
class WrittenVolume:
    """A volume that is complete: where it lies, and its share in bytes.  This run read all of it.

    ``written`` are the bytes that this run wrote, ``kept`` those that were there and right; ``mended`` are
    files that had their names and were wrong.
    """

    number: int
    folder: Path
    share: int
    written: int
    kept: int
    mended: tuple[str, ...]


class Settings(TypedDict, total=False):
    """What ``write_media`` takes besides the bundle and its targets."""

    progress: Required[Progress]
    root: bytes | None
    role: str
    sizes: Sequence[int]
    like: Path | None
    only: Sequence[int]
    ask: Ask | None


@dataclass(frozen=True)
class WrittenMedia:
    """All volumes of a bundle that are complete after this run."""

    cargo: Cargo
    count: int
    volumes: tuple[WrittenVolume, ...]


def write_media(
    bundle: Path,
    targets: Sequence[Path],
    *,
    progress: Progress,
    root: bytes | None = None,
    role: str = "release",
    sizes: Sequence[int] = (),
    like: Path | None = None,
    only: Sequence[int] = (),
    ask: Ask | None = None,
) -> WrittenMedia:
    """Write a bundle onto the media mounted at ``targets``; never changes the bundle.

    Args:
        bundle: the bundle's folder.
        targets: where media are mounted; one that is given again takes another medium later.
        progress: told of each volume.
        root: the bytes of a root by which the signatures are judged first; None to judge none.
        role: the role whose holders must have signed.
        sizes: the most to use of each medium, in bytes; the last holds for all others too.  Targets may
            then be plain folders.
        like: a volume of this bundle that says how it was divided.
        only: the numbers of the volumes to write; all if empty.
        ask: has somebody insert the next medium; None if nobody is there.

    Raises:
        BundleUntrusted: the bundle is malformed, damaged, or not signed as the root wants.
        PreflightFailed: a medium is unsuitable, occupied, full, pulled or missing; the subclass says it.
        Usage: the arguments contradict each other.
    """
    with open_tree(bundle) as tree:
        cargo = read_cargo(tree, root=root, role=role)
        run = _Run(bundle, tree, cargo, sizes, progress)
        media = run.examine(targets)
        division = run.divide(media, like, repeats=ask is not None)
        wanted = _wanted(only, division)
        queue = _queue(wanted, media)
        fresh = sum(medium.label is None for medium in media.values())
        if ask is None and len(queue) > fresh:
            raise MediaMissing(
                f"no medium for {listed_numbers(queue[fresh:], division.count)}",
                found=holding(media.values(), division.count),
                wanted="a free medium for each volume that is to be written",
                hint="name more media, or insert others; write some volumes with --only, or run this in a "
                "terminal, which asks for them",
            )
        return WrittenMedia(cargo, division.count, tuple(run.write(media, division, wanted, ask)))


class _Run:
    """One run over one bundle; media are known by the target they are mounted at."""

    def __init__(
        self, bundle: Path, tree: BundleTree, cargo: Cargo, sizes: Sequence[int], progress: Progress
    ) -> None:
        self._cargo = cargo
        self._bundle = bundle
        self._tree = tree
        self._sizes = sizes
        self._progress = progress

    def examine(self, targets: Sequence[Path]) -> dict[Path, Medium]:
        """Look at all targets; each is there once, in the order they were given first."""
        media = examine_targets(self._bundle, self._cargo, targets, stands_for=bool(self._sizes))
        if not self._sizes:
            refuse_shared_room(media, "name each medium once; or give --size to fill plain folders")
        return media

    def divide(self, media: Mapping[Path, Medium], like: Path | None, *, repeats: bool) -> Division:
        """As labels say that are there, or by the room there is."""
        labels = {str(target): medium.label for target, medium in media.items() if medium.label}
        if like is not None:
            labels[str(like)] = read_volume_label(like)
        if told := told_division(self._cargo, labels):
            return told
        rooms = [measure_room(target, self._size(turn)) for turn, target in enumerate(media)]
        if repeats:
            cluster = rooms[-1].cluster
            rooms += [Room("a further medium", size, cluster) for size in self._sizes[len(rooms) :]]
        return plan_division(self._cargo, Offer(tuple(rooms), repeats))

    def write(
        self, media: Mapping[Path, Medium], division: Division, wanted: set[int], ask: Ask | None
    ) -> Iterator[WrittenVolume]:
        """Write what the media that are there shall hold, then ask for others while any is wanted."""
        queue = _queue(wanted, media)
        for turn, medium in enumerate(media.values()):
            if medium.label is not None and medium.label.number in wanted:
                yield self._fill(medium, division, medium.label.number)
            elif medium.label is not None:
                name = division.name(medium.label.number)
                self._progress.note(f"{medium.target} holds {name}, which is not wanted; it was not read")
            elif queue:
                self._check_fits(medium, division, queue[0], turn)
                yield self._fill(medium, division, queue.pop(0))
            else:
                self._progress.note(f"{medium.target} is not needed; nothing was written to it")
        for turn, target in enumerate(cycle(media), len(media)):
            if not queue or ask is None:
                return
            medium, number = self._change(target, division, queue, turn, ask)
            queue.remove(number)
            yield self._fill(medium, division, number)

    def _change(
        self, target: Path, division: Division, queue: Sequence[int], turn: int, ask: Ask
    ) -> tuple[Medium, int]:
        """Have the medium at a target changed until one lies there that can be written to."""
        problem: ApplianceError | None = None
        number = queue[0]
        while True:
            size = division.volume(number).used
            ask(Wanted(number, division.count, size, target, division.inscription(number), problem))
            try:
                medium = self._examine(target)
                if medium.label is None:
                    self._check_fits(medium, division, number, turn)
                    return medium, number
                if medium.label.volumes == division.shares and medium.label.number in queue:
                    return medium, medium.label.number
                problem = MediumOccupied(
                    f"{target} holds {division.name(medium.label.number)} already",
                    wanted=division.name(number),
                )
            except (PreflightFailed, LabelInvalid) as fault:
                problem = fault

    def _fill(self, medium: Medium, division: Division, number: int) -> WrittenVolume:
        volume = division.volume(number)
        with writing_to(medium.target, division.name(number)):
            if not medium.folder.is_dir():
                make_folder(medium.folder)
            filled = fill_volume(
                self._tree,
                self._cargo,
                volume_entries(self._cargo, volume),
                label=division.label(number),
                folder=medium.folder,
                progress=self._progress,
            )
        share = volume.share.size
        return WrittenVolume(number, medium.folder, share, filled.written, filled.kept, filled.mended)

    def _examine(self, target: Path) -> Medium:
        return examine_target(self._bundle, self._cargo, target, stands_for=bool(self._sizes))

    def _check_fits(self, medium: Medium, division: Division, number: int, turn: int) -> None:
        """Refuse a fresh medium that has too little room for the volume it shall hold."""
        room = measure_room(medium.target, self._size(turn))
        require_room(division.volume(number, room), division.name(number))

    def _size(self, turn: int) -> int | None:
        return self._sizes[min(turn, len(self._sizes) - 1)] if self._sizes else None


def _queue(wanted: set[int], media: Mapping[Path, Medium]) -> list[int]:
    """The volumes that are wanted and lie on no medium that is there."""
    return sorted(wanted - {medium.label.number for medium in media.values() if medium.label})


def _wanted(only: Sequence[int], division: Division) -> set[int]:
    for number in only:
        if not 1 <= number <= division.count:
            raise Usage(f"there is no volume {number}", wanted=f"1 to {division.count}")
    return set(only or range(1, division.count + 1))
