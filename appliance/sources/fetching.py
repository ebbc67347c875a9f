"""Bringing artefacts into the store: exactly those named, each checked, all or an error."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

from appliance.definition.lock_records import brief
from appliance.errors import SpaceExhausted
from appliance.sources.kinds import source
from appliance.sources.together import together

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appliance.definition.lock import Artefact, Lock
    from appliance.sources.kinds import Source
    from appliance.sources.station import Station


def fetch_locked(lock: Lock, station: Station) -> None:
    """Bring all artefacts of a lock into the store.

    Raises:
        DigestMismatch: a source has other bytes than were locked; they are not kept.
        PackageMissing: a source no longer has what was locked.
        SourceUnreachable: a source does not answer; what came is kept.
        SpaceExhausted: the store's disk is, or would become, full.
        LockInvalid: this program cannot make a generated file as it was locked.
    """
    absent = _absent([component.artefacts for component in lock.components.values()], station)
    if absent:  # sources are imported only for what they have to bring
        components = lock.components.values()
        sources = [(source(each.kind, lock.target, station), each.artefacts) for each in components]
        _fetch(sources, absent, station)


def bring(components: Iterable[tuple[Source, Sequence[Artefact]]], station: Station) -> None:
    """Fetch what the store lacks of each component, all components at the same time.

    The caller holds ``Store.in_use``: what is in the store stays there.
    """
    components = list(components)
    absent = _absent([artefacts for _, artefacts in components], station)
    if absent:
        _fetch(components, absent, station)


def _absent(components: Sequence[Sequence[Artefact]], station: Station) -> list[Artefact]:
    """What the store lacks, each digest once; the rest is remembered as needed now."""
    absent = {}
    needed = station.store.needed
    for artefacts in components:
        lacking = [n for n, (_, size, sha256) in enumerate(brief(artefacts)) if not needed(sha256, size)]
        absent.update({artefacts[number].sha256: artefacts[number] for number in lacking})
    total = sum(map(len, components))
    station.progress.note(f"{total - len(absent)} of {total} artefacts are in the store")
    return list(absent.values())


def _fetch(
    components: Sequence[tuple[Source, Sequence[Artefact]]], absent: Sequence[Artefact], station: Station
) -> None:
    """Bring ``absent``: all components at the same time, but those of a kind that takes turns."""
    _check_room(absent, station)
    station.progress.begin("fetch", len(absent), sum(artefact.size for artefact in absent))
    try:
        tasks = [partial(entry.fetch, artefacts) for entry, artefacts in components if not entry.in_turn]
        queue = [(entry, artefacts) for entry, artefacts in components if entry.in_turn]
        together([*tasks, partial(_in_turn, queue)], len(tasks) + 1, station.stop)
    finally:
        station.progress.end()


def _in_turn(components: Sequence[tuple[Source, Sequence[Artefact]]]) -> None:
    for entry, artefacts in components:
        entry.fetch(artefacts)


def _check_room(absent: Sequence[Artefact], station: Station) -> None:
    """Refuse to begin what cannot end: the files must fit the store's disk."""
    need = sum(artefact.size - station.store.fetched(artefact.sha256) for artefact in absent)
    free = shutil.disk_usage(station.store.folder).free
    if free < need:
        raise SpaceExhausted(
            f"the artefacts do not fit the disk of the content store {station.store.folder}",
            found=f"{free:,} bytes free",
            wanted=f"{need:,} bytes",
            hint="free some space, or name another folder with --store",
        )
