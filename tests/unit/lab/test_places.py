"""Folders, state files and locks: one run at a time, and nothing left over."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.errors import InProgress, LabFailed, SettingsInvalid, Usage
from appliance.lab.down import take_all_down, take_down
from appliance.lab.places import (
    CACHE_VARIABLE,
    LABS_VARIABLE,
    Places,
    claim_folder,
    find_lab,
    find_node,
    locked,
    read_state,
    write_state,
)
from appliance.lab.plan import Lab

LAB = Lab("ward", 7, 2, "0123456789", (4, 4026531840), Path("/cache/abc/root"))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "labs", tmp_path / "cache")


@pytest.fixture
def ward(places: Places) -> Path:
    places.labs.mkdir()
    folder = claim_folder(places, "ward")
    write_state(folder, LAB)
    return folder


def test_the_state_is_written_whole_and_alone(ward: Path) -> None:
    assert read_state(ward) == LAB
    assert [path.name for path in ward.iterdir()] == ["state.json"]


def test_a_lab_that_exists_is_not_made_again(places: Places, ward: Path) -> None:
    with pytest.raises(LabFailed, match="exists already") as caught:
        claim_folder(places, "ward")
    assert caught.value.hint == "appliance lab down ward"
    assert read_state(ward) == LAB


@pytest.mark.parametrize("name", ["ward-01", "ward-02"])
def test_a_node_is_found_by_its_name(places: Places, ward: Path, name: str) -> None:
    lab, node, folder = find_node(places, name)
    assert (lab, node.name, folder) == (LAB, name, ward)


def test_the_labs_name_does_for_its_only_node(places: Places, ward: Path) -> None:
    write_state(ward, Lab(**{**LAB.__dict__, "count": 1}))
    assert find_node(places, "ward")[1].name == "ward-01"


@pytest.mark.usefixtures("ward")
@pytest.mark.parametrize("name", ["ward", "ward-03", "ward-00"])
def test_a_name_of_no_single_node_is_refused_with_those_there_are(places: Places, name: str) -> None:
    with pytest.raises(Usage) as caught:
        find_node(places, name)
    assert caught.value.wanted == "one of ward-01, ward-02"


@pytest.mark.usefixtures("ward")
def test_a_lab_that_is_not_there_is_named_with_those_that_are(places: Places) -> None:
    with pytest.raises(LabFailed) as caught:
        find_lab(places, "icu")
    assert caught.value.found == "ward"


def test_a_half_made_lab_is_no_lab_to_work_on(places: Places) -> None:
    places.folder("ward").mkdir(parents=True)
    with pytest.raises(LabFailed):
        find_lab(places, "ward")


def test_a_held_lock_is_in_progress(tmp_path: Path) -> None:
    with locked(tmp_path, wait=0), pytest.raises(InProgress), locked(tmp_path, wait=0.1):
        pass
    with locked(tmp_path, wait=0):
        pass


def test_waiting_for_a_lock_ends_when_its_folder_goes(tmp_path: Path) -> None:
    folder = tmp_path / "ward"
    folder.mkdir()
    waiting = threading.Event()
    ended: list[type[BaseException]] = []

    def wait() -> None:
        waiting.set()
        try:
            with locked(folder, wait=10):
                pass
        except FileNotFoundError as error:
            ended.append(type(error))

    with locked(folder, wait=0):
        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait()
        folder.rmdir()
    thread.join()
    assert ended == [FileNotFoundError]


def test_nothing_to_take_down_is_no_error_and_makes_nothing(places: Places) -> None:
    assert take_down(places, "ward") is False
    assert take_all_down(places) == []
    assert not places.labs.exists()
    assert not places.cache.exists()


@pytest.mark.parametrize("name", ["..", "../other", "/etc", "ward-01"])
def test_down_removes_no_folder_that_is_no_labs(places: Places, ward: Path, name: str) -> None:
    with pytest.raises(Usage):
        take_down(places, name)
    assert ward.is_dir()


@pytest.mark.parametrize("value", ["labs", "", "/a:b", "/a,b", '/a"b', "/a\\b"])
@pytest.mark.parametrize("variable", [LABS_VARIABLE, CACHE_VARIABLE])
def test_folders_that_cannot_be_mounted_are_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsInvalid, match=variable):
        Places.from_environment()


def test_the_environment_names_the_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LABS_VARIABLE, "/srv/labs")
    monkeypatch.setenv(CACHE_VARIABLE, "/srv/cache")
    assert Places.from_environment() == Places(Path("/srv/labs"), Path("/srv/cache"))
