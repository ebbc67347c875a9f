"""A patch as a bundle: what travels whole under its own path, and the component that says how."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.bundle.draft import Leads
from appliance.bundle.manifest import PATCH
from appliance.bundle.patch.recipe import NAME
from appliance.bundle.paths import PAYLOAD_FOLDER, TRUST_FOLDER
from appliance.bundle.reader import newest_root, read_listed
from appliance.bundle.writer import write_bundle
from appliance.definition.lock import Artefact, Lock, LockedComponent
from appliance.definition.names import Inference, Target
from appliance.errors import PatchUnfit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from appliance.bundle.manifest import PayloadFile
    from appliance.bundle.patch.holdings import Holdings, OpenBundle
    from appliance.bundle.writer import Companion
    from appliance.progress import Progress

#: What an origin says of a model's signature belongs to the whole model, and is checked in the bundle.
_OF_THE_WHOLE: Final = frozenset({"signature", "signed_by", "key", "authority", "left_out"})


class _Sources:
    """Where the files lie that a patch carries, as ``write_bundle`` asks for them."""

    def __init__(self) -> None:
        self.places: dict[str, Path] = {}

    def path(self, sha256: str) -> Path:
        return self.places[sha256]

    def place(self, sha256: str) -> str:
        return str(self.places[sha256])

    def known(self, sha256: str) -> bytes | None:
        return None

    def keep_known(self, sha256: str, data: bytes) -> None: ...


def write_patch(
    out: Path,
    holdings: Holdings,
    target: OpenBundle,
    taken: Collection[str],
    work: Path,
    *,
    progress: Progress,
    companions: Sequence[Companion] = (),
) -> None:
    """Write the bundle.

    Args:
        out: a new folder.
        holdings: the base.
        target: what it leads to.
        taken: paths of its files that travel whole.
        work: holds ``recipe``, and ``blocks`` that may be empty.
        progress: as of ``write_bundle``.
        companions: likewise.

    Raises:
        PatchUnfit: the bundle has a component of the name that a patch needs.
        DigestMismatch: a root or revocation of the bundle was changed.
        and what ``write_bundle`` raises.
    """
    manifest = target.manifest
    if NAME in manifest.components:
        raise PatchUnfit(
            f"the bundle has a component named {NAME}, and so has every patch",
            found=f"a component of the kind {manifest.components[NAME].kind}",
            wanted="another name",
            hint="rename it in the definition, lock and build again",
        )
    sources = _Sources()
    components = {NAME: _component(PATCH, _own(work, target, sources))}
    for name, component in manifest.components.items():
        carried = [file for file in component.files if file.path in taken]
        for file in carried:
            sources.places[file.sha256] = _place(target, file.path)
        if carried:
            components[name] = _component(component.kind, (_artefact(name, file) for file in carried))
    # A lock that nobody wrote: nothing is fetched by it, and its digest is not in the manifest.
    values: dict[str, Any] = {
        "format": 1,
        **{key: getattr(manifest, key) for key in ("product", "version", "sequence", "created")},
        "target": Target(**{key: getattr(manifest.target, key) for key in Target.model_fields}),
        "inference": Inference(**{key: getattr(manifest.inference, key) for key in Inference.model_fields}),
        "components": components,
    }
    lock = Lock.model_construct(**values)
    root, documents = _trust(target)
    write_bundle(
        out,
        lock,
        sources,
        root=root,
        documents=documents,
        progress=progress,
        companions=companions,
        patch=Leads(holdings.base, target.digest, manifest.expires, manifest.hardware),
    )


def _own(work: Path, target: OpenBundle, sources: _Sources) -> Iterator[Artefact]:
    """Blocks and recipe, as artefacts."""
    for path in sorted(work.iterdir()):
        if not (size := path.stat().st_size):
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        sources.places[digest] = path
        values: dict[str, Any] = {
            "path": path.name,
            "name": f"{target.manifest.product} {path.name}",
            "version": target.manifest.version,
            "size": size,
            "sha256": digest,
            "licence": "as of the files that it makes",
            "origin": {"kind": PATCH},
        }
        yield Artefact.model_construct(**values)


def _artefact(component: str, file: PayloadFile) -> Artefact:
    origin = {key: value for key, value in file.origin.items() if key not in _OF_THE_WHOLE}
    values: dict[str, Any] = {
        **{key: getattr(file, key) for key in ("name", "version", "size", "sha256", "licence")},
        "path": file.path.removeprefix(f"{PAYLOAD_FOLDER}/{component}/"),
        "origin": origin,
    }
    return Artefact.model_construct(**values)


def _component(kind: str, artefacts: Iterable[Artefact]) -> LockedComponent:
    values: dict[str, Any] = {"kind": kind, "artefacts": tuple(artefacts)}
    return LockedComponent.model_construct(**values)


def _place(target: OpenBundle, path: str) -> Path:
    """Where a file lies; it is hashed again as it is copied."""
    return next((place for folder in target.tree.folders if (place := folder / path).is_file()), Path(path))


def _trust(target: OpenBundle) -> tuple[bytes | None, dict[str, bytes]]:
    """The root that the bundle is for, and what lies with it, as the bundle's list has them.

    Raises:
        DigestMismatch: one of them was changed since the bundle was made.
    """
    listed, lists = target.manifest.files, target.contents.files.lists
    newest = newest_root(listed)
    documents = {
        path: read_listed(target.tree, lists, path, limit=listed[path].size)
        for path in listed
        if path.startswith(f"{TRUST_FOLDER}/") and path != newest and "SUMS" not in path
    }
    return target.contents.root, documents
