"""A file that is cut in the bundle is whole on the node: the real receiver joins while it receives."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import stat
from dataclasses import asdict, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.listing import listing_bytes, parse_listing
from appliance.bundle.verify import verify_bundle
from appliance.definition.inventory import NodeEntry
from appliance.errors import BundleMalformed, DigestMismatch, NodeUnreachable, PreflightFailed
from appliance.node.connection import LocalConnection
from appliance.node.sent import files_to_send
from appliance.node.transfer import Transfer
from appliance.progress import Silent
from appliance.trust.canonical import canonical_bytes
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

BLOCK = 4 << 20
SLICE = 2 * BLOCK
MODEL = "payload/model/tiny.gguf"
#: Three full slices and a short one.
DATA = random.Random(11).randbytes(6 * BLOCK + 12345)  # noqa: S311 - the same bytes each time
NODE = NodeEntry("here", "local", IPv4Address("10.20.0.11"), 22, ())


class Cut:
    """A signed bundle whose model is cut into four slices, verified, and a home for copies of it."""

    def __init__(self, maker: BundleMaker, root: Root) -> None:
        contents = {
            "engine": ("python", {"engine.whl": b"wheel"}),
            "model": ("tiny-gguf", {"tiny.gguf": DATA}),
        }
        self.maker, self.root = maker, root
        self.source = maker.write("bundle", root, maker.lock(contents), slice_size=SLICE)
        maker.sign(self.source, "alice", "bob")
        self.verify()

    def verify(self) -> None:
        """Verify the bundle as it is now; what is sent later is what was seen here."""
        verified = verify_bundle(self.source, root_bytes(self.root), progress=Silent())
        self.size, self.digest, self.files = verified.size, verified.digest, files_to_send(verified)
        self.home = self.maker.folder / "staged"
        self.copy = self.home / verified.digest
        self.model = self.copy / MODEL
        self.mark = self.home / f"{verified.digest}.complete"

    def slice(self, number: int) -> Path:
        return self.source / f"{MODEL}.slice-{number:04d}"

    def begin(self, *, recheck: bool = False) -> Transfer:
        return Transfer.begin(
            LocalConnection(NODE),
            self.source,
            self.digest,
            self.files,
            progress=Silent(),
            home=str(self.home),
            recheck=recheck,
        )

    def run(self, *, recheck: bool = False) -> dict[str, int]:
        """Copy; the offset each wanted file was wanted from, by path."""
        transfer = self.begin(recheck=recheck)
        transfer.send(Silent())
        return self.wanted(transfer)

    def wanted(self, transfer: Transfer) -> dict[str, int]:
        return {self.files[index].path: offset for index, offset in transfer.want}


@pytest.fixture
def cut(maker: BundleMaker, two_of_three: Root) -> Cut:
    cut = Cut(maker, two_of_three)
    assert [cut.slice(number).stat().st_size for number in range(4)] == [SLICE, SLICE, SLICE, 12345]
    return cut


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_slices_are_joined_from_several_volumes(cut: Cut, volumes: Callable[..., list[Path]]) -> None:
    """The model begins on one medium and ends on another; the node has it whole."""
    folders = volumes(cut.source, 2, 4)
    verified = verify_bundle(folders, root_bytes(cut.root), progress=Silent())
    shutil.rmtree(cut.source)
    transfer = Transfer.begin(
        LocalConnection(NODE),
        verified.folders,
        verified.digest,
        files_to_send(verified),
        progress=Silent(),
        home=str(cut.home),
    )
    transfer.send(Silent())
    assert cut.mark.exists()
    assert cut.model.read_bytes() == DATA
    assert not [path for path in files_below(cut.copy) if "spare" in path or "volume.json" in path]


def test_a_slice_that_changed_on_a_volume_is_named_with_it(
    cut: Cut, volumes: Callable[..., list[Path]]
) -> None:
    folders = volumes(cut.source, 2, 4)
    verified = verify_bundle(folders, root_bytes(cut.root), progress=Silent())
    transfer = Transfer.begin(
        LocalConnection(NODE),
        verified.folders,
        verified.digest,
        files_to_send(verified),
        progress=Silent(),
        home=str(cut.home),
    )
    (folders[2] / f"{MODEL}.slice-0003").write_bytes(bytes(12345))
    with pytest.raises(DigestMismatch, match=re.escape(f"slice-0003 on volume 3 of 3 ({folders[2]})")):
        transfer.send(Silent())
    assert not cut.mark.exists()


class Watch(Silent):
    """Looks at the copy's home at every megabyte that is sent: the names seen, and the most bytes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.names: set[str] = set()
        self.most = 0

    def advance(self, _: int) -> None:
        names = files_below(self.home)
        self.names |= names
        sizes = ((self.home / name).stat().st_size for name in names if (self.home / name).exists())
        self.most = max(self.most, sum(sizes))


