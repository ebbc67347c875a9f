"""Writes on the node what is installed on it: ``/var/lib/appliance/installed.json``.

Runs on the node's own Python (3.10 or later, standard library only).  The values come as one line of
JSON; the file is replaced in one step, so that it is the old one or the new one after a power cut.
"""

from __future__ import annotations

import json
import os
import sys
import time

HOME = "/var/lib/appliance"
PATH = f"{HOME}/installed.json"


def main() -> None:
    """Keep the values, with the node's own time."""
    values = json.loads(sys.stdin.readline())
    values["node_time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    os.makedirs(HOME, mode=0o755, exist_ok=True)
    with open(f"{PATH}.new", "w", encoding="utf-8") as stream:
        json.dump(values, stream, indent=2, sort_keys=True)
        stream.write("\n")
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
    os.rename(f"{PATH}.new", PATH)
    folder = os.open(HOME, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
    print(json.dumps({"written": PATH}))


main()
