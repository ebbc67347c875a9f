"""The files of a bundle that a patch makes, in a folder: each proven by the list once that is there."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import settle_file
from appliance.bundle.patch.applying import Maker, copy_range, digest_of
from appliance.bundle.patch.recipe import BLOCKS, MAX_LINE, NAME, RECIPE
from appliance.bundle.patch.whole import NewParts
from appliance.bundle.paths import PAYLOAD_FOLDER
from appliance.errors import DigestMismatch, PatchUnfit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from appliance.bundle.opening import BundleTree
    from appliance.bundle.patch.applying import Checked
    from appliance.bundle.patch.fitting import Target
    from appliance.bundle.patch.holdings import HeldFile
    from appliance.bundle.patch.recipe import MadeFile
    from appliance.bundle.patch.whole import WholeFile
    from appliance.progress import Progress

_RECIPE_PATH: Final = f"{PAYLOAD_FOLDER}/{NAME}/{RECIPE}"
#: Where a patch has its blocks.
BLOCKS_PATH: Final = f"{PAYLOAD_FOLDER}/{NAME}/{BLOCKS}"


def is_payload(path: str) -> bool:
    """Whether a file of a bundle belongs to a component."""
    return path.startswith(f"{PAYLOAD_FOLDER}/")


def recipe_lines(tree: BundleTree, carried: Mapping[str, HeldFile]) -> Iterator[bytes]:
    """The lines of the recipe, none kept longer than a little over what a line may have.

    It is read several times: whoever reads it to its end has read the one that was signed.

    Raises:
        PatchUnfit: there is none.
        DigestMismatch: another one lies on the medium since.
    """
    if (file := carried.get(_RECIPE_PATH)) is None or len(file.parts) != 1:
        raise PatchUnfit("the patch has no recipe", found=f"no {_RECIPE_PATH}", wanted="a patch")
    digest = hashlib.sha256()
    with tree.open(_RECIPE_PATH) as fd, os.fdopen(os.dup(fd), "rb") as stream:
        stream.seek(0)
        while line := stream.readline(MAX_LINE + 1):
            digest.update(line)
            yield line
    if (found := digest.hexdigest()) != file.sha256:
        raise DigestMismatch(
            "the recipe was changed after the patch was verified",
            found=f"sha256 {found}",
            wanted=f"sha256 {file.sha256}",
            hint="check the medium, and start again",
        )


class Making:
    """The unfinished bundle in ``folder``; what belongs in it is known once its documents are there."""

    def __init__(
        self,
        folder: Path,
        checked: Checked,
        *,
        open_base: Callable[[str], WholeFile],
        open_carried: Callable[[str], WholeFile],
        progress: Progress,
    ) -> None:
        self._folder, self._checked, self._progress = folder, checked, progress
        self._open_base, self._open_carried = open_base, open_carried
        self.target: Target | None = None
        self._parts: NewParts | None = None

    def make(self, lines: Iterator[bytes], blocks: WholeFile | None, wanted: Callable[[str], bool]) -> None:
        """Make the files of the recipe that are wanted now."""
        try:
            with Maker(self._open_base, blocks, wanted) as maker:
                maker.follow(lines, self._begin, self._done)
        finally:
            self._end()

    def keep(self, pair: tuple[HeldFile, HeldFile]) -> None:
        """Copy a file of the base."""
        file, source = pair
        try:
            self._parts = NewParts(self._folder, file.parts)
            with self._open_base(source.sha256) as opened:
                copy_range(opened, 0, self._parts, 0, file.size)
            self._prove(file.path, file.sha256)
        finally:
            self._end()
        self._progress.item(file.path)

    def prove_remade(self, paths: Iterable[str]) -> None:
        """Compare what was computed from other files with the list."""
        for path in sorted(paths):
            place = self._folder / path
            with place.open("rb") as file:
                found = digest_of(file.fileno())
            if found != self._checked.made[path].sha256:
                raise _otherwise(path, found, self._checked.made[path].sha256)

    def _begin(self, file: MadeFile) -> NewParts:
        known = self.target.files.get(file.path) if self.target else None
        parts = known.parts if known else ((file.path, file.size),)
        self._parts = NewParts(self._folder, parts)
        return self._parts

    def _done(self, file: MadeFile, taken: bool) -> None:
        if self._parts is None:
            raise RuntimeError("a file is done that was not begun")
        if taken:
            with self._open_carried(file.path) as opened:
                copy_range(opened, 0, self._parts, 0, min(file.size, opened.size))
        self._prove(file.path, file.sha256)
        self._end()
        self._progress.item(file.path)

    def _prove(self, path: str, whole: str) -> None:
        """Every part is what the list says; a file that no list names is what the recipe says."""
        if self._parts is None:
            raise RuntimeError("nothing was made")
        for number, part in enumerate(self._parts.paths):
            fd = self._parts.fd(number)
            wanted = self.target.listing.get(part, whole) if self.target else whole
            if (found := digest_of(fd)) != wanted:
                raise _otherwise(path, found, wanted)
            settle_file(fd)
            self._progress.advance(os.fstat(fd).st_size)

    def _end(self) -> None:
        if self._parts is not None:
            self._parts.close()
        self._parts = None


def _otherwise(path: str, found: str, wanted: str) -> DigestMismatch:
    return DigestMismatch(
        f"{path} came out otherwise than it should",
        found=f"sha256 {found}",
        wanted=f"sha256 {wanted}",
        hint="the base is damaged, or was changed meanwhile: verify it, then join again",
    )