def test_a_copy_holds_each_file_whole_and_nothing_else(cut: Cut) -> None:
    cut.run()
    assert cut.model.read_bytes() == DATA
    assert stat.S_IMODE(cut.model.stat().st_mode) == 0o444
    assert files_below(cut.copy) == {
        "VERIFY.txt",
        "blocks.bin",
        "manifest.json",
        "trust/SHA256SUMS",
        "trust/SHA256SUMS.alice.sig",
        "trust/SHA256SUMS.bob.sig",
        "trust/provenance.alice.dsse.json",
        "trust/provenance.bob.dsse.json",
        "trust/root.1.json",
        "payload/engine/engine.whl",
        MODEL,
    }
    assert files_below(cut.home) - {f"{cut.digest}/{name}" for name in files_below(cut.copy)} == {
        ".lock",
        cut.mark.name,
    }


def test_what_is_said_of_the_build_comes_along(cut: Cut) -> None:
    cut.run()
    name = "trust/provenance.alice.dsse.json"
    assert (cut.copy / name).read_bytes() == (cut.source / name).read_bytes()
    assert cut.mark.exists()


def test_slices_are_never_stored_apart(cut: Cut) -> None:
    """A node's disk need not hold a model twice."""
    transfer = cut.begin()
    assert transfer.size == sum(file.size for file in cut.files)
    watch = Watch(cut.home)
    transfer.send(watch)
    assert any(name.endswith(".part") for name in watch.names)
    assert not [name for name in watch.names if ".slice-" in name]
    assert 0 < watch.most <= transfer.size


def test_a_second_run_copies_and_changes_nothing(cut: Cut) -> None:
    cut.run()
    before = [(path, path.lstat()) for path in sorted(cut.home.rglob("*"))]
    assert cut.run() == {}
    untouched = ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    assert len(before) > len(cut.files)
    for path, status in before:
        assert [getattr(path.lstat(), name) for name in untouched] == [
            getattr(status, name) for name in untouched
        ], path


class KillAfter(Silent):
    """Kills a process once so many bytes were sent."""

    def __init__(self, size: int, process: int) -> None:
        self.left, self.process = size, process

    def advance(self, count: int) -> None:
        self.left -= count
        if self.left <= 0:
            os.kill(self.process, signal.SIGKILL)


def kill_in_the_second_slice(cut: Cut) -> None:
    """The receiver dies in the fourth block, of which 3 MiB are on their way; it lags by 2 MiB at most.

    What is sent comes by the mebibyte: of more than 14, it is told of 15.  Of 16 the receiver may have all
    by the time the signal reaches it.
    """
    transfer = cut.begin()
    with pytest.raises(NodeUnreachable, match="cut off"):
        transfer.send(KillAfter(3 * BLOCK + (5 << 19), transfer.process.pid))
    assert not cut.mark.exists()


def test_a_killed_copy_goes_on_in_the_middle_of_its_slice(cut: Cut) -> None:
    kill_in_the_second_slice(cut)
    again = cut.begin()
    assert cut.wanted(again)[MODEL] == 3 * BLOCK
    left = [cut.files[index] for index, _ in again.want if cut.files[index].path != MODEL]
    assert again.size == len(DATA) - 3 * BLOCK + sum(file.size for file in left)
    again.send(Silent())
    assert cut.model.read_bytes() == DATA
    assert cut.mark.exists()


def test_a_resumed_copy_reads_no_slice_that_has_arrived(cut: Cut) -> None:
    kill_in_the_second_slice(cut)
    cut.slice(0).unlink()
    cut.run()
    assert cut.model.read_bytes() == DATA


def test_damage_before_a_border_is_sent_again_over_the_border(cut: Cut) -> None:
    kill_in_the_second_slice(cut)
    (part,) = cut.home.glob("*.incoming/*.part")
    flip(part, SLICE - 1)
    again = cut.begin()
    assert cut.wanted(again)[MODEL] == BLOCK
    again.send(Silent())
    assert cut.model.read_bytes() == DATA


def flip(path: Path, position: int) -> None:
    """Change one byte, whatever the permissions."""
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0o600)
    with path.open("r+b") as stream:
        stream.seek(position)
        byte = stream.read(1)
        stream.seek(position)
        stream.write(bytes([byte[0] ^ 1]))
    path.chmod(mode)


def test_a_slice_that_changed_after_it_was_verified_is_named(cut: Cut) -> None:
    flip(cut.slice(1), BLOCK + 5)
    with pytest.raises(DigestMismatch, match=r"slice-0001 changed on this station") as caught:
        cut.run()
    assert caught.value.exit_code == 4
    assert not cut.model.exists()
    assert not cut.mark.exists()
    flip(cut.slice(1), BLOCK + 5)
    assert cut.run()[MODEL] == 3 * BLOCK, "the blocks before the change were right"
    assert cut.model.read_bytes() == DATA


class Sent(Silent):
    """Counts what was sent."""

    def __init__(self) -> None:
        self.size = 0

    def advance(self, count: int) -> None:
        self.size += count


