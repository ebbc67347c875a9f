"""Wheels: resolved for the node's Python, fetched by digest, resumed, and never anything else."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from appliance.definition.components import Python
from appliance.errors import DigestMismatch, Location, PackageMissing, SourceUnreachable
from appliance.sources.python_wheels import PythonWheels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from appliance.definition.document import Loc
    from appliance.definition.lock import Artefact
    from appliance.definition.names import Target
    from appliance.sources.station import Station

    from .conftest import Index

NATIVE = "cp313-cp313-manylinux_2_34_x86_64"


def where(loc: Loc) -> Location:
    return Location("demo.yaml", 7, len(loc))


def spec(*requirements: str) -> Python:
    return Python(kind="python", requirements=requirements)


def locked(source: PythonWheels, *requirements: str) -> list[Artefact]:
    artefacts = source.resolve(spec(*requirements), where)
    source.fetch(artefacts)
    return source.describe(artefacts)


def paths(artefacts: Sequence[Artefact]) -> list[str]:
    return [artefact.path for artefact in artefacts]


@pytest.fixture
def source(target: Target, station: Station) -> PythonWheels:
    return PythonWheels(target, station)


def test_a_closure_with_sizes_digests_licences_and_requirements(index: Index, source: PythonWheels) -> None:
    dep = index.add("dep", "2.0", metadata="Classifier: License :: OSI Approved :: BSD License\n")
    index.add("app", metadata="Requires-Dist: dep>=1\nLicense-Expression: Apache-2.0 OR MIT\n")
    artefacts = locked(source, "app")
    assert paths(artefacts) == ["app-1.0-py3-none-any.whl", "dep-2.0-py3-none-any.whl", "requirements.txt"]
    app, wheel, listed = artefacts
    digest = hashlib.sha256(dep.read_bytes()).hexdigest()
    assert (wheel.name, wheel.version, wheel.size, wheel.sha256) == (
        "dep",
        "2.0",
        dep.stat().st_size,
        digest,
    )
    assert wheel.origin == {"kind": "python", "project": "dep", "upstream": "sha256"}
    assert (app.licence, wheel.licence) == ("Apache-2.0 OR MIT", "BSD License")
    text = source.station.store.path(listed.sha256).read_text()
    assert text == f"app==1.0 --hash=sha256:{app.sha256}\ndep==2.0 --hash=sha256:{digest}\n"


def test_no_address_is_in_what_is_locked(index: Index, source: PythonWheels) -> None:
    index.add("app")
    assert not [artefact for artefact in locked(source, "app") if "127.0.0.1" in artefact.model_dump_json()]


def test_pip_installs_the_component_offline(index: Index, source: PythonWheels, tmp_path: Path) -> None:
    index.add("app")
    folder = tmp_path / "component"
    folder.mkdir()
    for artefact in locked(source, "app"):
        (folder / artefact.path).write_bytes(source.station.store.path(artefact.sha256).read_bytes())
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--no-index", "--no-deps"]
    command += ["--require-hashes", "--find-links", str(folder), "-r", str(folder / "requirements.txt")]
    subprocess.run([*command, "--target", str(tmp_path / "site"), "--quiet"], check=True)
    assert (tmp_path / "site" / "app" / "__init__.py").exists()


def test_markers_are_for_the_nodes_python_and_not_for_ours(index: Index, source: PythonWheels) -> None:
    index.add("old")
    index.add("new")
    metadata = (
        "Requires-Dist: old; python_version < '3.13'\n"
        "Requires-Dist: new; python_version == '3.13' and sys_platform == 'linux'\n"
    )
    index.add("app", metadata=metadata)
    assert paths(locked(source, "app"))[:-1] == ["app-1.0-py3-none-any.whl", "new-1.0-py3-none-any.whl"]


def test_exactly_one_wheel_the_best_for_the_node(index: Index, source: PythonWheels) -> None:
    for tag in (
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp313-cp313-manylinux_2_39_x86_64",
        "cp313-cp313-manylinux_2_17_x86_64",
        "cp313-cp313-musllinux_1_2_x86_64",
        "cp313-cp313-manylinux_2_17_aarch64",
        "cp313-cp313-win_amd64",
        "py3-none-any",
    ):
        index.add("app", tag=tag)
    assert paths(locked(source, "app"))[0] == "app-1.0-cp313-cp313-manylinux_2_39_x86_64.whl"


def test_an_older_c_library_gets_an_older_wheel(index: Index, station: Station, target: Target) -> None:
    """Debian bookworm has glibc 2.36."""
    index.add("app", tag="cp313-cp313-manylinux_2_39_x86_64")
    index.add("app", tag="cp313-cp313-manylinux_2_34_x86_64")
    bookworm = PythonWheels(target.model_copy(update={"suite": "bookworm"}), station)
    assert paths(locked(bookworm, "app"))[0] == "app-1.0-cp313-cp313-manylinux_2_34_x86_64.whl"


MISSING = {
    "no such project": ("nothing", lambda _: None),
    "no such version": ("app>=2", lambda index: index.add("app")),
    "for another Python only": ("app", lambda index: index.add("app", tag="cp311-cp311-linux_x86_64")),
    "for another machine only": (
        "app",
        lambda index: index.add("app", tag="cp313-cp313-manylinux_2_17_aarch64"),
    ),
    "for a newer C library only": (
        "app",
        lambda index: index.add("app", tag="cp313-cp313-manylinux_2_99_x86_64"),
    ),
    "for a newer Python only": (
        "app",
        lambda index: index.add("app", metadata="Requires-Python: >=3.14\n"),
    ),
    "source only": ("app", lambda index: index.add("app", suffix=".tar.gz")),
    "a dependency that is missing": ("app", lambda index: index.add("app", metadata="Requires-Dist: no\n")),
    "a conflict": (
        "app",
        lambda index: (index.add("app", metadata="Requires-Dist: dep>1\n"), index.add("dep", "1.0")),
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_cannot_be_had_is_named_with_its_place(index: Index, source: PythonWheels, case: str) -> None:
    requirement, publish = MISSING[case]
    index.add("other")
    publish(index)
    with pytest.raises(PackageMissing) as caught:
        source.resolve(spec(requirement), where)
    assert caught.value.exit_code == 3
    assert str(caught.value.where) == "demo.yaml:7:1"


@pytest.mark.usefixtures("index")
def test_an_index_that_does_not_answer(source: PythonWheels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://someone:secret@127.0.0.1:9/simple/")
    with pytest.raises(SourceUnreachable) as caught:
        source.resolve(spec("app"), where)
    assert caught.value.exit_code == 6
    assert "secret" not in str(caught.value.as_dict())


def test_an_index_without_sizes_and_digests_is_measured(index: Index, source: PythonWheels) -> None:
    file = index.add("app", filler=5000)
    index.publish(sizes=False)
    (artefact,) = source.resolve(spec("app"), where)
    assert artefact.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert artefact.origin == {"kind": "python", "project": "app"}  # no digest that the index published
    assert source.missing([artefact]) == []
    assert list((source.station.store.folder / "partial").iterdir()) == []


def test_loose_wheels_in_a_folder_count(
    index: Index, source: PythonWheels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = index.add("app")
    folder = tmp_path / "loose"
    folder.mkdir()
    file.rename(folder / file.name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    assert paths(locked(source, "app"))[0] == "app-1.0-py3-none-any.whl"


@pytest.fixture
def local_index(index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An index of plain pages in a folder, without sizes; its files lie in ``files``."""
    file = index.add("app")
    root = tmp_path / "local"
    (root / "simple" / "app").mkdir(parents=True)
    (root / "files").mkdir()
    file.rename(root / "files" / file.name)
    page = f'<a href="../../files/{file.name}">{file.name}</a>'
    (root / "simple" / "app" / "index.html").write_text(page)
    monkeypatch.setenv("PIP_INDEX_URL", f"file://{root}/simple")
    return root


