"""Claiming a lab's folder: interrupted at the worst moment, nothing is left."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from appliance.errors import Usage
from appliance.lab import up
from appliance.lab.places import Places, claim_folder
from appliance.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.lab.recipe import Recipe


def test_ctrl_c_while_the_folder_is_made_waits_until_it_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted_claim(places: Places, name: str) -> Path:
        folder = claim_folder(places, name)
        os.kill(os.getpid(), signal.SIGINT)
        return folder

    monkeypatch.setattr(up, "claim_folder", interrupted_claim)
    monkeypatch.setattr("appliance.lab.down.require_root", lambda: None)
    monkeypatch.setattr("appliance.lab.down.require_tools", lambda _: None)
    places = Places(tmp_path / "labs", tmp_path / "cache")
    done = threading.Event()
    # As a progress display has: the kernel may give the signal to any thread.
    threads = [threading.Thread(target=done.wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with pytest.raises(KeyboardInterrupt), up._claimed(places, "ward", up.Wanted(), tmp_path):
            pass
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("suite", "machine"), [("sid", False), ("noble", False), ("bookworm", True)])
def test_nodes_of_another_release_are_refused_before_anything_is_made(
    tmp_path: Path, suite: str, *, machine: bool
) -> None:
    with pytest.raises(Usage) as caught:
        up.prepare(
            Places(tmp_path / "labs", tmp_path / "cache"), machine=machine, suite=suite, progress=Silent()
        )
    assert caught.value.found == suite
    assert caught.value.wanted == "trixie; of containers also bookworm"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_container_is_of_the_release_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: str
) -> None:
    made: list[str] = []

    def prepare_root(_places: object, recipe: Recipe, **_: object) -> Path:
        made.append(recipe.suite)
        return tmp_path

    monkeypatch.setattr(up, "prepare_root", prepare_root)
    up.prepare(Places(tmp_path / "labs", tmp_path / "cache"), machine=False, suite=suite, progress=Silent())
    assert made == [suite]
