"""Making a recovery volume: with it, any one volume that is lost can be made again.

It is made from the written volumes and holds stripes (``appliance.bundle.parity.stripes``) and second
copies of what nothing can compute.  Nobody signs it: what it gives back is judged by the signed list.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import FOLDER_MODE, free_bytes, sync_folder, write_file, writing_under
from appliance.bundle.media.label import RECOVERY_LABEL_PATH, SPARE_FOLDER, volume_folder_name
from appliance.bundle.media.layout import is_shared_out, listed_numbers
from appliance.bundle.parity.copies import find_sound_copy
from appliance.bundle.parity.creating import write_canonical
from appliance.bundle.parity.mending import clear
from appliance.bundle.parity.places import locked, name_places, open_places, wanted_at
from appliance.bundle.parity.program import Share, create_parity, find_par2
from appliance.bundle.parity.sets import Member
from appliance.bundle.parity.stripes import Stripe, plan_stripes
from appliance.bundle.parity.survey import SOUND, survey
from appliance.bundle.paths import MANIFEST_PATH, TRUST_FOLDER
from appliance.bundle.presence import telling_pulled
from appliance.counting import counted
from appliance.errors import DigestMismatch, SpaceExhausted, Usage, VolumeMissing
from appliance.trust.canonical import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.bundle.media.layout import Layout
    from appliance.bundle.parity.copies import SoundCopy
    from appliance.bundle.parity.survey import Place
    from appliance.progress import Progress
    from appliance.trust.documents import SignedDocument

_NAMES_SHOWN: Final = 5


@dataclass(frozen=True)
class RecoveryVolume:
    """A recovery volume that was made; ``size`` in bytes, ``volumes`` counts those it covers."""

    folder: Path
    digest: str
    volumes: int
    stripes: int
    size: int


def make_recovery_volume(
    given: Sequence[Path],
    out: Path,
    *,
    root: bytes | None,
    work: Path,
    progress: Progress,
    role: str = "release",
    revocations: Sequence[SignedDocument] = (),
) -> RecoveryVolume:
    """Make a recovery volume of all volumes of a bundle, in a new folder under ``out``.

    Args:
        given: every volume, each once.
        out: the medium it is written to; or any folder.
        root: the bytes of the root that is trusted; None to believe the signatures about themselves.
        work: for links to the volumes, which a medium may not be able to hold.
        progress: told of the work.
        role: the role whose holders must have signed.
        revocations: brought by another way than the bundle; they count where there is a root.

    Raises:
        VolumeMissing: not all volumes were named.
        DigestMismatch: a file on them is damaged or missing; recovery of it would be worth nothing.
        MediumFailed: a volume was pulled.
        SpaceExhausted: ``out`` is too small.
        Usage: these are no volumes, or the recovery volume exists already.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(open_places(given))
        stack.enter_context(telling_pulled(lambda: [volume.tree for volume in opened.every]))
        copy = find_sound_copy(opened.volumes, root, role, revocations)
        places, layout = name_places(opened, copy.digest, list(copy.files))
        if layout is None or any(place.number is None for place in places):
            raise Usage(
                "these are not the labelled volumes of a bundle",
                found=", ".join(place.volume.name for place in places),
                wanted="every volume as `appliance media write` made it",
                hint="a bundle in one folder needs no recovery volume: copy it",
            )
        _check_numbers(places, layout)
        wanted = [each for place in places for each in wanted_at(place, copy, layout)]
        found = survey(wanted, progress)
        if wrong := [each.path for each, state in found.states.items() if state != SOUND]:
            raise DigestMismatch(
                f"{counted(len(wrong), 'file')} damaged or missing on these volumes",
                found=", ".join(sorted(wrong)[:_NAMES_SHOWN]),
                hint="repair the volumes first: appliance media repair",
            )
        divided = [path for path in copy.files if is_shared_out(path) and copy.files[path].size]
        shares = {
            number: [Member(path, copy.files[path].size) for path in paths]
            for number, paths in layout.volumes_of(divided).items()
        }
        stripes = plan_stripes(shares)
        name = volume_folder_name(copy.manifest.product, copy.manifest.version, copy.digest)
        folder = out / f"{name}.recovery"
        _check_target(folder, stripes)
        own = work / f"appliance-recovery-{copy.digest[:12]}"
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.enter_context(locked(own))
        try:
            clear(own)
            for place in places:
                (own / str(place.number)).symlink_to(place.folder.resolve())
            with writing_under(out):
                size = _write(folder, stripes, copy, links=own, volumes=len(layout), progress=progress)
        finally:
            clear(own)
            own.rmdir()
    return RecoveryVolume(folder, copy.digest, len(layout), len(stripes), size)


