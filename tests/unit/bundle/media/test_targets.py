"""Which volume goes where: targets refused, media asked for, divisions that labels tell."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.label import label_bytes, parse_label
from appliance.bundle.media.write import write_media
from appliance.errors import (
    LabelInvalid,
    MediaMissing,
    MediaTooSmall,
    MediumOccupied,
    MediumUnsuitable,
    SpaceExhausted,
    Usage,
)
from appliance.progress import Silent

from .conftest import MIB, ONE_SLICE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.media.write import Wanted, WrittenMedia
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker


def write(bundle: Path, *targets: Path, **options: object) -> WrittenMedia:
    return write_media(bundle, targets, **{"progress": Silent(), "sizes": [ONE_SLICE], **options})


def only_folder(place: Path) -> Path:
    (folder,) = place.iterdir()
    return folder


class Hands:
    """Somebody who changes the medium at one place: each step is what to put there, None nothing new."""

    def __init__(self, place: Path, *steps: Path | None) -> None:
        self._place = place
        self._steps = list(steps)
        self.asked: list[Wanted] = []
        self.shelf = place.with_name("shelf")
        self.shelf.mkdir()

    def __call__(self, wanted: Wanted) -> None:
        self.asked.append(wanted)
        if not self._steps:
            raise KeyboardInterrupt
        step = self._steps.pop(0)
        if step is not None:
            self._place.rename(self.shelf / str(len(self.asked)))
            step.rename(self._place)


# --- targets that are refused ----------------------------------------------------------------------


def test_a_target_that_is_no_folder(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, found in (("none", "No such file or directory"), ("file", "Not a directory")):
        with pytest.raises(MediumUnsuitable, match="is not a folder that can be read") as fault:
            write(bundle, tmp_path / name)
        assert fault.value.found == found


def test_a_target_inside_the_bundle(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bundle / "payload")
    for target in (bundle, bundle / "payload/model", tmp_path / "link"):
        with pytest.raises(MediumUnsuitable, match="lies inside the bundle"):
            write(bundle, target)


def test_a_place_where_nothing_is_mounted(bundle: Path, places: list[Path]) -> None:
    with pytest.raises(MediumUnsuitable, match=f"^no medium is mounted at {places[0]}$"):
        write(bundle, places[0], sizes=[])
    assert not any(places[0].iterdir())


def test_one_target_under_two_names_is_one_medium(
    cut_bundle: Path, places: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(places[0])
    with pytest.raises(MediaTooSmall, match="1 medium cannot hold the bundle"):
        write(cut_bundle, places[0], tmp_path / "link", places[0] / ".")
    assert not any(places[0].iterdir())


def test_targets_on_one_file_system_are_one_medium(
    bundle: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their room would be counted twice.  Both lie on this system's disk, which is refused before."""
    from appliance.bundle.media import targets

    examine = targets.examine_medium
    monkeypatch.setattr(
        targets,
        "examine_medium",
        lambda *args, **options: examine(*args, **{**options, "stands_for": True}),
    )
    with pytest.raises(MediumUnsuitable, match="are on one medium"):
        write(bundle, *places[:2], sizes=[])


def test_another_bundle_on_the_medium(
    maker: BundleMaker,
    bundle: Path,
    two_of_three: Root,
    places: list[Path],
    snapshot: Callable[[Path], object],
) -> None:
    other = maker.write("other", two_of_three, maker.lock().model_copy(update={"product": "other"}))
    write(other, places[0])
    shutil.copytree(other, places[1] / "copied")
    before = snapshot(places[0])
    with pytest.raises(MediumOccupied, match="holds something else already") as fault:
        write(bundle, places[0])
    assert str(fault.value.found).startswith("volume 1 of 1 of other 1.0.0 in other-1.0.0.")
    with pytest.raises(MediumOccupied) as fault:
        write(bundle, places[1])
    assert fault.value.found == "a bundle in copied"
    with pytest.raises(MediumOccupied) as fault:
        write(bundle, places[1] / "copied")
    assert fault.value.found == "a bundle in the folder itself"
    with pytest.raises(MediumOccupied) as fault:
        write(bundle, only_folder(places[0]))
    assert str(fault.value.found).endswith("in the folder itself")
    assert snapshot(places[0]) == before


def test_other_files_on_the_medium_do_not_matter(bundle: Path, places: list[Path]) -> None:
    (places[0] / "System Volume Information").mkdir()
    (places[0] / "letter.txt").write_text("dear")
    write(bundle, places[0])
    assert (places[0] / "letter.txt").read_text() == "dear"


