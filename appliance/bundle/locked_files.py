"""The files of a component as a lock names them, seen as files of a bundle: made when they are asked for.

A bundle of 200,000 files is built in the room of the lock's text: nothing here keeps an object for each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final, overload

from appliance.bundle.manifest import ListedFile, PayloadFile, file_values
from appliance.bundle.manifest_reader import MAX_SLICES
from appliance.bundle.paths import PAYLOAD_FOLDER, slice_path
from appliance.definition.lock_records import StoredArtefacts, brief, sizes
from appliance.trust.canonical import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from appliance.definition.lock import Artefact

    #: Path, size in bytes, SHA-256 (hex), name, version, licence, origin.
    _Values = tuple[str, int, str, str, str, str, Mapping[str, str]]

#: Stands for a digest that is not known yet.
UNKNOWN: Final = "0" * 64
_FIELDS: Final = itemgetter("path", "size", "sha256", "name", "version", "licence", "origin")
#: A record of a lock in which nothing is escaped.
_RECORD: Final = re.compile(
    r"""\s*\{
    \s+"licence":\s"([^"]+)",
    \s+"name":\s"([^"]+)",
    \s+"origin":\s(\{[^}]+\}),
    \s+"path":\s"([^"]+)",
    \s+"sha256":\s"([^"]+)",
    \s+"size":\s([0-9]+),
    \s+"version":\s"([^"]+)"
    \s+\}""",
    re.VERBOSE,
)
_INDENTS: Final = tuple(b"\n" + b" " * width for width in (12, 10, 8))
_MODE: Final = b',"mode":"0644","name":'


class LockedFiles(Sequence[PayloadFile]):
    """The files of one component.

    Args:
        component: its name.
        artefacts: what the lock says of it.
        slice_size: bytes; longer files are cut.
        slices: of the cut files, by path; where they are missing, their digests are zeros.
    """

    def __init__(
        self,
        component: str,
        artefacts: Sequence[Artefact],
        slice_size: int,
        slices: Mapping[str, tuple[ListedFile, ...]] | None = None,
    ) -> None:
        self._folder = f"{PAYLOAD_FOLDER}/{component}/"
        self._component = component
        self._artefacts = artefacts
        self._slice_size = slice_size
        self._slices = slices or {}

    def __len__(self) -> int:
        return len(self._artefacts)

    def __iter__(self) -> Iterator[PayloadFile]:
        # What many files have in common is kept once, for whoever keeps the files.
        origins: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        texts: dict[str, str] = {}
        for path, size, sha256, name, version, licence, origin in _values(self._artefacts):
            shared = texts.setdefault(version, version), texts.setdefault(licence, licence)
            same = origins.setdefault(tuple(origin.items()), origin)
            yield self._file((path, size, sha256, name, *shared, same))

    @overload
    def __getitem__(self, number: int) -> PayloadFile: ...
    @overload
    def __getitem__(self, number: slice) -> list[PayloadFile]: ...
    def __getitem__(self, number: int | slice) -> PayloadFile | list[PayloadFile]:
        if isinstance(number, slice):
            return [self._file(values) for values in _values(self._artefacts[number])]
        [values] = _values([self._artefacts[number]])
        return self._file(values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented
        return all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # like any sequence that is compared by its items

    def with_slices(self, slices: Mapping[str, tuple[ListedFile, ...]]) -> LockedFiles:
        """The same files, of which the cut ones have these slices."""
        return LockedFiles(self._component, self._artefacts, self._slice_size, slices)

    def brief(self, first: int = 0, last: int | None = None) -> Iterator[tuple[str, int, str]]:
        """Path in the bundle, size in bytes and SHA-256 (hex) of each, from one to before another.

        No file is made for it.
        """
        some = brief(self._artefacts, first, last)
        return ((self._folder + path, size, sha256) for path, size, sha256 in some)

    def sizes(self) -> Iterable[int]:
        """The size in bytes of each."""
        return sizes(self._artefacts)

    def are_cut(self) -> bool:
        """Whether any file is."""
        return any(size > self._slice_size for size in self.sizes())

    def parts(self) -> Iterator[tuple[str, str]]:
        """Path and SHA-256 (hex) of everything that lies in the bundle: files, or their slices."""
        for path, size, sha256 in self.brief():
            if size <= self._slice_size:
                yield path, sha256
            else:
                for number, part in enumerate(self._slices_of(path, size)):
                    yield slice_path(path, number), part.sha256

    def records(self) -> Iterator[bytes]:
        """Each file as the manifest's canonical JSON has it."""
        if isinstance(self._artefacts, StoredArtefacts):
            stored = zip(self.sizes(), self._artefacts.records(), strict=True)
            prefix = f',"path":"{self._folder}'.encode()
            for number, (size, record) in enumerate(stored):
                if size > self._slice_size or b"\\" in record:
                    yield canonical_bytes(file_values(self[number]))
                else:  # no text has a quote in it, so nothing but keys is followed by one and a colon
                    yield (
                        _unindented(record)
                        .replace(b'": ', b'":')
                        .replace(b',"name":', _MODE, 1)
                        .replace(b',"path":"', prefix, 1)
                    )
        else:
            for file in self:
                yield canonical_bytes(file_values(file))

    def _slices_of(self, path: str, size: int) -> tuple[ListedFile, ...]:
        if size <= self._slice_size:
            return ()
        if path in self._slices:
            return self._slices[path]
        rest = size % self._slice_size or self._slice_size
        # One slice too many is enough for the rules to refuse an absurd size.
        count = min(-(-size // self._slice_size), MAX_SLICES + 1)
        return (*[ListedFile(UNKNOWN, self._slice_size)] * (count - 1), ListedFile(UNKNOWN, rest))

    def _file(self, values: _Values) -> PayloadFile:
        """A file, of an artefact's values."""
        path = self._folder + values[0]
        return PayloadFile(path, *values[1:], slices=self._slices_of(path, values[1]))


def _values(artefacts: Sequence[Artefact]) -> Iterator[_Values]:
    """The values of artefacts, in the order in which a file of a bundle has them."""
    if isinstance(artefacts, StoredArtefacts):
        yield from _read(artefacts.records())
    else:
        for each in artefacts:
            origin = {str(key): value for key, value in each.origin.items()}
            yield each.path, each.size, each.sha256, each.name, each.version, each.licence, origin


def _read(records: Iterable[bytes]) -> Iterator[_Values]:
    """The values of records: most have nothing that wants a parser, and the origin of the one before."""
    text, origin = "", dict[str, str]()
    for record in records:
        if b"\\" not in record and (match := _RECORD.fullmatch(record.decode("utf-8"))):
            licence, name, found, path, sha256, size, version = match.groups()
            if found != text:
                text, origin = found, json.loads(found)
            yield path, int(size), sha256, name, version, licence, origin
        else:
            yield _FIELDS(json.loads(record))


def _unindented(record: bytes) -> bytes:
    """A record of a lock without its lines' ends and beginnings; no text in it has a line's end."""
    for indent in _INDENTS:
        record = record.replace(indent, b"")
    return record.lstrip()
