"""What packages say of their licences is read once; what is kept of it is believed only if it is whole."""

from __future__ import annotations

import hashlib
import json
import zipfile
from typing import TYPE_CHECKING

import pytest

from appliance.definition.components import Debian
from appliance.errors import BundleMalformed, Location
from appliance.progress import Silent
from appliance.sources import deb_file, known_licences, wheel_metadata
from appliance.sources.deb_file import Stated
from appliance.sources.debian_packages import DebianPackages
from appliance.sources.known_licences import of_deb, of_wheel
from appliance.sources.store import LICENCE_ENDING, Store
from appliance.sources.store_contents import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.definition.names import Target
    from appliance.sources.station import Settings, Station

    from .archive import Archive


class _Asked:
    """Which packages were really read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        stated, licence = deb_file.stated, wheel_metadata.licence

        def deb(path: Path, package: str) -> Stated:
            self.names.append(package)
            return stated(path, package)

        def wheel(path: Path) -> str | None:
            self.names.append(path.name[:8])
            return licence(path)

        monkeypatch.setattr(deb_file, "stated", deb)
        monkeypatch.setattr(wheel_metadata, "licence", wheel)

    def since(self) -> list[str]:
        names, self.names = self.names, []
        return names


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> _Asked:
    return _Asked(monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "licences")


def wheel_in(store: Store, *fields: str) -> str:
    """SHA-256 of a wheel in the store."""
    with store.scratch() as scratch:
        with zipfile.ZipFile(scratch, "w") as wheel:
            wheel.writestr("x-1.dist-info/METADATA", "\n".join(["Metadata-Version: 2.4", *fields, "", ""]))
        return store.add_file(scratch)[0]


@pytest.fixture
def wheel(store: Store) -> str:
    return wheel_in(store, "License-Expression: MIT")


def kept(store: Store, sha256: str) -> bytes:
    data = store.known(sha256, LICENCE_ENDING)
    assert data is not None
    return data


def test_a_second_lock_reads_no_package_again(
    archive: Archive,
    target: Target,
    new_station: Callable[..., Station],
    debian_settings: Settings,
    asked: _Asked,
) -> None:
    """Nor does that for another definition; what it says is the same to the letter."""
    archive.add("app", Depends="base, linked")
    archive.add("base", copyright_text="See /usr/share/common-licenses/GPL-3.\n")
    archive.add("linked", copyright_text=None, links={"linked": "base"})
    archive.publish()
    source = DebianPackages(target, new_station(settings=debian_settings))
    resolved = source.resolve(Debian(kind="debian", packages=("app",)), lambda _: Location("d.yaml"))
    source.fetch(resolved)
    first = source.describe(resolved)
    assert sorted(asked.since()) == ["app", "base", "linked"]
    assert source.describe(resolved) == first
    assert asked.since() == []
    found = {each.name: each.licence for each in first}
    assert found["linked"] == found["base"] == "see copyright file, which refers to GPL-3"
    old = next(each for each in resolved if each.name == "linked")
    archive.add("linked", "2.0")
    newer = old.model_copy(
        update={"sha256": source.station.store.add_file(archive.root / "pool/linked_2.0_amd64.deb")[0]}
    )
    described = source.describe([newer if each is old else each for each in resolved])
    assert asked.since() == ["linked"], "the only package that is new"
    assert {each.name: each.licence for each in described}["linked"].startswith("(GPL-2+ or MIT)")


def test_a_wheel_is_read_once_also_where_it_states_nothing(store: Store, wheel: str, asked: _Asked) -> None:
    silent = wheel_in(store)
    for _ in range(2):
        assert (of_wheel(store, wheel), of_wheel(store, silent)) == ("MIT", None)
    assert asked.since() == [wheel[:8], silent[:8]]


def test_what_was_found_by_other_rules_is_found_again(
    store: Store, wheel: str, asked: _Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_wheel(store, wheel)
    before = kept(store, wheel)
    monkeypatch.setattr(known_licences, "_rules", lambda: "0" * 64)
    for _ in range(2):
        assert of_wheel(store, wheel) == "MIT"
    assert len(asked.since()) == 2, "once by each"
    assert kept(store, wheel) != before


@pytest.mark.parametrize("module", ["deb_file", "wheel_metadata", "licences"])
def test_rules_are_all_that_reads_and_judges(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who changes one of these modules, or a library under them, changes the rules."""
    before = known_licences._rules.__wrapped__()
    source = known_licences.inspect.getsource
    changed = getattr(known_licences, module)
    monkeypatch.setattr(
        known_licences.inspect, "getsource", lambda each: source(each) + "#" * (each is changed)
    )
    assert known_licences._rules.__wrapped__() != before


