"""The copy that a node makes of another one and a patch: what travels, what is shared, what is refused."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.patch.recipe import HEAD
from appliance.errors import (
    DigestMismatch,
    FileMissing,
    NodeUnreachable,
    PatchUnfit,
    PreflightFailed,
    RecipeInvalid,
    SpaceExhausted,
)
from appliance.node.patching import reader
from appliance.node.patching import target as target_module
from appliance.node.patching.target import require_needs
from appliance.node.remote import patched_copy
from appliance.node.remote.patched_copy import Parts, PatchedCopy
from appliance.node.remote.staged_copy import BLOCK, Refused
from appliance.progress import Silent
from tests.unit.node.patching.conftest import LONG, LONG_BYTES, MODEL, NODE, Bundles, NodeHere, reflinks

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = "payload/engine/b-1.0.whl"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def force(place: Path, data: bytes) -> None:
    """Write where nobody may."""
    for path in (place.parent, place):
        path.chmod(0o755)
    place.write_bytes(data)
    place.chmod(0o444)


def open_files() -> int:
    """How many this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_copy_is_the_new_bundle_and_the_old_one_stays(node: NodeHere, bundles: Bundles) -> None:
    before = files_of(node.copy(bundles.old))
    node.patch()
    assert files_of(node.copy(bundles.old)) == before
    whole = files_of(bundles.new.folder)
    assert files_of(node.copy(bundles.new)) == {
        path: data for path, data in whole.items() if not path.startswith("parity/")
    }
    held = node.held(bundles.new)
    assert held.whole, held.faults
    assert not [path for path in held.holds if path.startswith("parity/")]


def test_only_what_is_new_is_wanted(node: NodeHere) -> None:
    target = node.target()
    transfer = node.begin(target)
    assert target.room == transfer.size < node.bundles.new.size
    wanted = {transfer.files[index].path for index, _ in transfer.want}
    transfer.abandon()
    payload = {path for path in wanted if path.startswith("payload/")}
    assert payload == {
        LONG,
        MODEL,
        "payload/engine/a-1.1.whl",
        "payload/engine/requirements.txt",
        "payload/model/licence.txt",
        "payload/model/tokens.json",
    }


