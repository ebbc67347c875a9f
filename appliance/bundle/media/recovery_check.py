"""Checking a recovery volume: its packets by their own checksums, what they cover by the signed list.

Nobody signs a recovery volume, and whether its recovery blocks are those of the volumes could be told only
by making them again from all of them.  So damage is found here, and no deceit: what a recovery volume gives
back is judged by the signed list when it is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from appliance.bundle.fileset import children_of
from appliance.bundle.media.checked import MISSING, UNREADABLE, CheckedRecovery, DamagedFile
from appliance.bundle.media.examine import examine
from appliance.bundle.media.label import MAX_BYTES, RECOVERY_LABEL_PATH
from appliance.bundle.media.layout import is_shared_out
from appliance.bundle.media.readback import BlockReader
from appliance.bundle.media.seen import Seen, names_on
from appliance.bundle.parity.packets import (
    CREATOR,
    CREATOR_TEXT,
    RECOVERY,
    Description,
    packet_bytes,
    scan_packets,
)
from appliance.bundle.parity.stripes import bundle_path
from appliance.counting import counted
from appliance.errors import BundleUntrusted, FileMissing, LabelInvalid
from appliance.trust.canonical import NotCanonicalError, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from appliance.bundle.manifest import ListedFile
    from appliance.bundle.parity.copies import SoundCopy
    from appliance.bundle.parity.packets import Described
    from appliance.bundle.volume import Volume
    from appliance.progress import Progress

_KEYS: Final = frozenset({"format", "bundle", "product", "version", "volumes", "stripes"})
_MAX_STRIPES: Final = 9999
#: A recovery packet without its block.
_PACKET: Final = 68


class RecoveryCheck:
    """A recovery volume while it is checked.

    Args:
        volume: its open folder.
        sound: the bundle it was made of.
        spare: the second copies that may lie there, by path.
    """

    def __init__(self, volume: Volume, sound: SoundCopy, spare: Mapping[str, ListedFile]) -> None:
        self._sound = sound
        self._covered: set[str] = set()
        self._volumes, count = 0, 0
        damaged: list[DamagedFile] = []
        try:
            self._volumes, count = _read_label(volume, sound.digest)
        except FileMissing:
            damaged.append(DamagedFile(RECOVERY_LABEL_PATH, MISSING))
        except BundleUntrusted as fault:
            damaged.append(DamagedFile(RECOVERY_LABEL_PATH, fault.message))
        stripes = [f"stripe-{number:04d}.par2" for number in range(count)]
        names, strange = names_on(volume, children_of([RECOVERY_LABEL_PATH, *stripes, *spare]))
        damaged += [DamagedFile(name, MISSING) for name in stripes if name not in names]
        present = {path: spare[path] for path in sorted(names & spare.keys())}
        self.seen = Seen(volume, present, damaged, strange)
        self._files = {name: _size(volume, name) for name in stripes if name in names}

    @property
    def files(self) -> int:
        """How many files are to be read."""
        return len(self._files) + len(self.seen.present)

    @property
    def size(self) -> int:
        """How many bytes are to be read."""
        return sum(self._files.values()) + sum(file.size for file in self.seen.present.values())

    def read(self, progress: Progress, stop: threading.Event) -> None:
        """Read all of it; remembers what is wrong."""
        volume = self.seen.volume
        with BlockReader() as reader:
            for path, wanted in self.seen.present.items():
                if damage := examine(volume, path, wanted, reader, progress):
                    self.seen.damaged.append(damage)
        for name in self._files:
            if stop.is_set() or self.seen.find_out_whether_gone():
                return
            try:
                with volume.tree.open(name) as fd:
                    problem = self._judge(fd, progress)
            except BundleUntrusted as fault:
                problem = f"{UNREADABLE}: {fault.found}"
            except OSError as fault:
                problem = f"{UNREADABLE}: {fault.strerror}"
            if problem:
                self.seen.damaged.append(DamagedFile(name, problem))
            progress.item(name)

    def checked(self) -> CheckedRecovery:
        """What is to be reported of it."""
        seen = self.seen
        shared = {path for path, file in self._sound.files.items() if is_shared_out(path) and file.size}
        if not seen.find_out_whether_gone() and not seen.damaged and (bare := shared - self._covered):
            problem = f"its stripes lack {counted(len(bare), 'file')} of {len(shared)}"
            seen.damaged.append(DamagedFile(RECOVERY_LABEL_PATH, problem))
        return CheckedRecovery(
            name=f"the recovery volume ({seen.volume.folder})",
            folder=seen.volume.folder,
            volumes=self._volumes,
            stripes=len(self._files),
            size=self.size,
            damaged=tuple(seen.damaged),
            strange=tuple(sorted(seen.strange)),
            gone=seen.gone,
        )

    def _judge(self, fd: int, progress: Progress) -> str | None:
        """What is wrong with a stripe; remembers what it covers."""
        size = os.fstat(fd).st_size
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        descriptions: dict[bytes, Description] = {}
        blocks: set[tuple[bytes, int]] = set()
        whole = 0
        for packet in scan_packets(fd):
            whole += packet.length
            progress.advance(packet.length)
            if packet.kind == RECOVERY:
                blocks.add((packet.set_id, packet.exponent))
            else:
                descriptions.setdefault(packet.set_id, Description(packet.set_id)).add(packet)
        progress.advance(size - whole)
        if whole != size:
            return f"{size - whole:,} of {size:,} bytes are in no sound packet"
        if len(descriptions) != 1:
            return f"packets of {len(descriptions)} sets instead of one"
        [description] = descriptions.values()
        members = description.described()
        if not members or not all(self._is_ours(member) for member in members):
            return "does not cover files of this bundle"
        wanted = _wanted_blocks(members, description.block_size)
        if len(blocks) != wanted or size != _wanted_size(description, wanted):
            return f"{len(blocks)} of {wanted} recovery blocks, and {size:,} bytes"
        self._covered.update(bundle_path(member.path) for member in members)
        return None

    def _is_ours(self, member: Described) -> bool:
        file = self._sound.files.get(bundle_path(member.path))
        return file is not None and file.size == member.size


def _read_label(volume: Volume, digest: str) -> tuple[int, int]:
    """How many volumes are covered, and how many stripes there are.

    Raises:
        BundleUntrusted: the label is malformed, or another bundle's.
    """
    try:
        value = parse_canonical(volume.tree.read(RECOVERY_LABEL_PATH, limit=MAX_BYTES), limit=MAX_BYTES)
    except NotCanonicalError as fault:
        raise LabelInvalid(f"not canonical JSON: {fault}") from fault
    top = Record(value, RECOVERY_LABEL_PATH, LabelInvalid).exactly(_KEYS)
    if top.text("bundle") != digest:
        top.refuse("another bundle's")
    return top.number("volumes"), top.number("stripes", most=_MAX_STRIPES)


def _size(volume: Volume, name: str) -> int:
    try:
        return (volume.folder / name).lstat().st_size
    except OSError:
        return 0  # whoever reads it says what is wrong with it


def _wanted_blocks(members: Sequence[Described], block_size: int) -> int:
    """As many recovery blocks as the volume with the most blocks has: any one of them may be lost."""
    blocks: dict[str, int] = {}
    for member in members:
        number = member.path.partition("/")[0]
        blocks[number] = blocks.get(number, 0) - (-member.size // block_size)
    return max(blocks.values())


def _wanted_size(description: Description, blocks: int) -> int:
    """Of a stripe as it is written: what describes it comes first and, once more, last."""
    critical = (*description.critical(), (CREATOR, CREATOR_TEXT))
    size = sum(len(packet_bytes(description.set_id, kind, body)) for kind, body in critical)
    return 2 * size + blocks * (_PACKET + description.block_size)
