"""The recipe of a patch: how each file that the base does not hold is made (docs/format.md, "Patches").

Lines of ASCII, since people review it and a machine of any size reads it in little memory: a terabyte of
weights has a million parts.  It is read as a stream, and everything in it is checked before it is used.

::

    appliance recipe 1
    base SHA256 SIZE                       a file of the base, numbered from 0
    file SHA256 SIZE PATH                  a file that is made, of the parts that follow:
    copy BASE OFFSET LENGTH                bytes of a base file
    new LENGTH                             the next bytes of the blocks
    zstd LENGTH PACKED                     so many bytes, made of the next PACKED bytes of the blocks
    delta LENGTH PACKED BASE OFFSET COUNT  likewise, by a frame whose prefix is COUNT bytes of a base file
    take                                   the file itself lies in the patch, under its path
    par2                                   recovery data: computed again of the bundle's other files

Blocks are used from the first to the last byte, each once and in order, so nothing in them can overlap or
be skipped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from appliance.bundle.paths import check_path, is_slice, parity_number
from appliance.errors import BundleMalformed, RecipeInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: The component's name in every patch, and what lies in it.
NAME: Final = "patch"
RECIPE: Final = "recipe"
BLOCKS: Final = "blocks"
HEAD: Final = b"appliance recipe 1\n"
#: The most bytes that one frame gives, is packed in, or looks back to: what applying it needs in memory.
SEGMENT: Final = 16 << 20
#: zstd takes no shorter prefix as raw content.
MIN_PREFIX: Final = 8
#: Base files of one patch, files that it makes, and lines in all: two for each chunk of two terabytes.
MAX_BASES: Final = 1 << 18
MAX_FILES: Final = 1 << 18
MAX_LINES: Final = 1 << 23
MAX_LINE: Final = 700

_NUMBER: Final = rb"(0|[1-9][0-9]{0,14})"
_BASE: Final = re.compile(rb"base ([0-9a-f]{64}) " + _NUMBER)
_FILE: Final = re.compile(rb"file ([0-9a-f]{64}) " + _NUMBER + rb" ([!-~]+)")


@dataclass(frozen=True, slots=True)
class BaseFile:
    """A file of the base that parts are taken from: SHA-256 (hex) and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file of the bundle that is made; ``path`` as it lies on a node, not cut."""

    sha256: str
    size: int
    path: str


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of the base file of this number."""

    base: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Part:
    """The next ``length`` bytes of a file.

    Attributes:
        length: in bytes.
        packed: bytes of the blocks that are used up; 0 for a copy.
        source: the base bytes that are copied, or are the frame's prefix; None for neither.
        compressed: the blocks hold a zstd frame, and not the bytes themselves.
    """

    length: int
    packed: int = 0
    source: Range | None = None
    compressed: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """The whole file lies in the patch."""


@dataclass(frozen=True, slots=True)
class Remade:
    """The file is recovery data, which follows from the others."""


Item = BaseFile | MadeFile | Part | Taken | Remade


def item_line(item: Item) -> bytes:
    """An item's line."""
    match item:
        case BaseFile(sha256, size):
            text = f"base {sha256} {size}"
        case MadeFile(sha256, size, path):
            text = f"file {sha256} {size} {path}"
        case Taken():
            text = "take"
        case Remade():
            text = "par2"
        case Part(length, 0, Range() as source, False):
            text = f"copy {source.base} {source.offset} {length}"
        case Part(length, packed, Range() as source, True):
            text = f"delta {length} {packed} {source.base} {source.offset} {source.length}"
        case Part(length, packed, None, True):
            text = f"zstd {length} {packed}"
        case Part(length, _, None, False):
            text = f"new {length}"
        case _:
            raise ValueError("no line says this")
    return text.encode("ascii") + b"\n"


def read_recipe(lines: Iterable[bytes], *, blocks: int) -> Iterator[Item]:
    """Every line of a recipe, checked against what came before it.

    Args:
        lines: with their ends, as a binary file gives them; none longer than asked for by ``MAX_LINE``.
        blocks: bytes of the blocks.

    Raises:
        RecipeInvalid: at the first line that is wrong; what was given before is not to be used then.
    """
    state = _State(blocks)
    number = 0
    for number, line in enumerate(lines, 1):
        if number > MAX_LINES or len(line) > MAX_LINE or not line.endswith(b"\n"):
            _refuse(number, line, "the line is too long, is not ended, or is one too many")
        if number == 1:
            if line != HEAD:
                _refuse(number, line, "this is no recipe of a kind that is known")
        else:
            yield state.item(number, line[:-1])
    if number == 0:
        _refuse(1, b"", "the recipe is empty")
    state.end(number)


