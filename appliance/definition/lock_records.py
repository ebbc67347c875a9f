"""The artefacts of a lock of any length, kept as they were read.

A lock may name 200,000 files; as objects they take half a gigabyte.  Here its text is kept, and the place
where each record begins; an artefact is made when it is asked for.

What is read here is a lock that ``appliance.definition.lock.parse_lock`` accepts, spelled as ``lock_text``
spells it.  Each record is compared with a pattern that was made for the keys of an earlier one, which was
validated; one that does not fit is validated too.  Where anything else shows, nothing is returned, and
``parse_lock`` is asked: to say what is wrong is its task alone.
"""

from __future__ import annotations

import json
import re
import zlib
from array import array
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Final, overload

from appliance.definition.names import LONGEST_FILE_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from appliance.definition.lock import Artefact

#: How a component with artefacts begins, and where in it they begin.
_OPENING: Final = re.compile(rb'\n    "([a-z0-9][a-z0-9-]*)": \{\n      "artefacts": \[\n')
_INDENT: Final = " " * 8
_RECORD_END: Final = b"\n        }"
_NEXT: Final = b",\n"
_CLOSING: Final = b"\n      ]"
#: Printable ASCII that JSON does not escape.
_TEXT: Final = rb"[ !#-\[\]-~]{1,4096}"
_PART: Final = rb'(?!\.{1,2}[/"])[A-Za-z0-9._+~@=-]+'
_TOGETHER: Final = 512  # records that are compressed together
_SHORT: Final = 8 << 20  # bytes of records that are kept as they are: unpacking takes longer than reading
_MOST_SHAPES: Final = 16  # kinds of origin in one lock; more are read, but slowly
_BRIEF: Final = re.compile(
    rb'"path": "([^"\\]+)",\n          "sha256": "([0-9a-f]{64})",\n          "size": ([0-9]+),'
)


class NotStoredError(Exception):
    """This is for ``parse_lock`` to judge."""


