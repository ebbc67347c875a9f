"""A repair while it runs: what is sound by now and where, what is still to be put right, and doing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from appliance.bundle.blocks import split_blocks
from appliance.bundle.durable import free_bytes
from appliance.bundle.media.label import LABEL_PATH
from appliance.bundle.parity.mending import clear, mend
from appliance.bundle.parity.patching import can_be_patched
from appliance.bundle.parity.placing import check_writable, place_bytes, place_file
from appliance.bundle.parity.proving import prove
from appliance.bundle.parity.remaking import remake_parity
from appliance.bundle.parity.repaired import Left, Mended
from appliance.bundle.paths import BLOCKS_PATH
from appliance.errors import SpaceExhausted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.media.layout import Layout
    from appliance.bundle.parity.copies import SoundCopy
    from appliance.bundle.parity.mending import Need
    from appliance.bundle.parity.survey import Place, Survey, Wanted
    from appliance.progress import Progress

_NAME_EVERY_VOLUME: Final = "all it covers is needed to make it again; name every volume"


@dataclass
class Task:
    """The files to be put right, ``goals``, and all that is known of the others.

    ``out`` is where mended files go, in the bundle's layout; None to put each in its place.
    ``labels`` are the bytes that the volumes' labels should have.
    """

    copy: SoundCopy
    places: Sequence[Place]
    layout: Layout | None
    absent: tuple[int, ...]
    survey: Survey
    goals: Sequence[Wanted]
    out: Path | None
    labels: Mapping[Place, bytes]
    mended: list[Mended] = field(default_factory=list)
    kept: list[Mended] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    _finished: set[Wanted] = field(default_factory=set)

    @property
    def damaged(self) -> dict[str, list[Path]]:
        """Where damaged copies lie, by the file's path in the bundle."""
        return {
            name: [each.place.folder / each.path for each in copies]
            for name, copies in self.survey.damaged.items()
        }

    def is_at_hand(self, goal: Wanted) -> bool:
        """Whether a file need not be computed: known from a copy, or empty, or sound somewhere."""
        return goal.name in self.survey.sound or self._data(goal) is not None

    def check_targets(self) -> None:
        """Refuse, before anything is changed, a folder that cannot take what is mended.

        Raises:
            MediumUnsuitable, MediumFailed: it cannot be written to.
            SpaceExhausted: too little room.
        """
        for folder in sorted({self._target(goal)[0] for goal in self.goals}):
            check_writable(folder)
            self._check_room(folder)

    def place_copy(self, goal: Wanted) -> None:
        """Put a file right that is at hand, unless a set has brought it back beside others."""
        if goal in self._finished:
            return
        folder, path = self._target(goal)
        data = self._data(goal)
        if data is not None:
            place_bytes(data, folder, path)
        else:
            place_file(self.survey.sound[goal.name], folder, path, goal.file.sha256, move=False)
        self._done(goal)

    def mend_set(self, need: Need, work: Path, lock: int, progress: Progress) -> None:
        """Mend the lost files of a set, and put them right."""
        work.mkdir()
        mended = mend(need, self.survey.sound, self.copy.files, work=work, lock=lock, progress=progress)
        proven = prove(
            {
                made: self.copy.files[name].sha256
                for name, made in mended.items()
                if self._can_be_moved(name, made)
            }
        )
        for name, made in mended.items():
            self._place_made(name, made, proven=made in proven)

    def remake(self, name: str, work: Path, progress: Progress) -> None:
        """Make a parity file again and put it right, or leave it."""
        work.mkdir()
        made = remake_parity(name, self.copy.manifest, self.survey.sound, work, progress)
        if made is None:
            self.left.append(Left(name, _NAME_EVERY_VOLUME))
        else:
            self._place_made(name, made)
        clear(work)
        work.rmdir()

    def _can_be_moved(self, name: str, made: Path) -> bool:
        """Whether a file that was made lies on the disk where it is wanted first."""
        goal = next((goal for goal in self.goals if goal.name == name), None)
        return goal is not None and self._target(goal)[0].stat().st_dev == made.stat().st_dev

    def _place_made(self, name: str, made: Path, *, proven: bool = False) -> None:
        """Put a file that was made in the work folder wherever it is wanted.

        ``proven`` says that it was read back from where it lies.
        """
        self.survey.sound[name] = made
        goals = [goal for goal in self.goals if goal.name == name]
        for goal in goals:
            folder, path = self._target(goal)
            source = self.survey.sound[name]
            first = goal is goals[0]
            place_file(source, folder, path, goal.file.sha256, move=first, proven=proven and first)
            self._done(goal)

    def _data(self, goal: Wanted) -> bytes | None:
        """The bytes of a file that needs no other: known from a copy, or empty."""
        if goal.path == LABEL_PATH:
            return self.labels[goal.place]
        known = self.copy.contents.get(goal.name, self.copy.unlisted.get(goal.name))
        return b"" if known is None and not goal.file.size else known

    def _target(self, goal: Wanted) -> tuple[Path, str]:
        """Where a mended file goes: the folder, and the path in it."""
        return (goal.place.folder, goal.path) if self.out is None else (self.out, goal.name)

    def _done(self, goal: Wanted) -> None:
        folder, path = self._target(goal)
        self.survey.sound[goal.name] = folder / path
        self._finished.add(goal)
        self.mended.append(Mended(folder, path, self.survey.states[goal]))

    def _check_room(self, folder: Path) -> None:
        """Refuse what would not fit: new files, and one beside its old self if that cannot be patched."""
        new, beside = 0, [("", 0)]
        for goal in self.goals:
            target, path = self._target(goal)
            if target != folder:
                continue
            if not (place := target / path).exists():
                new += goal.file.size
            elif can_be_patched(place, goal.file.size, self._blocks.get(goal.name, ())):
                new += max(0, goal.file.size - place.stat().st_size)
            else:
                beside.append((path, goal.file.size))
        largest, size = max(beside, key=lambda each: each[1])
        wanted = new + size
        if (free := free_bytes(folder)) >= wanted:
            return
        given = " ".join(str(place.folder) for place in self.places)
        elsewhere = (
            "name a folder with more room with --out"
            if self.out
            else f"have the mended files put elsewhere with --out DIR; `appliance media join {given} DIR "
            "--out NEW` makes one sound folder of them and of what is here"
        )
        why = f": {largest} cannot be mended where it lies, and is written beside itself" if largest else ""
        raise SpaceExhausted(
            f"too little room in {folder} for the mended files",
            found=f"{free:,} bytes free",
            wanted=f"{wanted:,} bytes{why}",
            hint=f"{elsewhere}; nothing was changed",
        )

    @cached_property
    def _blocks(self) -> Mapping[str, Sequence[bytes]]:
        """The digests of the blocks of payload files, by path; none if no index is sound."""
        index = self.copy.contents.get(BLOCKS_PATH)
        return dict(split_blocks(self.copy.manifest, index)) if index is not None else {}
