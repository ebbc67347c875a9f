"""What is put into an object store: lines of JSON, in objects that are named for the blocks in them.  Pure.

The same frames give the same names and bytes.  A name says exactly what is in it: all blocks from the first
to the last, none missing; so a list of names shows what is there and what is not.  A block of another
history is an object of its own, with the hash of its lines in its name, as its number is taken.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from appliance.export.sinks.lines import entries, json_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from appliance.export.segments import Frame

_OF_HASH = 16


class LogObject(NamedTuple):
    """One object: its name within the bucket, its lines, their SHA-256, and what is told beside them."""

    name: str
    body: bytes
    sha256: bytes
    entries: int
    metadata: dict[str, str]


class _Lines(NamedTuple):
    """A block as lines: first and last are sequences."""

    epoch: int
    block: int
    first: int
    last: int
    fork: bool
    lines: list[bytes]


def log_objects(frames: Iterable[Frame], node: str, prefix: str) -> list[LogObject]:
    """The objects of these frames of an archive.

    Args:
        frames: in any order; only blocks count.
        node: its name.
        prefix: before each name, ending with a slash or empty.
    """
    blocks = [each for frame in frames if (each := _lines(frame, node)) is not None]
    return [_object(run, f"{prefix}{node}/", node) for run in _runs(blocks)]


def _lines(frame: Frame, node: str) -> _Lines | None:
    found = list(entries(frame, node))
    if not found:
        return None
    head = found[0]
    lines = [json_line(each) for each in found]
    return _Lines(head.epoch, head.block, head.first, found[-1].last, head.fork, lines)


def _runs(blocks: list[_Lines]) -> Iterator[list[_Lines]]:
    """Blocks of one epoch whose numbers follow one another; each of another history alone."""
    run: list[_Lines] = []
    for each in sorted(blocks, key=lambda block: (block.fork, block.epoch, block.block)):
        follows = run and not each.fork and (run[-1].epoch, run[-1].block + 1) == (each.epoch, each.block)
        if run and not follows:
            yield run
            run = []
        run.append(each)
    if run:
        yield run


def _object(run: list[_Lines], folder: str, node: str) -> LogObject:
    first, last = run[0], run[-1]
    body = b"".join(line for each in run for line in each.lines)
    digest = hashlib.sha256(body)
    name = f"{first.block:020}-{last.block:020}"
    if first.fork:
        name = f"fork-{first.block:020}-{digest.hexdigest()[:_OF_HASH]}"
    metadata = {
        "node": node,
        "epoch": str(first.epoch),
        "first-sequence": str(first.first),
        "last-sequence": str(last.last),
        "sha256": digest.hexdigest(),
    }
    count = sum(len(each.lines) for each in run)
    return LogObject(f"{folder}{first.epoch:010}/{name}.jsonl", body, digest.digest(), count, metadata)
