"""Writes on the node what is installed on it, and what it was then, below ``/var/lib/appliance/``.

Runs on the node's own Python (3.10 or later, standard library only).  ``installed.json`` comes as one line
of JSON, for everybody to read; ``baseline.json`` as what follows, for root alone.  Each is replaced in one
step, so that it is the old one or the new one after a power cut; the baseline first, since the other names
its digest.
"""

from __future__ import annotations

import json
import os
import sys
import time

HOME = "/var/lib/appliance"


def keep(name: str, data: bytes, mode: int) -> None:
    """Replace a file in one step."""
    path = f"{HOME}/{name}"
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    os.rename(f"{path}.new", path)


def former(digest: str) -> str | None:
    """The bundle that was installed before this one, whose copy stays."""
    try:
        with open(f"{HOME}/installed.json", encoding="utf-8") as stream:
            said = json.load(stream)
        found = said["digest"] if said["digest"] != digest else said.get("previous")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def main() -> None:
    """Keep the values, with the node's own time."""
    values = json.loads(sys.stdin.buffer.readline())
    values["node_time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if before := former(values["digest"]):
        values["previous"] = before
    baseline = sys.stdin.buffer.read()
    os.makedirs(HOME, mode=0o755, exist_ok=True)
    keep("baseline.json", baseline, 0o600)
    keep("installed.json", (json.dumps(values, indent=2, sort_keys=True) + "\n").encode(), 0o644)
    folder = os.open(HOME, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
    print(json.dumps({"written": sorted(os.listdir(HOME))}))


main()
