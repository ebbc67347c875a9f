"""What is missing is named, with what to do about it, before anything is made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from appliance.errors import PreflightFailed, SpaceExhausted, ToolMissing
from appliance.lab.places import Places
from appliance.lab.recipe import Recipe
from appliance.lab.requirements import BUILD_TOOLS, UP_TOOLS, require_root, require_tools
from appliance.lab.rootfs import cached_root, prepare_root
from appliance.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("program", "package"), sorted({**UP_TOOLS, **BUILD_TOOLS}.items()))
def test_a_missing_program_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, package: str
) -> None:
    tools = {**UP_TOOLS, **BUILD_TOOLS}
    for other in set(tools) - {program}:
        (tmp_path / other).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing) as caught:
        require_tools(tools)
    assert caught.value.found == f"no {program}"
    assert caught.value.hint == f"apt install {package}"
    assert caught.value.exit_code == 5


def test_only_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PreflightFailed, match="need root"):
        require_root()


def test_too_little_room_is_noticed_before_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(tmp_path / "labs", tmp_path / "cache")
    monkeypatch.setattr("appliance.lab.rootfs.require_root", lambda: None)
    monkeypatch.setattr("appliance.lab.rootfs.require_tools", lambda _: None)
    monkeypatch.setattr("appliance.lab.rootfs._NEEDED_BYTES", 2**62)
    with pytest.raises(SpaceExhausted):
        prepare_root(places, Recipe(), progress=Silent())
    assert list(places.cache.iterdir()) == []


def test_a_cached_root_needs_nothing_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(tmp_path / "labs", tmp_path / "cache")
    assert cached_root(places, Recipe()) is None
    root = places.cache / Recipe().digest / "root"
    root.mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert prepare_root(places, Recipe(), progress=Silent()) == root
