"""Mending the lost files of one set in a work folder: par2 computes, the signed digests decide.

The work folder holds links to what is sound and to what is damaged, under the names the set knows, so
par2 finds everything where it looks for it and writes nowhere else: it moves a link out of the way
before it writes a file of that name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import create_file, free_bytes, writing_under
from appliance.bundle.parity.program import NOT_ENOUGH, WRONG, Share, find_par2, repair_files
from appliance.bundle.parity.reading import read_at
from appliance.bundle.parity.recovery import RecoverySet, good_blocks, write_packets
from appliance.counting import counted
from appliance.errors import DamageTooGreat, SpaceExhausted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.manifest import ListedFile
    from appliance.bundle.parity.packets import Described
    from appliance.progress import Progress

PACKETS_NAME: Final = "set.par2"
_BUFFER: Final = 1 << 20


@dataclass(frozen=True)
class LostFile:
    """A member that is not sound anywhere: its damaged copies, and which block is right in which."""

    member: Described
    copies: tuple[Path, ...]
    good: Mapping[int, int]
    readable: bool

    @property
    def is_one_piece(self) -> bool:
        """Whether par2 can read the only copy itself: all good blocks are in it, and no sector fails."""
        return self.readable and len(self.copies) == 1


@dataclass(frozen=True)
class Need:
    """What it takes to mend a set: its lost files, and how many blocks these lack."""

    parity: RecoverySet
    lost: tuple[LostFile, ...]

    @property
    def blocks(self) -> int:
        return sum(self.parity.blocks(each.member) - len(each.good) for each in self.lost)

    @property
    def short_of(self) -> int:
        """How many blocks more are lost than the set's parity can give."""
        return max(0, self.blocks - len(self.parity.recovery))

    @property
    def may_be_shifted(self) -> bool:
        """Whether blocks may lie elsewhere in a damaged file than where they belong; par2 finds them."""
        return any(
            path.stat().st_size not in {0, each.member.size} for each in self.lost for path in each.copies
        )

    @property
    def room(self) -> int:
        """Bytes of work folder that mending takes at most."""
        files = sum(each.member.size for each in self.lost)
        pieces = sum(each.member.size for each in self.lost if each.copies and not each.is_one_piece)
        packets = 0 if self.parity.sound else self.parity.source.stat().st_size
        return files + pieces + packets


def assess(parity: RecoverySet, sound: Mapping[str, Path], damaged: Mapping[str, Sequence[Path]]) -> Need:
    """Count what a set lacks, block by block.

    Args:
        parity: the set.
        sound: where a sound copy of each file of the bundle lies.
        damaged: where damaged copies of the others lie.
    """
    lost = [member for member in parity.members.values() if parity.name_of(member.path) not in sound]

    def look(member: Described) -> LostFile:
        copies = tuple(damaged.get(parity.name_of(member.path), ()))
        good, readable = good_blocks(member, parity.block_size, copies)
        tails = (copy for copy in copies if copy.stat().st_size > member.size)
        return LostFile(member, copies, good, readable and all(map(_is_readable, tails)))

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return Need(parity, tuple(pool.map(look, lost)))


