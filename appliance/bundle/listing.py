r"""``trust/SHA256SUMS``, and ``trust/SHA384SUMS`` where there is one: lists of every other file.

A strict subset of what ``sha256sum --check`` reads: lines ``<64 hex digits>  <path>\n`` in small
letters, two spaces, sorted by the bytes of the path, each path once, none escaped; in the other list with
96 digits, and ``trust/SHA256SUMS`` is one of the files.  One set of files has one spelling, so the SHA-256
of the first list identifies the bundle.  Which of them is signed: ``appliance.bundle.list_kind``.

A list that was read stays as it is, with the place of each line: 200,000 files are 30 MB, a tenth of
what they would be as objects.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import ItemsView, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from operator import lt
from typing import TYPE_CHECKING, Final, NoReturn, overload

from appliance.bundle.list_kind import INDEX, KINDS
from appliance.bundle.paths import (
    BLOCKS_PATH,
    MANIFEST_PATH,
    PAYLOAD_FOLDER,
    REVIEW_PATH,
    check_path,
    check_paths,
    misplaced,
)
from appliance.errors import BundleMalformed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from appliance.bundle.list_kind import ListKind

#: Room for about 200,000 files with long names.
MAX_BYTES: Final = 64 * 1024 * 1024
_LINES: Final = {kind: re.compile(rb"([0-9a-f]{%d})  ([!-~]{1,512})" % kind.digits) for kind in KINDS}
_SPACES: Final = 2
_ALWAYS: Final = frozenset({BLOCKS_PATH, MANIFEST_PATH, REVIEW_PATH})
_PAYLOAD: Final = f"{PAYLOAD_FOLDER}/".encode()
#: Lines that are spelled out together.
AT_ONCE: Final = 1024


class ListedPaths(Sequence[str]):
    """The paths of a list, sorted; found by bisection."""

    def __init__(self, data: bytes, starts: array[int], before: int) -> None:
        self._data = data
        self._starts = starts  # of every line, and the end of the last
        self._before = before  # the path, in a line

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            first, end, step = number.indices(len(self))
            if step != 1 or first >= end:
                return [self[each] for each in range(first, end, step)]
            return [line[self._before :] for line in self.lines(first, end)]
        return self._spelled(range(len(self))[number]).decode("ascii")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), AT_ONCE):
            yield from self[first : first + AT_ONCE]

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self.find(path.encode()) is not None

    def index(self, path: str, *_: int) -> int:
        """The number of a path's line.

        Raises:
            ValueError: it is not listed.
        """
        if (number := self.find(path.encode())) is None:
            raise ValueError(path)
        return number

    def find(self, path: bytes) -> int | None:
        """The number of a path's line; None if it is not listed."""
        number = self.place(path)
        return number if number < len(self) and self._spelled(number) == path else None

    def place(self, path: bytes) -> int:
        """How many of the paths sort before this one."""
        return bisect_left(range(len(self)), path, key=self._spelled)

    def under(self, folder: str) -> list[str]:
        """The paths of the files in a folder, and in those within it."""
        before = f"{folder}/".encode()
        return self[self.place(before) : self.place(before + b"\xff")]

    def lines(self, first: int, end: int) -> list[str]:
        """Whole lines, without their ends."""
        return self._data[self._starts[first] : self._starts[end]].decode("ascii").splitlines()

    def _spelled(self, number: int) -> bytes:
        return self._data[self._starts[number] + self._before : self._starts[number + 1] - 1]


