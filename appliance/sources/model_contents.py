"""Whether the files of a model repository that are taken without permission are what they are called.

Not by how they begin: there are more ways to begin than anybody can list.  Each kind is read to its end by
its own rules, which leave no room before, between or behind what they allow:

- ``.safetensors``: the header describes every byte that follows it, once, without holes;
- ``.json`` and ``.jsonl``: parses as JSON;
- other text: UTF-8 without control characters.  Two things are text all the same and run: a script, and
  a pickle of protocol 0;
- ``.model`` and ``.spm``: such a text, or a SentencePiece table, the one binary kind among the tokenizers.
"""

from __future__ import annotations

import json
import pickletools
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from appliance.sources.safetensors import read_header

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_MAX_JSON: Final = 128 << 20  # bytes; the largest tokenizers are a third of it
_PIECE: Final = 1 << 20
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")  # all but tabs and the ends of lines and pages
_BYTE_ORDER_MARK: Final = "\ufeff"

#: What unpickling needs to call something: a name to import, arguments, the call (PEP 307, pickletools).
_IMPORTS: Final = frozenset({"GLOBAL", "INST"})
_ARGUMENTS: Final = frozenset({"MARK", "EMPTY_TUPLE"})
_CALLS: Final = frozenset({"BUILD", "INST", "NEWOBJ", "OBJ", "REDUCE"})

_TABLES: Final = frozenset({".model", ".spm"})
#: Fields of SentencePiece's ModelProto (sentencepiece_model.proto), each of wire type 2: tag bytes.
_PIECES_TAG: Final = 0x0A
_TABLE_TAGS: Final = frozenset({0x0A, 0x12, 0x1A, 0x22, 0x2A})
_LONGEST_VARINT: Final = 5  # bytes; a field is shorter than 2 GB


def betrays(path: str, file: Path) -> str | None:
    """What is wrong with a file whose name needs no permission; None: it is what it is called."""
    suffix = PurePosixPath(path.lower()).suffix
    if suffix == ".safetensors":
        return _no_safetensors(file)
    if suffix in _TABLES and _is_sentencepiece(file):
        return None
    if wrong := _no_text(file):
        return wrong
    if suffix in {".json", ".jsonl"}:
        return _no_json(file, by_line=suffix == ".jsonl")
    return None


def _no_text(file: Path) -> str | None:
    try:
        # No translation of line ends: the bytes as they are.
        with file.open(encoding="utf-8", newline="") as text:
            head = piece = text.read(_PIECE)
            while piece:
                if found := _CONTROL.search(piece):
                    return f"is no text: it holds the control character {found[0]!a}"
                piece = text.read(_PIECE)
    except UnicodeDecodeError:
        return "is no text: it is not UTF-8"
    if head.removeprefix(_BYTE_ORDER_MARK).startswith("#!"):
        return "is a script: it begins with #!"
    with file.open("rb") as opened:
        return "is a pickle, which runs code when it is loaded" if _calls(opened) else None


def _calls(file: BinaryIO) -> bool:
    """Whether unpickling would call something before it found that this is no pickle."""
    seen: set[str] = set()
    try:
        for opcode, _, _ in pickletools.genops(file):
            seen.add(opcode.name)
            if seen & _IMPORTS and seen & _ARGUMENTS and seen & _CALLS:
                return True
    except ValueError:  # here it is none any more
        pass
    return False


def _no_json(file: Path, *, by_line: bool) -> str | None:
    if file.stat().st_size > _MAX_JSON:
        return f"is longer than {_MAX_JSON:,} bytes, too long for JSON that describes a model"
    text = file.read_text(encoding="utf-8-sig")
    try:
        for document in text.splitlines() if by_line else [text]:
            if document.strip() or not by_line:
                json.loads(document)
    except (ValueError, RecursionError):
        return "is no JSON"
    return None


def _no_safetensors(file: Path) -> str | None:
    with file.open("rb") as opened:
        try:
            read_header(opened, file.stat().st_size)
        except ValueError as fault:
            return str(fault)
    return None


def _is_sentencepiece(file: Path) -> bool:
    """Whether the whole file is a ModelProto: fields of known numbers, each as long as it says."""
    with file.open("rb") as opened:
        size = file.stat().st_size
        if opened.read(1) != bytes([_PIECES_TAG]):
            return False
        opened.seek(0)
        while tag := opened.read(1):
            length = _varint(opened)
            if tag[0] not in _TABLE_TAGS or length is None or opened.seek(length, 1) > size:
                return False
    return True


def _varint(file: BinaryIO) -> int | None:
    value = 0
    for position in range(_LONGEST_VARINT):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << (7 * position)
        if byte[0] < 0x80:  # noqa: PLR2004 - the bit that says more bytes follow
            return value
    return None