def _pattern(word: bytes, numbers: int) -> re.Pattern[bytes]:
    return re.compile(b" ".join([word, *[_NUMBER] * numbers]))


#: The lines of parts, and what their numbers say.
_PARTS: Final[tuple[tuple[re.Pattern[bytes], Callable[..., Part]], ...]] = (
    (_pattern(b"copy", 3), lambda base, at, length: Part(length, source=Range(base, at, length))),
    (_pattern(b"new", 1), lambda length: Part(length, length)),
    (_pattern(b"zstd", 2), lambda length, packed: Part(length, packed, compressed=True)),
    (
        _pattern(b"delta", 5),
        lambda length, packed, *where: Part(length, packed, Range(*where), compressed=True),
    ),
)


@dataclass
class _State:
    """What was read so far; how much of the file at work, and of the blocks, is left."""

    blocks: int
    bases: list[BaseFile] = field(default_factory=list)
    file: MadeFile | None = None
    files: int = 0
    left: int = 0
    is_empty: bool = True  # no part of the file was read yet

    def item(self, number: int, line: bytes) -> Item:
        """The next line's item."""
        for pattern, make in _PARTS:
            if match := pattern.fullmatch(line):
                return self._part(number, line, make(*map(int, match.groups())))
        if match := _FILE.fullmatch(line):
            return self._file(number, line, MadeFile(match[1].decode(), int(match[2]), match[3].decode()))
        if match := _BASE.fullmatch(line):
            return self._base(number, line, BaseFile(match[1].decode(), int(match[2])))
        if line in {b"take", b"par2"}:
            if self.file is None or not self.is_empty or not self.left:
                _refuse(number, line, "a file is taken whole, or made of parts, or empty")
            if line == b"par2" and parity_number(self.file.path) is None:
                _refuse(number, line, "this is no recovery data")
            self.left, self.is_empty = 0, False
            return Taken() if line == b"take" else Remade()
        return _refuse(number, line, "the line says nothing that is known")

    def _base(self, number: int, line: bytes, base: BaseFile) -> BaseFile:
        if self.file is not None or len(self.bases) == MAX_BASES:
            _refuse(number, line, "base files come first, and not so many")
        if self.bases and self.bases[-1].sha256 >= base.sha256:
            _refuse(number, line, "base files are not in order of their digests, each once")
        self.bases.append(base)
        return base

    def _file(self, number: int, line: bytes, file: MadeFile) -> MadeFile:
        self._require_done(number, line)
        try:
            check_path(file.path)
        except BundleMalformed as fault:
            _refuse(number, line, fault.message)
        if is_slice(file.path) or (self.file is not None and self.file.path >= file.path):
            _refuse(number, line, "files are not whole, or not in order of their paths, each once")
        self.files += 1
        if self.files > MAX_FILES:
            _refuse(number, line, "there are more files than any bundle has")
        self.file, self.left, self.is_empty = file, file.size, True
        return file

    def _part(self, number: int, line: bytes, part: Part) -> Part:
        if not 0 < part.length <= self.left or part.packed > self.blocks:
            _refuse(
                number, line, "the part makes more than its file has room for, or than there are blocks"
            )
        if part.compressed and (
            part.length > SEGMENT or not 0 < part.packed <= SEGMENT or part.packed >= part.length
        ):
            _refuse(number, line, "a frame is larger than it may be, or than what it gives")
        if (source := part.source) is not None:
            if source.base >= len(self.bases):
                _refuse(number, line, "no such base file")
            if source.offset + source.length > self.bases[source.base].size:
                _refuse(number, line, "the part reads outside its base")
            if part.compressed and not MIN_PREFIX <= source.length <= SEGMENT:
                _refuse(number, line, "a frame's prefix is shorter or larger than it may be")
        self.left -= part.length
        self.blocks -= part.packed
        self.is_empty = False
        return part

    def _require_done(self, number: int, line: bytes) -> None:
        if self.file is not None and self.left:
            _refuse(number, line, f"{self.file.path} lacks {self.left:,} bytes")

    def end(self, number: int) -> None:
        """Nothing is left over."""
        self._require_done(number, b"")
        if self.file is None or self.blocks:
            _refuse(number, b"", f"{self.blocks:,} bytes of the blocks are used for nothing")


def _refuse(number: int, line: bytes, message: str) -> NoReturn:
    raise RecipeInvalid(
        f"line {number} of the recipe: {message}",
        found=ascii(line[:120].decode("ascii", "replace")),
        wanted="a recipe as appliance patch build writes it",
        hint="do not use this patch; ask who signed it",
    )
