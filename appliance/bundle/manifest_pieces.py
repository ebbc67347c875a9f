"""The bytes of a manifest, piece by piece: what ``manifest_bytes`` gives, however many files there are.

RFC 8785 spells what stands within a list independently of where it stands.  So the manifest is spelled
with a number in the place of each component's files, and their records are put there one by one.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import merge
from typing import TYPE_CHECKING, Final

from appliance.bundle.locked_files import LockedFiles
from appliance.bundle.manifest import file_values, manifest_values
from appliance.trust.canonical import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from appliance.bundle.manifest import Component, Manifest

#: Bytes of a piece, about.
_PIECE: Final = 1 << 20


def manifest_pieces(manifest: Manifest) -> Iterator[bytes]:
    """The manifest in its one spelling; a piece ends only before a file's record, or at the end."""
    components = {name: replace(component, files=()) for name, component in manifest.components.items()}
    values = manifest_values(replace(manifest, components=components))
    numbered = values["components"]
    if not isinstance(numbered, dict):
        raise TypeError("a manifest's components are an object")
    names = sorted(manifest.components)
    for number, name in enumerate(names):
        numbered[name]["files"] = [number]
    rest = canonical_bytes(values)
    piece = bytearray()
    for number, name in enumerate(names):
        # A list of one number is nothing else that a manifest has, and in no text are such quotes.
        before, mark, rest = rest.partition(b'"files":[%d]' % number)
        piece += before + mark[: mark.index(b"[") + 1]
        for count, record in enumerate(_records(manifest.components[name])):
            if count and len(piece) >= _PIECE:
                yield bytes(piece)
                piece.clear()
            piece += b"," * bool(count) + record
        piece += b"]"
    yield bytes(piece + rest)


def listed_parts(manifest: Manifest, *others: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Path and SHA-256 (hex) of every file of the list, sorted by path.

    Args:
        manifest: says what lies in the bundle.
        others: what it does not name: itself.
    """
    root = [*((path, file.sha256) for path, file in manifest.files.items()), *others]
    return merge(sorted(root), *map(_parts, manifest.components.values()))


def _parts(component: Component) -> Iterable[tuple[str, str]]:
    """What lies there of a component, sorted: slices, named otherwise than their file, change places."""
    files = component.files
    if not isinstance(files, LockedFiles):
        return sorted((path, part.sha256) for file in files for path, part in file.parts())
    return sorted(files.parts()) if files.are_cut() else files.parts()


def _records(component: Component) -> Iterator[bytes]:
    if isinstance(component.files, LockedFiles):
        return component.files.records()
    return (canonical_bytes(file_values(file)) for file in component.files)
