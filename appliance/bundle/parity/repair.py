"""Repairing a bundle from whatever is left of it: copies, second copies on other volumes, parity.

First everything is looked at and decided; then one set after another is mended in a work folder, and
each file put in its place as soon as it has its signed digest.  An interruption at any point leaves
every file as it was or as it should be, and the next run goes on from there.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from appliance.bundle.media.label import INCOMING_FOLDER, LABEL_PATH, volume_folder_name
from appliance.bundle.media.layout import listed_numbers
from appliance.bundle.parity.copies import SoundCopy, find_sound_copy
from appliance.bundle.parity.mending import assess, clear
from appliance.bundle.parity.places import (
    label_at,
    leftovers_at,
    locked,
    name_places,
    open_places,
    shared_on,
    wanted_at,
    wanted_label,
)
from appliance.bundle.parity.placing import check_writable, remove_partial
from appliance.bundle.parity.remedies import choose_remedies
from appliance.bundle.parity.repaired import Left, Mended, Repaired
from appliance.bundle.parity.survey import SOUND, Place, survey
from appliance.bundle.parity.task import Task
from appliance.bundle.paths import parity_number
from appliance.bundle.presence import telling_pulled
from appliance.bundle.volume import open_volume
from appliance.counting import counted
from appliance.errors import Usage, VolumeMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from appliance.bundle.media.layout import Layout
    from appliance.bundle.parity.places import Opened
    from appliance.bundle.parity.survey import Wanted
    from appliance.progress import Progress
    from appliance.trust.documents import SignedDocument


def repair_bundle(
    given: Sequence[Path],
    *,
    root: bytes | None,
    out: Path | None,
    work: Path,
    progress: Progress,
    role: str = "release",
    revocations: Sequence[SignedDocument] = (),
) -> Repaired:
    """Mend every damaged or missing file of these folders.

    Args:
        given: folders of one bundle: all of it, copies of it, volumes; recovery volumes.
        root: the bytes of the root that is trusted; None to believe the signatures about themselves.
        out: mended files go here, in the bundle's layout, and nothing given is changed; None to put
            each in its place.  With a recovery volume, and all but one volume, the lost volume is made
            here, in the folder that a volume has on its medium.
        work: where sets are mended; a folder of its own is made in it, and removed.
        progress: told of the work.
        role: the role whose holders must have signed.
        revocations: brought by another way than the bundle; judged by the trusted root.

    Raises:
        DamageTooGreat: what is lost cannot be mended; nothing was changed.
        BundleUntrusted: list and signatures are not to be believed.
        VolumeMissing: a lost volume is to be made again, but more than one is not here.
        MediumUnsuitable: a medium is write-protected, and there is no ``out``.
        MediumFailed: a medium was pulled, or does not keep what is written to it.
        SpaceExhausted: too little room.
        InProgress: another repair works on one of the folders.
        Usage: a folder is none, or is named twice.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(open_places(given))
        if not opened.volumes:
            raise Usage("no bundle or volume is named", wanted="at least one volume of the bundle")
        media = [volume.tree for volume in opened.every]
        with telling_pulled(lambda: media):
            copy = find_sound_copy(opened.every, root, role, revocations)
            places, layout = name_places(opened, copy.digest, list(copy.files))
            absent = _absent(places, layout)
            restored = None
            if out is not None and layout is not None and opened.recovery and absent:
                restored = _lost_volume(stack, out, copy, absent, len(layout))
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
        looked = {each: state for each, state in task.survey.states.items() if each.place is not restored}
        return Repaired(
            digest=copy.digest,
            product=copy.manifest.product,
            version=copy.manifest.version,
            folders=tuple(place.folder for place in places),
            out=out if restored is None else restored.folder,
            mended=tuple(task.mended),
            kept=tuple(task.kept),
            left=(*(Left(path, do) for path, do in copy.hopeless.items()), *task.left),
            checked=len(looked),
            wrong=sum(state != SOUND for state in looked.values()),
            absent=task.absent,
            restored=restored.number if restored else None,
            with_recovery=bool(opened.recovery),
            joining=any(place.volume.has(INCOMING_FOLDER) for place in places if place.whole),
            volumes=len(layout) if layout else 0,
            signers=copy.signers,
            notes=(*copy.notes, *_notes(task, restored)),
        )


def _absent(places: Sequence[Place], layout: Layout | None) -> tuple[int, ...]:
    """The numbers of the volumes that nobody named."""
    if layout is None or any(place.whole for place in places):
        return ()
    return tuple(sorted(set(range(1, len(layout) + 1)) - {place.number for place in places}))


