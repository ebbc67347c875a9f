"""Receives a bundle on the node: asks for what is missing, believes nothing it has not hashed.

Runs on the node's own Python (3.10 or later, standard library only), fed over standard input.

To the node: frames of a four-byte big-endian length, a JSON object of that length, and then as many raw
bytes as its ``size`` says.  From the node: one JSON object per line.

    → begin {home, digest, recheck, patience, size}    with a JSON list of {path, size, sha256, blocks}
    ← {"note": text}                        any number: what takes time
    ← {"want": [[index, offset]…], "bytes": n, "removed": [path…]}     offset: where to go on
    → file {index, offset, size}            the rest of one wanted file, in the order asked for
    ← {"done": index}
    → end {}
    ← {"complete": digest}
    ← {"error": "space"|"busy"|"altered"|"failed", …}  and the program ends

On disk, under ``home``: ``<digest>/`` the copy, files 0444 and folders 0555; ``<index>.part`` in
``<digest>.incoming/`` the file being received, its blocks of 4 MiB checked against ``blocks`` before
anything is added; ``<digest>.complete`` the mark, written last, with size, times and inode of every file.
While the mark stands and these agree, the copy is taken as it is; a file that disagrees, or all with
``recheck``, is hashed again.  Times of change cannot be set by a program, so an edit does not hide.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import stat
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    import io

BLOCK = 4 << 20
CHUNK = 1 << 20
STATION = cast("io.BufferedReader", sys.stdin.buffer)
IDLE_SECONDS = 30  # a station that is silent for longer is gone: SSH itself gives up after 15


class Refused(Exception):
    """Ends the program with one last line that says why."""

    def __init__(self, error: str, **details: object) -> None:
        super().__init__(error)
        self.line = {"error": error, **details}


def say(**line: object) -> None:
    """One line to the station."""
    print(json.dumps(line), flush=True)


def read_exactly(size: int) -> bytes:
    """``size`` bytes of the station's; the program ends when the station is silent or gone."""
    data = bytearray(size)
    read_into(memoryview(data))
    return bytes(data)


def read_into(data: memoryview) -> None:
    """Fill ``data`` with what the station sends next."""
    signal.alarm(IDLE_SECONDS)
    count = STATION.readinto(data)
    signal.alarm(0)
    if count != len(data):
        sys.exit(3)


def read_frame() -> dict[str, Any]:
    """One message of the station's; its raw bytes are not read yet."""
    frame: dict[str, Any] = json.loads(read_exactly(int.from_bytes(read_exactly(4), "big")))
    return frame


