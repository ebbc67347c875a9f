"""Making files of a base and a patch: pure of what a bundle is; each file is proven by its digest.

The recipe is read as a stream, so it is checked to its end before anything is made of it (``check``), and
once more while it is followed: what lies on a medium may change in between, and then the digest of what was
made, or the recipe's own rules, tell.

Bytes that are the same in the base are copied by the kernel, which shares them on file systems that can;
what is hashed is what was written.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from appliance.bundle.copying import kernel_copies
from appliance.bundle.patch.packing import unpack
from appliance.bundle.patch.recipe import SEGMENT, BaseFile, MadeFile, Part, Remade, Taken, read_recipe
from appliance.bundle.paths import check_paths
from appliance.bundle.wording import some
from appliance.errors import BundleMalformed, DigestMismatch, PatchUnfit, RecipeInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

    from appliance.bundle.patch.whole import WholeFile


class Sink(Protocol):
    """Where a file is made."""

    def place(self, offset: int, length: int) -> Iterable[tuple[int, int, int]]:
        """Where these bytes of the whole file belong: descriptors, positions in them, lengths."""


@dataclass
class Checked:
    """What a recipe asks for, once it is known to be sound.

    ``bases`` by their numbers; ``made``: SHA-256 (hex) and size of each file by path; of these, ``taken``
    travel whole, and ``remade`` follow from the others.
    """

    bases: list[BaseFile] = field(default_factory=list)
    made: dict[str, BaseFile] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    remade: set[str] = field(default_factory=set)


def check(lines: Iterable[bytes], *, blocks: int) -> Checked:
    """Read a recipe to its end; nothing is made.

    Raises:
        RecipeInvalid: it breaks a rule, or its files could not lie in one folder.
    """
    found, path = Checked(), ""
    for item in read_recipe(lines, blocks=blocks):
        match item:
            case BaseFile():
                found.bases.append(item)
            case MadeFile():
                path = item.path
                found.made[path] = BaseFile(item.sha256, item.size)
            case Taken():
                found.taken.add(path)
            case Remade():
                found.remade.add(path)
    try:
        check_paths(found.made)
    except BundleMalformed as fault:
        raise RecipeInvalid(
            fault.message, found=fault.found, wanted=fault.wanted, hint=fault.hint
        ) from fault
    return found


def require_bases(checked: Checked, held: Mapping[str, int]) -> None:
    """Refuse a base that lacks files which the recipe reads, before anything is made.

    Args:
        checked: what the recipe asks for.
        held: sizes in bytes of what the base holds, by SHA-256 (hex).

    Raises:
        PatchUnfit: naming what is missing.
    """
    missing = [base.sha256 for base in checked.bases if held.get(base.sha256) != base.size]
    if missing:
        raise PatchUnfit(
            f"the base lacks {len(missing)} of {len(checked.bases)} files that the patch is made against",
            found=f"nothing with sha256 {some(missing)}",
            wanted="the bundle that the patch requires, whole",
            hint="mend the base, or build a patch against what is there: appliance status --export",
        )


class Maker:
    """Follows a recipe; to be used in a ``with`` statement.

    Args:
        open_base: opens a base file by its SHA-256 (hex).
        blocks: the patch's blocks, open; None if it has none.
        wanted: whether a file is to be made now, by its path; the blocks of others are passed over.  Not
            to be asked for is what is computed from other files.
    """

    def __init__(
        self,
        open_base: Callable[[str], WholeFile],
        blocks: WholeFile | None,
        wanted: Callable[[str], bool],
    ) -> None:
        self._open_base, self._blocks, self._wanted = open_base, blocks, wanted
        self._bases: list[BaseFile] = []
        self._opened: dict[int, WholeFile] = {}
        self._stack = ExitStack()
        self._used = 0  # bytes of the blocks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def follow(
        self,
        lines: Iterable[bytes],
        begin: Callable[[MadeFile], Sink],
        done: Callable[[MadeFile, bool], None],
    ) -> None:
        """Make the wanted files, one after another.

        Args:
            lines: of the recipe.
            begin: gives the place for a file.
            done: told that the bytes of a file are all there, or that it is taken whole from the patch;
                it compares them with what they should be.

        Raises:
            RecipeInvalid: the recipe breaks a rule, or a frame gives other bytes than it says.
            DigestMismatch: a base file or the blocks cannot be read, or ended early.
        """
        file: MadeFile | None = None
        sink: Sink | None = None
        taken, at = False, 0
        size = self._blocks.size if self._blocks else 0
        for item in read_recipe(lines, blocks=size):
            match item:
                case BaseFile():
                    self._bases.append(item)
                case MadeFile():
                    if file is not None and sink is not None:
                        done(file, taken)
                    file, taken, at = item, False, 0
                    sink = begin(item) if self._wanted(item.path) else None
                case Taken():
                    taken = True
                case Part():
                    if sink is not None:
                        self._make(item, sink, at)
                    self._used += item.packed
                    at += item.length
        if file is not None and sink is not None:
            done(file, taken)

    def _make(self, part: Part, sink: Sink, at: int) -> None:
        if part.compressed:
            self._unpack(part, sink, at)
        elif part.source is not None:
            copy_range(self._base(part.source.base), part.source.offset, sink, at, part.length)
        elif self._blocks is not None:
            copy_range(self._blocks, self._used, sink, at, part.length)

    def _unpack(self, part: Part, sink: Sink, at: int) -> None:
        if self._blocks is None:
            raise ValueError("a recipe without blocks has no frames")
        source = part.source
        prefix = self._base(source.base).read(source.offset, source.length) if source else b""
        data = memoryview(unpack(self._blocks.read(self._used, part.packed), part.length, prefix))
        for fd, start, count in sink.place(at, part.length):
            _write(fd, start, data[:count])
            data = data[count:]

    def _base(self, number: int) -> WholeFile:
        """A base file, open: the last one used, since parts of one file mostly read one base."""
        if number not in self._opened:
            self._stack.close()
            self._opened = {number: self._stack.enter_context(self._open_base(self._bases[number].sha256))}
            if self._opened[number].size != self._bases[number].size:
                raise DigestMismatch(
                    f"{self._opened[number].path} of the base has another size than the recipe says",
                    hint="somebody changed the base meanwhile: verify it, and start again",
                )
        return self._opened[number]


def copy_range(source: WholeFile, offset: int, sink: Sink, at: int, length: int) -> None:
    """Copy bytes of a file to their place, by the kernel where it can."""
    for fd, start, count in sink.place(at, length):
        done = 0
        for origin, place, size in source.places(offset, count):
            if not _kernel_copies(origin, fd, place, start + done, size):
                _copy_by_hand(source, offset + done, fd, start + done, size)
            done += size
        offset += count


def _kernel_copies(origin: int, target: int, place: int, start: int, size: int) -> bool:
    """As ``kernel_copies``; where a disk fails, reading by hand says whose it is."""
    try:
        return kernel_copies(origin, target, place, start, size)
    except OSError as fault:
        if fault.errno != errno.EIO:
            raise
        return False


def _copy_by_hand(source: WholeFile, offset: int, fd: int, start: int, size: int) -> None:
    for done in range(0, size, SEGMENT):
        _write(fd, start + done, memoryview(source.read(offset + done, min(SEGMENT, size - done))))


def _write(fd: int, start: int, data: memoryview) -> None:
    while data:
        count = os.pwrite(fd, data, start)
        data, start = data[count:], start + count


def digest_of(fd: int) -> str:
    """SHA-256 (hex) of an open file, from its beginning."""
    digest, position = hashlib.sha256(), 0
    while data := os.pread(fd, 1 << 20, position):
        digest.update(data)
        position += len(data)
    return digest.hexdigest()