def _check_numbers(places: Sequence[Place], layout: Layout) -> None:
    numbers = [place.number for place in places if place.number is not None]
    if len(set(numbers)) != len(numbers):
        raise Usage("a volume is named twice", found=", ".join(place.volume.name for place in places))
    if missing := set(range(1, len(layout) + 1)) - set(numbers):
        raise VolumeMissing(
            f"{listed_numbers(missing, len(layout))} is not here",
            found=", ".join(place.volume.name for place in places),
            wanted=f"all {len(layout)} volumes: each recovery block is made of all of them",
            hint="name every volume; they may lie on one disk while this is done",
        )


def _check_target(folder: Path, stripes: Sequence[Stripe]) -> None:
    if folder.exists() or folder.is_symlink():
        raise Usage(f"{folder} exists already", wanted="a new folder", hint="remove it, or name another")
    wanted = sum(each.parity.parity_size for each in stripes)
    wanted += max((each.parity.parity_size for each in stripes), default=0)
    if (free := free_bytes(folder.parent)) < wanted:
        raise SpaceExhausted(
            f"too little room under {folder.parent} for a recovery volume",
            found=f"{free:,} bytes free",
            wanted=f"{wanted:,} bytes",
            hint="name another medium with --out",
        )


def _write(
    folder: Path,
    stripes: Sequence[Stripe],
    copy: SoundCopy,
    *,
    links: Path,
    volumes: int,
    progress: Progress,
) -> int:
    """Write the folder beside its place, then rename it; returns its size in bytes."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    making = partial / "making"
    size = 0
    progress.begin("recovery", len(stripes), sum(each.parity.size for each in stripes))
    try:
        partial.mkdir(parents=True)
        for stripe in stripes:
            making.mkdir()
            told = Share(stripe.parity.size, progress)
            create_parity(find_par2(), links.resolve(), stripe.parity, making.resolve() / "set.par2", told)
            target = partial / stripe.file_name
            size += write_canonical(sorted(making.iterdir()), target, stripe.parity).size
            shutil.rmtree(making)
            progress.item(stripe.file_name)
        for path, data in {**copy.contents, **copy.unlisted}.items():
            if path == MANIFEST_PATH or path.startswith(f"{TRUST_FOLDER}/"):
                spare = partial / SPARE_FOLDER / path
                spare.parent.mkdir(parents=True, exist_ok=True)
                write_file(spare, data)
        write_file(partial / RECOVERY_LABEL_PATH, _label(copy, len(stripes), volumes))
        for inner in (partial, partial / SPARE_FOLDER, partial / SPARE_FOLDER / TRUST_FOLDER):
            inner.chmod(FOLDER_MODE)
            sync_folder(inner)
        partial.rename(folder)
        sync_folder(folder.parent)
    finally:
        progress.end()
        shutil.rmtree(partial, ignore_errors=True)
    return size


def _label(copy: SoundCopy, stripes: int, volumes: int) -> bytes:
    return canonical_bytes(
        {
            "format": 1,
            "bundle": copy.digest,
            "product": copy.manifest.product,
            "version": copy.manifest.version,
            "volumes": volumes,
            "stripes": stripes,
        }
    )
