"""Where Debian packages are looked for, without an address of our own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.errors import SettingsInvalid, ToolMissing
from appliance.sources import apt_repositories
from appliance.sources.apt_repositories import (
    Repository,
    archive_keyring,
    map_repositories,
    repositories,
)
from appliance.sources.station import DebianSettings

MIRROR = "https://mirror.example/debian/"
SECURITY = "https://mirror.example/debian-security/"


def test_the_stations_suites_are_turned_to_the_wanted_one() -> None:
    targets = [
        [MIRROR, "bookworm", "main", "Debian"],
        [MIRROR, "bookworm", "non-free-firmware", "Debian"],
        [MIRROR, "bookworm-updates", "main", "Debian"],
        [SECURITY, "bookworm-security", "main", "Debian"],
    ]
    assert map_repositories(targets, "bookworm", "trixie") == (
        Repository(MIRROR, "trixie", ("main", "non-free-firmware")),
        Repository(MIRROR, "trixie-updates", ("main",)),
        Repository(SECURITY, "trixie-security", ("main",)),
    )


@pytest.mark.parametrize(
    "target",
    [
        ["https://other.example/", "bookworm", "main", "Somebody"],
        ["https://other.example/", "nodistro", "main", "Debian"],
        ["https://other.example/", "bookworm-backports", "main", "Debian"],
        ["https://other.example/", "cloud-sdk-bookworm", "main", "Debian"],
    ],
)
def test_other_repositories_are_left_out(target: list[str]) -> None:
    assert map_repositories([target], "bookworm", "trixie") == ()


def test_before_the_station_has_fetched_lists_no_origin_is_known() -> None:
    targets = [[MIRROR, "bookworm", "main", "$(ORIGIN)"]]
    assert map_repositories(targets, "bookworm", "trixie") == (Repository(MIRROR, "trixie", ("main",)),)


def test_a_mirror_of_the_settings_comes_first() -> None:
    settings = DebianSettings(mirror=MIRROR, security=SECURITY)
    assert repositories("trixie", settings) == (
        Repository(MIRROR, "trixie", ("main",)),
        Repository(MIRROR, "trixie-updates", ("main",)),
        Repository(SECURITY, "trixie-security", ("main",)),
    )
    assert len(repositories("trixie", DebianSettings(mirror=MIRROR))) == 2


def test_areas_that_a_definition_names_go_before_the_stations(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DebianSettings(mirror=MIRROR, security=SECURITY)
    wanted = ("main", "non-free")
    assert [each.components for each in repositories("trixie", settings, wanted)] == [wanted] * 3
    monkeypatch.setattr(apt_repositories, "_station_codename", lambda: None)
    found = repositories("trixie", DebianSettings(), wanted)
    assert {each.components for each in found} == {wanted}


def test_each_line_trusts_exactly_the_keyring() -> None:
    line = Repository(MIRROR, "trixie", ("main", "contrib")).line(Path("/k.gpg"))
    assert line == f"deb [signed-by=/k.gpg] {MIRROR} trixie main contrib\n"


def test_a_station_without_debian_sources_does_as_mmdebstrap_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_repositories, "_station_codename", lambda: None)
    found = repositories("trixie", DebianSettings())
    assert [repository.suite for repository in found] == ["trixie", "trixie-updates", "trixie-security"]
    assert all(repository.components == ("main",) for repository in found)
    assert all(repository.uri.startswith("http") for repository in found)


def test_a_station_that_knows_nothing_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_repositories, "_station_codename", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ToolMissing) as caught:
        repositories("trixie", DebianSettings())
    assert "APPLIANCE_DEBIAN_MIRROR" in caught.value.hint
    assert caught.value.exit_code == 5


def test_the_archives_keyring_is_found_or_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(apt_repositories, "_KEYRING_FOLDER", tmp_path)
    with pytest.raises(ToolMissing, match="keyring is not on this station"):
        archive_keyring(DebianSettings())
    (tmp_path / "debian-archive-keyring.gpg").touch()
    assert archive_keyring(DebianSettings()).name == "debian-archive-keyring.gpg"
    with pytest.raises(SettingsInvalid):
        archive_keyring(DebianSettings(keyring="/nowhere.gpg"))