def test_a_byte_that_changes_on_the_way_is_noticed_at_the_end_of_its_slice(
    cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer, sent = cut.begin(), Sent()
    write = transfer._write

    def spoil(data: bytes | None) -> None:
        write(bytes([data[0] ^ 1]) + data[1:] if data and data == DATA[: len(data)] else data)

    monkeypatch.setattr(transfer, "_write", spoil)
    with pytest.raises(DigestMismatch, match=r"here wrote something else.*slice-0000"):
        transfer.send(sent)
    assert sent.size < 2 * SLICE, "noticed before the next slice was through"
    assert not cut.model.exists()


def edit_manifest(cut: Cut, **fields: object) -> None:
    """Change what the manifest says of the model; list and signatures agree with it."""
    path = cut.source / "manifest.json"
    values = json.loads(path.read_bytes())
    values["components"]["model"]["files"][0].update(fields)
    path.write_bytes(canonical_bytes(values))
    listing = cut.source / "trust/SHA256SUMS"
    digests = dict(parse_listing(listing.read_bytes()))
    digests["manifest.json"] = hashlib.sha256(path.read_bytes()).hexdigest()
    listing.write_bytes(listing_bytes(digests))
    for signature in listing.parent.glob("*.sig"):
        signature.unlink()
    cut.maker.sign(cut.source, "alice", "bob")
    cut.verify()


def test_slices_that_do_not_join_to_the_signed_file_are_refused(cut: Cut) -> None:
    """Verifying checks each slice; that they make the file can only be seen here."""
    edit_manifest(cut, sha256="0" * 64)
    for _ in range(2):
        with pytest.raises(BundleMalformed, match=f"slices of {MODEL} do not join") as caught:
            cut.run()
        assert caught.value.exit_code == 4
        assert caught.value.found == hashlib.sha256(DATA).hexdigest()
        assert caught.value.wanted == "0" * 64
        assert not cut.model.exists()
        assert not cut.mark.exists()
        assert not list(cut.home.glob("*.incoming/*")), "nothing that can never be right takes room"


def test_slices_joined_otherwise_than_the_manifest_says_make_no_complete_copy(cut: Cut) -> None:
    """The node does not take the station's word for the order of slices, only the signed one's."""
    (model,) = (file for file in cut.files if file.slices)
    turned = b"".join(cut.slice(number).read_bytes() for number in (3, 2, 1, 0))
    other = replace(model, sha256=hashlib.sha256(turned).hexdigest(), blocks=(), slices=model.slices[::-1])
    cut.files[cut.files.index(model)] = other
    with pytest.raises(PreflightFailed) as caught:
        cut.run()
    assert "not joined as the signed manifest says" in (caught.value.found or "")
    assert not cut.mark.exists()


def test_slices_sent_as_files_make_no_complete_copy(cut: Cut) -> None:
    (model,) = (file for file in cut.files if file.slices)
    cut.files = [file for file in cut.files if file is not model]
    cut.files += [replace(model, **asdict(each), blocks=(), slices=()) for each in model.slices]
    with pytest.raises(PreflightFailed) as caught:
        cut.run()
    assert "not joined as the signed manifest says" in (caught.value.found or "")
    assert not cut.mark.exists()


def test_a_flipped_byte_is_found_and_the_file_is_whole_again(cut: Cut) -> None:
    cut.run()
    flip(cut.model, SLICE + 7)
    assert cut.run() == {MODEL: 0}
    assert cut.model.read_bytes() == DATA


def test_recheck_repairs_what_the_mark_vouches_for(cut: Cut) -> None:
    """A disk that decays changes no times: only hashing finds it."""
    cut.run()
    flip(cut.model, SLICE + 7)
    status = cut.model.stat()
    values = json.loads(cut.mark.read_text())
    times = [status.st_mtime_ns, status.st_ctime_ns]
    values["files"][MODEL] = [status.st_size, *times, status.st_ino]
    cut.mark.write_text(json.dumps(values))
    assert cut.run() == {}
    assert cut.run(recheck=True) == {MODEL: 0}
    assert cut.model.read_bytes() == DATA
    assert cut.run(recheck=True) == {}


def test_a_copy_that_lies_there_in_slices_becomes_whole(cut: Cut) -> None:
    """As an older toolkit left it: complete by its own mark, which does not know the whole file."""
    cut.run()
    cut.model.parent.chmod(0o755)
    cut.model.unlink()
    for number in range(4):
        shutil.copy(cut.slice(number), cut.model.parent)
    values = json.loads(cut.mark.read_text())
    del values["files"][MODEL]
    cut.mark.write_text(json.dumps(values))
    transfer = cut.begin()
    assert sorted(transfer.removed) == [f"{MODEL}.slice-{number:04d}" for number in range(4)]
    assert cut.wanted(transfer) == {MODEL: 0}
    transfer.send(Silent())
    assert cut.model.read_bytes() == DATA


def test_a_part_that_nothing_wants_gives_its_room_back_before_room_is_counted(cut: Cut) -> None:
    kill_in_the_second_slice(cut)
    (part,) = cut.home.glob("*.incoming/*.part")
    part.with_name("9999.part").write_bytes(b"left by another order of files")
    transfer = cut.begin()
    assert list(part.parent.iterdir()) == [part]
    transfer.abandon()
