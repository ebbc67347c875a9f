"""The preflight checks of what is served: an engine that the roles can run, and a model that it can serve.

The manifest alone is judged: a bundle that another version of this program made may bring what the roles
of this one cannot run, and ``apply`` is too late to find that out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.definition.engines import engine_of, known_engines, missing_files, unservable
from appliance.node.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.bundle.manifest import Manifest
    from appliance.definition.engines import Engine


def served_by(manifest: Manifest) -> Engine | None:
    """The engine that a bundle brings; None where this version knows none of that, or several."""
    return engine_of(_projects(manifest), files_of(manifest, manifest.inference.engine))


def leaves_gpus_idle(manifest: Manifest) -> str | None:
    """What of a bundle's engine computes on the processor alone; None where it computes on GPUs."""
    engine = served_by(manifest)
    found = sorted(engine.on_processors & _projects(manifest)) if engine else []
    return found[0] if found else None


def files_of(manifest: Manifest, name: str) -> dict[str, str]:
    """SHA-256 of each plain file of a component, by its path there; none of another kind."""
    component = manifest.components.get(name)
    if component is None or component.kind != "files":
        return {}
    return {file.path.removeprefix(f"payload/{name}/"): file.sha256 for file in component.files}


def serving_checks(manifest: Manifest) -> Iterator[Check]:
    """Whether the role ``inference_server`` can serve what the bundle brings."""
    served, engine = manifest.inference, served_by(manifest)
    names = sorted({*_projects(manifest), *files_of(manifest, served.engine)})
    brought = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")  # noqa: PLR2004 - shown
    yield Check(
        "engine",
        engine is not None,
        engine.name
        if engine
        else f"component {served.engine} brings {brought or 'neither wheels nor files'}",
        f"one engine that this version can run: {known_engines()}",
        "use the version of this program that the bundle was made with, or name another engine in it",
    )
    if engine is None:
        return
    prefix = f"payload/{served.model}/"
    paths = [file.path.removeprefix(prefix) for file in manifest.components[served.model].files]
    why = unservable(
        engine,
        served.file,
        parallel=manifest.hardware.tensor_parallel if manifest.hardware else 1,
        precision=served.precision,
        eager=served.eager,
        task=served.task,
        name=served.name,
        projects=_projects(manifest),
    )
    missing = missing_files(engine, served.file, paths) if not why else []
    yield Check(
        "model-served",
        not why and not missing,
        why or (f"without {', '.join(missing)}" if missing else served.file),
        f"a model that {engine.name} can serve as asked, with all that it reads",
        "lock the bundle's definition again with this version: it says what is wrong, and where",
    )


def _projects(manifest: Manifest) -> set[str]:
    component = manifest.components.get(manifest.inference.engine)
    if component is None or component.kind != "python":
        return set()
    return {file.origin.get("project", file.name) for file in component.files}
