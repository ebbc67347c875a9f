"""Copying one file of a bundle to a medium, and proving what lies there by reading it back.

What counts is what lies on the medium in the end, so that is what is hashed.  Only if it is wrong is the
bundle's file read again, to say which of the two failed.  Where nothing is read back, the bundle's file
is hashed while it is copied.  A part that an earlier run left is compared with the signed block digests,
and only blocks that are wrong or missing are read from the bundle and written.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

from appliance.bundle.blocks import BLOCK_SIZE, block_count
from appliance.bundle.durable import FILE_MODE
from appliance.bundle.media.filesystem import set_mode
from appliance.bundle.media.readback import BlockReader, open_uncached, past_cache
from appliance.bundle.media.through import BlockWriter
from appliance.bundle.plain_files import unreadable
from appliance.errors import DigestMismatch, MediumFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from appliance.bundle.media.cargo import Part
    from appliance.bundle.opening import Cursor
    from appliance.progress import Progress


class FileCopier:
    """Copies files of one open bundle; for one thread.

    Args:
        cursor: opens the bundle's files.
        reader: reads blocks of either side.
        progress: told of every block: a byte counts by half when it is written, in full when it is read
            back.
    """

    def __init__(self, cursor: Cursor, reader: BlockReader, progress: Progress) -> None:
        self._cursor = cursor
        self._reader = reader
        self._progress = progress
        self.written = 0

    def write(self, part: Part, path: Path, expected: Sequence[bytes], *, judge: bool = False) -> None:
        """Write what of a file is missing at ``path``.

        Args:
            part: the file in the bundle.
            path: where it lies until it is proved.
            expected: the digests of its blocks, if something may be there to go on from.
            judge: hash what is copied, for whom ``prove`` is not called.

        Raises:
            DigestMismatch: the bundle is damaged, as far as that was looked at: its size, the blocks that
                complete what was there, and with ``judge`` everything.
            FileMissing, FileUnexpected: a file of the bundle is gone, or no plain file any more.
            OSError: what the system said of the medium.
        """
        good = self._good_blocks(part, path, expected)
        fd = create_part(path)
        try:
            with BlockWriter(fd, part.size) as writer:
                whole = hashlib.sha256() if judge and not good else None
                self._copy_blocks(part, writer, good, expected, whole)
            if part.size >= BLOCK_SIZE:
                os.fsync(fd)
        finally:
            os.close(fd)
        if whole and whole.hexdigest() != part.sha256:
            raise _source_damaged(part, f"sha256 {whole.hexdigest()}", f"sha256 {part.sha256}")

    def _copy_blocks(
        self,
        part: Part,
        writer: BlockWriter,
        good: set[int],
        expected: Sequence[bytes],
        whole: hashlib._Hash | None,
    ) -> None:
        """Copy all blocks but the good ones; ``whole`` is told of what is copied."""
        lacking = [number for number in range(block_count(part.size)) if number not in good]
        for number, block in self._source(part, lacking):
            if good and hashlib.sha256(block).digest() != expected[number]:
                raise _source_damaged(part, f"another block at byte {number * BLOCK_SIZE:,}", "as signed")
            if len(block) == BLOCK_SIZE:
                hashed = self._reader.meanwhile(whole.update, block) if whole else None
                writer.write(block, number * BLOCK_SIZE)
                if hashed:
                    hashed.result()
            else:  # small files are brought to the medium together, which is faster
                if whole:  # waking another thread takes longer than hashing most of them
                    whole.update(block)
                writer.leave(block, number * BLOCK_SIZE)
            self.written += len(block)
            self._progress.advance(len(block) // 2)
        kept = part.size - sum(min(BLOCK_SIZE, part.size - number * BLOCK_SIZE) for number in lacking)
        self._progress.advance(kept // 2)

    def _source(self, part: Part, numbers: Sequence[int]) -> Iterator[tuple[int, memoryview]]:
        fd, status = self._cursor.open(part.path)
        try:
            if status.st_size != part.size:
                raise DigestMismatch(
                    f"{part.path} was changed while it was copied",
                    found=f"{status.st_size:,} bytes",
                    wanted=f"{part.size:,} bytes",
                    hint="nobody may write to the bundle; run the command again",
                )
            with past_cache(fd) if part.size >= BLOCK_SIZE else nullcontext(fd) as source:
                yield from self._reader.blocks(source, numbers)
        except OSError as fault:
            raise unreadable(part.path, fault) from fault
        finally:
            os.close(fd)

    def _good_blocks(self, part: Part, path: Path, expected: Sequence[bytes]) -> set[int]:
        """The blocks of a part left by an earlier run that are as signed; removes a part of no use."""
        try:
            there = path.lstat().st_size
        except FileNotFoundError:
            return set()
        if expected and there <= part.size:
            try:
                with open_uncached(path) as fd:
                    return {
                        number
                        for number, block in self._reader.blocks(fd, range(block_count(there)))
                        if hashlib.sha256(block).digest() == expected[number]
                    }
            except OSError:
                pass  # half of it was lost when the medium was pulled out: written anew, and proved
        path.unlink()
        return set()

    def prove(self, part: Part, path: Path) -> None:
        """Read a file back from the medium and compare.

        Raises:
            MediumFailed: it is not what was written.
            DigestMismatch: it is, but the bundle is damaged.
            FileMissing, FileUnexpected: it is wrong, and the bundle's file is gone meanwhile.
        """
        digest = hashlib.sha256()
        try:
            with open_uncached(path) as fd:
                for _, block in self._reader.blocks(fd, range(block_count(part.size))):
                    digest.update(block)
                    self._progress.advance(len(block) - len(block) // 2)
        except PermissionError as fault:  # of what was just written: some drivers in user space stumble so
            raise MediumFailed(
                f"{path} cannot be read back: {part.path}",
                found=f"{fault.strerror}, said of a file that could be written",
                hint="what was written is kept: run the same command again; if it stays so, mount the "
                "medium with another driver, or take another one",
            ) from fault
        if digest.hexdigest() != part.sha256:
            self._require_sound(part)
            raise MediumFailed(
                f"{path} does not read back as it was written: {part.path}",
                found=f"sha256 {digest.hexdigest()}",
                wanted=f"sha256 {part.sha256}",
                hint="it is worn out, or smaller than it claims to be: take another one",
            )

    def _require_sound(self, part: Part) -> None:
        """See whether the bundle is to blame for what is wrong on the medium."""
        digest = hashlib.sha256()
        for _, block in self._source(part, range(block_count(part.size))):
            digest.update(block)
        if digest.hexdigest() != part.sha256:
            raise _source_damaged(part, f"sha256 {digest.hexdigest()}", f"sha256 {part.sha256}")


def create_part(path: Path) -> int:
    """A descriptor for writing a file that has no final name yet; what it holds stays."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    set_mode(fd, FILE_MODE)
    return fd


def _source_damaged(part: Part, found: str, wanted: str) -> DigestMismatch:
    return DigestMismatch(
        f"{part.path} in the bundle is not what was signed",
        found=found,
        wanted=wanted,
        hint="repair the bundle or obtain it again, then run the same command to go on",
    )
