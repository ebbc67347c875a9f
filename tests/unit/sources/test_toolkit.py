"""The toolkit component: this program, packed so that it can be set up from the medium alone."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from appliance.content import content_root
from appliance.definition.components import Toolkit
from appliance.errors import Location, LockInvalid, PackageMissing
from appliance.sources import toolkit, toolkit_wheel
from appliance.sources.toolkit import ToolkitSource
from appliance.sources.toolkit_wheel import pack_toolkit, runtime_requirements

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.definition.lock import Artefact
    from appliance.definition.names import Target
    from appliance.sources.station import Station

    from .conftest import Index


@pytest.fixture(scope="module")
def packed() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(pack_toolkit().data))


def test_the_same_program_gives_the_same_bytes() -> None:
    assert pack_toolkit() == pack_toolkit()


def test_program_playbooks_and_roles_are_in_it(packed: zipfile.ZipFile) -> None:
    names = set(packed.namelist())
    assert "appliance/cli/app.py" in names
    assert "appliance/bundle/bootstrap.sh" in names
    for folder in ("playbooks", "roles"):
        wanted = {
            f"appliance/content/{folder}/{path.relative_to(content_root() / folder)}"
            for path in (content_root() / folder).rglob("*.yml")
        }
        assert wanted <= names


def test_no_cache_and_no_hidden_file_is_in_it(packed: zipfile.ZipFile) -> None:
    assert not [name for name in packed.namelist() if "__pycache__" in name or "/." in name]


def test_nothing_in_it_depends_on_time_or_user(packed: zipfile.ZipFile) -> None:
    for entry in packed.infolist():
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        assert entry.external_attr >> 16 == 0o100644
        assert entry.compress_type == zipfile.ZIP_STORED


def test_its_record_names_every_file_with_its_digest(packed: zipfile.ZipFile) -> None:
    record = next(name for name in packed.namelist() if name.endswith("/RECORD"))
    listed = {}
    for line in packed.read(record).decode().splitlines():
        name, digest, size = line.rsplit(",", 2)
        listed[name] = (digest, size)
    assert set(listed) == set(packed.namelist())
    assert listed.pop(record) == ("", "")
    for name, (digest, size) in listed.items():
        data = packed.read(name)
        found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert (digest, size) == (f"sha256={found}", str(len(data)))


def test_an_installed_wheel_packs_the_same_wheel_again(tmp_path: Path) -> None:
    """A bundle's toolkit can build bundles: from the installed wheel come the very same bytes."""
    wheel = pack_toolkit()
    file = tmp_path / wheel.file
    file.write_bytes(wheel.data)
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--no-index", "--no-deps", "--quiet"]
    subprocess.run([*command, "--target", site, file], check=True)
    script = (
        "import sys, appliance\n"
        "from appliance.content import content_root\n"
        "from appliance.sources.toolkit_wheel import pack_toolkit\n"
        "print(appliance.__file__, content_root(), file=sys.stderr)\n"
        "sys.stdout.buffer.write(pack_toolkit().data)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert run.stderr.decode().split() == [f"{site}/appliance/__init__.py", f"{site}/appliance/content"]
    assert run.stdout == wheel.data


def test_what_only_a_station_or_a_developer_needs_is_not_required() -> None:
    required = runtime_requirements()
    assert any(entry.startswith("ansible-core") for entry in required)
    assert not [entry for entry in required if entry.startswith(("uv", "ruff", "gguf", "requests"))]


# --- the component ------------------------------------------------------------------------------


@pytest.fixture
def small(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program needs one package only, and its index has that and a pip."""
    index.add("dep", "2.0")
    index.add("pip", "99.0")
    monkeypatch.setattr(toolkit, "runtime_requirements", lambda: ["dep>=1"])


@pytest.fixture
def source(target: Target, station: Station) -> ToolkitSource:
    return ToolkitSource(target, station)


def locked(source: ToolkitSource, *pythons: str) -> list[Artefact]:
    spec = Toolkit.model_validate({"kind": "toolkit", **({"pythons": pythons} if pythons else {})})
    artefacts = source.resolve(spec, lambda _: Location("demo.yaml", 1, 1))
    source.fetch(artefacts)
    return source.describe(artefacts)


def text_of(source: ToolkitSource, artefact: Artefact) -> list[str]:
    return source.station.store.path(artefact.sha256).read_text().splitlines()


@pytest.mark.usefixtures("small")
def test_program_pip_wheels_and_requirements_are_in_the_component(source: ToolkitSource) -> None:
    artefacts = {entry.path: entry for entry in locked(source)}
    version = metadata.version("appliance")
    program = f"appliance-{version}-py3-none-any.whl"
    assert list(artefacts) == [
        program,
        "dep-2.0-py3-none-any.whl",
        "pip-99.0-py3-none-any.whl",
        "requirements-3.11.txt",
        "requirements-3.12.txt",
        "requirements-3.13.txt",
    ]
    assert artefacts[program].origin == {"kind": "toolkit"}
    assert artefacts[program].licence == "Apache-2.0"
    assert artefacts["dep-2.0-py3-none-any.whl"].origin["pythons"] == "3.11 3.12 3.13"
    assert "pythons" not in artefacts["pip-99.0-py3-none-any.whl"].origin
    for python in ("3.11", "3.12", "3.13"):
        assert text_of(source, artefacts[f"requirements-{python}.txt"]) == [
            f"appliance=={version} --hash=sha256:{artefacts[program].sha256}",
            f"dep==2.0 --hash=sha256:{artefacts['dep-2.0-py3-none-any.whl'].sha256}",
        ]


@pytest.mark.usefixtures("small")
def test_each_python_gets_what_is_made_for_it_and_what_is_the_same_lies_there_once(
    index: Index, source: ToolkitSource
) -> None:
    index.add("dep", "3.0", metadata="Requires-Python: >=3.12\nRequires-Dist: native\n")
    for python in ("311", "312", "313"):
        index.add("native", tag=f"cp{python}-cp{python}-manylinux_2_17_x86_64")
    index.add("native", tag="cp312-abi3-manylinux_2_99_x86_64")
    artefacts = {entry.path: entry for entry in locked(source, "3.13", "3.11", "3.12")}
    pythons = {
        path: entry.origin["pythons"] for path, entry in artefacts.items() if "pythons" in entry.origin
    }
    assert pythons == {
        "dep-2.0-py3-none-any.whl": "3.11",
        "dep-3.0-py3-none-any.whl": "3.12 3.13",
        "native-1.0-cp312-cp312-manylinux_2_17_x86_64.whl": "3.12",
        "native-1.0-cp313-cp313-manylinux_2_17_x86_64.whl": "3.13",
    }
    assert len(text_of(source, artefacts["requirements-3.11.txt"])) == 2
    assert text_of(source, artefacts["requirements-3.12.txt"])[1].startswith("dep==3.0 ")


@pytest.mark.usefixtures("small")
def test_only_the_pythons_asked_for_are_there(source: ToolkitSource) -> None:
    paths = [entry.path for entry in locked(source, "3.14")]
    assert [path for path in paths if path.startswith("requirements")] == ["requirements-3.14.txt"]


@pytest.mark.usefixtures("small")
def test_wheels_are_for_any_controller_and_not_for_the_nodes_c_library(
    index: Index, source: ToolkitSource
) -> None:
    """The node is trixie, with glibc 2.41; Ubuntu 22.04 has 2.35."""
    for minor in (39, 35, 17):
        index.add("dep", "3.0", tag=f"py3-none-manylinux_2_{minor}_x86_64")
    assert "dep-3.0-py3-none-manylinux_2_35_x86_64.whl" in [entry.path for entry in locked(source)]


@pytest.mark.usefixtures("small")
def test_pip_is_one_that_runs_on_the_oldest_node(index: Index, source: ToolkitSource) -> None:
    """It installs the engine's wheels there."""
    index.add("pip", "100.0", metadata="Requires-Python: >=3.11\n")
    paths = [entry.path for entry in locked(source)]
    assert [path for path in paths if path.startswith("pip-")] == ["pip-99.0-py3-none-any.whl"]


@pytest.mark.usefixtures("small")
def test_a_python_without_wheels_is_named_with_its_place(index: Index, source: ToolkitSource) -> None:
    (index.web.root / "files" / "dep-2.0-py3-none-any.whl").unlink()
    index.add("dep", "2.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    spec = Toolkit(kind="toolkit", pythons=("3.11", "3.12"))
    with pytest.raises(PackageMissing) as caught:
        source.resolve(spec, lambda loc: Location("demo.yaml", 1, len(loc)))
    assert "Python 3.12" in caught.value.message
    assert str(caught.value.where) == "demo.yaml:1:1"


@pytest.mark.usefixtures("small")
def test_all_of_it_is_made_or_fetched_again_from_the_lock(
    source: ToolkitSource, new_station: Callable[..., Station]
) -> None:
    artefacts = locked(source)
    again = ToolkitSource(source.target, new_station("cold"))
    again.fetch(artefacts)
    assert again.missing(artefacts) == []


@pytest.mark.usefixtures("small")
def test_another_program_than_the_one_that_locked_says_so(
    source: ToolkitSource, new_station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    artefacts = locked(source)
    monkeypatch.setattr(toolkit_wheel, "_WHEEL", b"changed")
    with pytest.raises(LockInvalid) as caught:
        ToolkitSource(source.target, new_station("cold")).fetch(artefacts)
    assert "lock again" in caught.value.hint


@pytest.mark.usefixtures("small")
def test_a_lock_of_a_version_that_knew_one_python_says_so(
    source: ToolkitSource, new_station: Callable[..., Station]
) -> None:
    last = locked(source)[-1]
    old = last.model_copy(
        update={"path": "requirements.txt", "origin": {"kind": "generated", "generator": "requirements 1"}}
    )
    with pytest.raises(LockInvalid) as caught:
        ToolkitSource(source.target, new_station("cold")).fetch([old])
    assert "lock again" in caught.value.hint
