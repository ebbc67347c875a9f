"""Sets of files, in the room that 200,000 of them may take: by number instead of by path.

A path is kept once, in the list it came from; what is known of its file is kept under its number there.
"""

from __future__ import annotations

from array import array
from collections.abc import ItemsView, Mapping, Sequence, ValuesView
from typing import TYPE_CHECKING, Final

from appliance.bundle.listing import AT_ONCE
from appliance.bundle.manifest import ListedFile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from appliance.bundle.lists import Lists

#: Stands for a file's number where a name is a folder's.
A_FOLDER: Final = -1


class Children(Mapping[str, Mapping[str, int]]):
    """For each folder ("" is the bundle's) the names that belong in it, put together when asked for.

    To a name belongs the number of its file in ``files``, or ``A_FOLDER``.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = files
        self._numbers: dict[str, array[int]] = {}  # of the files in a folder
        self._inner: dict[str, list[str]] = {}  # names of the folders in a folder
        self._add("")
        for number, path in enumerate(files):
            folder = path.rpartition("/")[0]
            if folder not in self._numbers:
                self._add(folder)
            self._numbers[folder].append(number)

    def _add(self, folder: str) -> None:
        self._numbers[folder] = array("I")
        self._inner[folder] = []
        if folder:
            parent, _, name = folder.rpartition("/")
            if parent not in self._numbers:
                self._add(parent)
            self._inner[parent].append(name)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def numbers(self, folder: str) -> Sequence[int]:
        """The numbers of the files in a folder, ascending."""
        return self._numbers[folder]

    def __getitem__(self, folder: str) -> dict[str, int]:
        names = dict.fromkeys(self._inner[folder], A_FOLDER)
        numbers = self._numbers[folder]
        if numbers and numbers[-1] - numbers[0] == len(numbers) - 1:  # one after another
            paths: Iterable[str] = self.files[numbers[0] : numbers[-1] + 1]
        else:
            paths = map(self.files.__getitem__, numbers)
        before = len(folder) + 1 if folder else 0
        names.update((path[before:], number) for path, number in zip(paths, numbers, strict=True))
        return names


class ListedFiles(Mapping[str, ListedFile]):
    """What is listed and signed, by path: digests from the list, sizes from the manifest.

    Args:
        lists: the lists of the bundle; what is known of a file by one digest is known by that of the first.
        sizes: in bytes, in the order of the list.
    """

    def __init__(self, lists: Lists, sizes: array[int]) -> None:
        self.lists = lists
        self.listing = lists.index
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.listing)

    def __iter__(self) -> Iterator[str]:
        return iter(self.listing)

    def __contains__(self, path: object) -> bool:
        return path in self.listing

    def __getitem__(self, path: str) -> ListedFile:
        if (number := self.listing.paths.find(path.encode())) is None:
            raise KeyError(path)
        return ListedFile(self.listing.digest(number), self.sizes[number])

    def items(self) -> ItemsView[str, ListedFile]:
        """Paths and files, without looking up a path."""
        return _ListedItems(self)

    def values(self) -> ValuesView[ListedFile]:
        """The files alone, without looking up a path."""
        return _ListedValues(self)

    def some(self, first: int, end: int) -> Iterator[tuple[str, ListedFile]]:
        """Paths and files, from one number in the list to another."""
        lines = self.listing.some(first, end)
        for (path, digest), size in zip(lines, self.sizes[first:end], strict=True):
            yield path, ListedFile(digest, size)

    @property
    def size(self) -> int:
        """Bytes of all the files."""
        return sum(self.sizes)


class _ListedItems(ItemsView[str, ListedFile]):
    _mapping: ListedFiles

    def __iter__(self) -> Iterator[tuple[str, ListedFile]]:
        for first in range(0, len(self._mapping), AT_ONCE):
            yield from self._mapping.some(first, first + AT_ONCE)


class _ListedValues(ValuesView[ListedFile]):
    _mapping: ListedFiles

    def __iter__(self) -> Iterator[ListedFile]:
        return (file for _, file in self._mapping.items())


class Sizes(Mapping[str, int]):
    """Sizes in bytes by path, in the order of ``files``; a look-up costs what ``files.index`` does."""

    def __init__(self, files: Sequence[str], sizes: array[int]) -> None:
        self._files = files
        self._sizes = sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __getitem__(self, path: str) -> int:
        try:
            return self._sizes[self._files.index(path)]
        except ValueError:
            raise KeyError(path) from None

    def values(self) -> ValuesView[int]:
        """The sizes alone, without looking up a path."""
        return _Values(self)


class _Values(ValuesView[int]):
    _mapping: Sizes

    def __iter__(self) -> Iterator[int]:
        return iter(self._mapping._sizes)  # noqa: SLF001 - the view of this class


def children_of(files: Collection[str]) -> Children:
    """What belongs in which folder, for a bundle of these files."""
    return Children(files if isinstance(files, Sequence) else list(files))
