"""Gives bytes of the copy of a bundle to the station that asks for them.  Reads; changes nothing.

Runs on the node's own Python (3.10 or later, standard library only).

→ JSON objects, one a line: {"home", "bundle"} first, then {"names": folder} or
  {"read": path, "at", "length"}
← for each, after the first's {"ready": true}, one line: {"names": […]}, or {"size": n} with n raw bytes, or
  {"error": text}
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    """Answer until nothing more is asked."""
    os.nice(5)
    first = json.loads(sys.stdin.buffer.readline())
    folder = os.path.join(first["home"], first["bundle"])
    answer({"ready": True})
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        try:
            if "names" in asked:
                answer({"names": sorted(os.listdir(place(folder, asked["names"])))})
                continue
            data = read(place(folder, asked["read"]), asked["at"], asked["length"])
        except OSError as fault:
            answer({"error": fault.strerror or str(fault)})
            continue
        answer({"size": len(data)})
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def place(folder: str, path: str) -> str:
    """Where a path of the bundle is; it may not lead out."""
    if "" in (parts := path.split("/")) or "." in parts or ".." in parts:
        raise OSError(22, "a path leaves the bundle")
    return os.path.join(folder, path)


def read(path: str, at: int, length: int) -> bytes:
    """These bytes of a file, or fewer where it ends."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = bytearray()
        while len(found) < length and (data := os.pread(descriptor, length - len(found), at + len(found))):
            found += data
        return bytes(found)
    finally:
        os.close(descriptor)


def answer(values: dict[str, Any]) -> None:
    """One line."""
    sys.stdout.buffer.write(json.dumps(values).encode() + b"\n")
    sys.stdout.buffer.flush()


main()
