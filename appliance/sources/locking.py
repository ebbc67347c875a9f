"""From a definition to a lock: everything resolved, fetched once, and described."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from appliance.definition.components import Debian
from appliance.definition.lock import TIME_FORMAT, Lock, LockedComponent, lock_text
from appliance.errors import SettingsInvalid, Usage
from appliance.sources.fetching import bring
from appliance.sources.kinds import source
from appliance.sources.makers import check_signatures, with_facts
from appliance.sources.served import check_served, check_shards, check_task, oldest_driver
from appliance.sources.store import full_disk
from appliance.sources.together import together
from appliance.sources.version_rules import check_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from appliance.definition.bundle_definition import ReadDefinition
    from appliance.definition.components import Component
    from appliance.definition.document import Loc
    from appliance.definition.lock import Artefact
    from appliance.errors import Location
    from appliance.sources.station import Station


def time_of_lock(environment: Mapping[str, str]) -> str:
    """Now, or SOURCE_DATE_EPOCH (reproducible-builds.org), as RFC 3339 in UTC, to the second.

    Raises:
        SettingsInvalid: the variable is no number of seconds.
    """
    epoch = environment.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return datetime.now(UTC).strftime(TIME_FORMAT)
    try:
        return datetime.fromtimestamp(int(epoch), UTC).strftime(TIME_FORMAT)
    except (ValueError, OverflowError, OSError) as fault:
        raise SettingsInvalid(
            "SOURCE_DATE_EPOCH is not a time", found=epoch, wanted="seconds since 1970"
        ) from fault


def write_lock(path: Path, lock: Lock) -> None:
    """Write the lock's file, whole or not at all; an older one is replaced.

    Raises:
        Usage: there is no such folder.
        SpaceExhausted: its disk is full.
    """
    if not path.parent.is_dir():
        raise Usage(f"{path.parent} is not a folder", wanted="an existing folder to write the lock into")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with full_disk(path.parent):
        try:
            draft.write_text(lock_text(lock), encoding="utf-8")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def lock_definition(read: ReadDefinition, station: Station, *, created: str) -> Lock:
    """Pin every artefact of a definition.

    The artefacts are fetched too: a lock names only what was really had, with the licences the files
    themselves state, and the build that follows needs no network.

    Args:
        read: the definition.
        station: where to ask, and where to keep what comes.
        created: RFC 3339 time in UTC, the only time that goes into the bundle.

    Raises:
        DefinitionInvalid, PackageMissing: a component cannot be had as it is written.
        EngineUnfit, ModelIncomplete: what is to be served could not be.
        VersionsDiffer: parts of a driver that must be of one version are not.
        UpstreamSignatureInvalid, KeyRefused: a model's signature by its makers does not hold.
        SourceUnreachable, ArchiveUntrusted, DigestMismatch, SpaceExhausted, SettingsInvalid,
        ToolMissing: see the sources.
    """
    with station.store.in_use():
        components = _locked_components(read, station)
    definition = read.definition
    return Lock(
        format=1,
        definition=read.digest,
        product=definition.product,
        version=definition.version,
        sequence=definition.sequence,
        created=created,
        target=definition.target,
        inference=definition.inference,
        components=components,
        hardware=definition.hardware,
        parity=definition.parity,
        valid_days=definition.valid_days,
    )


def _locked_components(read: ReadDefinition, station: Station) -> dict[str, LockedComponent]:
    """Every component resolved, fetched and described."""
    definition = read.definition
    sources = {
        name: source(component.kind, definition.target, station)
        for name, component in definition.components.items()
    }

    resolved: dict[str, list[Artefact]] = {}

    def resolve(name: str) -> None:
        resolved[name] = sources[name].resolve(definition.components[name], _where(read, name))
        station.progress.item(name)

    station.progress.begin("resolve", len(sources))
    together([partial(resolve, name) for name in sources], len(sources), station.stop)
    station.progress.end()
    check_versions(
        {name: component.kind for name, component in definition.components.items()},
        resolved,
        read.document.where_key(("components",)),
        oldest_driver(read, resolved),
    )
    check_served(read, resolved, station.progress)
    facts = check_signatures(
        {name: (definition.components[name], sources[name], resolved[name]) for name in sources},
        station,
        lambda name: _where(read, name),
    )

    bring([(sources[name], resolved[name]) for name in sources], station)
    check_shards(read, resolved[read.definition.inference.model], station.store)
    check_task(read, resolved[read.definition.inference.model], station.store)

    return {
        name: _locked(
            definition.components[name],
            with_facts(sources[name].describe(resolved[name]), facts.get(name)),
        )
        for name in sources
    }


def _locked(component: Component, artefacts: Sequence[Artefact]) -> LockedComponent:
    packages = component.packages if isinstance(component, Debian) else ()
    return LockedComponent(kind=component.kind, packages=packages, artefacts=tuple(artefacts))


def _where(read: ReadDefinition, name: str) -> Callable[[Loc], Location]:
    return lambda loc: read.document.where(("components", name, *loc))