@pytest.mark.parametrize(
    "lines",
    [
        b"copy 0 0 99\n",
        b"new 99\n",
        b"zstd 16777217 10\n",
        b"delta 10 9 0 9999999999 10\n",
        b"file " + b"0" * 64 + b" 10 ../out\nnew 10\n",
    ],
    ids=["outside its base", "more than there is", "a bomb", "a prefix outside", "a path that leaves"],
)
def test_a_hostile_recipe_is_refused_before_a_node_is_asked_for_more(
    lines: bytes, node: NodeHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = HEAD + b"base " + b"0" * 64 + b" 10\nfile " + b"0" * 64 + b" 20 a\n"
    hostile = (head + lines).splitlines(keepends=True)
    monkeypatch.setattr(target_module, "recipe_lines", lambda *_: iter(hostile))
    with pytest.raises(RecipeInvalid):
        node.target()
    assert sorted(each.name for each in node.home.iterdir() if each.is_dir()) == [node.bundles.old.digest]


def test_what_is_the_same_takes_no_room(node: NodeHere, bundles: Bundles) -> None:
    node.patch()
    one, other = (node.copy(bundle) / KEPT for bundle in (bundles.old, bundles.new))
    assert one.stat().st_ino == other.stat().st_ino or reflinks(node.folder)


def test_without_room_for_both_versions_nothing_is_sent(bundles: Bundles, tmp_path: Path) -> None:
    """The long file is made anew, of 5 MiB; the older copy fits, and stays whole."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(disk)], check=True)
    try:
        node = NodeHere(disk, bundles)
        node.install(bundles.old)
        target = node.target()
        with pytest.raises(SpaceExhausted, match="the disk of here is too small") as raised:
            node.begin(target)
        assert raised.value.exit_code == 5
        assert node.held(bundles.old).whole
        assert not list(node.home.glob(f"{bundles.new.digest}.complete"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_patch_that_was_applied_is_applied_again_in_no_time(node: NodeHere) -> None:
    target = node.target()
    node.begin(target).send(Silent())
    transfer = node.begin(target)
    assert transfer.want == []
    transfer.send(Silent())


def test_a_copy_that_was_cut_off_goes_on_behind_the_last_block(node: NodeHere, bundles: Bundles) -> None:
    target = node.target()
    index = next(index for index, file in enumerate(target.files) if file.path == LONG)
    part = node.home / f"{bundles.new.digest}.incoming/{index}.part"
    part.parent.mkdir()
    part.write_bytes(LONG_BYTES[:BLOCK] + b"what was being written")
    transfer = node.begin(target)
    assert (index, BLOCK) in transfer.want
    transfer.send(Silent())
    assert (node.copy(bundles.new) / LONG).read_bytes().endswith(b"another end, longer than that")


@pytest.mark.parametrize("path", [KEPT, MODEL, LONG])
def test_a_file_of_the_base_that_was_replaced_after_it_was_asked_for(
    path: str, node: NodeHere, bundles: Bundles
) -> None:
    target = node.target()
    place = node.copy(bundles.old) / path
    data = bytearray(place.read_bytes())
    data[10] ^= 1
    force(place, bytes(data))
    with pytest.raises(DigestMismatch, match="is not what it was when the node was asked"):
        node.begin(target).send(Silent())
    assert not (node.home / f"{bundles.new.digest}.complete").exists()


def test_a_file_of_the_base_that_went_after_it_was_asked_for(node: NodeHere, bundles: Bundles) -> None:
    target = node.target()
    place = node.copy(bundles.old) / LONG
    place.parent.chmod(0o755)
    place.unlink()
    with pytest.raises((DigestMismatch, FileMissing), match="of the installed bundle"):
        node.begin(target).send(Silent())


@pytest.mark.parametrize("path", [KEPT, MODEL])
def test_what_a_node_lacks_is_named_before_anything_changes(
    path: str, node: NodeHere, bundles: Bundles
) -> None:
    target = node.target()
    require_needs(target, "here", node.held(bundles.old))
    force(node.copy(bundles.old) / path, b"another")
    with pytest.raises(PatchUnfit, match="here lacks 1 files") as raised:
        require_needs(target, "here", node.held(bundles.old))
    assert path in str(raised.value.found)
    assert "patch from that" in str(raised.value.hint)
    assert sorted(each.name for each in node.home.iterdir() if each.is_dir()) == [bundles.old.digest]


def test_a_manifest_that_was_changed_on_the_node_is_refused(node: NodeHere, bundles: Bundles) -> None:
    force(node.copy(bundles.old) / "manifest.json", b"{}")
    with pytest.raises(DigestMismatch, match=r"manifest\.json of the installed bundle"):
        node.target()


def test_a_copy_may_lack_recovery_data_and_nothing_else(node: NodeHere) -> None:
    target = node.target()
    assert target.without
    left = [file for file in target.files if file.path != KEPT]
    with pytest.raises(PreflightFailed) as raised:
        node.begin(replace(target, files=left, without=[*target.without, KEPT]))
    assert "recovery data alone" in str(raised.value.found)


@pytest.mark.parametrize("path", ["../secret", "payload/../../secret", "payload//x", "/etc/passwd"])
def test_no_part_reads_outside_the_base(path: str, node: NodeHere, bundles: Bundles) -> None:
    begin = {"digest": bundles.new.digest, "base": bundles.old.digest, "recheck": False}
    copy = PatchedCopy(str(node.home), begin, [])
    parts = Parts(copy, lambda: {"copy": [path, 0, 10]}, lambda _: None)
    with pytest.raises(Refused) as raised:
        parts.fill(memoryview(bytearray(10)), -1, 0)
    assert "leaves the bundle" in raised.value.line["text"]
    with node.reader(bundles.old) as reader, pytest.raises(FileMissing) as missing:
        reader.read(path, 0, 10)
    assert missing.value.found == "a path leaves the bundle"


@pytest.mark.parametrize("shared", [None, errno.EXDEV, errno.EIO], ids=["shared", "copied", "broken"])
def test_a_part_goes_over_stretches_of_the_base_and_new_bytes(
    shared: int | None, node: NodeHere, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the kernel copies or will not; a disk that fails is no reason to copy otherwise."""

    def refuse(*_: object) -> int:
        raise OSError(shared, "as the kernel says")

    if shared:
        monkeypatch.setattr(patched_copy.os, "copy_file_range", refuse)
    monkeypatch.setattr(patched_copy, "AHEAD", 9000)
    frames = iter([{"copy": [LONG, 5000, 20_000]}, {"new": 7}, {"copy": [LONG, 0, 10]}])
    begin = {"digest": bundles.new.digest, "base": bundles.old.digest, "recheck": False}
    copy = PatchedCopy(str(node.home), begin, [])
    parts = Parts(copy, lambda: next(frames), lambda data: data.__setitem__(slice(None), b"n" * len(data)))
    wanted = LONG_BYTES[5000:25_000] + b"n" * 7 + LONG_BYTES[:10]
    data = bytearray(len(wanted))
    with (node.folder / "part").open("w+b") as part:
        if shared == errno.EIO:
            with pytest.raises(OSError, match="as the kernel says"):
                parts.fill(memoryview(data), part.fileno(), 0)
            return
        for start in range(0, len(wanted), 6000):
            parts.fill(memoryview(data)[start : start + 6000], part.fileno(), start)
        assert os.pread(part.fileno(), len(wanted) + 1, 0) == data == wanted


@pytest.mark.parametrize("most", [1000, 1 << 30], ids=["short copies", "all at once"])
def test_what_is_hashed_is_what_lies_in_the_part(
    most: int, node: NodeHere, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base is changed just before the kernel copies, and put right just after."""

    def otherwise(_: int, part: int, size: int, __: int, position: int) -> int:
        return os.pwrite(part, b"x" * min(size, most), position)

    monkeypatch.setattr(patched_copy.os, "copy_file_range", otherwise)
    begin = {"digest": bundles.new.digest, "base": bundles.old.digest, "recheck": False}
    copy = PatchedCopy(str(node.home), begin, [])
    parts = Parts(copy, lambda: {"copy": [LONG, 0, 20_000]}, lambda _: None)
    data = bytearray(20_000)
    with (node.folder / "part").open("w+b") as part:
        parts.fill(memoryview(data), part.fileno(), 0)
        assert os.pread(part.fileno(), 20_001, 0) == data == b"x" * 20_000


def test_a_file_that_was_made_leaves_no_file_of_the_base_open(node: NodeHere, bundles: Bundles) -> None:
    """A node lets a process have 1,024 of them, and a patch may make more."""
    begin = {"digest": bundles.new.digest, "base": bundles.old.digest, "recheck": False}
    copy = PatchedCopy(str(node.home), begin, [])
    before = open_files()
    with (node.folder / "part").open("w+b") as part:
        for _ in range(3):
            parts = Parts(copy, lambda: {"copy": [LONG, 0, 10]}, lambda _: None)
            parts.fill(memoryview(bytearray(10)), part.fileno(), 0)
    assert open_files() == before


@pytest.mark.parametrize("kind", [os.mkdir, os.mkfifo], ids=["a folder", "a pipe"])
def test_what_is_no_file_any_more_is_the_base_s_fault_and_not_waited_for(
    kind: Callable[[Path], None], node: NodeHere, bundles: Bundles
) -> None:
    place = node.copy(bundles.old) / LONG
    place.parent.chmod(0o755)
    place.unlink()
    kind(place)
    begin = {"digest": bundles.new.digest, "base": bundles.old.digest, "recheck": False}
    parts = Parts(PatchedCopy(str(node.home), begin, []), lambda: {"copy": [LONG, 0, 10]}, lambda _: None)
    before = open_files()
    with pytest.raises(Refused) as raised:
        parts.fill(memoryview(bytearray(10)), -1, 0)
    assert raised.value.line == {"error": "base", "path": LONG, "found": "no plain file"}
    assert open_files() == before


def test_a_stretch_that_the_base_does_not_have_is_refused(node: NodeHere, bundles: Bundles) -> None:
    begin = {"digest": bundles.new.digest, "base": bundles.old.digest, "recheck": False}
    copy = PatchedCopy(str(node.home), begin, [])
    parts = Parts(copy, lambda: {"copy": [LONG, len(LONG_BYTES) - 5, 10]}, lambda _: None)
    with (node.folder / "part").open("w+b") as part, pytest.raises(Refused) as raised:
        parts.fill(memoryview(bytearray(10)), part.fileno(), 0)
    assert raised.value.line["found"] == f"it ends at {len(LONG_BYTES)}"


def test_the_whole_bundle_brings_what_the_patch_left_out(node: NodeHere, bundles: Bundles) -> None:
    node.patch()
    transfer = node.install(bundles.new)
    wanted = {transfer.files[index].path for index, _ in transfer.want}
    assert wanted == {path for path in bundles.new.files if path.startswith("parity/")}
    assert files_of(node.copy(bundles.new)) == files_of(bundles.new.folder)


def test_what_is_changed_after_it_was_checked_is_no_part_of_a_copy(
    node: NodeHere, bundles: Bundles
) -> None:
    """Size and times are put back, as whoever hides something would."""
    transfer = node.begin(node.target())
    for bundle in (bundles.old, bundles.new):
        change_in_place(node.copy(bundle) / KEPT)
    with pytest.raises(DigestMismatch, match=KEPT) as raised:
        transfer.send(Silent())
    assert raised.value.found == "it was changed after it was checked"
    assert not (node.home / f"{bundles.new.digest}.complete").exists()


def change_in_place(place: Path) -> None:
    """Other bytes in the same file, of the same length and date."""
    times = place.stat()
    force(place, b"x" * times.st_size)
    os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_file_with_all_the_names_it_may_have_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """65,000 on ext4; that is nobody's tampering."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EMLINK, "Too many links")

    source, place = tmp_path / "source", tmp_path / "place"
    source.write_bytes(b"bytes")
    monkeypatch.setattr(patched_copy.os, "link", full)
    assert patched_copy.hard_link(str(source), str(place))
    assert (place.read_bytes(), place.stat().st_mode & 0o777) == (b"bytes", 0o444)
    assert place.stat().st_ino != source.stat().st_ino


#: Seconds for which a node says nothing more.
SILENCE = 60


class Talks:
    """A connection to a node that says this, and then nothing, for as long as it is listened to."""

    def __init__(self, said: bytes) -> None:
        text = f"import sys,time;sys.stdout.buffer.write({said!r});sys.stdout.flush();time.sleep({SILENCE})"
        self.node, self.command = NODE, [sys.executable, "-c", text]

    def argv(self, _: str) -> list[str]:
        return self.command


@pytest.mark.parametrize(
    "said",
    [b"", b'{"size": -1}\n', b'{"size": 11}\n', b'{"size": "x"}\n', b'{"size": 9}\nshort', b"x" * 2000],
    ids=["nothing", "a negative size", "more than was asked for", "no number", "fewer", "an endless line"],
)
def test_a_node_that_answers_oddly_is_not_waited_for(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = said in {b"", b'{"size": 9}\nshort'}
    monkeypatch.setattr(reader, "PATIENCE", 1.0 if waits else 1000.0)
    monkeypatch.setattr(reader, "LINE", 1000)
    talks, begun = Talks(b'{"ready": true}\n' + said), time.monotonic()
    with (
        reader.CopyReader(talks, "d" * 64) as conversation,  # type: ignore[arg-type]
        pytest.raises(NodeUnreachable),
    ):
        conversation.read("payload/x", 0, 10)
    assert time.monotonic() - begun < SILENCE / 2, "it was the node that ended"
