"""Files of a model repository are what their names say, to the last byte."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from appliance.sources import model_contents
from appliance.sources import safetensors as headers
from appliance.sources.model_contents import betrays
from appliance.sources.model_formats import needs

from .hub_server import safetensors

if TYPE_CHECKING:
    from pathlib import Path


class Runs:
    """What a pickle of it does when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("it ran",)


def archive(kind: str) -> bytes:
    made = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(made, "w") as opened:
            opened.writestr("data.pkl", b"x")
    else:
        with tarfile.open(fileobj=made, mode="w") as opened:
            opened.addfile(tarfile.TarInfo("x"))
    return made.getvalue()


def table(*pieces: str) -> bytes:
    """A SentencePiece table: pieces with their scores, then its trainer's settings."""
    messages = [b"\x0a" + bytes([len(text.encode())]) + text.encode() + b"\x15\0\0\0\0" for text in pieces]
    return b"".join(b"\x0a" + bytes([len(one)]) + one for one in messages) + b"\x12\x02\x20\x01"


def tensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(begin: int, end: int) -> dict[str, object]:
    return {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}


def judged(folder: Path, path: str, data: bytes) -> str | None:
    file = folder / "file"
    file.write_bytes(data)
    assert needs(path) is None
    return betrays(path, file)


WHAT_THEY_ARE: dict[str, tuple[str, bytes]] = {
    "configuration": ("config.json", b'{"architectures": ["Example"]}\n'),
    "configuration with a byte order mark": ("config.json", b"\xef\xbb\xbf{}"),
    "lines of JSON": ("data.jsonl", b'{"a": 1}\n\n[2]\n'),
    "text in many scripts": ("README.md", "# Modèle 模型 🙂\r\n\tx\f\n".encode()),
    "text longer than a piece": ("vocab.txt", b"word\n" * 500_000),
    "a licence of a version": ("LICENSE-2.0", b"Apache License\n"),
    "a vocabulary that begins like a pickle": ("vocab.txt", b"cat\nhouse\nRed\ntree\n(\n"),
    "no text at all": ("README.md", b""),
    "a SentencePiece table": ("tokenizer.model", table("<unk>", "▁the")),
    "a table of tiktoken": ("tokenizer.model", b"IQ== 0\nIg== 1\n"),
    "weights": ("model.safetensors", safetensors(1000)),
    "weights of several tensors, in any order": (
        "model.safetensors",
        tensors({"b": tensor(4, 9), "a": tensor(0, 4), "none": tensor(4, 4)}, b"123456789"),
    ),
    "weights with notes and padding": (
        "model.safetensors",
        tensors(json.dumps({"__metadata__": {"format": "pt"}, "a": tensor(0, 2)}).encode() + b"   ", b"12"),
    ),
}


@pytest.mark.parametrize("case", WHAT_THEY_ARE)
def test_what_is_what_it_is_called_is_taken(tmp_path: Path, case: str) -> None:
    assert judged(tmp_path, *WHAT_THEY_ARE[case]) is None


PRINT = pickle.dumps(Runs(), protocol=0)
SCRIPT = "is a script"
PICKLE = "is a pickle"
BINARY = "is no text"
JSON = "is no JSON"

