"""Finding the recovery sets that bring lost files back, or saying exactly what is lacking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.bundle.media.layout import listed_numbers
from appliance.bundle.parity.believing import obtain
from appliance.bundle.parity.deciding import Lack, decide_order
from appliance.bundle.parity.mending import assess, too_great
from appliance.bundle.parity.recovery import is_of_this_bundle, read_set
from appliance.bundle.parity.stripes import bundle_path, stripe_files
from appliance.bundle.paths import TRUST_FOLDER, parity_number
from appliance.counting import counted
from appliance.errors import DamageTooGreat

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.media.layout import Layout
    from appliance.bundle.parity.copies import SoundCopy
    from appliance.bundle.parity.mending import Need
    from appliance.bundle.parity.places import Opened
    from appliance.bundle.parity.recovery import RecoverySet

_NAMES_SHOWN: Final = 5


def choose_remedies(
    copy: SoundCopy,
    opened: Opened,
    lost: Collection[str],
    *,
    sound: Mapping[str, Path],
    damaged: Mapping[str, Sequence[Path]],
    layout: Layout | None,
    absent: Sequence[int],
) -> tuple[Need, ...]:
    """Which sets to mend, so that these files come back.

    Args:
        copy: the bundle as it should be.
        opened: the folders, recovery volumes among them.
        lost: the files that must come back.
        sound: where a sound copy of each file lies.
        damaged: where damaged copies of the others lie.
        layout: how the bundle is divided, if it is.
        absent: the numbers of volumes that were not named.

    Returns:
        What each of these sets lacks, in the order in which they are to be mended.

    Raises:
        DamageTooGreat: a file cannot be brought back with what is at hand.
    """
    needs = [assess(parity, sound, damaged) for parity in _sets(copy, sound, damaged, opened)]
    lacks = [
        Lack(
            {
                need.parity.name_of(each.member.path): need.parity.blocks(each.member) - len(each.good)
                for each in need.lost
            },
            len(need.parity.recovery),
        )
        for need in needs
    ]
    decision = decide_order(lacks, lost)
    chosen = [needs[index] for index in decision.order]
    if not decision.unmended:
        return tuple(chosen)
    unmended = set(decision.unmended)
    short = [need for need, lack in zip(needs, lacks, strict=True) if unmended & lack.lost.keys()]
    uncovered = unmended - {path for lack in lacks for path in lack.lost}
    hint = _hint(layout, absent, {path for lack in lacks for path in lack.lost} | uncovered, opened)
    if uncovered:
        raise _uncovered(copy, uncovered, hint, opened.volumes[0].folder)
    # Blocks may lie where they do not belong, as after an insertion: par2 looks for them, we do not.
    shifted = [need for need in short if need.may_be_shifted]
    if len(shifted) < len(short):
        raise too_great(short, hint)
    return (*shifted, *chosen)


def _sets(
    copy: SoundCopy, sound: Mapping[str, Path], damaged: Mapping[str, Sequence[Path]], opened: Opened
) -> Iterator[RecoverySet]:
    """Every set that can be used: the bundle's own, then a recovery volume's."""
    for path in copy.files:
        number = parity_number(path)
        if number is None:
            continue
        for source in [sound[path]] if path in sound else damaged.get(path, ()):
            found = read_set(
                f"set {number}",
                source,
                sound=path in sound,
                files=copy.files,
                name_of=str,
            )
            if found and (found.sound or is_of_this_bundle(found, sound)):
                yield found
    for volume in opened.recovery:
        for number, source in enumerate(stripe_files(volume.folder)):
            found = read_set(
                f"stripe {number} of the recovery volume",
                source,
                sound=False,
                files=copy.files,
                name_of=bundle_path,
            )
            if found and is_of_this_bundle(found, sound):
                yield found


def _hint(layout: Layout | None, absent: Sequence[int], lost: Collection[str], opened: Opened) -> str:
    """What would help, of all that may exist somewhere."""
    if layout and absent:
        helping = sorted(set(layout.volumes_of(lost)) & set(absent)) or list(absent)
        return f"name {listed_numbers(helping, len(layout))} too: what lies there is counted as lost now"
    remedies = ["another copy of what is damaged (every sound block in it helps, whatever else is wrong)"]
    if layout and len(layout) > 1 and not opened.recovery:
        remedies.append("the recovery volume, if `appliance media parity` made one")
    source = "write the volume again from the bundle" if layout else "copy it again from its source"
    return f"name {', or '.join(remedies)}; else {source}"


def _uncovered(copy: SoundCopy, paths: Collection[str], hint: str, folder: Path) -> DamageTooGreat:
    shown = ", ".join(sorted(paths)[:_NAMES_SHOWN]) + (" …" if len(paths) > _NAMES_SHOWN else "")
    documents = sorted(path for path in paths if path.startswith(f"{TRUST_FOLDER}/"))
    if documents:
        hint = obtain(documents[0], folder)
    if len(documents) == len(paths):
        found = "every copy damaged or lost, and no parity covers them"
    elif not any(parity_number(path) is not None for path in copy.files):
        found = "the bundle was built without parity"
    elif all(parity_number(path) is not None for path in paths):
        found = "parity itself is damaged, and nothing covers it"
    else:
        found = "no usable parity for them is at hand"
    return DamageTooGreat(
        f"{counted(len(paths), 'file')} cannot be mended with what was named: {shown}; nothing was changed",
        found=found,
        wanted="sound parity, or another copy of these files",
        hint=hint,
    )
