"""The receiver, run as the real subprocess it is on a node: what it keeps, refuses and repairs."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import stat
import threading
from dataclasses import asdict, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from appliance.definition.inventory import NodeEntry
from appliance.errors import (
    DigestMismatch,
    FileMissing,
    InProgress,
    NodeUnreachable,
    PreflightFailed,
    SpaceExhausted,
)
from appliance.node import transfer as transfer_module
from appliance.node.connection import LocalConnection
from appliance.node.sent import SentFile
from appliance.node.transfer import Transfer
from appliance.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 4 << 20
NODE = NodeEntry("here", "local", IPv4Address("10.20.0.11"), 22, ())
CONTENT = {
    "manifest.json": b'{"components":{}}',
    "payload/model/weights.gguf": random.Random(7).randbytes(3 * BLOCK + 12345),  # noqa: S311 - the same bytes each time
    "payload/model/empty": b"",
    "payload/system/one.deb": b"same",
    "payload/system/two.deb": b"same",
}


def sent(path: str, data: bytes) -> SentFile:
    blocks = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    return SentFile(
        path,
        len(data),
        hashlib.sha256(data).hexdigest(),
        "".join(hashlib.sha256(b).hexdigest() for b in blocks),
    )


class Case:
    """A bundle-shaped folder and a home for copies of it."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        self.home = folder / "staged"
        for path, data in CONTENT.items():
            place = self.source / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        listed = [sent(path, data) for path, data in CONTENT.items()]
        text = "".join(f"{file.sha256}  {file.path}\n" for file in listed).encode()
        (self.source / "trust").mkdir()
        (self.source / "trust/SHA256SUMS").write_bytes(text)
        self.digest = hashlib.sha256(text).hexdigest()
        self.files = [sent("trust/SHA256SUMS", text), *listed]
        self.copy = self.home / self.digest
        self.mark = self.home / f"{self.digest}.complete"

    def begin(self, files: list[SentFile] | None = None, **options: bool | float) -> Transfer:
        return Transfer.begin(
            LocalConnection(NODE),
            self.source,
            self.digest,
            files or self.files,
            progress=Silent(),
            home=str(self.home),
            **options,  # type: ignore[arg-type]
        )

    def run(self, **options: bool) -> Transfer:
        transfer = self.begin(**options)
        transfer.send(Silent())
        return transfer

    def wanted(self, transfer: Transfer) -> dict[str, int]:
        """Path to offset."""
        return {self.files[index].path: offset for index, offset in transfer.want}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_copy_is_complete_read_only_and_marked(case: Case) -> None:
    case.run()
    for path, data in CONTENT.items():
        place = case.copy / path
        assert place.read_bytes() == data
        assert stat.S_IMODE(place.stat().st_mode) == 0o444
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o555
    assert case.mark.exists()
    assert not list(case.home.glob("*.incoming"))


@pytest.mark.parametrize("at_once", [1, 2, 5, 1000])
def test_files_are_described_in_parts_of_one_list(
    at_once: int, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_module, "DESCRIBED", at_once)
    for files in ([], case.files[:1], case.files[:2], case.files):
        described = b"".join(transfer_module._described(files))
        assert json.loads(described) == [json.loads(json.dumps(asdict(file))) for file in files]
    case.run()
    assert case.mark.exists()


def test_a_second_run_copies_and_changes_nothing(case: Case) -> None:
    case.run()
    before = identities(case.home)
    transfer = case.run()
    assert transfer.want == []
    assert identities(case.home) == before


