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
    from collections.abc import Mapping, Sequence

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
    bring(
        {
            name: (source(component.kind, lock.target, station), component.artefacts)
            for name, component in lock.components.items()
        },
        station,
    )


def bring(components: Mapping[str, tuple[Source, Sequence[Artefact]]], station: Station) -> None:
    """Fetch what the store lacks of each component, all components at the same time.

    The caller holds ``Store.in_use``: what is in the store stays there.
    """
    absent = {
        artefact.sha256: artefact
        for component_source, artefacts in components.values()
        for artefact in component_source.missing(artefacts)
    }
    total = sum(len(artefacts) for _, artefacts in components.values())
    station.progress.note(f"{total - len(absent)} of {total} artefacts are in the store")
    for _, artefacts in components.values():
        for _, _, sha256 in brief(artefacts):
            if sha256 not in absent:
                station.store.used(sha256)
    if not absent:
        return
    _check_room(list(absent.values()), station)
    station.progress.begin("fetch", len(absent), sum(artefact.size for artefact in absent.values()))
    try:
        tasks = [partial(entry.fetch, artefacts) for entry, artefacts in components.values()]
        together(tasks, len(tasks), station.stop)
    finally:
        station.progress.end()


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