def test_a_volume_with_a_damaged_label_is_left_alone(bundle: Path, places: list[Path]) -> None:
    write(bundle, places[0])
    (only_folder(places[0]) / "volume.json").write_bytes(b"{}")
    with pytest.raises(MediumOccupied, match=r"volume\.json is damaged") as damaged:
        write(bundle, places[0])
    assert str(damaged.value.hint).startswith("`appliance media repair` restores the label")
    only_folder(places[0]).rename(places[0] / "renamed")
    with pytest.raises(MediumOccupied) as fault:
        write(bundle, places[0])
    assert fault.value.found == "a volume with a damaged label in renamed"


def test_a_folder_of_the_volumes_name_without_a_label(bundle: Path, places: list[Path]) -> None:
    write(bundle, places[0])
    (only_folder(places[0]) / "volume.json").unlink()
    (places[1] / only_folder(places[0]).name).symlink_to("/tmp")
    (places[2] / only_folder(places[0]).name).mkdir()
    (only_folder(places[2]) / "mine").touch()
    for place, advice in zip(places, ("`appliance media repair`", "look at", "look at"), strict=True):
        with pytest.raises(MediumOccupied, match="is there, but is no volume") as fault:
            write(bundle, place)
        assert str(fault.value.hint).startswith(advice)


def test_a_label_of_another_bundle_under_our_name(bundle: Path, places: list[Path]) -> None:
    write(bundle, places[0])
    path = only_folder(places[0]) / "volume.json"
    label = parse_label(path.read_bytes())
    path.write_bytes(label_bytes(replace(label, bundle="0" * 64)))
    with pytest.raises(MediumOccupied, match="is a volume of another bundle"):
        write(bundle, places[0])


# --- which volume goes where ------------------------------------------------------------------------


def test_volumes_may_come_in_any_order(cut_bundle: Path, places: list[Path]) -> None:
    first = write(cut_bundle, *places)
    again = write(cut_bundle, *reversed(places))
    assert [volume.number for volume in again.volumes] == [3, 2, 1]
    assert {volume.folder for volume in again.volumes} == {volume.folder for volume in first.volumes}


def test_the_division_of_volumes_that_are_there_stands(cut_bundle: Path, places: list[Path]) -> None:
    """Though other media have other room: the second run offers one that could take everything."""
    write(cut_bundle, *places)
    shutil.rmtree(only_folder(places[1]))
    again = write(cut_bundle, *places, sizes=[64 * MIB])
    assert [(volume.number, volume.written > 0) for volume in again.volumes] == [
        (1, False),
        (2, True),
        (3, False),
    ]


def test_a_lost_volume_is_written_again(cut_bundle: Path, places: list[Path], tmp_path: Path) -> None:
    write(cut_bundle, *places)
    new = tmp_path / "new"
    new.mkdir()
    for like in (places[0], only_folder(places[2])):
        written = write(cut_bundle, new, sizes=[64 * MIB], only=[2], like=like)
        assert [volume.number for volume in written.volumes] == [2]
    assert {path.name for path in new.rglob("*.slice-*")} == {"tiny.gguf.slice-0001"}