@pytest.mark.usefixtures("local_index")
def test_an_index_in_a_folder_counts(source: PythonWheels, new_station: Callable[..., Station]) -> None:
    artefacts = locked(source, "app")
    again = PythonWheels(source.target, new_station("cold"))
    again.fetch(artefacts)
    assert again.missing(artefacts) == []


def test_an_index_in_a_folder_that_lacks_what_it_offers(
    local_index: Path, source: PythonWheels, new_station: Callable[..., Station]
) -> None:
    artefacts = locked(source, "app")
    (local_index / "files" / APP).unlink()
    with pytest.raises(PackageMissing, match="does not have it"):
        PythonWheels(source.target, new_station("cold")).fetch(artefacts)


# --- fetching what was locked -------------------------------------------------------------------


@pytest.fixture
def cold(
    index: Index, source: PythonWheels, new_station: Callable[..., Station]
) -> tuple[PythonWheels, list[Artefact]]:
    """A station with an empty store, and a lock made by another."""
    index.add("app", filler=3_000_000)
    index.add("dep")
    artefacts = locked(source, "app", "dep")
    index.web.asked.clear()
    return PythonWheels(source.target, new_station("cold")), artefacts


APP = "app-1.0-py3-none-any.whl"


def test_exactly_what_is_locked_comes_and_the_requirements_are_made_again(
    index: Index, cold: tuple[PythonWheels, list[Artefact]]
) -> None:
    source, artefacts = cold
    index.add("app", "2.0")  # newer ones are not looked at
    source.fetch(artefacts)
    assert source.missing(artefacts) == []
    assert index.web.ranges_of("app-2.0-py3-none-any.whl") == []


