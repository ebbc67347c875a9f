"""Whether what a definition wants served could be: asked when it is locked, before gigabytes are fetched.

The rules are ``appliance.definition.engines``.  Without this, a node would find out in ``apply``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.definition.engines import (
    engine_of,
    is_index,
    known_engines,
    missing_files,
    missing_shards,
    other_task,
    unservable,
)
from appliance.errors import DefinitionInvalid, EngineUnfit, ModelIncomplete

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.definition.bundle_definition import ReadDefinition
    from appliance.definition.engines import Engine
    from appliance.definition.lock import Artefact
    from appliance.progress import Progress
    from appliance.sources.store import Store

_NAMED: Final = 8  # files named in a message before "and others"


def check_served(
    read: ReadDefinition, resolved: Mapping[str, Sequence[Artefact]], progress: Progress
) -> None:
    """The engine can serve the file, with all that it reads beside it.

    An engine that is not known here is noted only: the program that installs may be a newer one.  Preflight
    is that program, and refuses it.

    Raises:
        DefinitionInvalid: the file is not in the component.
        EngineUnfit: the engine cannot serve this file as asked.
        ModelIncomplete: a description or a tokenizer is missing.
    """
    served, where = read.definition.inference, read.document.where
    held = [artefact.path for artefact in resolved[served.model]]
    if served.file not in held:
        raise DefinitionInvalid(
            f"inference.file is not in component {served.model}",
            found=served.file,
            wanted=f"one of: {_named(held)}",
            where=where(("inference", "file")),
        )
    engine = serving_engine(read, resolved)
    if engine is None:
        progress.note(
            f"component {served.engine} brings no engine that this version can run, or several "
            f"({known_engines()}): it will not install the bundle"
        )
        return
    hardware = read.definition.hardware
    why = unservable(
        engine,
        served.file,
        parallel=hardware.tensor_parallel if hardware else 1,
        precision=served.precision,
        eager=served.eager,
        task=served.task,
        name=served.name,
        projects=_projects(resolved[served.engine]),
    )
    if why:
        raise EngineUnfit(
            "the engine cannot serve this as asked",
            found=why,
            wanted="an engine, a file and settings that go together",
            hint="`appliance plan size` says what a model of which format can be served by",
            where=where(("inference", "file")),
        )
    if missing := missing_files(engine, served.file, held):
        raise _incomplete(read, missing, _named(held))


def oldest_driver(read: ReadDefinition, resolved: Mapping[str, Sequence[Artefact]]) -> int:
    """The oldest branch of the driver that will do for what serves on GPUs; 0 where nothing says it."""
    hardware, engine = read.definition.hardware, serving_engine(read, resolved)
    if hardware is None:
        return 0
    return max(hardware.driver or 0, engine.driver if engine else 0)


def serving_engine(read: ReadDefinition, resolved: Mapping[str, Sequence[Artefact]]) -> Engine | None:
    """The engine that is to serve; None where it is not known here."""
    component = read.definition.inference.engine
    brought = resolved[component]
    if read.definition.components[component].kind == "files":
        return engine_of((), [artefact.path for artefact in brought])
    return engine_of(_projects(brought))


def _projects(brought: Sequence[Artefact]) -> set[str]:
    return {artefact.origin.get("project", artefact.name) for artefact in brought}


def check_shards(read: ReadDefinition, model: Sequence[Artefact], store: Store) -> None:
    """Every file of weights that the served index names is in the component.

    Args:
        read: the definition.
        model: the model's artefacts, which are in the store.
        store: where they are.

    Raises:
        ModelIncomplete: one is not, or this is no index.
    """
    served = read.definition.inference
    if not is_index(served.file):
        return
    index = next(artefact for artefact in model if artefact.path == served.file)
    held = [artefact.path for artefact in model]
    try:
        missing = missing_shards(served.file, store.path(index.sha256).read_bytes(), held)
    except ValueError as fault:
        raise _incomplete(read, [f"an index of weights: {fault}"], served.file) from fault
    if missing:
        raise _incomplete(read, missing, _named(held))


def check_task(read: ReadDefinition, model: Sequence[Artefact], store: Store) -> None:
    """The model is for what the definition says that clients will ask of it.

    Args:
        read: the definition.
        model: the model's artefacts, which are in the store.
        store: where they are.

    Raises:
        EngineUnfit: its description says that it is for something else.
    """
    served = read.definition.inference
    folder = served.file.rpartition("/")[0]
    for artefact in model:
        if artefact.path != f"{folder}/config.json".lstrip("/"):
            continue
        why = other_task(store.path(artefact.sha256).read_bytes(), served.task)
        if why:
            raise EngineUnfit(
                "the model is not for what clients will ask of it",
                found=f"{why}; task: {served.task or 'left out, a chat'}",
                wanted="task: transcription for speech, and no such key for a chat",
                hint="the qualification asks the node what the definition says, and would find it broken",
                where=read.document.where(("inference", "task" if served.task else "model")),
            )


def _incomplete(read: ReadDefinition, missing: Sequence[str], found: str) -> ModelIncomplete:
    return ModelIncomplete(
        f"component {read.definition.inference.model} lacks what the engine reads",
        found=found,
        wanted=_named(missing),
        hint="name it under include: in the definition; from a repository without it no engine can serve",
        where=read.document.where(("inference", "model")),
    )


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
