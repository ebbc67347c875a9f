"""Making a bundle's parity while it is built: one PAR2 file for each set, the same bytes everywhere.

par2 computes; what it wrote is then written again, packet by packet, in one order and with one name for
the creator.  Recovery blocks follow from the data, the block size and the exponents alone, so the bytes
depend on no machine, number of threads or version of par2.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import FOLDER_MODE, create_file, finish_file, free_bytes
from appliance.bundle.manifest import SLICE_SIZE, ListedFile
from appliance.bundle.parity.packets import (
    CREATOR,
    CREATOR_TEXT,
    RECOVERY,
    Description,
    Packet,
    packet_bytes,
    scan_packets,
)
from appliance.bundle.parity.program import Share, create_parity, find_par2
from appliance.bundle.parity.sets import Member, ParitySet, covered, divide
from appliance.bundle.paths import PARITY_FOLDER, slice_path
from appliance.errors import ParityFailed, SpaceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.manifest import Manifest
    from appliance.bundle.writer import Companion
    from appliance.progress import Progress

_CHUNK: Final = 1 << 20


def parity_companion(percent: int) -> Companion:
    """What ``write_bundle`` is given to make parity of ``percent`` (0 to 10; 0 makes none)."""

    def add_parity(folder: Path, manifest: Manifest, progress: Progress) -> Mapping[str, ListedFile]:
        sets = divide(tuple(covered(manifest)), percent) if percent else ()
        return make_parity(folder, sets, progress)

    return add_parity


def parity_room(sizes: Iterable[int], percent: int) -> int:
    """Bytes that parity of files of these sizes takes while it is made: itself, and one set twice."""
    if not percent:
        return 0
    sets = divide([piece for size in sizes for piece in _pieces(size)], percent)
    return sum(each.parity_size for each in sets) + max((each.parity_size for each in sets), default=0)


def _pieces(size: int) -> Iterator[Member]:
    """A file of this size as it will lie in the bundle."""
    for number, start in enumerate(range(0, size, SLICE_SIZE)):
        path = slice_path("payload", number) if size > SLICE_SIZE else "payload"
        yield Member(path, min(SLICE_SIZE, size - start))


def make_parity(folder: Path, sets: Sequence[ParitySet], progress: Progress) -> Mapping[str, ListedFile]:
    """Write the file of every set into ``folder``; returns them by path.

    Raises:
        ToolMissing: there is no par2.
        SpaceExhausted: the disk is too small.
        ParityFailed: par2 failed.
    """
    if not sets:
        return {}
    program = find_par2()
    folder = folder.resolve()
    _check_room(folder, sets)
    work = folder / PARITY_FOLDER / ".making"
    work.parent.mkdir(exist_ok=True)
    work.parent.chmod(FOLDER_MODE)
    made = {}
    progress.begin("parity", len(sets), sum(each.size for each in sets))
    try:
        for each in sets:
            work.mkdir()
            create_parity(program, folder, each, work / "set.par2", Share(each.size, progress))
            made[each.path] = write_canonical(sorted(work.iterdir()), folder / each.path, each)
            shutil.rmtree(work)
            progress.item(each.path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        progress.end()
    return made


def write_canonical(written: Sequence[Path], target: Path, parity: ParitySet) -> ListedFile:
    """Write what par2 wrote for a set to the new file ``target``, in one order.

    What describes the set comes first and, once more, last: damage at one end leaves the other.

    Raises:
        ParityFailed: par2 did not make what it was asked for.
    """
    with ExitStack() as stack:
        sources = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in written]
        for fd in sources:
            stack.callback(os.close, fd)
        description, recovery = _gather(sources)
        _check_made(description, [packet for packet, _ in recovery], parity)
        critical = b"".join(
            packet_bytes(description.set_id, kind, body)
            for kind, body in (*description.critical(), (CREATOR, CREATOR_TEXT))
        )
        fd = create_file(target)
        stack.callback(os.close, fd)
        digest = hashlib.sha256(critical)
        size = _write(fd, critical)
        for packet, source in recovery:
            for start in range(0, packet.length, _CHUNK):
                chunk = os.pread(source, min(_CHUNK, packet.length - start), packet.offset + start)
                digest.update(chunk)
                size += _write(fd, chunk)
        digest.update(critical)
        size += _write(fd, critical)
        finish_file(fd)
    return ListedFile(digest.hexdigest(), size)


def _gather(sources: Sequence[int]) -> tuple[Description, list[tuple[Packet, int]]]:
    """The description of the one set in these files; its recovery packets by exponent, and where."""
    description: Description | None = None
    recovery: dict[int, tuple[Packet, int]] = {}
    for fd in sources:
        for packet in scan_packets(fd):
            description = description or Description(packet.set_id)
            if packet.kind == RECOVERY:
                recovery[packet.exponent] = packet, fd
            else:
                description.add(packet)
    return description or Description(b""), [recovery[exponent] for exponent in sorted(recovery)]


def _check_made(description: Description, recovery: Sequence[Packet], parity: ParitySet) -> None:
    """Refuse a set that lacks a file, or has other blocks: par2 passes over what it cannot read."""
    files = description.described() or []
    found = {file.path: file.size for file in files}
    wanted = {member.path: member.size for member in parity.members}
    exponents = [packet.exponent for packet in recovery]
    right = found == wanted and description.block_size == parity.block_size
    if not right or exponents != list(range(parity.recovery)):
        raise ParityFailed(
            f"par2 did not make {parity.path} as it was asked to",
            found=f"{len(found)} files, {len(exponents)} blocks of {description.block_size:,} bytes",
            wanted=f"{len(wanted)} files, {parity.recovery} blocks of {parity.block_size:,} bytes",
            hint="check that nothing else changes the files meanwhile; try another version of par2",
        )


def _write(fd: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)


def _check_room(folder: Path, sets: Sequence[ParitySet]) -> None:
    wanted = sum(each.parity_size for each in sets) + max(each.parity_size for each in sets)
    if (free := free_bytes(folder)) < wanted:
        raise SpaceExhausted(
            f"too little room for parity under {folder.parent}",
            found=f"{free:,} bytes free",
            wanted=f"{wanted:,} bytes",
            hint="free some space, or ask for less parity in the definition",
        )
