"""The two slots that a node's journal is kept in: whenever the power goes, one of them is whole.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``journal``.

``<home>/journal/a`` and ``b``, 0600 in a folder 0700: a first line with the SHA-256 (hex) of the rest, and
the rest, which is the journal as the controller spelled it.  A commit writes the slot that is not the
newest sound one: a file beside it, fsync, rename, fsync of the folder.  So a slot under its own name was
whole on the disk before it got the name, and the state before is never touched.

Nothing is opened through a link, and nothing that another user owns, may read or may write is believed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from typing import Any

NAMES = ("a", "b")
MAX_BYTES = 2 << 20
FOLDER = "journal"
INSTALLED = "installed.json"

#: What a slot that is not there, or that cannot be believed, says.
Slot = dict[str, Any]


class Refused(Exception):
    """Ends the program with one last line that says why."""

    def __init__(self, error: str, **details: object) -> None:
        super().__init__(error)
        self.line = {"error": error, **details}


class Slots:
    """The journal's folder under ``home``; everything in it belongs to the user ``owner``."""

    def __init__(self, home: str, owner: int) -> None:
        self.home = home
        self.owner = owner
        self.fd = -1

    def open(self) -> bool:
        """Open the folder; False if there is none."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            home = os.open(self.home, flags)
        except FileNotFoundError:
            return False
        try:
            self.require_ours(home, self.home, 0o022)
            self.fd = os.open(FOLDER, flags | os.O_NOFOLLOW, dir_fd=home)
        except FileNotFoundError:
            return False
        except OSError as fault:
            if fault.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            raise Refused("unsafe", text=f"{self.home}/{FOLDER} is no folder of its own") from None
        finally:
            os.close(home)
        self.require_ours(self.fd, f"{self.home}/{FOLDER}", 0o077)
        return True

    def make(self) -> None:
        """Open the folder, made if it is not there; when this returns, its name is on the disk.

        Waits for the disk even if somebody else made it: they may have been killed before they did.
        """
        os.makedirs(self.home, mode=0o755, exist_ok=True)
        self._sync(os.path.dirname(self.home))
        with contextlib.suppress(FileExistsError):  # ours, or refused by open()
            os.mkdir(os.path.join(self.home, FOLDER), mode=0o700)
        if not self.open():
            raise Refused("failed", text="the journal's folder was taken away")
        self._sync(self.home)

    def lock(self, how: int, patience: float) -> None:
        """Keep others from changing the journal, or from doing anything with it (fcntl.LOCK_EX)."""
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self.fd, how | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Refused("busy") from None
                time.sleep(0.05)

    def require_ours(self, fd: int, path: str, forbidden: int) -> os.stat_result:
        """Refuse what others own or may use."""
        status = os.fstat(fd)
        if status.st_uid != self.owner or status.st_mode & forbidden:
            mode = stat.S_IMODE(status.st_mode)
            raise Refused("unsafe", text=f"{path} belongs to user {status.st_uid}, mode {mode:04o}")
        return status

    def read(self) -> dict[str, Slot]:
        """Both slots.

        ``state`` is ``sound``, ``absent`` or ``damaged``; a sound one has ``text``, ``sha256`` of it,
        ``count`` and ``tpm``.
        """
        return {name: self._slot(name) for name in NAMES}

    def _slot(self, name: str) -> Slot:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(name, flags, dir_fd=self.fd)
        except FileNotFoundError:
            return {"state": "absent"}
        except OSError as fault:
            if fault.errno in (errno.ELOOP, errno.ENXIO):
                raise Refused("unsafe", text=f"slot {name} is a link or no file") from None
            return {"state": "damaged", "why": str(fault)}
        try:
            status = self.require_ours(fd, f"slot {name}", 0o077)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise Refused("unsafe", text=f"slot {name} is no plain file, or has a second name")
            data = read_all(fd, MAX_BYTES + 66)
        except OSError as fault:
            return {"state": "damaged", "why": str(fault)}
        finally:
            os.close(fd)
        return parse_slot(data)

    def write(self, name: str, data: bytes) -> None:
        """Put a state into a slot; when this returns, it is on the disk."""
        beside = f"{name}.new"
        self._unlink(beside)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(beside, flags, 0o600, dir_fd=self.fd)
        try:
            try:
                write_all(fd, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
                os.fchmod(fd, 0o600)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(beside, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError:
            self._unlink(beside)
            raise
        self.settle()

    def settle(self) -> None:
        """Wait until the slots are on the disk under their names, whoever put them there."""
        os.fsync(self.fd)

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    @staticmethod
    def _sync(path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def newest(slots: dict[str, Slot]) -> str | None:
    """The name of the sound slot with the highest count; None if none is sound.

    No commit makes two states of one count: somebody else put one of them there.
    """
    sound = [name for name in NAMES if slots[name]["state"] == "sound"]
    if len(sound) == len(NAMES) and slots["a"]["count"] == slots["b"]["count"]:
        raise Refused("unsafe", text=f"both slots say that they are state {slots['a']['count']}")
    return max(sound, key=lambda name: int(slots[name]["count"]), default=None)


def parse_slot(data: bytes) -> Slot:
    """What the bytes of a slot say."""
    line, text = data[:65], data[65:]
    digest = hashlib.sha256(text).hexdigest()
    if line != digest.encode() + b"\n" or len(text) > MAX_BYTES:
        return {"state": "damaged", "why": "the digest in its first line is not that of the rest"}
    try:
        values = json.loads(text)
        count, tpm = values["count"], values.get("tpm")
        if type(count) is not int or count < 1 or type(tpm) not in (int, type(None)):
            raise ValueError("no count")
        return {"state": "sound", "text": text.decode(), "sha256": digest, "count": count, "tpm": tpm}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"state": "damaged", "why": "what it holds is no journal"}


def read_all(fd: int, most: int) -> bytes:
    """The bytes of a file, and at most one more than ``most``."""
    data = b""
    while len(data) <= most and (piece := os.read(fd, 1 << 20)):
        data += piece
    return data


def write_all(fd: int, data: bytes) -> None:
    """Write everything: one call may write less."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
