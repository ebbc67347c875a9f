"""Joining volumes: one after the other, resumed by block, and nothing but signed bytes."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.copying import FileCopier
from appliance.bundle.media.join import join_volumes
from appliance.bundle.tree import Tree
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    DigestMismatch,
    FileMissing,
    FileUnexpected,
    InProgress,
    MediumFailed,
    SpaceExhausted,
    ThresholdNotMet,
    Usage,
    VolumeMissing,
    VolumesMixed,
)
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.conftest import CONTENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.bundle.media.collecting import Joined, Lacking
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

    Join = Callable[..., Joined]

BLOCK = 4 << 20
MODEL = "payload/model/tiny.gguf"
SLICE = f"{MODEL}.slice-0001"


@pytest.fixture(scope="module")
def large(
    tmp_path_factory: pytest.TempPathFactory,
    maker_in: Callable[[Path], BundleMaker],
    two_of_three: Root,
) -> Path:
    """A signed bundle whose model is three slices: of 4, 4 and 2 blocks, the last one short."""
    maker = maker_in(tmp_path_factory.mktemp("large"))
    model = random.Random(6).randbytes(9 * BLOCK + 100)  # noqa: S311 - the same bytes each time
    lock = maker.lock({**CONTENTS, "model": ("tiny-gguf", {"tiny.gguf": model})})
    return maker.sign(maker.write("bundle", two_of_three, lock, slice_size=4 * BLOCK), "alice", "bob")


@pytest.fixture
def three(large: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    """The small files with the first slice; the second slice; the third."""
    return volumes(large, 5, 6)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "joined"


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / ".joined.joining"


@pytest.fixture
def joined(out: Path) -> Join:
    return lambda *folders, **options: join_volumes(folders, out, progress=Silent(), **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def name_of(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


class Desk:
    """Somebody with one port, who inserts these folders in turn."""

    def __init__(self, *folders: Path) -> None:
        self.folders = list(folders)
        self.asked: list[Lacking] = []

    def __call__(self, lacking: Lacking) -> Path:
        self.asked.append(lacking)
        return self.folders.pop(0)


def test_all_volumes_at_once(
    large: Path,
    three: list[Path],
    out: Path,
    joined: Join,
    *,
    two_of_three: Root,
    snapshot: Callable[[Path], object],
) -> None:
    before = [snapshot(folder) for folder in three]
    done = joined(*three[::-1])
    assert contents(out) == contents(large)
    assert verify_bundle(out, root_bytes(two_of_three), progress=Silent()).digest == done.digest
    assert [snapshot(folder) for folder in three] == before
    assert (done.kept, done.signers) == (0, ())
    assert [path.name for path in out.parent.iterdir() if "join" in path.name] == ["joined"]
    modes = {path.stat().st_mode & 0o777 for path in out.rglob("*")} | {out.stat().st_mode & 0o777}
    assert modes == {0o644, 0o755}


def test_one_after_the_other(large: Path, three: list[Path], out: Path, joined: Join) -> None:
    desk = Desk(three[0].parent, three[1])
    joined(three[2], ask=desk)
    assert contents(out) == contents(large)
    first = f"payload/engine/engine-1.0-py3-none-any.whl to {MODEL}.slice-0000 (5 files), 16.8 MB"
    second = f"volume 2: {SLICE}, 16.8 MB"
    assert [each.wanted for each in desk.asked] == [f"volume 1: {first}; {second}", second]
    assert [each.problem for each in desk.asked] == [None, None]


def test_a_volume_that_does_not_help_is_said(
    three: list[Path],
    out: Path,
    joined: Join,
    maker: BundleMaker,
    *,
    two_of_three: Root,
    volumes: Callable[..., list[Path]],
    tmp_path: Path,
) -> None:
    other = volumes(maker.sign(maker.write("other", two_of_three), "alice", "bob"), 2, medium="other")
    (tmp_path / "empty").mkdir()
    desk = Desk(three[0], other[0], tmp_path / "empty", tmp_path / "nothing", three[1], three[2])
    joined(three[0], ask=desk)
    assert out.is_dir()
    problems = [type(each.problem) for each in desk.asked]
    assert problems == [type(None), Usage, VolumesMixed, FileMissing, Usage, type(None)]
    assert "nothing that is still missing lies at" in str(desk.asked[1].problem)


def test_nobody_is_there_to_insert_the_rest(
    large: Path, three: list[Path], out: Path, joined: Join, partial: Path
) -> None:
    with pytest.raises(VolumeMissing, match="volumes 2, 3 of 3 are missing") as caught:
        joined(three[0])
    assert "run the same command again" in (caught.value.hint or "")
    assert not out.exists()
    assert partial.is_dir()
    done = joined(three[1], three[2])
    assert contents(out) == contents(large)
    assert not partial.exists()
    assert done.kept > 4 * BLOCK
    assert done.copied == 5 * BLOCK + 100


def give_up(volume: Path, *lost: str) -> Path:
    """Leave of a volume what there is of it when writing it was given up before these files."""
    for path in lost:
        (volume / path).unlink()
    (volume / "volume.json").rename(volume / "volume.json.partial")
    return volume


def test_a_volume_not_written_to_its_end_is_named_among_others(
    large: Path, three: list[Path], out: Path, joined: Join
) -> None:
    give_up(three[1], SLICE)
    with pytest.raises(FileMissing) as caught:
        joined(*three)
    fault = caught.value
    assert fault.message == f"volume 2 of 3 ({three[1]}) was not written to its end"
    assert fault.found == f"of volume 2: 1 file not there, the first is {SLICE}"
    assert fault.wanted == "volume.json, which is written last"
    assert "the same `appliance media write` again" in str(fault.hint)
    assert "what was copied is kept" in str(fault.hint)
    shutil.copy(large / SLICE, three[1] / SLICE)
    joined(*three)
    assert (out / SLICE).exists(), "only the label was missing: nothing hinders anybody"


def test_what_else_is_missing_is_said_with_it(three: list[Path], joined: Join) -> None:
    give_up(three[1], SLICE)
    with pytest.raises(FileMissing) as caught:
        joined(*three[:2])
    assert caught.value.message == (
        f"volume 2 of 3 ({three[1]}) was not written to its end, and volume 3 of 3 is missing"
    )
    assert "volume 3: " in str(caught.value.wanted)


def test_two_that_were_begun_only_and_know_no_numbers(three: list[Path], joined: Join) -> None:
    for volume in three[1:]:
        give_up(volume, *(str(each.relative_to(volume)) for each in volume.glob("payload/model/*")))
        (volume / "volume.json.partial").write_text("torn")
    (three[0] / "volume.json").unlink()
    with pytest.raises(FileMissing) as caught:
        joined(*three)
    assert caught.value.message == f"{three[1]} and {three[2]} were not written to their end"
    assert "2 files not there" in str(caught.value.found)


def test_an_unfinished_volume_of_which_another_copy_is_here_hinders_nobody(
    large: Path, three: list[Path], volumes: Callable[..., list[Path]], out: Path, joined: Join
) -> None:
    copy = volumes(large, 5, 6, medium="copy")[1]
    joined(three[0], give_up(three[1], SLICE), three[2], copy)
    verify_bundle(out, (large / "trust/root.1.json").read_bytes(), progress=Silent())


def test_whoever_inserts_volumes_is_told_of_one_not_written_to_its_end(
    three: list[Path], joined: Join
) -> None:
    give_up(three[1], SLICE)
    told: list[str] = []
    inserted = [three[2], three[1], three[0]]

    def ask(lacking: Lacking) -> Path:
        told.append(lacking.problem.message if lacking.problem else "")
        if len(told) > len(inserted):
            raise KeyboardInterrupt
        return inserted[len(told) - 1]

    with pytest.raises(KeyboardInterrupt):
        joined(*three[:2], ask=ask)
    nothing = f"nothing that is still missing lies at {three[0]}"
    named = f"volume 2 of 3 ({three[1]}) was not written to its end"
    assert told == [f"{named}, and volume 3 of 3 is missing", named, named, nothing]


def test_a_pulled_volume_is_gone_on_with_by_block(
    large: Path,
    three: list[Path],
    out: Path,
    joined: Join,
    *,
    partial: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stick is pulled within the second slice; two of its blocks lie on the disk then."""
    read, names = os.preadv, Tree.names

    def preadv(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        if name_of(fd).endswith(SLICE) and offset >= 2 * BLOCK:
            raise OSError(19, "No such device")
        return read(fd, buffers, offset)

    def names_of(tree: Tree, folder: str, *, most: int) -> list[str]:
        if tree.folder == three[1] and (partial / "incoming/5.part").exists():
            raise DigestMismatch(". cannot be read", found="No such device")
        return names(tree, folder, most=most)

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", preadv)
        patch.setattr(Tree, "names", names_of)
        with pytest.raises(MediumFailed, match="pulled out"):
            joined(*three)
    (part,) = (partial / "incoming").iterdir()
    assert part.stat().st_size == 2 * BLOCK
    assert not out.exists()
    done = joined(*three)
    assert contents(out) == contents(large)
    assert done.copied == 2 * BLOCK + BLOCK + 100


def test_a_part_with_other_bytes_is_not_believed(
    large: Path, three: list[Path], out: Path, joined: Join, partial: Path
) -> None:
    with pytest.raises(VolumeMissing):
        joined(three[0])
    (partial / "incoming").mkdir(exist_ok=True)
    (partial / "incoming/5.part").write_bytes(bytes(3 * BLOCK))
    joined(*three)
    assert contents(out) == contents(large)


def test_a_damaged_file_is_named_and_the_rest_copied(
    large: Path, three: list[Path], out: Path, joined: Join, partial: Path
) -> None:
    (three[1] / SLICE).write_bytes(bytes(4 * BLOCK))
    with pytest.raises(DigestMismatch, match="damaged: 1 file; everything else was copied") as caught:
        joined(*three)
    assert f"volume 2 of 3 ({three[1]})" in (caught.value.found or "")
    assert f"media repair {partial}" in (caught.value.hint or "")
    assert not out.exists()
    assert (partial / f"{MODEL}.slice-0002").exists()
    shutil.copy(large / SLICE, partial / SLICE)  # as a repair would
    joined(three[0])
    assert contents(out) == contents(large)


def test_a_second_copy_of_a_volume_helps(
    large: Path, three: list[Path], tmp_path: Path, out: Path, joined: Join
) -> None:
    again = shutil.copytree(three[1], tmp_path / "again")
    (three[1] / SLICE).write_bytes(bytes(4 * BLOCK))
    joined(*three, again)
    assert contents(out) == contents(large)


def test_a_second_copy_is_asked_for(
    large: Path, three: list[Path], tmp_path: Path, out: Path, joined: Join
) -> None:
    again = shutil.copytree(three[1], tmp_path / "again")
    os.truncate(three[1] / SLICE, 7)
    desk = Desk(again)
    joined(*three, ask=desk)
    assert contents(out) == contents(large)
    [asked] = desk.asked
    assert "volume 2:" in asked.wanted
    assert isinstance(asked.problem, DigestMismatch)


def test_damaged_root_files_are_taken_from_their_second_copies(
    large: Path, three: list[Path], out: Path, joined: Join
) -> None:
    for folder in three:
        (folder / "manifest.json").write_bytes(b"{}")
        (folder / "trust/SHA256SUMS").write_bytes(b"")
    joined(*three)
    assert contents(out) == contents(large)


def test_a_root_file_without_second_copy_is_taken_from_another_volume(
    large: Path, three: list[Path], out: Path, joined: Join
) -> None:
    (three[0] / "VERIFY.txt").write_bytes(b"")
    joined(*three)
    assert contents(out) == contents(large)


def test_a_root_file_that_is_nowhere_right(three: list[Path], out: Path, joined: Join) -> None:
    for folder in three:
        (folder / "blocks.bin").write_bytes(b"")
    with pytest.raises(DigestMismatch, match="root files are damaged") as caught:
        joined(*three)
    assert caught.value.found == "blocks.bin"
    assert not out.exists()


def test_the_root_judges(three: list[Path], out: Path, joined: Join, two_of_three: Root) -> None:
    for folder in three:
        for path in folder.rglob("*bob*"):
            path.unlink()
    with pytest.raises(ThresholdNotMet):
        joined(*three, root=root_bytes(two_of_three))
    assert not out.exists()


def test_signers_are_said(three: list[Path], joined: Join, two_of_three: Root) -> None:
    assert joined(*three, root=root_bytes(two_of_three)).signers == ("alice", "bob")


def test_volumes_of_two_bundles(
    three: list[Path],
    joined: Join,
    maker: BundleMaker,
    two_of_three: Root,
    *,
    volumes: Callable[..., list[Path]],
    out: Path,
) -> None:
    other = volumes(maker.sign(maker.write("other", two_of_three), "alice", "bob"), 2, medium="other")
    with pytest.raises(VolumesMixed) as caught:
        joined(three[0], other[1])
    assert caught.value.hint == "name only the folders of one bundle"
    assert not out.with_name(f".{out.name}.joining").exists()
    with pytest.raises(VolumeMissing):
        joined(three[0])
    with pytest.raises(Usage, match="begun with another bundle"):
        joined(*other)
    assert not out.exists()


def test_the_target_must_be_new(three: list[Path], out: Path, joined: Join, tmp_path: Path) -> None:
    out.symlink_to("nowhere")
    with pytest.raises(Usage, match="exists already"):
        joined(*three)
    with pytest.raises(Usage, match="not a folder"):
        join_volumes(three, tmp_path / "no" / "where", progress=Silent())


def test_two_runs_into_one_folder(three: list[Path], joined: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FileCopier.write

    def write(copier: FileCopier, *arguments: object, judge: bool) -> None:
        with pytest.raises(InProgress):
            joined(*three)
        real(copier, *arguments, judge=judge)  # type: ignore[arg-type] # passed on as it came

    monkeypatch.setattr(FileCopier, "write", write)
    joined(*three)


def test_too_little_room(
    three: list[Path], out: Path, joined: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    class Small:
        f_blocks, f_bavail, f_frsize = 10, 1, 4096

    monkeypatch.setattr(os, "statvfs", lambda path: Small if "joined" not in str(path) else real(path))
    with pytest.raises(SpaceExhausted):
        joined(*three)
    assert not out.exists()


def test_a_disk_that_fills_up(
    large: Path, three: list[Path], out: Path, joined: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if "5.part" in name_of(fd) and offset >= BLOCK:
            raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr("appliance.bundle.media.copying.os.pwrite", pwrite)
        with pytest.raises(SpaceExhausted):
            joined(*three)
    assert not out.exists()
    joined(*three)
    assert contents(out) == contents(large)


def test_what_lies_in_the_partial_folder_is_not_let_in(
    three: list[Path], out: Path, joined: Join, partial: Path
) -> None:
    partial.mkdir()
    (partial / "evil").write_bytes(b"x")
    with pytest.raises(FileUnexpected, match="not of this bundle"):
        joined(*three)
    assert not out.exists()


def test_what_was_joined_is_said(large: Path, joined: Join, three: list[Path]) -> None:
    done = joined(*three)
    assert done.digest == hashlib.sha256((large / "trust/SHA256SUMS").read_bytes()).hexdigest()
    assert (done.product, done.version) == ("demo", "1.0.0")
