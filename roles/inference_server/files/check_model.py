#!/usr/bin/env python3
"""Compare a model's files with the bundle's digests, all of them, before an engine is given them.

Run by the unit before each start (``ExecStartPre``), as the user that serves.  The list is as
``sha256sum`` writes it, with absolute paths; every file below the folder must be on it, so that nothing is
read that nobody signed.  Several files are read at a time, and what is read stays in the page cache, from
where the engine takes it.  Why by reading, and not by fs-verity: docs/decisions/0074.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MOST_AT_A_TIME = 16
DIGITS = 64  # of a SHA-256
PIECE = 1 << 20


def read_list(text: str) -> dict[Path, str]:
    """SHA-256 by path.

    Raises:
        ValueError: a line is none of ``sha256sum``'s.
    """
    listed = {}
    for line in text.splitlines():
        digest, separator, path = line.partition("  ")
        if not separator or len(digest) != DIGITS or not path.startswith("/"):
            raise ValueError(f"no line of a list of digests: {line[:200]!r}")
        listed[Path(path)] = digest
    if not listed:
        raise ValueError("the list is empty")
    return listed


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, or why there is none."""
    digest, piece = hashlib.sha256(), bytearray(PIECE)
    try:
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(piece):
                digest.update(memoryview(piece)[:size])
            return digest.hexdigest()
    except OSError as fault:
        return fault.strerror or str(fault)


def unlisted(folder: Path, listed: dict[Path, str]) -> list[Path]:
    """What lies below a folder and is no listed file; links are followed by nobody."""
    return [
        Path(parent, name)
        for parent, folders, names in os.walk(folder)
        for name in sorted([*names, *(each for each in folders if Path(parent, each).is_symlink())])
        if Path(parent, name) not in listed
    ]


def main(arguments: list[str]) -> int:
    """Arguments: the list, and the model's folder.  0: all as signed; 1: with each file that is not."""
    listed = read_list(Path(arguments[0]).read_text("utf-8"))
    began = time.monotonic()
    # The longest first, so that none is begun when all others are done.
    order = sorted(listed, key=lambda path: -path.stat().st_size if path.is_file() else 0)
    with ThreadPoolExecutor(min(MOST_AT_A_TIME, os.cpu_count() or 1)) as pool:
        found = dict(zip(order, pool.map(digest_of, order), strict=True))
    wrong = [
        f"{path}: found {found[path]}, wanted {digest}"
        for path, digest in listed.items()
        if found[path] != digest
    ]
    wrong += [
        f"{path}: found a file that the bundle does not name"
        for path in unlisted(Path(arguments[1]), listed)
    ]
    for line in wrong:
        print(f"the model is not as it was signed: {line}", file=sys.stderr)
    size = sum(path.stat().st_size for path in listed if path.is_file())
    print(f"{len(listed)} files, {size:,} bytes, compared in {time.monotonic() - began:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