DECEIVED: dict[str, tuple[str, bytes, str]] = {
    "pickle 0 called JSON": ("config.json", pickle.dumps({"a": 1}, protocol=0), JSON),
    "a pickle that calls, called JSON": ("config.json", PRINT, PICKLE),
    "a pickle 0 that calls": ("notes.txt", PRINT, PICKLE),
    "a pickle 0 by hand": ("notes.txt", b"cos\nsystem\n(S'id'\ntR.", PICKLE),
    "one that fails once it has called": ("notes.txt", b"cos\nsystem\n(S'id'\ntR and some text", PICKLE),
    "one that calls by INST": ("notes.txt", b"(S'id'\nios\nsystem\n.", PICKLE),
    "one that calls by OBJ": ("notes.txt", b"(cos\nsystem\nS'id'\no.", PICKLE),
    "one that sets a state": ("notes.txt", b"cos\nsystem\n(lb.", PICKLE),
    "one after much that does nothing": (
        "notes.txt",
        b"S'" + b"x" * 2_000_000 + b"'\n0" + b"cos\nsystem\n(S'id'\ntR.",
        PICKLE,
    ),
    **{
        f"pickle {protocol} called text": ("vocab.txt", pickle.dumps(Runs(), protocol=protocol), BINARY)
        for protocol in range(1, 6)
    },
    "zip called JSON": ("tokenizer.json", archive("zip"), BINARY),
    "zip called text": ("README.md", archive("zip"), BINARY),
    "tar": ("README", archive("tar"), BINARY),
    "gzip called a table": ("tokenizer.model", gzip.compress(b"x"), BINARY),
    "xz": ("notes.txt", lzma.compress(b"x"), BINARY),
    "bzip2": ("notes.txt", bz2.compress(b"x"), BINARY),
    "7z": ("notes.txt", b"7z\xbc\xaf\x27\x1c\x00\x04", BINARY),
    "a program for Linux": ("notes.txt", b"\x7fELF\x02\x01", BINARY),
    "a program for Windows": ("notes.txt", b"MZ\x90\x00\x03\x00\x00\x00", BINARY),
    "GGUF": ("notes.txt", b"GGUF\x03\x00\x00\x00", BINARY),
    "HDF": ("notes.txt", b"\x89HDF\r\n\x1a\n", BINARY),
    "NumPy": ("notes.txt", b"\x93NUMPY\x01\x00", BINARY),
    "a control character after a piece": ("vocab.txt", b"word\n" * 500_000 + b"\x00", BINARY),
    "Latin letters of another encoding": ("LICENSE", "Lizenz für alle".encode("latin-1"), BINARY),
    "a script": ("notes.txt", b"#!/bin/sh\n", SCRIPT),
    "a script behind a byte order mark": ("notes.txt", b"\xef\xbb\xbf#!/bin/sh\n", SCRIPT),
    "text called JSON": ("config.json", b"Hello.", JSON),
    "nothing called JSON": ("config.json", b"", JSON),
    "JSON and something more": ("config.json", b"{}{}", JSON),
    "JSON that nests without end": ("config.json", b"[" * 200_000, JSON),
    "a line that is no JSON": ("data.jsonl", b"{}\nHello.\n", JSON),
    "a table and something more": ("tokenizer.model", table("a") + b"PK\x03\x04rest", BINARY),
    "a table that ends early": ("tokenizer.model", table("a", "bcd")[:-6], BINARY),
    "a table whose length never ends": ("tokenizer.model", b"\x0a" + b"\xff" * 20, BINARY),
    "a table that begins otherwise": ("tokenizer.model", b"\x12\x02\x20\x01", BINARY),
    "a header and no length": ("more.safetensors", b"\x00\x00", "is too short"),
    "a header too long": ("more.safetensors", (1 << 40).to_bytes(8, "little") + b"{}" * 50, "too short"),
    "a header longer than the file": (
        "more.safetensors",
        (1000).to_bytes(8, "little") + b"{}",
        "too short",
    ),
    "a header that is no JSON": ("more.safetensors", tensors(b"{nothing"), "its header is not JSON"),
    "a header that is a list": ("more.safetensors", tensors([]), "its header is not JSON"),
    "a header that nests": ("more.safetensors", tensors(b"[" * 200_000), "its header is not JSON"),
    "a tensor twice": (
        "more.safetensors",
        tensors(b'{"a": {"data_offsets": [0, 9]}, "a": {"data_offsets": [0, 1]}}', b"x"),
        "its header is not JSON",
    ),
    "a tensor without offsets": ("more.safetensors", tensors({"a": {}}), "its header is not JSON"),
    "a tensor that is a number": ("more.safetensors", tensors({"a": 7}), "its header is not JSON"),
    "offsets that go back": ("more.safetensors", tensors({"a": tensor(1, 0)}), "its header is not JSON"),
    "offsets that are truths": (
        "more.safetensors",
        tensors({"a": {"data_offsets": [False, True]}}, b"x"),
        "its header is not JSON",
    ),
    "no tensor, and a program": ("more.safetensors", tensors({}, b"\x7fELF\x02"), "describes 0 bytes"),
    "a pickle behind the tensors": (
        "more.safetensors",
        tensors({"a": tensor(0, 3)}, b"123" + PRINT),
        "describes 3 bytes",
    ),
    "a tensor longer than the file": ("more.safetensors", tensors({"a": tensor(0, 3)}, b"12"), "3 bytes"),
    "a hole before the tensors": ("more.safetensors", tensors({"a": tensor(2, 3)}, b"123"), "from 0 on"),
    "a hole between the tensors": (
        "more.safetensors",
        tensors({"a": tensor(0, 1), "b": tensor(2, 3)}, b"123"),
        "from 1 on",
    ),
    "tensors that overlap": (
        "more.safetensors",
        tensors({"a": tensor(0, 2), "b": tensor(1, 3)}, b"123"),
        "from 2 on",
    ),
}


@pytest.mark.parametrize("case", DECEIVED)
def test_what_is_something_else_is_found_out(tmp_path: Path, case: str) -> None:
    path, data, wanted = DECEIVED[case]
    found = judged(tmp_path, path, data)
    assert found is not None
    assert wanted in found


def test_a_header_that_would_fill_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "_MAX_HEADER", 100)
    assert "longer than it may be" in (judged(tmp_path, "x.safetensors", tensors(b" " * 99 + b"{}")) or "")


def test_json_that_would_fill_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_contents, "_MAX_JSON", 3)
    assert judged(tmp_path, "x.json", b"[1]") is None
    assert "too long for JSON" in (judged(tmp_path, "x.json", b"[12]") or "")
