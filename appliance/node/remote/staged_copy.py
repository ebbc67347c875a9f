"""The copy of one bundle on the disk of its node: what of it is missing, taking that in, and the mark.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``receive``.

Under ``home``: ``<digest>/`` the copy, files 0444 and folders 0555; ``<index>.part`` in
``<digest>.incoming/`` the file being received, its blocks of 4 MiB checked against ``blocks`` before
anything is added; ``<digest>.complete`` the mark, written last, with size, times and inode of every file.
While the mark stands and these agree, the copy is taken as it is; a file that disagrees, or all with
``recheck``, is hashed again.  Times of change cannot be set by a program, so an edit does not hide.

A copy that was made of an older one and a patch may lack recovery data (``without``), and nothing else.

A file that is cut into slices in the bundle is one file here, and never anything else: its part grows by
one slice after another, each compared with its signed digest as its last byte arrives.  Blocks are
counted over the whole file; slices end between blocks (docs/format.md, Slices).

What lies in the bundle under a stricter list has a second digest, ``further``: it is computed and compared
in the same pass, and the copy is compared with that list, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from appliance.node.remote.hashing_lanes import Lanes

    Fill = Callable[[memoryview, int, int], None]

BLOCK = 4 << 20
#: Of the SHA-256 of a block; they are told one behind another.
DIGITS = 64
#: Where recovery data lies: it mends media, and what was made on the node has none.
RECOVERY = "parity/"
CHUNK = 1 << 20
#: The lists a bundle may have: path, algorithm, hex digits.  A later one names those before it, too.
LISTS = (("trust/SHA256SUMS", "sha256", 64), ("trust/SHA384SUMS", "sha384", 96))
#: Who signed, and what is said of the build: in no list.
BESIDE = re.compile(
    r"trust/(SHA(256|384)SUMS\.[a-z0-9-]+\.(sig|mldsa87)|provenance\.[a-z0-9-]+\.dsse\.json)"
)


class Refused(Exception):
    """Ends the program with one last line that says why."""

    def __init__(self, error: str, **details: object) -> None:
        super().__init__(error)
        self.line = {"error": error, **details}


class Copy:
    """The copy of one bundle on this node."""

    def __init__(
        self, home: str, digest: str, files: list[dict[str, Any]], without: Iterable[str] = ()
    ) -> None:
        self.files = [{**file, "index": index} for index, file in enumerate(files)]
        self.without = sorted(without)
        self.digest = digest
        self.folder = os.path.join(home, digest)
        self.incoming = os.path.join(home, digest + ".incoming")
        self.mark = os.path.join(home, digest + ".complete")
        self.by_path = {file["path"]: file for file in self.files}
        self.seen: dict[str, list[int] | None] = {}
        self.lanes: Lanes | None = None

    def place(self, file: dict[str, Any]) -> str:
        return os.path.join(self.folder, file["path"])

    def part(self, file: dict[str, Any]) -> str:
        return os.path.join(self.incoming, f"{file['index']}.part")

    def check_list(self) -> None:
        """The files asked for are exactly those of the list whose digest names the bundle."""
        for file in self.files:
            parts = file["path"].split("/")
            if "" in parts or "." in parts or ".." in parts:
                raise Refused("failed", text="a path leaves the bundle: " + file["path"])
        if any(not path.startswith(RECOVERY) for path in self.without):
            raise Refused("failed", text="a copy may lack recovery data alone")
        if self.by_path.get("trust/SHA256SUMS", {}).get("sha256") != self.digest:
            raise Refused("failed", text="the list does not belong to the digest")

    def check_against_list(self) -> None:
        """What was received is what list and manifest say, path for path; read from the copy itself."""
        lists = [each for each in LISTS if each[0] in self.by_path]
        outside = {path for path in self.by_path if BESIDE.fullmatch(path)} | {path for path, _, _ in lists}
        sent = [file for file in self.files if file["path"] not in outside]
        parts = [part for file in sent for part in file["slices"] or [file]]
        for path, algorithm, digits in lists:
            with open(os.path.join(self.folder, path), encoding="ascii") as stream:
                listed = {line[digits + 2 :].rstrip("\n"): line[:digits] for line in stream}
            for each in self.without:
                listed.pop(each, None)
            if {part["path"]: digests_of(part).get(algorithm) for part in parts} != listed:
                raise Refused("failed", text=f"the files sent are not those of the signed list {path}")
            parts.append(self.by_path[path])
        with open(os.path.join(self.folder, "manifest.json"), encoding="utf-8") as stream:
            components = json.load(stream)["components"].values()
        cut = [file for part in components for file in part["files"] if "slices" in file]
        if joins(cut) != joins(file for file in sent if file["slices"]):
            raise Refused("failed", text="the slices sent are not joined as the signed manifest says")

    def known(self) -> dict[str, list[int]]:
        """What the mark remembers of each file; nothing without a mark."""
        try:
            with open(self.mark, encoding="utf-8") as stream:
                files: dict[str, list[int]] = json.load(stream)["files"]
                return files
        except (OSError, ValueError, KeyError):
            return {}

    def foreign(self) -> list[str]:
        """What lies in the copy that the list does not name; a copy holds the bundle and nothing else."""
        folders = {""}
        for path in self.by_path:
            while path := os.path.dirname(path):
                folders.add(path)
        found = []
        for folder, names, leaves in os.walk(self.folder):
            for name in names + leaves:
                full = os.path.join(folder, name)
                path = os.path.relpath(full, self.folder)
                is_folder = name in names and not os.path.islink(full)
                if path not in (folders if is_folder else self.by_path):
                    found.append(path)
            names[:] = [
                name
                for name in names
                if os.path.relpath(os.path.join(folder, name), self.folder) in folders
            ]
        return found

    def loosen(self) -> None:
        """Let folders take changes while the copy is incomplete."""
        for folder, _, _ in os.walk(self.folder):
            os.chmod(folder, 0o755)  # noqa: S103 - services of the node read the copy

    def missing(self, recheck: bool, note: Callable[[str], None]) -> tuple[list[list[int]], list[str]]:
        """What is wanted, as [index, offset], and what was removed; ``note`` hears what takes time."""
        known = self.known()
        foreign = self.foreign()
        suspect = [
            (index, file)
            for index, file in enumerate(self.files)
            if recheck or not (mark := known.get(file["path"])) or fingerprint(self.place(file)) != mark
        ]
        held_back = {file["path"] for _, file in suspect}
        self.seen = {path: mark for path, mark in known.items() if path not in held_back}
        if suspect or foreign:
            unlink(self.mark)
            self.loosen()
        for path in foreign:
            unlink(os.path.join(self.folder, path))
        present = sum(os.path.lexists(self.place(file)) for _, file in suspect)
        if present:
            note(f"hashing {present} files that the node already has")
        want = []
        for index, file in suspect:
            if self.has(file):
                self.seen[file["path"]] = fingerprint(self.place(file))
            else:
                unlink(self.place(file))
                want.append([index, self.good_prefix(file)])
        self.drop_parts({self.part(self.files[index]) for index, _ in want})
        return want, foreign

    def has(self, file: dict[str, Any]) -> bool:
        """Whether a file lies in its place, as it was signed."""
        return is_right(self.place(file), file)

    def drop_parts(self, wanted: set[str]) -> None:
        """Remove what was being received and is no longer wanted, before space is counted."""
        for name in os.listdir(self.incoming) if os.path.isdir(self.incoming) else ():
            if os.path.join(self.incoming, name) not in wanted:
                unlink(os.path.join(self.incoming, name))

    def good_prefix(self, file: dict[str, Any]) -> int:
        """Bytes at the start of a part that are right, in whole blocks; the rest is cut off."""
        good = 0
        try:
            with open_part(self.part(file)) as stream:
                for at in range(0, len(file["blocks"]), DIGITS):
                    wanted = file["blocks"][at : at + DIGITS]
                    block = stream.read(BLOCK)
                    if hashlib.sha256(block).hexdigest() != wanted:
                        break
                    good += len(block)
                stream.truncate(good)
        except FileNotFoundError:
            return 0
        return good

    def receive(self, file: dict[str, Any], offset: int, fill: Fill) -> None:
        """Add the bytes from ``offset`` on to a part, and put the whole in its place if it is right.

        ``fill`` puts the next bytes into the part, from a position on, and into a buffer.
        """
        for folder in (self.incoming, os.path.dirname(self.place(file))):
            os.makedirs(folder, exist_ok=True)
        if self.lanes is None:
            self.lanes = new_lanes()
        lanes, whole = self.lanes, Digests(file)
        position = end = 0
        with open_part(self.part(file), create=True) as stream:
            for piece in file["slices"] or [file]:
                digests = [whole, Digests(piece)] if file["slices"] else [whole]
                end += piece["size"]
                while position < end:
                    data = lanes.buffer(min(CHUNK, end - position))
                    if position < offset:  # never reads across it: offset and slices end blocks
                        read_all(stream.fileno(), data, position)
                    else:
                        fill(data, stream.fileno(), position)
                    position += len(data)
                    lanes.add(data, *digests)
                lanes.wait()
                if found := digests[-1].wrong():
                    raise Refused("altered", path=piece["path"], found=found)
            os.ftruncate(stream.fileno(), position)
            os.fchmod(stream.fileno(), 0o444)
            os.fsync(stream.fileno())
        if found := whole.wrong():  # of right slices: no later run could make it right
            unlink(self.part(file))
            raise Refused("unjoined", path=file["path"], found=found, wanted=file["sha256"])
        os.rename(self.part(file), self.place(file))
        self.seen[file["path"]] = fingerprint(self.place(file))

    def look_again(self) -> None:
        """What moved since it was checked is checked again: a file may have been edited in its place.

        A further link moves the time of change, too, and is no harm.
        """
        for file in self.files:
            now = fingerprint(self.place(file))
            if (now is None or now != self.seen.get(file["path"])) and not self.has(file):
                raise Refused("altered", path=file["path"], found="it was changed after it was checked")

    def finish(self) -> None:
        """Make the copy read-only and lasting, and write the mark."""
        self.look_again()
        marked = {file["path"]: fingerprint(self.place(file)) for file in self.files}
        self.check_against_list()
        shutil.rmtree(self.incoming, ignore_errors=True)
        for folder, _, _ in os.walk(self.folder, topdown=False):
            os.chmod(folder, 0o555)  # noqa: S103 - as above
            sync_folder(folder)
        beside = self.mark + ".new"
        with open(beside, "w", encoding="utf-8") as stream:
            json.dump({"digest": self.digest, "files": marked, "without": self.without}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(beside, self.mark)
        sync_folder(os.path.dirname(self.mark))


def new_lanes() -> Lanes:
    """What hashes beside receiving; whoever only looks at a copy does not bring it along."""
    from appliance.node.remote.hashing_lanes import Lanes

    return Lanes()


def joins(files: Iterable[dict[str, Any]]) -> dict[str, tuple[object, ...]]:
    """Of files that are cut, by path: size and digest, and those of the slices in their order."""
    return {
        file["path"]: (
            file["size"],
            file["sha256"],
            *((part["size"], part["sha256"]) for part in file["slices"]),
        )
        for file in files
    }


def fingerprint(path: str) -> list[int] | None:
    """What changes when a file does, without reading it; None for what is no plain file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o222:
        return None  # another name may be that of the next version's copy, which shares it
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def digests_of(file: dict[str, Any]) -> dict[str, str]:
    """All that is known of a file or slice: digests by algorithm."""
    return {"sha256": file["sha256"], **dict(file["further"])}


