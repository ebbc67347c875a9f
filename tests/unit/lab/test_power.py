"""A TPM is moved only where there is a place for one, and while nothing runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import LabFailed
from appliance.lab import power
from appliance.lab.namespaces import own_network
from appliance.lab.places import Places, node_folder, write_state
from appliance.lab.plan import Lab
from appliance.lab.tpm import new_tpm, pull_tpm, tpm_state

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "require_root", lambda: None)
    monkeypatch.setattr(power, "require_tools", lambda _: None)


def made(tmp_path: Path, *, tpm: bool) -> tuple[Places, Path]:
    places = Places(tmp_path / "labs", tmp_path / "cache")
    lab = Lab("ward", 7, 1, "0123456789", own_network(), tmp_path, machine=True, tpm=tpm)
    home = node_folder(places.folder("ward"), "ward-01")
    home.mkdir(parents=True)
    write_state(places.folder("ward"), lab)
    return places, home


def test_a_node_without_a_place_for_one_is_refused(tmp_path: Path) -> None:
    places, home = made(tmp_path, tpm=False)
    with pytest.raises(LabFailed, match="no place for a TPM"):
        power.change_tpm(places, "ward", new_tpm)
    assert tpm_state(home) is None


@pytest.mark.parametrize("running", [False, True])
def test_it_is_moved_only_while_the_node_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    places, home = made(tmp_path, tpm=True)
    new_tpm(home)
    monkeypatch.setattr(power.machines, "is_running", lambda _lab, _node: running)
    if running:
        with pytest.raises(LabFailed, match="is on") as raised:
            power.change_tpm(places, "ward-01", pull_tpm)
        assert "lab power cut ward-01" in str(raised.value.hint)
    else:
        assert power.change_tpm(places, "ward-01", pull_tpm).name == "ward-01"
    assert tpm_state(home) == ("in" if running else "out")
