"""The header of a safetensors file: which tensors it holds, of which type and shape, and where.

The format: length of the header (8 bytes, little-endian), JSON, numbers.  The header describes every byte
that follows it, once, without holes; what does not is no safetensors here, whatever other readers say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import BinaryIO

_MAX_HEADER: Final = 100_000_000  # bytes; the limit of the safetensors library itself
_LENGTH: Final = 8  # bytes of the header's own length


@dataclass(frozen=True)
class Stored:
    """A tensor as a header describes it.  ``dtype`` and ``shape`` are as written there, not judged."""

    name: str
    dtype: object
    shape: object
    begin: int
    end: int

    @property
    def size(self) -> int:
        """Bytes of its numbers."""
        return self.end - self.begin


def read_header(opened: BinaryIO, size: int) -> tuple[Stored, ...]:
    """The tensors of a file of ``size`` bytes, in the order of their numbers; reads its header only.

    Raises:
        ValueError: it is no safetensors; the message goes on after the file's name.
    """
    length = int.from_bytes(opened.read(_LENGTH), "little")
    numbers = size - _LENGTH - length
    if size <= _LENGTH or length > _MAX_HEADER or numbers < 0:
        raise ValueError("is too short to be safetensors, or its header is longer than it may be")
    data = opened.read(length)
    try:
        tensors = _tensors(json.loads(data, object_pairs_hook=_once))
    except (ValueError, LookupError, TypeError, RecursionError) as fault:
        raise ValueError("is no safetensors: its header is not JSON that describes tensors") from fault
    reached = 0
    for each in tensors:
        if each.begin != reached:
            raise ValueError(
                f"is no safetensors: its header does not describe the bytes from {reached:,} on, once"
            )
        reached = each.end
    if reached != numbers:
        raise ValueError(
            f"is no safetensors: its header describes {reached:,} bytes, and {numbers:,} follow it"
        )
    return tensors


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a key written twice would mean this to one reader and that to another."""
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a key is written twice")
    return found


def _tensors(header: object) -> tuple[Stored, ...]:
    if not isinstance(header, dict):
        raise TypeError("no object")
    found = []
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        if not (type(begin) is int and type(end) is int and 0 <= begin <= end):
            raise ValueError("not offsets")
        found.append(Stored(name, tensor.get("dtype"), tensor.get("shape"), begin, end))
    return tuple(sorted(found, key=lambda each: (each.begin, each.end)))
