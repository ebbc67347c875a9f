"""Debian packages, from a small archive of our own that the real apt resolves, checks and fetches."""

from __future__ import annotations

import hashlib
from threading import Event
from typing import TYPE_CHECKING

import pytest

from appliance.definition.components import Debian
from appliance.errors import (
    ArchiveUntrusted,
    DefinitionInvalid,
    DigestMismatch,
    Location,
    PackageMissing,
    SettingsInvalid,
    SourceUnreachable,
    SpaceExhausted,
    ToolMissing,
)
from appliance.sources.apt import AptFailed, AptRoot
from appliance.sources.debian_packages import DebianPackages
from appliance.sources.fetching import bring
from appliance.sources.station import DebianSettings, Settings
from appliance.sources.stopping import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.definition.document import Loc
    from appliance.definition.lock import Artefact
    from appliance.definition.names import Target
    from appliance.sources.station import Station

    from .archive import Archive, Signer
    from .conftest import Web


def where(loc: Loc) -> Location:
    return Location("demo.yaml", 5, 10 + int(loc[1]) if len(loc) > 1 else 1)


def spec(*packages: str) -> Debian:
    return Debian(kind="debian", packages=packages)


def locked(source: DebianPackages, *packages: str) -> list[Artefact]:
    artefacts = source.resolve(spec(*packages), where)
    source.fetch(artefacts)
    return source.describe(artefacts)


@pytest.fixture
def source(
    target: Target, new_station: Callable[..., Station], debian_settings: Settings
) -> DebianPackages:
    return DebianPackages(target, new_station(settings=debian_settings))


@pytest.fixture
def filled(archive: Archive) -> Archive:
    """Package app needs base and library; base excludes rival; nothing else is needed."""
    archive.add("app", "2:1.5-1", Depends="library (>= 1)", Pre_Depends="base", Recommends="extra")
    archive.add("base", Conflicts="rival")
    archive.add("library", "1.2~rc1+b1", copyright_text="All rights, some wrongs.\n")
    archive.add("extra")
    archive.add("rival")
    archive.add("closed", section="non-free/misc", copyright_text=None)
    archive.publish()
    return archive


APP, LIBRARY = "app_1.5-1_amd64.deb", "library_1.2~rc1+b1_amd64.deb"


def test_the_closure_from_nothing_without_what_is_only_recommended(
    filled: Archive, source: DebianPackages
) -> None:
    app, base, library = source.resolve(spec("app"), where)
    assert [entry.path for entry in (app, base, library)] == [APP, "base_1.0_amd64.deb", LIBRARY]
    data = (filled.root / "pool" / APP).read_bytes()
    assert (app.name, app.version, app.size) == ("app", "2:1.5-1", len(data))
    assert app.sha256 == hashlib.sha256(data).hexdigest()
    assert app.origin == {
        "kind": "debian",
        "suite": "trixie",
        "component": "main",
        "package": "app",
        "architecture": "amd64",
        "upstream": "sha256",
    }


def test_the_source_package_is_recorded_where_it_is_another(
    archive: Archive, source: DebianPackages
) -> None:
    """Advisories name source packages; binary ones are looked up by it."""
    archive.add("app", "2:1.5-1+b2", Source="app-suite (2:1.5-1)", Depends="library")
    archive.add("library", Source="libraries")
    archive.publish()
    app, library = source.resolve(spec("app"), where)
    assert (app.origin["source"], app.origin["source_version"]) == ("app-suite", "2:1.5-1")
    assert library.origin["source"] == "libraries"
    assert "source_version" not in library.origin


@pytest.mark.usefixtures("filled")
def test_licences_come_from_the_packages_own_copyright_files(source: DebianPackages) -> None:
    licences = {entry.name: entry.licence for entry in locked(source, "app", "closed")}
    assert licences["app"] == "(GPL-2+ or MIT) AND BSD-3-clause AND MIT"
    assert licences["library"] == "see copyright file"
    assert licences["closed"] == "see copyright file"


DEP5_LICENCES = "(GPL-2+ or MIT) AND BSD-3-clause AND MIT"


