"""Repairing a bundle from whatever is left of it: copies, second copies on other volumes, parity.

First everything is looked at and decided; then one set after another is mended in a work folder, and
each file put in its place as soon as it has its signed digest.  An interruption at any point leaves
every file as it was or as it should be, and the next run goes on from there.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.bundle.durable import free_bytes
from appliance.bundle.media.label import LABEL_PATH
from appliance.bundle.parity.copies import SoundCopy, find_sound_copy
from appliance.bundle.parity.mending import Need, assess, clear, mend
from appliance.bundle.parity.places import (
    label_at,
    locked,
    name_places,
    open_places,
    wanted_at,
    wanted_label,
)
from appliance.bundle.parity.placing import check_writable, place_bytes, place_file
from appliance.bundle.parity.remaking import remake_parity
from appliance.bundle.parity.remedies import choose_remedies
from appliance.bundle.parity.survey import MISSING, SOUND, Place, Survey, Wanted, survey
from appliance.bundle.paths import parity_number
from appliance.bundle.volume import open_volume
from appliance.errors import SpaceExhausted, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.media.layout import Layout
    from appliance.bundle.parity.places import Opened
    from appliance.progress import Progress


@dataclass(frozen=True, slots=True)
class Mended:
    """A file that was put right: where it lies now, and what was the matter with it."""

    folder: Path
    path: str
    state: str


@dataclass(frozen=True)
class Repaired:
    """What a repair found and did.

    Every other file that belongs in the folders named has its signed digest now: those of ``mended``
    were read back, the rest was compared when everything was read; with ``out``, the mended ones lie there.
    ``left`` are parity files that could not be made again, since not everything they cover was at hand.
    ``absent`` are the numbers of volumes nobody named.  ``signers`` is empty if there was no root.
    """

    digest: str
    product: str
    version: str
    folders: tuple[Path, ...]
    out: Path | None
    mended: tuple[Mended, ...]
    left: tuple[str, ...]
    checked: int
    absent: tuple[int, ...]
    volumes: int
    signers: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _Task:
    """A repair while it runs: what is sound by now and where, what is still to be done."""

    copy: SoundCopy
    places: list[Place]
    layout: Layout | None
    absent: tuple[int, ...]
    survey: Survey
    goals: list[Wanted]
    out: Path | None
    labels: Mapping[Place, bytes]
    mended: list[Mended] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def data(self, goal: Wanted) -> bytes | None:
        """The bytes of a file that needs no other: known from a copy, or empty."""
        if goal.path == LABEL_PATH:
            return self.labels[goal.place]
        known = self.copy.contents.get(goal.name, self.copy.unlisted.get(goal.name))
        return b"" if known is None and not goal.file.size else known

    def target(self, goal: Wanted) -> tuple[Path, str]:
        """Where a mended file goes: the folder, and the path in it."""
        return (goal.place.folder, goal.path) if self.out is None else (self.out, goal.name)

    def done(self, goal: Wanted) -> None:
        folder, path = self.target(goal)
        self.survey.sound[goal.name] = folder / path
        self.mended.append(Mended(folder, path, self.survey.states[goal]))


def repair_bundle(
    given: Sequence[Path],
    *,
    root: bytes | None,
    out: Path | None,
    work: Path,
    progress: Progress,
    role: str = "release",
) -> Repaired:
    """Mend every damaged or missing file of these folders.

    Args:
        given: folders of one bundle: all of it, copies of it, volumes; recovery volumes.
        root: the bytes of the root that is trusted; None to believe the signatures about themselves.
        out: mended files go here, in the bundle's layout, and nothing given is changed; None to put
            each in its place.  With a recovery volume, and all but one volume, the lost volume is made
            here.
        work: where sets are mended; a folder of its own is made in it, and removed.
        progress: told of the work.
        role: the role whose holders must have signed.

    Raises:
        DamageTooGreat: what is lost cannot be mended; nothing was changed.
        BundleUntrusted: list and signatures are not to be believed.
        MediumUnsuitable: a medium is write-protected, and there is no ``out``.
        SpaceExhausted: too little room.
        InProgress: another repair works on one of the folders.
        Usage: a folder is none, or is named twice.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(open_places(given))
        if not opened.volumes:
            raise Usage("no bundle or volume is named", wanted="at least one volume of the bundle")
        copy = find_sound_copy(opened.every, root, role)
        places, layout = name_places(opened, copy.digest, list(copy.files))
        absent = _absent(places, layout)
        restored = None
        if out is not None and layout is not None and opened.recovery and len(absent) == 1:
            restored = _empty_volume(stack, out, absent[0])
            places.append(restored)
        task = _look(copy, places, layout, restored=restored, out=out, progress=progress)
        own = work / f"appliance-repair-{copy.digest[:12]}"
        if task.goals:
            own.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = stack.enter_context(locked(own))
            clear(own)
            try:
                _repair(task, opened, own, lock, progress)
            finally:
                clear(own)
                own.rmdir()
    return Repaired(
        digest=copy.digest,
        product=copy.manifest.product,
        version=copy.manifest.version,
        folders=tuple(place.folder for place in places if place is not restored),
        out=out,
        mended=tuple(task.mended),
        left=tuple(task.left),
        checked=len(task.survey.states),
        absent=tuple(number for number in absent if restored is None or number != restored.number),
        volumes=len(layout) if layout else 0,
        signers=copy.signers,
        notes=(*copy.notes, *_notes(task, restored)),
    )


def _absent(places: Sequence[Place], layout: Layout | None) -> tuple[int, ...]:
    """The numbers of the volumes that nobody named."""
    if layout is None or any(place.whole for place in places):
        return ()
    return tuple(sorted(set(range(1, len(layout) + 1)) - {place.number for place in places}))