def mend(
    need: Need,
    sound: Mapping[str, Path],
    files: Mapping[str, ListedFile],
    *,
    work: Path,
    lock: int,
    progress: Progress,
) -> dict[str, Path]:
    """Rebuild the lost files of a set under ``work``; returns where each lies, by its path in the bundle.

    Args:
        need: the set and what it lacks.
        sound: where a sound copy of each other member lies, by its path in the bundle.
        files: the digests that were signed.
        work: an empty folder of ours.
        lock: the descriptor that ``work`` is locked by; par2 keeps it until it ends.
        progress: told of the work, as a phase of its own.

    Raises:
        DamageTooGreat: the recovery blocks do not suffice, or are not of this bundle.
        SpaceExhausted: the work folder's disk is too small.
        ParityFailed: par2 failed.
    """
    if (free := free_bytes(work)) < need.room:
        raise SpaceExhausted(
            f"too little room to work in {work}",
            found=f"{free:,} bytes free",
            wanted=f"{need.room:,} bytes",
            hint="name a folder with more room with --work; nothing was changed",
        )
    parity = need.parity
    base = work / "files"
    with writing_under(work):
        _lay_out(need, sound, base)
        packets = work / PACKETS_NAME
        if parity.sound:
            packets.symlink_to(parity.source.absolute())
        else:
            write_packets(parity, packets)
    size = sum(member.size for member in parity.members.values())
    progress.begin("mend", len(need.lost), size)
    try:
        status = repair_files(
            find_par2(),
            base.resolve(),
            packets.absolute(),
            memory=need.blocks * parity.block_size,
            told=Share(size, progress),
            lock=lock,
        )
        if status == NOT_ENOUGH:
            raise too_great([need], "name another copy of this bundle: every sound block in it helps")
        mended = {}
        for each in need.lost:
            path = parity.name_of(each.member.path)
            rebuilt = base / each.member.path
            # Where the packets are as they were signed, par2 has compared the MD5 that they give, and the
            # signed digest is compared when the file is put in its place: not twice in a row.
            right = rebuilt.is_file() and not rebuilt.is_symlink() and status != WRONG
            if not right or (not parity.sound and _digest(rebuilt) != files[path].sha256):
                raise DamageTooGreat(
                    f"{parity.title} does not give back {path} as it was signed",
                    found="other bytes",
                    wanted=f"sha256 {files[path].sha256}",
                    hint="this parity is of another bundle, or damaged on purpose: "
                    "name other volumes of this bundle",
                )
            mended[path] = rebuilt
            progress.item(path)
    finally:
        progress.end()
    return mended


def too_great(needs: Sequence[Need], hint: str) -> DamageTooGreat:
    """The error for sets that lack more blocks than their parity can give."""
    return DamageTooGreat(
        "the damage is greater than the parity at hand; nothing was changed",
        found="; ".join(map(_counted, needs)),
        wanted="at most as many lost blocks as there are recovery blocks",
        hint=hint,
    )


def _counted(need: Need) -> str:
    parity = need.parity
    lost = f"{counted(need.blocks, 'block')} of {parity.block_size >> 10:,} KiB"
    files = counted(len(need.lost), "file")
    has = len(parity.recovery)
    return f"{parity.title} lacks {lost} in {files} and has {has:,}: {need.short_of:,} too few"


def _lay_out(need: Need, sound: Mapping[str, Path], base: Path) -> None:
    """Links and salvaged pieces under the names that the set knows."""
    parity = need.parity
    lost = {each.member.path: each for each in need.lost}
    for name, member in parity.members.items():
        target = base / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name not in lost:
            target.symlink_to(sound[parity.name_of(name)].absolute())
        elif lost[name].is_one_piece:
            target.symlink_to(lost[name].copies[0].absolute())
        elif lost[name].good:
            _salvage(member, parity.block_size, lost[name], target)


def _salvage(member: Described, block_size: int, lost: LostFile, target: Path) -> None:
    """Join the good blocks of all copies; holes are zeros."""
    sources = [os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC) for path in lost.copies]
    try:
        with os.fdopen(create_file(target), "wb") as file:
            for block, index in sorted(lost.good.items()):
                file.seek(block * block_size)
                file.write(
                    read_at(
                        sources[index],
                        block * block_size,
                        min(block_size, member.size - block * block_size),
                    )[0]
                )
            file.truncate(member.size)
    finally:
        for fd in sources:
            os.close(fd)


def _is_readable(path: Path) -> bool:
    """Whether no sector of a file that is too long fails."""
    try:
        with path.open("rb", buffering=0) as file:
            while file.read(_BUFFER):
                pass
    except OSError:
        return False
    return True


def _digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clear(folder: Path) -> None:
    """Remove what an earlier repair left in a work folder."""
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()