class Listing(Mapping[str, str]):
    """A list that was read: digests (lower-case hex) by path, in the order of the list.

    Args:
        data: the bytes of the list.
        starts: where each line begins, and where the last one ends.
        kind: which of the lists it is.
    """

    def __init__(self, data: bytes, starts: array[int], kind: ListKind = INDEX) -> None:
        self.data = data
        self.starts = starts
        self.kind = kind
        self.paths = ListedPaths(data, starts, kind.digits + _SPACES)

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __contains__(self, path: object) -> bool:
        return path in self.paths

    def __getitem__(self, path: str) -> str:
        if (number := self.paths.find(path.encode())) is None:
            raise KeyError(path)
        return self.digest(number)

    def items(self) -> ItemsView[str, str]:
        """Paths and digests, without looking up a path."""
        return _Items(self)

    def some(self, first: int, end: int) -> Iterator[tuple[str, str]]:
        """Paths and digests, from one number to another."""
        digits = self.kind.digits
        before = digits + _SPACES
        for line in self.paths.lines(first, min(end, len(self))):
            yield line[before:], line[:digits]

    def digest(self, number: int) -> str:
        """The digest (hex) on a line."""
        start = self.starts[number]
        return self.data[start : start + self.kind.digits].decode("ascii")


class _Items(ItemsView[str, str]):
    _mapping: Listing

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for first in range(0, len(self._mapping), AT_ONCE):
            yield from self._mapping.some(first, first + AT_ONCE)


def listing_bytes(digests: Mapping[str, str]) -> bytes:
    """The list of these files: digests (lower-case hex) by path."""
    return listing_of((path, digests[path]) for path in sorted(digests, key=str.encode))


def listing_of(digests: Iterable[tuple[str, str]]) -> bytes:
    """The list of these files: path and digest (lower-case hex), sorted by the bytes of the path."""
    lines = (f"{digest}  {path}\n".encode("ascii") for path, digest in digests)
    portions = []
    while portion := b"".join(islice(lines, AT_ONCE)):
        portions.append(portion)
    return b"".join(portions)


def parse_listing(data: bytes, kind: ListKind = INDEX) -> Listing:
    """Read a list.

    Args:
        data: its bytes.
        kind: which of the lists they are to be.

    Raises:
        BundleMalformed: not exactly the spelling of this module, a forbidden path, a file that
            format 1 does not have, or one missing that every bundle has.
    """
    if len(data) > MAX_BYTES:
        _refuse(kind, "is too long", found=f"{len(data):,} bytes", wanted=f"at most {MAX_BYTES:,}")
    if not data.endswith(b"\n"):
        _refuse(kind, "does not end with a line feed", found=ascii(data[-20:]))
    return Listing(data, _read_common(data, kind) or _read_strictly(data, kind), kind)


def _read_strictly(data: bytes, kind: ListKind) -> array[int]:
    """Where the lines begin, of a list that keeps every rule; says which one another breaks."""
    starts = array("I", [0])
    paths: list[str] = []
    last = b""
    for number, line in enumerate(data[:-1].split(b"\n"), 1):
        match = _LINES[kind].fullmatch(line)
        if not match:
            wanted = f"{kind.digits} small hex digits, two spaces, a path"
            _refuse(kind, f"line {number} is misspelled", found=ascii(line[:120]), wanted=wanted)
        if match[2] <= last:
            _refuse(kind, f"line {number} is out of order or repeated", found=ascii(match[2]))
        last = match[2]
        paths.append(last.decode("ascii"))
        check_path(paths[-1])
        starts.append(starts[-1] + len(line) + 1)
    check_paths(paths)
    _check_places(paths, kind)
    return starts


#: Lines whose files have names without peculiarities: no tilde (FAT's short names), and none that
#: begins like a device's.  The folders are looked at apart, once for all files in them.
_COMMON: Final = {
    kind: re.compile(
        rb"(?>[0-9a-f]{%d}  (?:[A-Za-z0-9._+~@=/-]{0,256}/)?"
        rb"(?!(?:[Cc][Oo][Nn]|[Pp][Rr][Nn]|[Aa][Uu][Xx]|[Nn][Uu][Ll]|[Cc][Oo][Mm]|[Ll][Pp][Tt]))"
        rb"[A-Za-z0-9._+@=][A-Za-z0-9._+@=-]{0,250}(?<!\.)\n)+" % kind.digits
    )
    for kind in KINDS
}
_COMMON_BYTES: Final = 128 << 10  # of lines that are looked at together


