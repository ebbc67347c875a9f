"""What a reviewer counts: not files but wheels, .debs, models, images, sets of plain files.

A bundle of 200,000 files may be forty packages.  Files belong together by their origin:

- a wheel, a .deb, this program's own wheel: each file is a package;
- a model repository at one revision, an image of one digest: all its files are one package;
- what else lies in a component: its plain files are one package, its generated files another.

The name follows SPDX, where a model or a set of data is a package too; "component" is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.licences import normalised
from appliance.bundle.paths import PAYLOAD_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.bundle.manifest import Component, Manifest, PayloadFile

#: Origins whose every file is a package of its own.
_SINGLE: Final = frozenset({"debian", "python", "toolkit"})
#: Origins whose files are one package for each of these names together.
_REPOSITORIES: Final = {"huggingface": ("repository", "revision"), "oci": ("repository", "image")}


@dataclass(frozen=True, slots=True)
class Package:
    """One package of a component.

    ``reference`` is unique within the bundle and does not change with the bytes of other packages.
    ``name`` and ``version`` are the origin's own; ``version`` is empty for sets of files, which have
    none.  ``kind`` is the origin's, ``origin`` what the origins of all its files have in common.
    ``files`` are sorted by path.  ``is_model``: it holds the weights that are served, or is a model
    repository.
    """

    reference: str
    component: str
    kind: str
    name: str
    version: str
    origin: Mapping[str, str]
    files: tuple[PayloadFile, ...]
    is_model: bool = False

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def licences(self) -> tuple[str, ...]:
        """The distinct licences of its files, as stated, sorted."""
        return tuple(sorted({file.licence for file in self.files}))

    @property
    def licence_names(self) -> tuple[str, ...]:
        """The same in one spelling for each licence, sorted (``appliance.bundle.licences``)."""
        return tuple(sorted(set(map(normalised, self.licences))))

    @property
    def sha256(self) -> str | None:
        """Its digest (hex), if it is one file."""
        return self.files[0].sha256 if len(self.files) == 1 else None


def packages(manifest: Manifest) -> Iterator[Package]:
    """Every payload file of the bundle in exactly one package; by component, then by reference."""
    for name, component in manifest.components.items():
        served = f"{PAYLOAD_FOLDER}/{name}/{manifest.inference.file}"
        yield from _of_component(name, component, served if name == manifest.inference.model else None)


def _of_component(component: str, contents: Component, served: str | None) -> Iterator[Package]:
    groups: dict[str, list[PayloadFile]] = {}
    for file in contents.files:
        groups.setdefault(_reference(component, file), []).append(file)
    for reference, files in sorted(groups.items()):
        kind = files[0].origin["kind"]
        name, version = _named(component, kind, files)
        yield Package(
            reference,
            component,
            kind,
            name,
            version,
            _shared(files),
            tuple(files),
            is_model=kind == "huggingface" or any(file.path == served for file in files),
        )


def _reference(component: str, file: PayloadFile) -> str:
    kind = file.origin["kind"]
    if kind in _SINGLE:
        return file.path
    names = [file.origin.get(key, "") for key in _REPOSITORIES.get(kind, ())]
    return ":".join([f"{PAYLOAD_FOLDER}/{component}", kind, *names])


def _shared(files: list[PayloadFile]) -> Mapping[str, str]:
    shared = files[0].origin
    for file in files:
        if file.origin != shared:
            shared = {key: value for key, value in shared.items() if file.origin.get(key) == value}
    return shared


def _named(component: str, kind: str, files: list[PayloadFile]) -> tuple[str, str]:
    """Name and version of the package that ``files`` are."""
    first = files[0]
    if kind in _REPOSITORIES and all(key in first.origin for key in _REPOSITORIES[kind]):
        repository, revision = _REPOSITORIES[kind]
        return first.origin[repository], first.origin[revision]
    if len(files) == 1:
        return first.name, first.version
    return (f"{component}-generated" if kind == "generated" else component), ""