def _empty_volume(stack: ExitStack, out: Path, number: int) -> Place:
    """The folder ``out`` as the volume that was lost: everything in it is missing yet."""
    out.mkdir(parents=True, exist_ok=True)
    stack.enter_context(locked(out))
    return Place(stack.enter_context(open_volume(out)), number, whole=False)


def _look(
    copy: SoundCopy,
    places: list[Place],
    layout: Layout | None,
    *,
    restored: Place | None,
    out: Path | None,
    progress: Progress,
) -> _Task:
    """Read everything; what is not sound is to be mended, or only what the lost volume held."""
    labels = {place: data for place in places if (data := label_at(place, copy, layout)) is not None}
    wanted = [
        each
        for place in places
        for each in wanted_at(
            place, copy, layout, [other for other in places if other is not place and not other.whole]
        )
    ]
    wanted += [wanted_label(place, data) for place, data in labels.items()]
    found = survey(wanted, progress)
    goals = [each for each, state in found.states.items() if state != SOUND]
    absent = _absent(places, layout)
    if restored is not None:
        goals = [each for each in goals if each.place is restored]
        out = None
    elif out is not None:
        # The bundle's layout has one place for a file, and none for labels and second copies.
        once = {each.name: each for each in goals if each.path == each.name != LABEL_PATH}
        done = {name for name, each in once.items() if _is_done(out, each)}
        found.sound.update({name: out / name for name in done})
        goals = [each for name, each in once.items() if name not in done]
    return _Task(copy, places, layout, absent, found, goals, out, labels)


def _is_done(out: Path, goal: Wanted) -> bool:
    """Whether an earlier run has put a file under ``out`` already."""
    try:
        with (out / goal.name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == goal.file.sha256
    except (FileNotFoundError, NotADirectoryError):
        return False


def _notes(task: _Task, restored: Place | None) -> Iterator[str]:
    for place in task.places:
        if place.volume.note and not place.whole and place is not restored and place not in task.labels:
            yield place.volume.note
    if restored is not None:
        others = [
            each.place.folder / each.path
            for each, state in task.survey.states.items()
            if state != SOUND and each.place is not restored
        ]
        if others:
            yield f"{len(others)} files on other volumes are damaged, the first is {others[0]}: repair too"


def _repair(task: _Task, opened: Opened, own: Path, lock: int, progress: Progress) -> None:
    """Decide, then mend; every fault that can be foreseen is raised before anything is changed."""
    sound = task.survey.sound
    lost = {each.name for each in task.goals if each.name not in sound and task.data(each) is None}
    parity = {name for name in lost if parity_number(name) is not None}
    if not opened.recovery:
        lost -= parity  # nothing covers it; it is made again of what it covers
    damaged = {
        name: [each.place.folder / each.path for each in copies]
        for name, copies in task.survey.damaged.items()
    }
    needs = (
        choose_remedies(
            task.copy,
            opened,
            lost,
            sound=sound,
            damaged=damaged,
            layout=task.layout,
            absent=task.absent,
        )
        if lost
        else ()
    )
    folders = {task.target(goal)[0] for goal in task.goals}
    for folder in sorted(folders):
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder)
        _check_room(task, folder)
    for number, need in enumerate(needs):
        # What another set has brought back since is no longer lost.
        current = assess(need.parity, task.survey.sound, damaged) if number else need
        _mend_set(task, current, own / f"set-{number}", lock, progress)
    for goal in task.goals:
        if goal.name not in lost | parity:
            _place_copy(task, goal)
    for name in sorted(parity - sound.keys()):
        _remake(task, name, own / "parity", progress)


def _place_copy(task: _Task, goal: Wanted) -> None:
    """Put a file right that is known, or lies sound somewhere else."""
    folder, path = task.target(goal)
    data = task.data(goal)
    if data is not None:
        place_bytes(data, folder, path)
    else:
        place_file(task.survey.sound[goal.name], folder, path, goal.file.sha256, move=False)
    task.done(goal)


def _mend_set(task: _Task, need: Need, work: Path, lock: int, progress: Progress) -> None:
    work.mkdir()
    mended = mend(need, task.survey.sound, task.copy.files, work=work, lock=lock, progress=progress)
    for name, made in mended.items():
        _place(task, name, made)


def _remake(task: _Task, name: str, work: Path, progress: Progress) -> None:
    work.mkdir()
    made = remake_parity(name, task.copy.manifest, task.survey.sound, work, progress)
    if made is None:
        task.left.append(name)
    else:
        _place(task, name, made)
    clear(work)
    work.rmdir()


def _place(task: _Task, name: str, made: Path) -> None:
    """Put a file that was made in the work folder wherever it is wanted."""
    task.survey.sound[name] = made
    goals = [goal for goal in task.goals if goal.name == name]
    for goal in goals:
        folder, path = task.target(goal)
        source = task.survey.sound[name]
        place_file(source, folder, path, goal.file.sha256, move=goal is goals[0])
        task.done(goal)


def _check_room(task: _Task, folder: Path) -> None:
    """Refuse before anything is changed what would not fit: new files, and one beside its old self."""
    here = [goal for goal in task.goals if task.target(goal)[0] == folder]
    new = [goal.file.size for goal in here if task.out or task.survey.states[goal] == MISSING]
    old = [goal.file.size for goal in here if not task.out and task.survey.states[goal] != MISSING]
    wanted = sum(new) + max(old, default=0)
    if (free := free_bytes(folder)) < wanted:
        raise SpaceExhausted(
            f"too little room in {folder} for the mended files",
            found=f"{free:,} bytes free",
            wanted=f"{wanted:,} bytes",
            hint="name a folder with more room with --out; nothing was changed",
        )