def test_a_second_fetch_asks_nobody(index: Index, cold: tuple[PythonWheels, list[Artefact]]) -> None:
    source, artefacts = cold
    source.fetch(artefacts)
    index.web.asked.clear()
    source.fetch(artefacts)
    assert index.web.asked == []


def test_a_connection_that_breaks_is_taken_up_again_at_the_same_byte(
    index: Index, cold: tuple[PythonWheels, list[Artefact]]
) -> None:
    source, artefacts = cold
    index.web.cut[f"files/{APP}"] = 2_000_000
    source.fetch(artefacts)
    assert source.missing(artefacts) == []
    first, second = index.web.ranges_of(APP)
    assert first is None
    assert second == "bytes=1966080-"  # the last whole piece of 64 KiB before the break


def test_an_interrupted_fetch_goes_on_in_the_next_run(
    index: Index, cold: tuple[PythonWheels, list[Artefact]]
) -> None:
    source, artefacts = cold
    wheel = next(artefact for artefact in artefacts if artefact.path == APP)
    partial = source.station.store.folder / "partial" / wheel.sha256
    partial.write_bytes((index.web.root / "files" / APP).read_bytes()[:1_234_567])
    source.fetch(artefacts)
    assert index.web.ranges_of(APP) == ["bytes=1234567-"]
    assert source.missing(artefacts) == []


def test_a_server_without_ranges_sends_it_all_again(
    index: Index, cold: tuple[PythonWheels, list[Artefact]]
) -> None:
    source, artefacts = cold
    index.web.ranges = False
    index.web.cut[f"files/{APP}"] = 2_000_000
    source.fetch(artefacts)
    assert source.missing(artefacts) == []


def test_a_bad_beginning_left_by_an_earlier_run_is_thrown_away(
    cold: tuple[PythonWheels, list[Artefact]],
) -> None:
    source, artefacts = cold
    wheel = next(artefact for artefact in artefacts if artefact.path == APP)
    (source.station.store.folder / "partial" / wheel.sha256).write_bytes(b"not this" * 1000)
    source.fetch(artefacts)
    assert source.missing(artefacts) == []


def test_other_bytes_than_locked_are_refused_and_not_kept(
    index: Index, cold: tuple[PythonWheels, list[Artefact]]
) -> None:
    source, artefacts = cold
    data = (index.web.root / "files" / APP).read_bytes()
    index.web.instead[f"files/{APP}"] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(DigestMismatch) as caught:
        source.fetch(artefacts)
    assert caught.value.exit_code == 4
    assert APP in caught.value.message
    wheel = next(artefact for artefact in artefacts if artefact.path == APP)
    assert not source.station.store.path(wheel.sha256).exists()
    assert source.station.store.fetched(wheel.sha256) == 0


def test_a_wheel_published_anew_under_its_name_is_refused(
    index: Index, cold: tuple[PythonWheels, list[Artefact]]
) -> None:
    source, artefacts = cold
    index.add("app", filler=10)
    with pytest.raises(DigestMismatch, match="not the file that was locked"):
        source.fetch(artefacts)


def test_a_wheel_that_was_withdrawn(index: Index, cold: tuple[PythonWheels, list[Artefact]]) -> None:
    source, artefacts = cold
    (index.web.root / "files" / APP).unlink()
    with pytest.raises(PackageMissing, match="does not have it"):
        source.fetch(artefacts)
    source.station.stop.clear()  # a run of its own
    index.add("app", "2.0")
    with pytest.raises(PackageMissing, match="no package index of this station offers"):
        source.fetch(artefacts)


def test_no_network_while_fetching(
    cold: tuple[PythonWheels, list[Artefact]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, artefacts = cold
    monkeypatch.setenv("PIP_INDEX_URL", "http://someone:secret@127.0.0.1:9/simple/")
    with pytest.raises(SourceUnreachable) as caught:
        source.fetch(artefacts)
    assert caught.value.exit_code == 6
    assert "secret" not in str(caught.value.as_dict())
    assert "127.0.0.1" in caught.value.found