def test_what_is_not_wanted_is_not_read(cut_bundle: Path, places: list[Path]) -> None:
    class Noting(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    notes: list[str] = []
    write(cut_bundle, *places)
    shutil.rmtree(only_folder(places[1]))
    written = write(cut_bundle, *places, only=[1, 2], progress=Noting())
    assert [volume.number for volume in written.volumes] == [1, 2]
    assert notes == [f"{places[2]} holds volume 3 of 3, which is not wanted; it was not read"]


def test_like_names_a_volume_of_this_bundle(
    cut_bundle: Path, bundle: Path, places: list[Path], tmp_path: Path
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    write(cut_bundle, *places)
    with pytest.raises(Usage, match="is not a volume"):
        write(cut_bundle, places[0], like=cut_bundle)
    with pytest.raises(MediumOccupied, match="is a volume of another bundle"):
        write(bundle, new, like=places[0])


def test_a_number_beyond_the_last_volume(cut_bundle: Path, places: list[Path]) -> None:
    with pytest.raises(Usage, match="there is no volume 4"):
        write(cut_bundle, *places, only=[4])


def test_volumes_of_two_divisions_are_not_mixed(cut_bundle: Path, places: list[Path]) -> None:
    write(cut_bundle, *places)
    shutil.rmtree(only_folder(places[0]))
    write(cut_bundle, places[0], sizes=[64 * MIB])
    with pytest.raises(MediumOccupied, match="do not belong together") as fault:
        write(cut_bundle, *places)
    assert fault.value.found == "divisions into 1 and 3 volumes"


def test_one_volume_on_two_media(cut_bundle: Path, places: list[Path]) -> None:
    write(cut_bundle, *places)
    shutil.rmtree(only_folder(places[1]))
    shutil.copytree(only_folder(places[0]), places[1] / only_folder(places[0]).name)
    with pytest.raises(MediumOccupied, match="hold the same volume"):
        write(cut_bundle, *places)


def test_a_label_that_contradicts_the_bundle(cut_bundle: Path, places: list[Path]) -> None:
    folder = write(cut_bundle, *places).volumes[0].folder
    label = parse_label((folder / "volume.json").read_bytes())
    one, two, three = label.volumes
    wrong = replace(label, volumes=(one, replace(two, size=7), three))
    (folder / "volume.json").write_bytes(label_bytes(wrong))
    with pytest.raises(LabelInvalid, match="a label contradicts the bundle about volume 2"):
        write(cut_bundle, places[0])
    (folder / "volume.json").write_bytes(label_bytes(replace(label, volumes=(one, two))))
    with pytest.raises(LabelInvalid, match="does not divide the whole bundle"):
        write(cut_bundle, places[0])


def test_a_medium_too_small_for_its_volume(cut_bundle: Path, places: list[Path]) -> None:
    write(cut_bundle, *places)
    shutil.rmtree(only_folder(places[1]))
    with pytest.raises(SpaceExhausted, match=r"too small for volume 2 of 3$"):
        write(cut_bundle, *places, sizes=[ONE_SLICE, 2 * MIB])
    assert not any(places[1].iterdir())


# --- fewer ports than volumes -----------------------------------------------------------------------


def test_without_anybody_to_ask_all_media_must_be_there(cut_bundle: Path, places: list[Path]) -> None:
    with pytest.raises(MediaTooSmall, match="2 media cannot hold the bundle"):
        write(cut_bundle, *places[:2])
    write(cut_bundle, *places)
    shutil.rmtree(only_folder(places[2]))
    with pytest.raises(MediaMissing, match=r"^no medium for volume 3 of 3$") as fault:
        write(cut_bundle, *places[:2])
    assert fault.value.found == f"{places[0]} holds volume 1 of 3, {places[1]} holds volume 2 of 3"
    with pytest.raises(MediaMissing, match=r"^no medium for volume 3 of 3$") as fault:
        write(cut_bundle, places[1], only=[3])
    assert fault.value.found == f"{places[1]} holds volume 2 of 3"


def test_the_next_medium_is_asked_for(cut_bundle: Path, places: list[Path]) -> None:
    hands = Hands(places[0], places[1], places[2])
    written = write(cut_bundle, places[0], ask=hands)
    assert [volume.number for volume in written.volumes] == [1, 2, 3]
    assert [(wanted.number, wanted.count, wanted.problem) for wanted in hands.asked] == [
        (2, 3, None),
        (3, 3, None),
    ]
    assert hands.asked[0].target == places[0]
    assert hands.asked[0].inscription == f"demo 1.0.0, volume 2 of 3, {written.cargo.digest[:12]}"
    assert 8 * MIB < hands.asked[0].size < ONE_SLICE


def test_two_ports_are_used_in_turn(cut_bundle: Path, places: list[Path]) -> None:
    hands = Hands(places[0], places[2])
    written = write(cut_bundle, *places[:2], ask=hands)
    assert [volume.folder.parent for volume in written.volumes] == [places[0], places[1], places[0]]


def test_a_medium_that_was_not_changed_is_noticed(cut_bundle: Path, places: list[Path]) -> None:
    hands = Hands(places[0], None, places[1], places[2])
    write(cut_bundle, places[0], ask=hands)
    assert [str(wanted.problem) for wanted in hands.asked] == [
        "None",
        f"{places[0]} holds volume 1 of 3 already",
        "None",
    ]


def test_an_unsuitable_medium_is_asked_for_again(
    cut_bundle: Path, bundle: Path, places: list[Path]
) -> None:
    write(bundle, places[1])
    hands = Hands(places[0], places[1], places[2])
    with pytest.raises(KeyboardInterrupt):
        write(cut_bundle, places[0], ask=hands)
    assert isinstance(hands.asked[1].problem, MediumOccupied)
    assert (hands.shelf / "2").is_dir()  # the wrong one was taken out
    assert [wanted.number for wanted in hands.asked] == [2, 2, 3]


def test_a_volume_that_was_begun_goes_on_whenever_it_comes(cut_bundle: Path, places: list[Path]) -> None:
    write(cut_bundle, *places)
    shutil.rmtree(only_folder(places[1]))
    (only_folder(places[2]) / "volume.json").rename(only_folder(places[2]) / "volume.json.partial")
    hands = Hands(places[0], places[2], places[1])
    written = write(cut_bundle, places[0], ask=hands)
    assert [volume.number for volume in written.volumes] == [1, 3, 2]
    assert [volume.written > 0 for volume in written.volumes] == [False, False, True]


def test_further_media_may_have_other_sizes(cut_bundle: Path, places: list[Path]) -> None:
    hands = Hands(places[0], places[1])
    written = write(cut_bundle, places[0], sizes=[ONE_SLICE, 64 * MIB], ask=hands)
    assert [volume.number for volume in written.volumes] == [1, 2]
