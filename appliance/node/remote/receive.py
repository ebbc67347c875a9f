"""Receives a bundle on the node: asks for what is missing, believes nothing it has not hashed.

Runs on the node's own Python (3.10 or later, standard library only), fed over standard input.

To the node: frames of a four-byte big-endian length, a JSON object of that length, and then as many raw
bytes as its ``size`` says.  From the node: one JSON object per line.

    → begin {home, digest, recheck, patience, size, base?, without?}
            with a JSON list of {path, size, sha256, blocks, slices: [{path, size, sha256}…], same}
    ← {"note": text}                        any number: what takes time
    ← {"want": [[index, offset]…], "bytes": n, "removed": [path…]}     offset: where to go on
    → file {index, offset, size}            the rest of one wanted file, in the order asked for
    → file {index, offset, parts: true}     likewise, in parts (``patched_copy.Parts``)
    ← {"done": index}
    → end {}
    ← {"complete": digest}
    ← {"error": "space"|"busy"|"altered"|"unjoined"|"base"|"failed", …}  and the program ends

``base`` is another bundle with a copy here, whose files are shared or copied from (``patched_copy``).

A file with ``slices`` is sent and kept as one; its bytes are those of the slices, one after another.
What lies on the disk, and what of it is believed: ``staged_copy``.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, cast

from appliance.node.remote.patched_copy import Parts, PatchedCopy
from appliance.node.remote.staged_copy import Copy, Refused, write_all

if TYPE_CHECKING:
    import io

STATION = cast("io.BufferedReader", sys.stdin.buffer)
IDLE_SECONDS = 30  # a station that is silent for longer is gone: SSH itself gives up after 15


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


def take(data: memoryview, part: int, position: int) -> None:
    """What the station sends next, into ``data`` and into a part."""
    read_into(data)
    write_all(part, data, position)


def read_frame() -> dict[str, Any]:
    """One message of the station's; its raw bytes are not read yet."""
    frame: dict[str, Any] = json.loads(read_exactly(int.from_bytes(read_exactly(4), "big")))
    return frame


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
    patched = PatchedCopy(begin["home"], begin, files) if begin.get("base") else None
    copy = patched or Copy(begin["home"], begin["digest"], files)
    copy.check_list()
    take_lock(begin["home"], begin["patience"])  # held until this process ends
    os.makedirs(copy.folder, exist_ok=True)
    want, removed = copy.missing(begin["recheck"], lambda text: say(note=text))
    size = sum(files[index]["size"] - offset for index, offset in want)
    free = os.statvfs(begin["home"])
    if size > free.f_bavail * free.f_frsize:
        raise Refused("space", needed=size, free=free.f_bavail * free.f_frsize)
    say(want=want, bytes=size, removed=removed)
    while (frame := read_frame())["do"] == "file":
        fill = Parts(patched, read_frame, read_into).fill if patched and frame.get("parts") else take
        copy.receive(copy.files[frame["index"]], frame["offset"], fill)
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
