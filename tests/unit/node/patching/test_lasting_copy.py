"""What lies on the disk when the mark is written, whatever the kernel writes at once."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from appliance.node.remote import staged_copy
from appliance.node.remote.staged_copy import BLOCK, Copy, read_all, write_all

MANIFEST, DATA = b'{"components":{}}', bytes(range(256)) * 8000


def described(path: str, data: bytes) -> dict[str, Any]:
    blocks = "".join(hashlib.sha256(data[at : at + BLOCK]).hexdigest() for at in range(0, len(data), BLOCK))
    digest = hashlib.sha256(data).hexdigest()
    return {
        "path": path,
        "size": len(data),
        "sha256": digest,
        "further": [],
        "blocks": blocks,
        "slices": [],
        "same": "",
    }


@pytest.fixture
def contents() -> dict[str, bytes]:
    files = {"manifest.json": MANIFEST, "payload/model/x.gguf": DATA}
    listed = "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in files.items())
    return {"trust/SHA256SUMS": listed.encode(), **files}


@pytest.fixture
def copy(tmp_path: Path, contents: dict[str, bytes]) -> Copy:
    digest = hashlib.sha256(contents["trust/SHA256SUMS"]).hexdigest()
    made = Copy(str(tmp_path), digest, [described(*each) for each in contents.items()])
    (tmp_path / digest).mkdir()
    return made


def receive(copy: Copy, contents: dict[str, bytes]) -> None:
    for file in copy.files:
        data = contents[file["path"]]

        def fill(room: memoryview, part: int, position: int, data: bytes = data) -> None:
            room[:] = data[position : position + len(room)]
            write_all(part, room, position)

        copy.receive(file, 0, fill)


def test_every_byte_and_every_name_is_lasting_before_the_mark(
    copy: Copy, contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file before it has its name, a folder after its last file has one, the mark last of all."""
    done: list[tuple[str, int]] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        fsync(fd)
        done.append(("lasting", os.fstat(fd).st_ino))

    def noted_rename(source: str, place: str) -> None:
        done.append(("named", Path(source).stat().st_ino))
        rename(source, place)

    monkeypatch.setattr(staged_copy.os, "fsync", noted_fsync)
    monkeypatch.setattr(staged_copy.os, "rename", noted_rename)
    receive(copy, contents)
    copy.finish()
    folder = tmp_path / copy.digest
    marked = done.index(("named", Path(copy.mark).stat().st_ino))
    for place in folder.rglob("*"):
        lasting = done.index(("lasting", place.stat().st_ino))
        assert lasting < marked, place
        if place.is_file():
            named = done.index(("named", place.stat().st_ino))
            assert lasting < named, place
            assert ("lasting", place.parent.stat().st_ino) in done[named:marked], place
    assert ("lasting", folder.stat().st_ino) in done[:marked]
    assert done[marked - 1] == ("lasting", done[marked][1])
    assert done[marked + 1 :] == [("lasting", tmp_path.stat().st_ino)]
    assert json.loads(Path(copy.mark).read_text())["files"].keys() == contents.keys()


def test_what_the_kernel_writes_and_reads_in_pieces_is_whole(
    copy: Copy, contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(staged_copy.os, "pwrite", lambda fd, data, at: pwrite(fd, data[:70_001], at))
    monkeypatch.setattr(staged_copy.os, "preadv", lambda fd, to, at: preadv(fd, [to[0][:70_001]], at))
    receive(copy, contents)
    place = tmp_path / copy.digest / "payload/model/x.gguf"
    data = bytearray(len(DATA))
    with place.open("rb") as file:
        read_all(file.fileno(), memoryview(data), 0)
    assert data == place.read_bytes() == DATA


def test_a_part_that_is_longer_than_its_file_is_cut(
    copy: Copy, contents: dict[str, bytes], tmp_path: Path
) -> None:
    """What was shared ahead, and then not wanted, is no part of a file."""
    index = next(each["index"] for each in copy.files if each["path"].endswith("x.gguf"))
    part = tmp_path / f"{copy.digest}.incoming/{index}.part"
    part.parent.mkdir()
    part.write_bytes(DATA + b"more")
    receive(copy, contents)
    assert (tmp_path / copy.digest / "payload/model/x.gguf").read_bytes() == DATA