class StoredArtefacts(Sequence["Artefact"]):
    """The artefacts of one component, in the text of their lock, which is kept compressed if it is long.

    Args:
        data: the text, of which nothing is kept but the records, of long ones a fifth of their size.
        starts: where each record begins, and two bytes after the last one's end.
        make: gives the artefact that a record's JSON is, without validating it.
    """

    def __init__(self, data: bytes, starts: array[int], make: Callable[[bytes], Artefact]) -> None:
        self._starts = starts
        self._make = make
        self._is_short = starts[-1] - starts[0] <= _SHORT
        texts = (
            data[starts[first] : starts[min(first + _TOGETHER, len(self))]]
            for first in range(0, len(self), _TOGETHER)
        )
        self._portions = [text if self._is_short else zlib.compress(text, 1) for text in texts]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[Artefact]:
        return map(self._make, self.records())

    @overload
    def __getitem__(self, number: int) -> Artefact: ...
    @overload
    def __getitem__(self, number: slice) -> list[Artefact]: ...
    def __getitem__(self, number: int | slice) -> Artefact | list[Artefact]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        text, places = self._portion(number // _TOGETHER)
        start, end = places[number % _TOGETHER]
        return self._make(text[start:end])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented
        return all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # like any sequence that is compared by its items

    def records(self) -> Iterator[bytes]:
        """Each artefact as it stands in the lock: JSON, with its indentation."""
        for portion in range(len(self._portions)):
            text, places = self._portion(portion)
            for start, end in places:
                yield text[start:end]

    def text(self) -> Iterator[bytes]:
        """All records, as they stand in the lock's list, in portions."""
        for number in range(len(self._portions)):
            text = self._unpacked(number)
            last = number == len(self._portions) - 1  # behind it, two bytes are of what closes the list
            yield text[: -len(_NEXT)] if last else text

    @cached_property
    def sizes(self) -> array[int]:
        """The size in bytes of each: 8 bytes for what is asked for again and again."""
        return array("q", (size for _, size, _ in self.brief()))

    def brief(self, first: int = 0, last: int | None = None) -> Iterator[tuple[str, int, str]]:
        """Path, size in bytes and SHA-256 (hex) of each from one to before another, making no artefact."""
        last = len(self) if last is None else last
        for portion in range(first // _TOGETHER, -(-last // _TOGETHER)):
            text, places = self._portion(portion)
            before = portion * _TOGETHER
            for start, end in places[max(first - before, 0) : last - before]:
                match = _BRIEF.search(text, start, end)
                if match is None:
                    raise RuntimeError("a record was validated and is none")
                path, sha256, size = match.groups()
                yield path.decode("ascii"), int(size), sha256.decode("ascii")

    def _portion(self, number: int) -> tuple[bytes, list[tuple[int, int]]]:
        """The text of a portion, and where in it its records begin and end."""
        starts = self._starts[number * _TOGETHER : (number + 1) * _TOGETHER + 1]
        places = [(start - starts[0], end - starts[0] - len(_NEXT)) for start, end in pairwise(starts)]
        return self._unpacked(number), places

    def _unpacked(self, number: int) -> bytes:
        portion = self._portions[number]
        return portion if self._is_short else zlib.decompress(portion)


def brief(
    artefacts: Sequence[Artefact], first: int = 0, last: int | None = None
) -> Iterator[tuple[str, int, str]]:
    """Path, size in bytes and SHA-256 (hex) of each, from one to before another."""
    if isinstance(artefacts, StoredArtefacts):
        return artefacts.brief(first, last)
    return ((artefact.path, artefact.size, artefact.sha256) for artefact in artefacts[first:last])


def sizes(artefacts: Sequence[Artefact]) -> Iterable[int]:
    """The size in bytes of each."""
    if isinstance(artefacts, StoredArtefacts):
        return artefacts.sizes
    return [artefact.size for artefact in artefacts]


def read_records(
    data: bytes, validate: Callable[[bytes], Artefact], make: Callable[[bytes], Artefact]
) -> tuple[bytes, dict[str, StoredArtefacts]]:
    """The text of a lock without its artefacts, and these by component.

    Args:
        data: the lock's text.
        validate: gives the artefact that a record's JSON is, or raises ``ValueError``.
        make: gives it where it is known to be valid.

    Raises:
        NotStoredError: something is spelled otherwise than ``lock_text`` does, or not valid.
    """
    reading = _Reading(data, validate)
    rest, found, position = bytearray(), {}, 0
    while opening := _OPENING.search(data, position):
        starts, end = reading.read_list(opening.end())
        name = opening[1].decode("ascii")
        if name in found:
            raise NotStoredError
        found[name] = StoredArtefacts(data, starts, make)
        rest += data[position : opening.end() - 1] + b"]"
        position = end
    return bytes(rest + data[position:]), found


class _Reading:
    """The patterns that were learnt so far, and reading with them."""

    def __init__(self, data: bytes, validate: Callable[[bytes], Artefact]) -> None:
        self._data = data
        self._validate = validate
        self._shapes: list[re.Pattern[bytes]] = []
        self._keys: set[tuple[str, ...]] = set()

    def read_list(self, position: int) -> tuple[array[int], int]:
        """The places of a list's records, and where the list has ended."""
        data, starts, last = self._data, array("I"), b""
        while True:
            path, end = self._read(position)
            if path <= last or len(path) > LONGEST_FILE_PATH:
                raise NotStoredError
            starts.append(position)
            last, position = path, end + len(_NEXT)
            if data[end:position] != _NEXT:
                break
        if not data.startswith(_CLOSING, end):
            raise NotStoredError
        starts.append(position)
        return starts, end + len(_CLOSING)

    def _read(self, position: int) -> tuple[bytes, int]:
        """The path in a record, and the record's end."""
        for shape in self._shapes:
            if match := shape.match(self._data, position):
                return match[1], match.end()
        end = self._data.find(_RECORD_END, position) + len(_RECORD_END)
        text = self._data[position:end]
        artefact = self._validate(text)
        if spelled(artefact) != text:
            raise NotStoredError
        self._learn(tuple(sorted(artefact.origin)))
        return artefact.path.encode("ascii"), end

    def _learn(self, keys: tuple[str, ...]) -> None:
        """Make a pattern for records whose origin has these keys."""
        if not keys or keys in self._keys or len(self._keys) == _MOST_SHAPES:
            return
        self._keys.add(keys)
        origin = b",\n".join(b'            "%s": "%s"' % (key.encode("ascii"), _TEXT) for key in keys)
        lines = [
            rb"        \{",
            rb'          "licence": "%s",' % _TEXT,
            rb'          "name": "%s",' % _TEXT,
            rb'          "origin": \{',
            origin,
            rb"          \},",
            rb'          "path": "(%s(?:/%s)*)",' % (_PART, _PART),
            rb'          "sha256": "[0-9a-f]{64}",',
            rb'          "size": (?:0|[1-9][0-9]{0,14}),',
            rb'          "version": "%s"' % _TEXT,
            rb"        \}",
        ]
        self._shapes.insert(0, re.compile(b"\n".join(lines)))


def spelled(artefact: Artefact) -> bytes:
    """An artefact as ``lock_text`` spells it, where it stands in a lock."""
    values = artefact.model_dump(mode="json", exclude_defaults=True)
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    return (_INDENT + text.replace("\n", f"\n{_INDENT}")).encode("utf-8")