@pytest.mark.parametrize("library", ["packaging", "python-debian"])
def test_rules_are_those_of_the_libraries_too(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, version = known_licences._rules.__wrapped__(), known_licences.version
    monkeypatch.setattr(known_licences, "version", lambda name: version(name) + ".1" * (name == library))
    assert known_licences._rules.__wrapped__() != before


def sealed(*lines: object) -> bytes:
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return body + hashlib.sha256(body).hexdigest().encode() + b"\n"


def head(sha256: str, *about: str) -> list[str]:
    return [known_licences._TITLE, known_licences._rules(), sha256, *about]


DAMAGED: dict[str, Callable[[bytes, str], bytes]] = {
    "nothing": lambda _, __: b"",
    "cut off": lambda data, _: data[:-1],
    "half of it": lambda data, _: data[: len(data) // 2],
    "another licence": lambda data, _: data.replace(b'"MIT"', b'"BSD"'),
    "another seal": lambda data, _: data[:-2] + bytes([data[-2] ^ 1]) + b"\n",
    "zeros, as a power cut leaves them": lambda data, _: bytes(len(data)),
    "more behind it": lambda data, _: data + b"\n",
    "of another package": lambda _, __: sealed(head("0" * 64, "wheel", ""), ["BSD", None]),
    "of another kind": lambda _, sha: sealed(head(sha, "deb", ""), ["BSD", None]),
    "under another name": lambda _, sha: sealed(head(sha, "wheel", "x"), ["BSD", None]),
    "of an older form": lambda _, sha: sealed(["licence", *head(sha, "wheel", "")[1:]], ["BSD", None]),
    "no list": lambda _, sha: sealed(head(sha, "wheel", ""), "BSD"),
    "one value": lambda _, sha: sealed(head(sha, "wheel", ""), ["BSD"]),
    "a number": lambda _, sha: sealed(head(sha, "wheel", ""), [1, None]),
    "no JSON": lambda _, sha: sealed(head(sha, "wheel", ""))[:-65] + b"BSD\n",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_damaged_is_as_if_nothing_were_known(
    case: str, store: Store, wheel: str, asked: _Asked
) -> None:
    assert of_wheel(store, wheel) == "MIT"
    sound = kept(store, wheel)
    store.keep_known(wheel, DAMAGED[case](sound, wheel), LICENCE_ENDING)
    asked.since()
    assert of_wheel(store, wheel) == "MIT"
    assert asked.since() == [wheel[:8]]
    assert kept(store, wheel) == sound, "and it is put right"


def test_no_byte_of_it_may_be_another(store: Store, wheel: str) -> None:
    of_wheel(store, wheel)
    sound = kept(store, wheel)
    first = sound[: sound.index(b"\n") + 1]
    assert known_licences._parsed(sound, first) == Stated("MIT")
    for place in range(len(sound)):
        other = sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :]
        assert known_licences._parsed(other, first) is None


def test_what_is_wrong_and_sealed_lasts_until_the_store_is_checked(
    store: Store, wheel: str, asked: _Asked
) -> None:
    """Only somebody who writes to the store by intent makes such a thing; ``store check`` forgets it."""
    store.keep_known(wheel, sealed(head(wheel, "wheel", ""), ["BSD", None]), LICENCE_ENDING)
    assert of_wheel(store, wheel) == "BSD"
    assert check(store, Silent()) == 1
    assert store.known(wheel, LICENCE_ENDING) is None
    assert of_wheel(store, wheel) == "MIT"
    assert asked.since() == [wheel[:8]]


def test_what_is_kept_goes_with_a_package_that_changed(store: Store, wheel: str) -> None:
    of_wheel(store, wheel)
    place = store.path(wheel)
    place.chmod(0o644)
    place.write_bytes(b"no wheel")
    assert not store.check(wheel)
    assert [path.name for path in place.parent.iterdir()] == []


def test_nothing_is_kept_of_what_cannot_be_read(store: Store) -> None:
    sha256, _ = store.add_bytes(b"no wheel")
    with pytest.raises(BundleMalformed):
        of_wheel(store, sha256)
    assert store.known(sha256, LICENCE_ENDING) is None


def test_a_store_that_cannot_be_written_to_is_read(store: Store, wheel: str, asked: _Asked) -> None:
    store.path(wheel).with_name(wheel + LICENCE_ENDING).mkdir()
    for _ in range(2):
        assert of_wheel(store, wheel) == "MIT"
    assert len(asked.since()) == 2


def test_a_deb_is_asked_by_its_name(archive: Archive, store: Store, asked: _Asked) -> None:
    """Where its copyright file lies is named for the package."""
    sha256, _ = store.add_file(archive.add("app"))
    assert of_deb(store, sha256, "app").licence == "(GPL-2+ or MIT) AND BSD-3-clause AND MIT"
    assert of_deb(store, sha256, "other") == Stated()
    assert asked.since() == ["app", "other"]
