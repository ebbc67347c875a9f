"""``appliance lock``: pin every artefact of a definition."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import AsJson, Mirror, StoreFolder  # noqa: TC001 - Typer reads it at run time


def lock(
    definition: Annotated[Path, typer.Argument(metavar="DEFINITION", help="The bundle definition (YAML).")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write; beside the definition.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep", metavar="LOCK", help="Pin what this lock does; only the numbers may have changed."
        ),
    ] = None,
    store: StoreFolder = None,
    mirror: Mirror = None,
    as_json: AsJson = False,
) -> None:
    """Pin every artefact: name, version, size, digest, licence, origin.

    Wheels are looked for where this station's pip looks, Debian packages
    where its apt does, models and images where its settings say. What is
    found is kept in the content store, so that the build needs no network.
    The lock holds no address.

    With --keep nothing is looked for: a definition that was given another
    sequence or version, and no other change, keeps pins and date of the lock
    it had before. So a bundle of other keys alone comes about.

    \b
    Examples:
      appliance lock bundles/demo.yaml
      appliance lock site.yaml --out site-2.lock.json
      appliance lock site.yaml --keep site.lock.json       # its sequence was raised
      SOURCE_DATE_EPOCH=1767225600 appliance lock bundles/demo.yaml

    \b
    Exit codes:
      3  the definition is invalid, or names what does not exist; or more than
         its numbers changed (--keep)
      4  a digest, the archive's signature or a model's does not verify, or a
         model is not what its description says
      5  the disk is full, or a tool is missing
      6  a source does not answer, or denies access
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    import os

    from appliance.bundle.media.sizes import size_text
    from appliance.bundle.wording import counted
    from appliance.planning.locked_model import check_locked_model
    from appliance.sources.building import renumbered_lock
    from appliance.sources.definition_files import default_lock_path, open_definition
    from appliance.sources.locking import lock_definition, time_of_lock, write_lock
    from appliance.sources.served import serving_engine
    from appliance.sources.station import open_station

    if keep is not None:
        locked = renumbered_lock(definition, keep)
    else:
        read = open_definition(definition)
        shown = progress()
        station = open_station(definition, store=store, mirror=mirror, progress=shown)
        locked = lock_definition(read, station, created=time_of_lock(os.environ))
        artefacts = {name: component.artefacts for name, component in locked.components.items()}
        if serving_engine(read, artefacts) is not None:  # what another one reads nobody here knows
            model = artefacts[read.definition.inference.model]
            if not_compared := check_locked_model(read, model, station.store):
                shown.note(not_compared)
    path = out or default_lock_path(definition)
    write_lock(path, locked)

    counts = {name: len(component.artefacts) for name, component in locked.components.items()}
    lines = [f"{name}: {counted(count, 'artefact')}" for name, count in counts.items()]
    lines.append(f"{path}: {counted(sum(counts.values()), 'artefact')}, {size_text(locked.size)}")
    values = {"lock": str(path), "size": locked.size, "artefacts": counts, "definition": locked.definition}
    print_result("\n".join(lines), values, as_json=as_json)