@dataclass
class _Common:
    """What was read so far of a list without peculiar names.

    ``capitals`` are the small spellings of what has some.  Of two names that differ only in case the one
    with the capital comes first: capitals sort before small letters, in a file as in its folders.
    """

    kind: ListKind
    starts: array[int] = field(default_factory=lambda: array("I", [0]))
    last: bytes = b""
    capitals: set[bytes] = field(default_factory=set)
    folders: set[bytes] = field(default_factory=set)
    outside: list[str] = field(default_factory=list)

    def add(self, lines: bytes) -> bool:
        """Take more lines as read; False if they are to be looked at closely."""
        if _COMMON[self.kind].fullmatch(lines) is None:
            return False
        each = lines.split(b"\n")[:-1]
        before = self.kind.digits + _SPACES
        paths = [line[before:] for line in each]
        if paths[0] <= self.last or not all(map(lt, paths, islice(paths, 1, None))):
            return False
        self.starts.extend(
            islice(accumulate((len(line) + 1 for line in each), initial=self.starts[-1]), 1, None)
        )
        self.last = paths[-1]
        if not (
            paths[0].startswith(_PAYLOAD) and paths[-1].startswith(_PAYLOAD)
        ):  # else all are, as sorted
            self.outside += [path.decode("ascii") for path in paths if not path.startswith(_PAYLOAD)]
        if self.capitals or lines.lower() != lines:
            return all(map(self._is_unlike, paths))
        folders = {path.rpartition(b"/")[0] for path in paths}
        return all(folder in self.folders or self._enter(folder) for folder in folders if folder)

    def _is_unlike(self, path: bytes) -> bool:
        """Whether no file before, and no folder, differs from this one only in case."""
        folder = path.rpartition(b"/")[0]
        if folder and folder not in self.folders and not self._enter(folder):
            return False
        small = path.lower()
        if small in self.capitals:
            return False
        if small != path:
            self.capitals.add(small)
        return True

    def _enter(self, folder: bytes) -> bool:
        """Take a folder and those it lies in as seen; False if one breaks a rule, or collides."""
        try:
            check_path(folder.decode("ascii") + "/x")
        except BundleMalformed:
            return False
        parts = folder.split(b"/")
        for count in range(1, len(parts) + 1):
            each = b"/".join(parts[:count])
            if each in self.folders:
                continue
            small = each.lower()
            if small in self.capitals:
                return False
            if small != each:
                self.capitals.add(small)
            self.folders.add(each)
        return True


def _read_common(data: bytes, kind: ListKind) -> array[int] | None:
    """Where the lines begin, of a list that keeps every rule and has no peculiar name.

    None if that cannot be told at a glance: then somebody has to look closely.
    """
    common, start = _Common(kind), 0
    while start < len(data):
        end = data.find(b"\n", min(start + _COMMON_BYTES, len(data) - 1)) + 1
        if not common.add(data[start:end]):
            return None
        start = end
    listing = Listing(data, common.starts, kind)
    if any(listing.paths.find(folder) is not None for folder in common.folders):
        return None
    return None if _fault(common.outside, kind) else common.starts


def _check_places(paths: Iterable[str], kind: ListKind) -> None:
    if fault := _fault([path for path in paths if not path.startswith(f"{PAYLOAD_FOLDER}/")], kind):
        _refuse(kind, "does not list the files of format 1", found=fault[0], wanted=fault[1])


def _fault(outside: Iterable[str], kind: ListKind) -> tuple[str, str] | None:
    weaker = {each.path for each in KINDS[: KINDS.index(kind)]}  # which a list names as it does any file
    return misplaced(outside, required=_ALWAYS | weaker)


def _refuse(
    kind: ListKind, message: str, *, found: str | None = None, wanted: str | None = None
) -> NoReturn:
    raise BundleMalformed(
        f"{kind} {message}",
        found=found,
        wanted=wanted,
        hint="this is not a list our builder wrote: obtain the bundle again",
    )
