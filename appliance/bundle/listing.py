r"""``trust/SHA256SUMS``: the list of every other file, and the only thing that is signed.

A strict subset of what ``sha256sum --check`` reads: lines ``<64 hex digits>  <path>\n`` in small
letters, two spaces, sorted by the bytes of the path, each path once, none escaped.  One set of files
has one spelling, so the SHA-256 of the list identifies the bundle.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

from appliance.bundle.paths import (
    BLOCKS_PATH,
    LIST_PATH,
    MANIFEST_PATH,
    PAYLOAD_FOLDER,
    REVIEW_PATH,
    check_path,
    check_paths,
    misplaced,
)
from appliance.errors import BundleMalformed

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Room for about 200,000 files with long names.
MAX_BYTES: Final = 64 * 1024 * 1024
_LINE: Final = re.compile(rb"([0-9a-f]{64})  ([!-~]{1,512})")


def listing_bytes(digests: Mapping[str, str]) -> bytes:
    """The list of these files: SHA-256 (lower-case hex) by path."""
    lines = (f"{digests[path]}  {path}\n" for path in sorted(digests, key=str.encode))
    return "".join(lines).encode("ascii")


def parse_listing(data: bytes) -> dict[str, str]:
    """Read a list; returns SHA-256 by path, in the order of the list.

    Raises:
        BundleMalformed: not exactly the spelling of this module, a forbidden path, a file that
            format 1 does not have, or one missing that every bundle has.
    """
    if len(data) > MAX_BYTES:
        _refuse("is too long", found=f"{len(data):,} bytes", wanted=f"at most {MAX_BYTES:,}")
    if not data.endswith(b"\n"):
        _refuse("does not end with a line feed", found=ascii(data[-20:]))
    digests: dict[str, str] = {}
    last = b""
    for number, line in enumerate(data[:-1].split(b"\n"), 1):
        match = _LINE.fullmatch(line)
        if not match:
            _refuse(f"line {number} is misspelled", found=ascii(line[:120]), wanted="DIGEST  PATH")
        if match[2] <= last:
            _refuse(f"line {number} is out of order or repeated", found=ascii(match[2]))
        last = match[2]
        path = last.decode("ascii")
        check_path(path)
        digests[path] = match[1].decode("ascii")
    check_paths(digests)
    _check_places(digests)
    return digests


def _check_places(digests: Mapping[str, str]) -> None:
    outside = [path for path in digests if not path.startswith(f"{PAYLOAD_FOLDER}/")]
    if fault := misplaced(outside, required=frozenset({BLOCKS_PATH, MANIFEST_PATH, REVIEW_PATH})):
        _refuse("does not list the files of format 1", found=fault[0], wanted=fault[1])


def _refuse(message: str, *, found: str | None = None, wanted: str | None = None) -> NoReturn:
    raise BundleMalformed(
        f"{LIST_PATH} {message}",
        found=found,
        wanted=wanted,
        hint="this is not a list our builder wrote: obtain the bundle again",
    )