def identities(folder: Path) -> dict[str, tuple[int, ...]]:
    """Of every file what a change would change; reading it does not."""
    return {
        str(path): (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for path in folder.rglob("*")
        for status in [path.lstat()]
    }


class KillAfter(Silent):
    """Kills the receiver once so many bytes were sent."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.process: int | None = None

    def advance(self, count: int) -> None:
        self.left -= count
        if self.left <= 0 and self.process:
            os.kill(self.process, signal.SIGKILL)


def test_a_killed_receiver_is_followed_by_one_that_goes_on(case: Case) -> None:
    """The big file is the third to be sent; the receiver dies in its third block."""
    transfer = case.begin()
    killer = KillAfter(2 * BLOCK + BLOCK // 2)
    killer.process = transfer.process.pid  # the shell has replaced itself by python
    with pytest.raises(NodeUnreachable, match="cut off") as caught:
        transfer.send(killer)
    assert "goes on" in (caught.value.hint or "")
    assert not case.mark.exists()
    again = case.begin()
    offset = case.wanted(again)["payload/model/weights.gguf"]
    assert offset in (BLOCK, 2 * BLOCK)
    assert "manifest.json" not in case.wanted(again)
    again.send(Silent())
    assert (case.copy / "payload/model/weights.gguf").read_bytes() == CONTENT["payload/model/weights.gguf"]
    assert case.mark.exists()


def test_a_damaged_part_is_sent_again_from_the_damage_on(case: Case) -> None:
    transfer = case.begin()
    killer = KillAfter(3 * BLOCK)
    killer.process = transfer.process.pid
    with pytest.raises(NodeUnreachable):
        transfer.send(killer)
    (part,) = case.home.glob("*.incoming/*.part")
    flip(part, 10)
    again = case.begin()
    assert case.wanted(again)["payload/model/weights.gguf"] == 0
    again.send(Silent())
    assert case.mark.exists()


def flip(path: Path, position: int) -> None:
    """Change one byte and put the time of change back, as someone would who wants to hide it."""
    status = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as stream:
        stream.seek(position)
        byte = stream.read(1)
        stream.seek(position)
        stream.write(bytes([byte[0] ^ 1]))
    path.chmod(stat.S_IMODE(status.st_mode))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_flipped_byte_in_a_complete_copy_is_found_and_repaired(case: Case) -> None:
    case.run()
    flip(case.copy / "payload/model/weights.gguf", 100)
    transfer = case.begin()
    assert case.wanted(transfer) == {"payload/model/weights.gguf": 0}
    assert not case.mark.exists(), "a copy with a hole is not complete"
    transfer.send(Silent())
    assert (case.copy / "payload/model/weights.gguf").read_bytes() == CONTENT["payload/model/weights.gguf"]


def test_recheck_reads_what_the_mark_vouches_for(case: Case) -> None:
    """A disk that decays changes no times: only hashing finds it."""
    case.run()
    path = case.copy / "manifest.json"
    flip(path, 0)
    status = path.stat()
    marked = case.mark.read_text()
    values = json.loads(marked)
    times = [status.st_mtime_ns, status.st_ctime_ns]
    values["files"]["manifest.json"] = [status.st_size, *times, status.st_ino]
    case.mark.write_text(json.dumps(values))
    transfer = case.begin()
    assert transfer.want == []
    transfer.send(Silent())
    assert case.wanted(case.run(recheck=True)) == {"manifest.json": 0}


@pytest.mark.parametrize("kind", ["file", "folder", "link", "link to a folder"])
def test_what_the_list_does_not_name_is_removed(case: Case, kind: str) -> None:
    case.run()
    folder = case.copy / "payload/system"
    folder.chmod(0o755)
    extra = folder / "extra"
    match kind:
        case "file":
            extra.write_bytes(b"x")
        case "folder":
            extra.mkdir()
            (extra / "deep").write_bytes(b"x")
        case "link":
            extra.symlink_to("one.deb")
        case "link to a folder":
            extra.symlink_to("../model")
    transfer = case.run()
    assert transfer.removed == ["payload/system/extra"]
    assert not os.path.lexists(extra)
    assert (case.copy / "payload/model/empty").exists()
    assert case.mark.exists()


def test_a_link_in_the_place_of_a_file_is_replaced(case: Case, tmp_path: Path) -> None:
    case.run()
    other = tmp_path / "other"
    other.write_bytes(CONTENT["manifest.json"])
    place = case.copy / "manifest.json"
    place.unlink()
    place.symlink_to(other)
    case.run()
    assert not place.is_symlink()
    assert place.read_bytes() == CONTENT["manifest.json"]


def test_a_source_that_changed_after_it_was_verified_is_named(case: Case) -> None:
    flip(case.source / "payload/model/weights.gguf", BLOCK)
    with pytest.raises(DigestMismatch, match="changed on this station") as caught:
        case.run()
    assert caught.value.exit_code == 4
    assert not case.mark.exists()
    assert not (case.copy / "payload/model/weights.gguf").exists()


def test_a_source_that_was_cut_is_named(case: Case) -> None:
    with (case.source / "payload/model/weights.gguf").open("r+b") as stream:
        stream.truncate(BLOCK)
    with pytest.raises(DigestMismatch, match="changed on this station"):
        case.run()


def test_a_medium_that_was_pulled_is_named_and_the_next_run_goes_on(case: Case) -> None:
    weights = case.source / "payload/model/weights.gguf"
    away = weights.rename(weights.with_suffix(".away"))
    with pytest.raises(FileMissing, match="can no longer be read") as caught:
        case.run()
    assert caught.value.exit_code == 4
    assert not case.mark.exists()
    away.rename(weights)
    case.run()
    assert case.mark.exists()


def test_a_copy_that_would_not_fit_is_refused_before_anything_is_sent(case: Case) -> None:
    huge = [*case.files, SentFile("payload/model/huge", 1 << 60, "0" * 64)]
    with pytest.raises(SpaceExhausted) as caught:
        case.begin(huge)
    assert caught.value.exit_code == 5
    assert "MB free" in (caught.value.found or "")


@pytest.mark.parametrize("path", ["../outside", "payload/../../outside", "/outside", "payload//x", "./x"])
def test_a_path_that_leaves_the_copy_is_refused(case: Case, path: str) -> None:
    with pytest.raises(PreflightFailed, match="could not make the copy"):
        case.begin([*case.files, SentFile(path, 0, hashlib.sha256().hexdigest())])


def test_a_list_of_another_bundle_is_refused(case: Case) -> None:
    files = [replace(case.files[0], sha256="0" * 64), *case.files[1:]]
    with pytest.raises(PreflightFailed, match="could not make the copy") as caught:
        case.begin(files)
    assert "does not belong" in (caught.value.found or "")


def test_files_the_signed_list_does_not_name_make_no_complete_copy(case: Case) -> None:
    (case.source / "extra").write_bytes(b"x")
    with pytest.raises(PreflightFailed) as caught:
        case.begin([*case.files, sent("extra", b"x")]).send(Silent())
    assert "not those of the signed list" in (caught.value.found or "")
    assert not case.mark.exists()


def test_a_second_station_waits_and_then_gives_up(case: Case) -> None:
    first = case.begin()
    with pytest.raises(InProgress):
        case.begin(patience=0.3)
    first.abandon()
    case.run()
    assert case.mark.exists()


def test_a_second_station_goes_on_when_the_first_is_gone(case: Case) -> None:
    first = case.begin()
    timer = threading.Timer(0.3, first.abandon)
    timer.start()
    case.begin(patience=20).send(Silent())
    timer.join()
    assert case.mark.exists()