class Copy:
    """The copy of one bundle on this node."""

    def __init__(self, home: str, digest: str, files: list[dict[str, Any]]) -> None:
        self.files = [{**file, "index": index} for index, file in enumerate(files)]
        self.digest = digest
        self.folder = os.path.join(home, digest)
        self.incoming = os.path.join(home, digest + ".incoming")
        self.mark = os.path.join(home, digest + ".complete")
        self.by_path = {file["path"]: file for file in self.files}

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
        if self.by_path.get("trust/SHA256SUMS", {}).get("sha256") != self.digest:
            raise Refused("failed", text="the list does not belong to the digest")

    def check_against_list(self) -> None:
        """What was received is what the list says, path for path; read from the copy itself."""
        with open(os.path.join(self.folder, "trust/SHA256SUMS"), encoding="ascii") as stream:
            listed = {line[66:].rstrip("\n"): line[:64] for line in stream}
        outside = {
            path
            for path in self.by_path
            if path == "trust/SHA256SUMS"
            or (path.startswith("trust/SHA256SUMS.") and path.endswith(".sig"))
        }
        if {path: self.by_path[path]["sha256"] for path in self.by_path if path not in outside} != listed:
            raise Refused("failed", text="the files sent are not those of the signed list")

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

    def missing(self, recheck: bool) -> tuple[list[list[int]], list[str]]:
        """What is wanted, as [index, offset], and what was removed."""
        known = self.known()
        foreign = self.foreign()
        suspect = [
            (index, file)
            for index, file in enumerate(self.files)
            if recheck or not known or fingerprint(self.place(file)) != known.get(file["path"])
        ]
        if suspect or foreign:
            unlink(self.mark)
            self.loosen()
        for path in foreign:
            unlink(os.path.join(self.folder, path))
        present = sum(os.path.lexists(self.place(file)) for _, file in suspect)
        if present:
            say(note=f"hashing {present} files that the node already has")
        want = []
        for index, file in suspect:
            if digest_of(self.place(file), file["size"]) != file["sha256"]:
                unlink(self.place(file))
                want.append([index, self.good_prefix(file)])
        return want, foreign

    def good_prefix(self, file: dict[str, Any]) -> int:
        """Bytes at the start of a part that are right, in whole blocks; the rest is cut off."""
        good = 0
        try:
            with open_part(self.part(file)) as stream:
                for wanted in file["blocks"]:
                    block = stream.read(BLOCK)
                    if hashlib.sha256(block).hexdigest() != wanted:
                        break
                    good += len(block)
                stream.truncate(good)
        except FileNotFoundError:
            return 0
        return good

    def receive(self, file: dict[str, Any], offset: int, size: int) -> None:
        """Add ``size`` bytes to a part from ``offset``, and put the whole in its place if it is right."""
        for folder in (self.incoming, os.path.dirname(self.place(file))):
            os.makedirs(folder, exist_ok=True)
        whole = hashlib.sha256()
        room = memoryview(bytearray(CHUNK))
        with open_part(self.part(file), create=True) as stream:
            for start in range(0, offset, BLOCK):  # offsets lie between blocks
                whole.update(stream.read(min(BLOCK, offset - start)))
            while size:
                data = room[: min(CHUNK, size)]
                read_into(data)
                whole.update(data)
                stream.write(data)
                size -= len(data)
            stream.truncate()
            stream.flush()
            os.fchmod(stream.fileno(), 0o444)
            os.fsync(stream.fileno())
        if whole.hexdigest() != file["sha256"]:
            raise Refused("altered", path=file["path"], found=whole.hexdigest())
        os.rename(self.part(file), self.place(file))

    def finish(self) -> None:
        """Make the copy read-only and lasting, and write the mark."""
        self.check_against_list()
        shutil.rmtree(self.incoming, ignore_errors=True)
        for folder, _, _ in os.walk(self.folder, topdown=False):
            os.chmod(folder, 0o555)  # noqa: S103 - as above
            sync_folder(folder)
        marked = {file["path"]: fingerprint(self.place(file)) for file in self.files}
        beside = self.mark + ".new"
        with open(beside, "w", encoding="utf-8") as stream:
            json.dump({"digest": self.digest, "files": marked}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(beside, self.mark)
        sync_folder(os.path.dirname(self.mark))


def fingerprint(path: str) -> list[int] | None:
    """What changes when a file does, without reading it; None for what is no plain file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o222 or status.st_nlink != 1:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def digest_of(path: str, size: int) -> str | None:
    """SHA-256 of a plain, read-only file of that size; None for anything else."""
    known = fingerprint(path)
    if known is None or known[0] != size:
        return None
    whole = hashlib.sha256()
    with open(path, "rb") as stream:
        while data := stream.read(CHUNK):
            whole.update(data)
    return whole.hexdigest()


def open_part(path: str, create: bool = False) -> BinaryIO:
    """A part, for reading and writing from its start; never through a link."""
    flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    return os.fdopen(os.open(path, flags, 0o600), "r+b")


def unlink(path: str) -> None:
    """Remove a file or folder that may not be there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def sync_folder(path: str) -> None:
    """Make the names in a folder lasting."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def take_lock(home: str, patience: float) -> int:
    """One receiver at a time; waits ``patience`` seconds for one whose station may just be gone."""
    lock = os.open(os.path.join(home, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + patience
    said = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > until:
                raise Refused("busy") from None
            if not said:
                say(note="waiting for an earlier copy to this node to end")
            said = True
            time.sleep(0.2)


def main() -> None:
    """One conversation."""
    os.umask(0o022)
    begin = read_frame()
    files = json.loads(read_exactly(begin["size"]))
    os.makedirs(begin["home"], exist_ok=True)
    copy = Copy(begin["home"], begin["digest"], files)
    copy.check_list()
    take_lock(begin["home"], begin["patience"])  # held until this process ends
    os.makedirs(copy.folder, exist_ok=True)
    want, removed = copy.missing(begin["recheck"])
    size = sum(files[index]["size"] - offset for index, offset in want)
    free = os.statvfs(begin["home"])
    if size > free.f_bavail * free.f_frsize:
        raise Refused("space", needed=size, free=free.f_bavail * free.f_frsize)
    say(want=want, bytes=size, removed=removed)
    while (frame := read_frame())["do"] == "file":
        copy.receive(copy.files[frame["index"]], frame["offset"], frame["size"])
        say(done=frame["index"])
    if not os.path.exists(copy.mark):
        copy.finish()
    say(complete=copy.digest)


try:
    main()
except Refused as refused:
    say(**refused.line)
    sys.exit(1)
except OSError as fault:
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        say(error="space", needed=None, free=0)
    else:
        say(error="failed", text=str(fault))
    sys.exit(1)