@pytest.mark.parametrize(
    ("links", "licence"),
    [
        ({"app": "base"}, DEP5_LICENCES),
        ({"app": "/usr/share/doc/base"}, DEP5_LICENCES),
        ({"app/copyright": "../base/copyright"}, DEP5_LICENCES),
        ({"app": "linked"}, DEP5_LICENCES),  # which shares base's in turn
        ({"app": "app"}, "see copyright file"),
        ({"app": "elsewhere"}, "see copyright file"),
        ({"app": "../../../etc"}, "see copyright file"),
    ],
)
def test_packages_may_share_the_copyright_file_of_another(
    archive: Archive, source: DebianPackages, links: dict[str, str], licence: str
) -> None:
    """openssh-server states its licence in openssh-client, most of gcc in gcc-14-base."""
    archive.add("app", copyright_text=None, links=links, Depends="base, linked")
    archive.add("base")
    archive.add("linked", copyright_text=None, links={"linked": "base"})
    archive.publish()
    assert {entry.name: entry.licence for entry in locked(source, "app")}["app"] == licence


def test_prose_is_not_judged_but_what_it_refers_to_is_said(
    archive: Archive, source: DebianPackages
) -> None:
    archive.add(
        "app",
        copyright_text="On Debian systems see /usr/share/common-licenses/GPL-3, or\n"
        "/usr/share/common-licenses/LGPL. /usr/share/common-licenses/LGPL-2.1.\n"
        "/usr/share/common-licenses/\n",
    )
    archive.publish()
    licences = {entry.name: entry.licence for entry in locked(source, "app")}
    assert licences["app"] == "see copyright file, which refers to GPL-3, LGPL, LGPL-2.1"


@pytest.mark.usefixtures("filled")
def test_the_archives_component_is_recorded(source: DebianPackages) -> None:
    (closed,) = source.resolve(spec("closed"), where)
    assert closed.origin["component"] == "non-free"


@pytest.mark.usefixtures("filled")
def test_the_component_is_an_archive_that_apt_can_install_from(
    source: DebianPackages, tmp_path: Path
) -> None:
    folder = tmp_path / "component"
    folder.mkdir()
    artefacts = locked(source, "app")
    for entry in artefacts:
        (folder / entry.path).write_bytes(source.station.store.path(entry.sha256).read_bytes())
    root = AptRoot(tmp_path / "root", "amd64", (), tmp_path)
    (root.folder / "sources.list").write_text(f"deb [trusted=yes] file:{folder} ./\n")
    root.update()
    found = {
        package.file: (package.version, package.size, package.sha256) for package in root.closure(["app"])
    }
    debs = [entry for entry in artefacts if entry.path != "Packages"]
    assert found == {entry.path: (entry.version, entry.size, entry.sha256) for entry in debs}


