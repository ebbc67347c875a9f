"""What the files of a model repository can do to whoever opens them.

Weights in safetensors are numbers and nothing else; text is text.  Pickle runs code when it is loaded,
whatever its suffix; Python files run when a library is told to trust the repository; GGUF is data, but
read by parsers written in C.  A file is judged by its name, before it is fetched, and by its first
bytes, once it is here: a name alone proves nothing.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.definition.components import Allowed

_MAX_HEADER: Final = 100_000_000  # bytes; the limit of the safetensors library itself
_HEAD: Final = 512  # bytes of a text that are looked at

_PICKLE: Final = (
    *(".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz", ".nemo"),
    *(".mar", ".t7", ".msgpack", ".h5", ".hdf5", ".keras"),
)
"""Loaded by running what they contain: pickle itself, containers of it, and Keras' Lambda layers."""
_CODE: Final = (
    ".py",
    ".pyc",
    ".so",
    ".dll",
    ".dylib",
    ".exe",
    ".sh",
    ".js",
    ".cu",
    ".ipynb",
    ".jar",
    ".whl",
)
_TEXT: Final = (
    *(".json", ".jsonl", ".txt", ".md", ".yaml", ".yml", ".toml", ".cfg", ".csv", ".tsv", ".jinja"),
    *(".rst", ".model", ".spm", ".tiktoken", ".vocab", ".bpe", ".lock"),
)
"""Configuration, tokenizers and their tables (``.model`` is a SentencePiece table), documentation."""
_TEXT_NAMES: Final = ("license*", "licence*", "notice*", "readme*", "use_policy*", "copying*", "authors*")

_SIGNS: Final[tuple[tuple[bytes, Allowed], ...]] = (
    (b"PK\x03\x04", "pickle"),  # zip: PyTorch's files, npz
    *((b"\x80" + bytes([protocol]), "pickle") for protocol in range(2, 6)),
    (b"\x93NUMPY", "pickle"),
    (b"\x89HDF", "pickle"),
    (b"\x7fELF", "code"),
    (b"#!", "code"),
    (b"GGUF", "gguf"),
)
"""How files begin that are not what a text file's name promises."""

WHY: Final[dict[Allowed, str]] = {
    "pickle": "can run code when it is loaded",
    "code": "is a program",
    "gguf": "is data, but neither safetensors nor text",
    "other": "is of no kind known here",
}


def needs(path: str) -> Allowed | None:
    """What a definition must allow for a file with this name; None: nothing."""
    name = PurePosixPath(path).name.lower()
    suffix = PurePosixPath(name).suffix
    found: Allowed | None
    if suffix in _PICKLE:
        found = "pickle"
    elif suffix in _CODE:
        found = "code"
    elif suffix == ".gguf":
        found = "gguf"
    elif suffix in {".safetensors", *_TEXT} or any(fnmatchcase(name, pattern) for pattern in _TEXT_NAMES):
        found = None
    else:
        found = "other"
    return found


def betrays(path: str, file: Path) -> str | None:
    """What is wrong with a file whose name needs no permission; None: it is what it is called."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(_HEAD)
        if path.lower().endswith(".safetensors"):
            return _no_safetensors(head, opened.read(_header_size(head, size)), size)
    for sign, kind in _SIGNS:
        if head.startswith(sign):
            return f"begins like a file that {WHY[kind]}"
    return None


def _header_size(head: bytes, size: int) -> int:
    """Bytes of a safetensors header that are still to be read after ``head``."""
    length = int.from_bytes(head[:8], "little")
    return max(0, min(length, _MAX_HEADER, size) + 8 - len(head))


def _no_safetensors(head: bytes, rest: bytes, size: int) -> str | None:
    """The format of safetensors: length of the header (8 bytes, little-endian), JSON, numbers."""
    length = int.from_bytes(head[:8], "little")
    if len(head) <= 8 or length > min(_MAX_HEADER, size - 8):  # noqa: PLR2004 - the length's own length
        return "is too short to be safetensors, or its header is longer than it may be"
    try:
        header = json.loads((head + rest)[8 : 8 + length])
    except (ValueError, RecursionError):
        return "is no safetensors: its header is not JSON"
    return None if isinstance(header, dict) else "is no safetensors: its header is no JSON object"