class Digests:
    """Computes, in one pass, every digest that is known of some bytes."""

    def __init__(self, known: dict[str, Any]) -> None:
        self.wanted = list(digests_of(known).items())
        self.each = [hashlib.new(algorithm) for algorithm, _ in self.wanted]

    def update(self, data: memoryview | bytes) -> None:
        for each in self.each:
            each.update(data)

    def wrong(self) -> str | None:
        """The first digest that is not the wanted one; None if all are."""
        found = [each.hexdigest() for each in self.each]
        pairs = zip(found, self.wanted, strict=True)
        return next((one for one, (_, wanted) in pairs if one != wanted), None)


def is_right(path: str, file: dict[str, Any]) -> bool:
    """Whether a plain, read-only file is the one that was signed.

    Of a cut file the whole has one digest; its slices are hashed apart where they have further ones.
    """
    known = fingerprint(path)
    if known is None or known[0] != file["size"]:
        return False
    whole = Digests(file)
    with open(path, "rb") as stream:
        for piece in [piece for piece in file["slices"] if piece["further"]] or [file]:
            digest = whole if piece is file else Digests(piece)
            left = piece["size"]
            while left and (data := stream.read(min(CHUNK, left))):
                left -= len(data)
                digest.update(data)
                if digest is not whole:
                    whole.update(data)
            if digest.wrong():
                return False
    return not whole.wrong()


def open_part(path: str, create: bool = False) -> BinaryIO:
    """A part, for reading and writing from its start; never through a link."""
    flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    return os.fdopen(os.open(path, flags, 0o600), "r+b")


def write_all(descriptor: int, data: memoryview, position: int) -> None:
    """Write all of ``data`` from a position on."""
    while data:
        count = os.pwrite(descriptor, data, position)
        data, position = data[count:], position + count


def read_all(descriptor: int, data: memoryview, position: int) -> None:
    """Fill ``data`` with what lies from a position on."""
    while data:
        if not (count := os.preadv(descriptor, [data], position)):
            raise Refused("failed", text=f"a part ends at {position}")
        data, position = data[count:], position + count


def unlink(path: str) -> None:
    """Remove a file or folder that may not be there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def sync_folder(path: str) -> None:
    """Make the names in a folder lasting, or the bytes of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
