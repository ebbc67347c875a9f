"""Where each byte of a file that a patch makes comes from, in little room: six numbers a part."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.bundle.patch.recipe import BaseFile, MadeFile, Part, Range, read_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NUMBERS: Final = 6
_NO_SOURCE: Final = -1


@dataclass
class FileParts:
    """The parts of one file, in order.  ``start``: where in the patch's blocks the first one reads."""

    start: int
    numbers: array[int] = field(default_factory=lambda: array("q"))

    def add(self, part: Part) -> None:
        """One part more."""
        source = part.source or Range(_NO_SOURCE, 0, 0)
        self.numbers.extend(
            (part.length, part.packed, int(part.compressed), source.base, source.offset, source.length)
        )

    @property
    def reads_prefixes(self) -> bool:
        """Whether a frame among them looks back to bytes of the base."""
        return any(part.compressed and part.source for part in self)

    def __iter__(self) -> Iterator[Part]:
        for at in range(0, len(self.numbers), _NUMBERS):
            length, packed, compressed, base, offset, count = self.numbers[at : at + _NUMBERS]
            source = None if base == _NO_SOURCE else Range(base, offset, count)
            yield Part(length, packed, source, bool(compressed))


def file_parts(
    lines: Iterable[bytes], blocks: int, wanted: Callable[[str], bool]
) -> tuple[list[BaseFile], dict[str, FileParts]]:
    """The base files of a recipe, and the parts of the files that are wanted, by path.

    Args:
        lines: of the recipe.
        blocks: bytes of the blocks.
        wanted: whether the parts of a file are, by its path.

    Raises:
        RecipeInvalid: it breaks a rule.
    """
    bases: list[BaseFile] = []
    files: dict[str, FileParts] = {}
    path, used = "", 0
    for item in read_recipe(lines, blocks=blocks):
        match item:
            case BaseFile():
                bases.append(item)
            case MadeFile():
                path = item.path
                if wanted(path):
                    files[path] = FileParts(used)
            case Part():
                if path in files:
                    files[path].add(item)
                used += item.packed
    return bases, files
