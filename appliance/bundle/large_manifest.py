"""Reading the manifest of a very large bundle, piece by piece beside the list that was checked already.

What ``manifest_reader`` does for a manifest as a whole is done here for one file record after another,
and with the same result: a manifest read here is one that ``manifest_reader`` accepts, and fits the list.
Where that does not show at once, nothing is returned, and ``manifest_reader`` is asked: to say which rule
is broken is its task alone.

Why that is right, rule by rule:

- *Canonical spelling.*  Each record is canonical, and so is the manifest with a number in the place of
  each component's records; RFC 8785 spells what stands within a list independently of where it stands.
- *Paths.*  The list's paths are well-formed, sorted, and do not collide; a record's path is compared with
  the list's next one.  Only a file that is cut has a path that is not listed: it is looked at apart.
- *Fields.*  A record is compared with a pattern made for the keys of an earlier record, which was read
  strictly: plain ASCII text, no escapes, whole numbers up to 15 digits.  One that does not fit is read
  strictly too.
"""

from __future__ import annotations

import json
import re
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from appliance.bundle.files_on_medium import FilesOnMedium, Run
from appliance.bundle.manifest_reader import MAX_BYTES, manifest_of, payload_file
from appliance.bundle.paths import MANIFEST_PATH, PAYLOAD_FOLDER
from appliance.errors import BundleMalformed
from appliance.trust.canonical import NotCanonicalError, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from appliance.bundle.listing import Listing
    from appliance.bundle.manifest import Manifest, PayloadFile

#: How every record but a component's first begins: ``licence`` is the first of its keys.
MARK: Final = b',{"licence":'
_FIRST: Final = b'"files":[{"licence":'
_OPENING: Final = len(b'"files":[')
_SLICE_ENDING: Final = b".slice-"
_TEXT: Final = r"[ !#-\[\]-~]{1,4096}"  # printable ASCII that JSON does not escape
_MOST_SHAPES: Final = 16  # kinds of origin in one bundle; more are read, but slowly
_UNKNOWN: Final = -1
_COMMA: Final = ord(",")


class Spelled(Protocol):
    """The bytes of a manifest in pieces, as of ``Pieces``; each but the first begins with ``MARK``."""

    sha256: str
    size: int

    def __iter__(self) -> Iterator[bytes]: ...
    def __getitem__(self, number: int) -> bytes: ...


class _NotCommonError(Exception):
    """This is for ``manifest_reader`` to judge."""


@dataclass(frozen=True)
class LargeManifest:
    """A manifest that fits the list: ``sizes`` in the order of the list.

    ``order`` holds the numbers, in the list, of the payload's files as they lie there, in manifest order.
    """

    manifest: Manifest
    sizes: array[int]
    order: array[int]


def read_large(pieces: Spelled, listing: Listing) -> LargeManifest | None:
    """Read a manifest beside its list; None if it is for ``manifest_reader`` to judge."""
    try:
        return _Reading(pieces, listing).read()
    except (_NotCommonError, BundleMalformed, NotCanonicalError, UnicodeError, ValueError):
        return None


@dataclass
class _Records:
    """The records of one component: its folder, and where they stand."""

    folder: str = ""
    runs: list[Run] = field(default_factory=list)