@pytest.mark.usefixtures("filled")
def test_the_stations_packages_and_hooks_take_no_part(
    source: DebianPackages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The station's apt.conf is read, for its proxies; what it would run stays out."""
    configuration = tmp_path / "apt.conf"
    hooks = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")
    lines = [f'{hook} {{ "touch {tmp_path}/ran"; }};\n' for hook in hooks]
    configuration.write_text("".join([*lines, 'APT::Install-Recommends "true";\n']))
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    assert [entry.name for entry in source.resolve(spec("app"), where)] == ["app", "base", "library"]
    assert not (tmp_path / "ran").exists()


WRONG = {
    "no such package": (("base", "nothing"), PackageMissing, "nothing cannot be had", "demo.yaml:5:11"),
    "two that exclude each other": (
        ("base", "rival"),
        DefinitionInvalid,
        "cannot be installed",
        "demo.yaml:5:1",
    ),
    "a dependency that is missing": (("broken",), PackageMissing, "broken cannot be had", "demo.yaml:5:10"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_had_is_named_with_its_place(
    filled: Archive, source: DebianPackages, case: str
) -> None:
    filled.add("broken", Depends="nothing")
    filled.publish()
    packages, error, message, place = WRONG[case]
    with pytest.raises(DefinitionInvalid) as caught:
        source.resolve(spec(*packages), where)
    assert type(caught.value) is error
    assert message in caught.value.message
    assert str(caught.value.where) == place
    assert caught.value.exit_code == 3


# --- whom to believe ----------------------------------------------------------------------------


def test_an_archive_signed_by_somebody_else_is_not_believed(
    filled: Archive, source: DebianPackages, signers: dict[str, Signer]
) -> None:
    filled.signer = signers["other"]
    filled.publish()
    with pytest.raises(ArchiveUntrusted) as caught:
        source.resolve(spec("app"), where)
    assert caught.value.exit_code == 4


@pytest.mark.usefixtures("filled")
def test_a_keyring_without_the_archives_key_is_not_enough(
    target: Target,
    new_station: Callable[..., Station],
    debian_settings: Settings,
    signers: dict[str, Signer],
) -> None:
    debian = debian_settings.debian.model_copy(update={"keyring": str(signers["other"].keyring)})
    source = DebianPackages(target, new_station(settings=Settings(debian=debian)))
    with pytest.raises(ArchiveUntrusted):
        source.resolve(spec("app"), where)


def test_a_changed_key_is_noticed_although_good_lists_were_fetched_before(
    filled: Archive, source: DebianPackages, signers: dict[str, Signer]
) -> None:
    source.resolve(spec("app"), where)
    filled.signer = signers["other"]
    filled.publish()
    with pytest.raises(ArchiveUntrusted):
        source.resolve(spec("app"), where)


def test_lists_that_are_not_the_signed_ones_are_not_believed(
    filled: Archive, source: DebianPackages
) -> None:
    packages = filled.root / "dists" / "trixie" / "main" / "binary-amd64" / "Packages"
    packages.write_text(packages.read_text().replace("Version: 1.0", "Version: 9.0"))
    with pytest.raises(ArchiveUntrusted):
        source.resolve(spec("app"), where)


def test_an_unsigned_archive_is_not_believed(filled: Archive, source: DebianPackages) -> None:
    folder = filled.root / "dists" / "trixie"
    lines = (folder / "InRelease").read_text().splitlines(keepends=True)
    start, end = lines.index("\n") + 1, lines.index("-----BEGIN PGP SIGNATURE-----\n")
    (folder / "Release").write_text("".join(lines[start:end]))
    (folder / "InRelease").unlink()
    with pytest.raises(ArchiveUntrusted):
        source.resolve(spec("app"), where)


def test_an_archive_that_does_not_answer(
    target: Target, new_station: Callable[..., Station], debian_settings: Settings
) -> None:
    debian = debian_settings.debian.model_copy(update={"mirror": "http://127.0.0.1:9/debian"})
    source = DebianPackages(target, new_station(settings=Settings(debian=debian)))
    with pytest.raises(SourceUnreachable) as caught:
        source.resolve(spec("app"), where)
    assert caught.value.exit_code == 6


def test_old_lists_do_not_stand_in_for_an_archive_that_is_gone(
    filled: Archive, source: DebianPackages
) -> None:
    source.resolve(spec("app"), where)
    filled.root.rename(filled.root.with_name("moved"))
    with pytest.raises(SourceUnreachable):
        source.resolve(spec("app"), where)


def test_a_keyring_that_is_not_there(target: Target, new_station: Callable[..., Station]) -> None:
    debian = DebianSettings(mirror="http://127.0.0.1:9/debian", keyring="/nowhere.gpg")
    with pytest.raises(SettingsInvalid) as caught:
        DebianPackages(target, new_station(settings=Settings(debian=debian))).resolve(spec("app"), where)
    assert caught.value.exit_code == 3


def test_a_station_without_apt(source: DebianPackages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing, match="apt-get is not on this station"):
        source.resolve(spec("app"), where)


# --- fetching what was locked -------------------------------------------------------------------


@pytest.fixture
def cold(
    web: Web,
    filled: Archive,
    source: DebianPackages,
    new_station: Callable[..., Station],
    debian_settings: Settings,
) -> tuple[DebianPackages, list[Artefact]]:
    """A station with an empty store, and a lock made by another."""
    filled.add("library", "1.2~rc1+b1", filler=2_000_000)
    filled.publish()
    artefacts = locked(source, "app")
    web.asked.clear()
    return DebianPackages(source.target, new_station("cold", debian_settings)), artefacts


Cold = tuple[DebianPackages, "list[Artefact]"]


def test_exactly_what_is_locked_comes_and_the_index_is_made_again(web: Web, cold: Cold) -> None:
    source, artefacts = cold
    source.fetch(artefacts)
    assert source.missing(artefacts) == []
    debs = sorted(path.rpartition("/")[2] for path, _ in web.asked if path.endswith(".deb"))
    assert debs == [APP, "base_1.0_amd64.deb", LIBRARY]


def test_a_second_fetch_asks_nobody(web: Web, cold: Cold) -> None:
    source, artefacts = cold
    source.fetch(artefacts)
    web.asked.clear()
    source.fetch(artefacts)
    assert web.asked == []


def test_only_what_the_store_lacks_is_fetched(web: Web, cold: Cold) -> None:
    source, artefacts = cold
    source.fetch(artefacts)
    library = next(entry for entry in artefacts if entry.path == LIBRARY)
    source.station.store.path(library.sha256).unlink()
    web.asked.clear()
    source.fetch(artefacts)
    assert source.missing(artefacts) == []
    assert [path for path, _ in web.asked if path.endswith(".deb")] == [f"debian/pool/{LIBRARY}"]


def test_a_connection_that_breaks_is_taken_up_again(web: Web, cold: Cold) -> None:
    source, artefacts = cold
    web.cut[f"debian/pool/{LIBRARY}"] = 1_000_000
    source.fetch(artefacts)
    assert source.missing(artefacts) == []
    first, second = web.ranges_of(LIBRARY)
    assert first is None
    assert second is not None
    assert second.startswith("bytes=")


def test_a_download_by_apt_ends_when_the_work_is_given_up(
    web: Web, cold: Cold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left alone, apt would wait for a server that has fallen silent."""
    source, artefacts = cold
    web.cut[f"debian/pool/{LIBRARY}"] = 1_000_000
    release = web.hold[f"debian/pool/{LIBRARY}"] = Event()
    stop = source.station.stop
    monkeypatch.setattr(source.station.progress, "advance", lambda count: count and stop.set())
    with pytest.raises(Stopped):
        source.fetch(artefacts)
    release.set()


def test_a_version_that_left_the_archive(filled: Archive, cold: Cold) -> None:
    source, artefacts = cold
    filled.add("library", "1.3")
    filled.publish()
    with pytest.raises(PackageMissing) as caught:
        source.fetch(artefacts)
    assert caught.value.found == "not there: library=1.2~rc1+b1"
    assert "lock again" in caught.value.hint


def test_the_same_version_with_other_bytes_is_refused_and_not_kept(filled: Archive, cold: Cold) -> None:
    source, artefacts = cold
    filled.add("base", filler=100, Conflicts="rival")
    filled.publish()
    with pytest.raises(DigestMismatch) as caught:
        source.fetch(artefacts)
    assert "base_1.0_amd64.deb is not the file that was locked" in caught.value.message
    base = next(entry for entry in artefacts if entry.name == "base")
    assert not source.station.store.path(base.sha256).exists()


def test_bytes_changed_on_the_way_are_refused_and_not_kept(web: Web, filled: Archive, cold: Cold) -> None:
    source, artefacts = cold
    data = (filled.root / "pool" / LIBRARY).read_bytes()
    web.instead[f"debian/pool/{LIBRARY}"] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(DigestMismatch) as caught:
        source.fetch(artefacts)
    assert caught.value.exit_code == 4
    assert "library" in caught.value.found
    web.instead.clear()
    source.fetch(artefacts)
    assert source.missing(artefacts) == []


def test_a_package_that_does_not_come(filled: Archive, cold: Cold) -> None:
    source, artefacts = cold
    (filled.root / "pool" / LIBRARY).unlink()
    with pytest.raises(SourceUnreachable):
        source.fetch(artefacts)


@pytest.mark.usefixtures("filled")
def test_what_two_components_share_is_fetched_once(source: DebianPackages, web: Web) -> None:
    """Each is complete, so two share most of what they hold; and apt fetches beside the store."""
    components = [(source, source.resolve(spec(name), where)) for name in ("app", "library", "base")]
    with source.station.store.in_use():
        bring(components, source.station)
    for name in (APP, LIBRARY, "base_1.0_amd64.deb"):
        assert len(web.ranges_of(f"/{name}")) == 1, (name, web.asked)


def test_a_disk_that_is_full_of_lists_is_no_untrusted_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise AptFailed("Error writing to file - write (28: No space left on device)")

    monkeypatch.setattr(AptRoot, "_run", full)
    with pytest.raises(SpaceExhausted, match="do not fit the disk"):
        AptRoot(tmp_path / "root", "amd64", (), tmp_path).update()
