"""What a reviewer counts: not files but wheels, .debs, models, images, sets of plain files.

A bundle of 200,000 files may be forty packages.  Files belong together by their origin:

- a wheel, a .deb, this program's own wheel: each file is a package;
- a model repository at one revision, an image of one digest: all its files are one package;
- what else lies in a component: its plain files are one package, its generated files another.

The name follows SPDX, where a model or a set of data is a package too; "component" is taken.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, overload

from appliance.bundle.licences import normalised
from appliance.bundle.paths import PAYLOAD_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from hashlib import _Hash

    from appliance.bundle.manifest import Component, Manifest, PayloadFile

#: Origins whose every file is a package of its own.
_SINGLE: Final = frozenset({"debian", "python", "toolkit"})
#: Origins whose files are one package for each of these names together.
_REPOSITORIES: Final = {"huggingface": ("repository", "revision"), "oci": ("repository", "image")}


#: Files of one package that are kept; those of larger ones are read again whenever they are asked for.
_MOST_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class Package:
    """One package of a component.

    ``reference`` is unique within the bundle and does not change with the bytes of other packages.
    ``name`` and ``version`` are the origin's own; ``version`` is empty for sets of files, which have
    none.  ``kind`` is the origin's, ``origin`` what the origins of all its files have in common.
    ``files`` are sorted by path, ``size`` is in bytes; ``licences`` are the distinct ones of its files, as
    stated, sorted.  ``is_model``: it holds the weights that are served, or is a model repository.
    ``list_sha256`` is the digest (hex) of the lines that ``sha256sum`` prints, if it is several files.
    """

    reference: str
    component: str
    kind: str
    name: str
    version: str
    origin: Mapping[str, str]
    files: Sequence[PayloadFile]
    size: int
    licences: tuple[str, ...]
    is_model: bool = False
    list_sha256: str | None = None

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
    groups: dict[str, _Group] = {}
    for number, file in enumerate(contents.files):
        reference = _reference(component, file)
        if reference not in groups:
            groups[reference] = _Group(file)
        groups[reference].add(number, file, served=file.path == served)
    for reference, group in sorted(groups.items()):
        kind = group.first.origin["kind"]
        name, version = _named(component, kind, group)
        yield Package(
            reference,
            component,
            kind,
            name,
            version,
            group.origin,
            tuple(group.kept) if len(group) <= _MOST_KEPT else _Chosen(contents.files, group.numbers),
            group.size,
            tuple(sorted(group.licences)),
            is_model=kind == "huggingface" or group.is_served,
            list_sha256=group.lines.hexdigest() if group.lines else None,
        )


class _Group:
    """What is learnt of the files of one package while they pass by."""

    def __init__(self, first: PayloadFile) -> None:
        self.first = first
        self.numbers = array("I")
        self.kept: list[PayloadFile] = []
        self.origin = first.origin
        self.licences: set[str] = set()
        self.size = 0
        self.is_served = False
        self.lines: _Hash | None = None  # of a package of one file, nobody asks

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, number: int, file: PayloadFile, *, served: bool) -> None:
        """One more file, which of its component it is, and whether it is the one that is served."""
        self.is_served = self.is_served or served
        if self.numbers:
            if self.lines is None:
                self.lines = hashlib.sha256(_line(self.first))
            self.lines.update(_line(file))
        self.numbers.append(number)
        self.size += file.size
        self.licences.add(file.licence)
        if file.origin != self.origin:
            shared = self.origin.items()
            self.origin = {key: value for key, value in shared if file.origin.get(key) == value}
        if len(self) <= _MOST_KEPT:
            self.kept.append(file)
        else:
            self.kept.clear()


def _line(file: PayloadFile) -> bytes:
    return f"{file.sha256}  {file.path}\n".encode()


class _Chosen(Sequence["PayloadFile"]):
    """Some files of a component, by their numbers, ascending."""

    def __init__(self, files: Sequence[PayloadFile], numbers: array[int]) -> None:
        self._files = files
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[PayloadFile]:
        files, before = iter(self._files), -1
        for number in self._numbers:
            yield next(islice(files, number - before - 1, None))
            before = number

    @overload
    def __getitem__(self, number: int) -> PayloadFile: ...
    @overload
    def __getitem__(self, number: slice) -> list[PayloadFile]: ...
    def __getitem__(self, number: int | slice) -> PayloadFile | list[PayloadFile]:
        if isinstance(number, slice):
            return [self._files[each] for each in self._numbers[number]]
        return self._files[self._numbers[number]]


def _reference(component: str, file: PayloadFile) -> str:
    kind = file.origin["kind"]
    if kind in _SINGLE:
        return file.path
    names = [file.origin.get(key, "") for key in _REPOSITORIES.get(kind, ())]
    return ":".join([f"{PAYLOAD_FOLDER}/{component}", kind, *names])


def _named(component: str, kind: str, group: _Group) -> tuple[str, str]:
    """Name and version of the package that the files of ``group`` are."""
    first = group.first
    if kind in _REPOSITORIES and all(key in first.origin for key in _REPOSITORIES[kind]):
        repository, revision = _REPOSITORIES[kind]
        return first.origin[repository], first.origin[revision]
    if len(group) == 1:
        return first.name, first.version
    return (f"{component}-generated" if kind == "generated" else component), ""
