"""Volumes at once or one after the other; what still has to be inserted is said."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.verify import verify_bundle
from appliance.errors import FileMissing, Usage, VolumeMissing, VolumesMixed
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.unit.bundle.media.join.joining import BLOCK, MODEL, SLICE, Desk, contents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.media.collecting import Lacking
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker
    from tests.unit.bundle.media.join.joining import Join


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