@dataclass
class _Reading:
    """The state of one reading: what of the list was met, and what is left of the manifest."""

    pieces: Spelled
    listing: Listing
    sizes: array[int] = field(default_factory=lambda: array("q"))
    order: array[int] = field(default_factory=lambda: array("I"))
    shapes: list[re.Pattern[bytes]] = field(default_factory=list)
    keys: set[tuple[str, ...]] = field(default_factory=set)
    origin_keys: set[str] = field(default_factory=set)  # alike records have those of a strict one
    cut: list[bytes] = field(default_factory=list)  # paths of files that lie there in slices
    last: bytes = b""  # path of the record before, in the same component
    next: int = 0  # number in the list that probably comes next

    def read(self) -> LargeManifest:
        self.sizes = array("q", [_UNKNOWN]) * len(self.listing)
        skeleton, components = self._read_records()
        value = parse_canonical(skeleton, limit=MAX_BYTES)
        used: list[int] = []

        def files_of(component: Record, folder: str) -> FilesOnMedium | tuple[()]:
            if not component.items("files"):
                return ()
            number = len(used)
            if number == len(components) or components[number].folder != folder:
                raise _NotCommonError
            if component.items("files") != [number]:
                raise _NotCommonError
            used.append(number)
            return FilesOnMedium(self.pieces, components[number].runs, self.origin_keys)

        manifest = manifest_of(Record(value, MANIFEST_PATH, BundleMalformed), files_of)
        if len(used) != len(components):
            raise _NotCommonError
        for path, file in manifest.files.items():
            self._note(path.encode(), file.sha256.encode(), file.size)
        self._note(MANIFEST_PATH.encode(), self.pieces.sha256.encode(), self.pieces.size)
        if _UNKNOWN in self.sizes or _collide(self.cut, self.listing):
            raise _NotCommonError
        self._check_served(manifest)
        return LargeManifest(manifest, self.sizes, self.order)

    def _read_records(self) -> tuple[bytes, list[_Records]]:
        """The manifest with numbers in the place of each component's records, and these."""
        skeleton = bytearray()
        components: list[_Records] = []
        within = False
        for number, piece in enumerate(self.pieces):
            position = 0
            while True:
                if not within:
                    first = piece.find(_FIRST, position)
                    if first == -1:
                        skeleton += piece[position:]
                        break
                    skeleton += piece[position : first + _OPENING] + b"%d" % len(components)
                    position = first + _OPENING
                    components.append(_Records())
                    self.last = b""
                position = self._read_run(piece, position, number, components[-1], first=not within)
                within = position == len(piece)
                if within:
                    break
        return bytes(skeleton), components

    def _read_run(self, piece: bytes, position: int, number: int, records: _Records, *, first: bool) -> int:
        """Read the records that follow one another in a piece; where they end."""
        start, count = position if first else position + 1, 0
        if first:
            position, file = self._read_strictly(piece, position)
            records.folder = _folder(file.path)
            count = 1
        folder = records.folder.encode()
        while position < len(piece) and piece[position] == _COMMA:
            end, alike = self._read_alike(piece, position, folder)
            if not alike:
                end, file = self._read_strictly(piece, position + 1)
                if not file.path.startswith(records.folder):
                    raise _NotCommonError
                alike = 1
            position = end
            count += alike
        if count:
            records.runs.append(Run(number, start, position, count))
        return position

    def _read_alike(self, piece: bytes, position: int, folder: bytes) -> tuple[int, int]:
        """Read records that fit a pattern learnt before, as long as their files follow in the list too.

        Returns where they end, and how many they are.  This loop is where the time goes.
        """
        data, starts, sizes = self.listing.data, self.listing.starts, self.sizes
        for shape in self.shapes:
            match_record = shape.match
            if (match := match_record(piece, position)) is None:
                continue
            path, sha256, size = match.groups()
            if path <= self.last or not path.startswith(folder):
                raise _NotCommonError
            first = number = self._note(path, sha256, int(size))
            position, self.last = match.end(), path
            while match := match_record(piece, position):
                path, sha256, size = match.groups()
                number += 1
                if not data.startswith(sha256 + b"  " + path + b"\n", starts[number]):
                    break
                sizes[number] = int(size)
                position, self.last = match.end(), path
            else:
                number += 1
            if not self.last.startswith(folder):  # if it does, so do all before it: the list is sorted
                raise _NotCommonError
            self.order.extend(range(first, number))
            self.next = number
            return position, number - first
        return position, 0

    def _read_strictly(self, piece: bytes, position: int) -> tuple[int, PayloadFile]:
        """Read one record by all rules; where it ends, and what it says."""
        border = piece.find(MARK, position + 1)
        text = piece[position : border if border != -1 else len(piece)].decode("utf-8")
        _, end = json.JSONDecoder().raw_decode(text)
        data = text[:end].encode("utf-8")
        record = Record(parse_canonical(data, limit=MAX_BYTES), MANIFEST_PATH, BundleMalformed)
        if not record.has("path"):
            raise _NotCommonError
        file = payload_file(record, _folder(record.text("path")))
        self.origin_keys |= file.origin.keys()
        if (path := file.path.encode()) <= self.last:
            raise _NotCommonError
        self.last = path
        for part, listed in file.parts():
            self.order.append(self._note(part.encode(), listed.sha256.encode(), listed.size))
        if file.slices:
            self.cut.append(path)
        else:
            self._learn(tuple(file.origin))
        return position + len(data), file

    def _learn(self, keys: tuple[str, ...]) -> None:
        """Make a pattern for records whose origin has these keys."""
        if keys in self.keys or len(self.keys) == _MOST_SHAPES:
            return
        self.keys.add(keys)
        origin = ",".join(f'"{key}":"{_TEXT}"' for key in keys)
        record = (
            rf',\{{"licence":"{_TEXT}","mode":"0644","name":"{_TEXT}","origin":\{{{origin}\}},'
            r'"path":"([!#-\[\]-~]{1,512})(?<!\.slice-[0-9]{4})","sha256":"([0-9a-f]{64})","size":(0|[1-9][0-9]{0,14}),'
            rf'"version":"{_TEXT}"\}}'
        )
        self.shapes.insert(0, re.compile(record.encode("ascii")))

    def _note(self, path: bytes, sha256: bytes, size: int) -> int:
        """Find the line of the list that says the same, and keep the size; its number."""
        number = self.next
        line = b"%s  %s\n" % (sha256, path)
        if number >= len(self.sizes) or not self.listing.data.startswith(line, self.listing.starts[number]):
            found = self.listing.paths.find(path)
            if found is None or self.listing.digest(found).encode() != sha256:
                raise _NotCommonError
            number = found
        if self.sizes[number] != _UNKNOWN:
            raise _NotCommonError
        self.sizes[number] = size
        self.next = number + 1
        return number

    def _check_served(self, manifest: Manifest) -> None:
        """The engine and the file that are served are there; a patch need not have them."""
        if manifest.makes is not None:
            return
        served = manifest.inference
        path = f"{PAYLOAD_FOLDER}/{served.model}/{served.file}".encode()
        whole = self.listing.paths.find(path) is not None and path[-11:-4] != _SLICE_ENDING
        if served.engine not in manifest.components or not (whole or path in self.cut):
            raise _NotCommonError


def _folder(path: str) -> str:
    """The folder of the component that a path speaks of."""
    return "/".join(path.split("/", 2)[:2]) + "/"


def _collide(cut: Collection[bytes], listing: Listing) -> bool:
    """Whether a file that is cut, whole again on a node, would have another one's name or folder."""
    small = {path.lower() for path in cut}
    folders = {path.rpartition(b"/")[0] + b"/" for path in cut}
    return len(small) < len(cut) or any(
        (folder + name).lower() in small for folder in folders for name in _names_in(folder, listing)
    )


def _names_in(folder: bytes, listing: Listing) -> Iterable[bytes]:
    """The names of files and folders in a folder of the list; a folder's several times."""
    start, end = listing.paths.place(folder), listing.paths.place(folder + b"\xff")
    return (path[len(folder) :].partition("/")[0].encode() for path in listing.paths[start:end])
