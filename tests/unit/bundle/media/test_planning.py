"""Planning for media that are there: what ``media write`` would find and do, nothing written."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media import planning
from appliance.bundle.media.plan import Room
from appliance.bundle.media.planning import plan_media
from appliance.bundle.media.write import write_media
from appliance.errors import MediumOccupied, MediumUnsuitable, SpaceExhausted, Usage
from appliance.progress import Silent

from .conftest import ONE_SLICE

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.media.plan import Plan

FREE = 20 << 20


@pytest.fixture(autouse=True)
def media(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder stands for a medium with as much room as is free on it."""
    monkeypatch.setattr(planning, "measure_room", lambda target, _: Room(str(target), FREE, 4096))
    monkeypatch.setattr(planning, "refuse_shared_room", lambda *_, **__: None)


def only_folder(place: Path) -> Path:
    (folder,) = place.iterdir()
    return folder


def seen(plan: Plan) -> list[tuple[str, str | None]]:
    return [(volume.room.name, volume.there) for volume in plan.volumes]


def test_volumes_that_lie_there_stay_where_they_are(cut_bundle: Path, places: list[Path]) -> None:
    write_media(cut_bundle, places, progress=Silent(), sizes=[ONE_SLICE])
    (only_folder(places[1]) / "volume.json").rename(only_folder(places[1]) / "volume.json.partial")
    shutil.rmtree(only_folder(places[2]))
    plan = plan_media(cut_bundle, mounts=places[::-1])
    assert seen(plan) == [(str(places[0]), "complete"), (str(places[1]), "begun"), (str(places[2]), None)]
    one, _, three = plan.volumes
    assert three.room.size == FREE
    assert one.used <= one.room.size - FREE + (128 << 10)  # beside what is free, there is what it takes
    plan = plan_media(cut_bundle, mounts=places[:1])
    assert seen(plan) == [(str(places[0]), "complete"), ("not here", None), ("not here", None)]


def test_fresh_media_are_planned_by_their_room(cut_bundle: Path, places: list[Path]) -> None:
    assert seen(plan_media(cut_bundle, mounts=places)) == [(str(places[0]), None)]


def test_a_medium_too_small_for_the_volume_that_is_left(
    cut_bundle: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_media(cut_bundle, places, progress=Silent(), sizes=[ONE_SLICE])
    shutil.rmtree(only_folder(places[1]))
    monkeypatch.setattr(planning, "measure_room", lambda target, _: Room(str(target), 1 << 20, 4096))
    with pytest.raises(SpaceExhausted, match=f"{places[1]} is too small for volume 2 of 3"):
        plan_media(cut_bundle, mounts=places)


def test_what_write_refuses(
    cut_bundle: Path, bundle: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_media(bundle, [places[0]], progress=Silent(), sizes=[ONE_SLICE])
    with pytest.raises(MediumOccupied, match="holds something else already"):
        plan_media(cut_bundle, mounts=places)
    with pytest.raises(Usage, match="a medium is given twice"):
        plan_media(cut_bundle, mounts=[places[1], places[2], places[1] / "."])
    monkeypatch.undo()
    with pytest.raises(MediumUnsuitable, match="are on one medium"):
        plan_media(cut_bundle, mounts=places[1:])
