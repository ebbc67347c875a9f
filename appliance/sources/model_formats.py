"""What the files of a model repository can do to whoever opens them.

Weights in safetensors are numbers and nothing else; text is text.  Pickle runs code when it is loaded,
whatever its suffix; Python files run when a library is told to trust the repository; GGUF is data, but
read by parsers written in C.  A file is judged by its name, before it is fetched; that those taken without
permission are what they are called, ``appliance.sources.model_contents`` finds out once they are here.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from appliance.definition.components import Allowed

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
    elif suffix in {".safetensors", *_TEXT} or _is_named_as_text(name, suffix):
        found = None
    else:
        found = "other"
    return found


def _is_named_as_text(name: str, suffix: str) -> bool:
    """LICENSE, README_zh, LICENSE-2.0: the end of a version is no suffix, but that of an archive is."""
    has_suffix = bool(suffix) and not suffix[1:].isdecimal()
    return not has_suffix and any(fnmatchcase(name, pattern) for pattern in _TEXT_NAMES)