def _lost_volume(
    stack: ExitStack, out: Path, copy: SoundCopy, absent: Sequence[int], volumes: int
) -> Place:
    """The volume that was lost, in its folder under ``out``: everything in it is missing yet."""
    if len(absent) > 1:
        raise VolumeMissing(
            f"{listed_numbers(absent, volumes)} are not here",
            wanted=f"{volumes - 1} of {counted(volumes, 'volume')}: a recovery volume brings back one",
            hint="name all of them but one; to mend only what is here, leave the recovery volume out",
        )
    folder = out / volume_folder_name(copy.manifest.product, copy.manifest.version, copy.digest)
    check_writable(folder)
    stack.callback(_remove_if_empty, folder)
    stack.enter_context(locked(folder))
    volume = stack.enter_context(open_volume(folder))
    return Place(volume, absent[0], whole=False, here=shared_on(volume, copy.files))


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _look(
    copy: SoundCopy,
    places: Sequence[Place],
    layout: Layout | None,
    *,
    restored: Place | None,
    out: Path | None,
    progress: Progress,
) -> Task:
    """Read everything; what is not sound is to be mended, or only what the lost volume held."""
    every = [*places, restored] if restored else list(places)
    absent = () if restored else _absent(places, layout)
    labels = {place: data for place in every if (data := label_at(place, copy, layout)) is not None}
    wanted = [
        each
        for place in every
        for each in wanted_at(
            place, copy, layout, [other for other in every if other is not place and not other.whole]
        )
    ]
    wanted += [wanted_label(place, data) for place, data in labels.items()]
    wanted += [each for place in places if place.whole for each in leftovers_at(place, copy)]
    found = survey(wanted, progress)
    goals = [each for each, state in found.states.items() if state != SOUND]
    if restored is not None:
        goals = [each for each in goals if each.place is restored]
        return Task(copy, every, layout, absent, found, goals, None, labels)
    if out is None:
        for place in places:
            remove_partial(place.folder)
        return Task(copy, every, layout, absent, found, goals, None, labels)
    once = {each.name: each for each in goals if _is_of_the_bundle(each)}
    done = {name for name, each in once.items() if _is_done(out, each)}
    goals = [each for name, each in once.items() if name not in done]
    task = Task(copy, every, layout, absent, found, goals, out, labels)
    task.kept += [Mended(out, name, found.states[once[name]]) for name in sorted(done)]
    found.sound.update({name: out / name for name in done})
    return task


def _is_of_the_bundle(wanted: Wanted) -> bool:
    """Whether a file has a place in the bundle's layout, as labels and second copies have none."""
    return wanted.path == wanted.name != LABEL_PATH


def _is_done(out: Path, goal: Wanted) -> bool:
    """Whether an earlier run has put a file under ``out`` already."""
    try:
        with (out / goal.name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == goal.file.sha256
    except OSError:
        return False  # whoever writes there says what is wrong with it


def _notes(task: Task, restored: Place | None) -> Iterator[str]:
    for place in task.places:
        if place.volume.note and not place.whole and place is not restored and place not in task.labels:
            yield place.volume.note
    wrong = [each for each, state in task.survey.states.items() if state != SOUND]
    if restored is not None:
        others = [each.place.folder / each.path for each in wrong if each.place is not restored]
        if others:
            files = counted(len(others), "file")
            yield f"{files} on the other volumes damaged, the first is {others[0]}: repair these too"
    elif task.out is not None:
        bound = [each for each in wrong if not _is_of_the_bundle(each)]
        if bound:
            what = counted(len(bound), "label or second copy", "labels and second copies")
            first = bound[0].place.folder / bound[0].path
            yield f"{what} damaged, the first is {first}: mended in their places only, without --out"


def _repair(task: Task, opened: Opened, own: Path, lock: int, progress: Progress) -> None:
    """Decide, then mend; every fault that can be foreseen is raised before anything is changed."""
    sound, damaged = task.survey.sound, task.damaged
    lost = {goal.name for goal in task.goals if not task.is_at_hand(goal)}
    parity = {name for name in lost if parity_number(name) is not None}
    if not opened.recovery:
        lost -= parity  # nothing covers it; it is made again of what it covers
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
    task.check_targets()
    for number, need in enumerate(needs):
        # What another set has brought back since is no longer lost.
        current = assess(need.parity, sound, damaged) if number else need
        task.mend_set(current, own / f"set-{number}", lock, progress)
    for goal in task.goals:
        if goal.name not in lost | parity:
            task.place_copy(goal)
    for name in sorted(parity - sound.keys()):
        task.remake(name, own / "parity", progress)
