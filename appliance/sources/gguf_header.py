"""The header of a GGUF file: its metadata, and which tensors it holds, of which type and shape, and where.

Read here and not by the ``gguf`` package, which needs numpy, maps the whole file and is on connected
stations only (decision 51); the tests compare with it.  Only the header is read, and long lists (the
vocabulary) are passed over.  Format: ggml project, ``docs/gguf.md``, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.sources.safetensors import Stored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

#: Types of tensors, by number: name, numbers in a block, bytes of a block (ggml.h; ggml-common.h).
GGML_TYPES: Final[dict[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}

#: Types of metadata values, by number (docs/gguf.md): what struct calls them.
_SCALARS: Final = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING: Final = 8
_ARRAY: Final = 9
_VERSIONS: Final = (2, 3)
_MAX_HEADER: Final = 256 << 20  # bytes; the largest vocabularies take a tenth
_MAX_STRING: Final = 16 << 20  # bytes; chat templates and the like
_MAX_DIMENSIONS: Final = 4
_KEPT: Final = 1024  # entries of a list
_ALIGNMENT: Final = 32  # where the file names none

Value = str | int | float | bool | list[int | float | bool]


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself; ``shape`` of its tensors has rows first, as elsewhere here."""

    metadata: Mapping[str, Value]
    tensors: tuple[Stored, ...]


def read_gguf_header(opened: BinaryIO, size: int) -> GgufHeader:
    """The header of a file of ``size`` bytes.

    Raises:
        ValueError: it is no GGUF of these versions; the message goes on after the file's name.
    """
    reader = _Reader(opened, min(size, _MAX_HEADER))
    if reader.take(4) != b"GGUF":
        raise ValueError("is no GGUF: it begins otherwise")
    if (version := reader.number("<I")) not in _VERSIONS:
        raise ValueError(f"is GGUF of version {version}, and versions 2 and 3 are read here")
    tensors, keys = reader.number("<Q"), reader.number("<Q")
    metadata: dict[str, Value] = {}
    for _ in range(keys):
        key = reader.text()
        if key in metadata:
            raise ValueError(f"is no GGUF: it says {key!a} twice")
        value = reader.value()
        if value is not None:
            metadata[key] = value
    described = [reader.tensor() for _ in range(tensors)]
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise ValueError("is no GGUF: its alignment is no power of two")
    start = -(-reader.read // alignment) * alignment
    for each in described:
        if start + each.end > size:
            raise ValueError(
                f"is cut short: {each.name!a} ends at byte {start + each.end:,}, and the file at {size:,}"
            )
    if len({each.name for each in described}) != len(described):
        raise ValueError("is no GGUF: it names a tensor twice")
    return GgufHeader(metadata, tuple(described))


class _Reader:
    """Reads values one after the other, and no further than a header may reach."""

    def __init__(self, opened: BinaryIO, limit: int) -> None:
        self._opened, self._limit, self.read = opened, limit, 0

    def take(self, count: int) -> bytes:
        self.read += count
        if self.read > self._limit:
            raise ValueError("is no GGUF: its header is longer than the file, or than it may be")
        data = self._opened.read(count)
        if len(data) != count:
            raise ValueError("is no GGUF: it is cut short within its header")
        return data

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def text(self) -> str:
        length = self.number("<Q")
        if length > _MAX_STRING:
            raise ValueError("is no GGUF: it holds a longer text than it may")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as fault:
            raise ValueError("is no GGUF: it holds a text that is not UTF-8") from fault

    def value(self) -> Value | None:
        """A value of metadata; None for a list that is not kept."""
        kind = self.number("<I")
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            scalar: int | float | bool = self._scalars(kind, 1)[0]
            return scalar
        kind, count = self.number("<I"), self.number("<Q")
        if kind == _STRING:
            for _ in range(count):  # the limit of the header ends this
                self.text()
            return None
        found = self._scalars(kind, count)
        return list(found) if count <= _KEPT else None

    def _scalars(self, kind: int, count: int) -> tuple[int | float | bool, ...]:
        if kind not in _SCALARS:
            raise ValueError(f"is no GGUF: it holds a value of unknown type {kind}")
        form = _SCALARS[kind]
        data = self.take(struct.calcsize(form) * count)
        if count > _KEPT:
            return ()
        return struct.unpack(f"<{count}{form[1:]}", data)

    def tensor(self) -> Stored:
        name = self.text()
        if not 1 <= (dimensions := self.number("<I")) <= _MAX_DIMENSIONS:
            raise ValueError(f"is no GGUF: {name!a} has {dimensions} dimensions")
        # Columns come first in a GGUF file.
        shape = tuple(reversed([self.number("<Q") for _ in range(dimensions)]))
        if (kind := self.number("<I")) not in GGML_TYPES:
            raise ValueError(f"holds {name!a} of a type that is not known here: {kind}")
        dtype, block, width = GGML_TYPES[kind]
        begin = self.number("<Q")
        if shape[-1] % block:
            raise ValueError(f"is no GGUF: a row of {name!a} is not made of whole blocks")
        return Stored(name, dtype, shape, begin, begin + math.prod(shape) // block * width)
