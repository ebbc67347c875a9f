"""The toolkit component: this program, packed so that it can be set up from the medium alone."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

import appliance
from appliance.content import content_root
from appliance.definition.components import Toolkit
from appliance.errors import Location, LockInvalid
from appliance.sources import toolkit, toolkit_wheel
from appliance.sources.toolkit import ToolkitSource, bootstrap
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
    assert "appliance/sources/bootstrap.sh" in names
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


def locked(source: ToolkitSource) -> list[Artefact]:
    artefacts = source.resolve(Toolkit(kind="toolkit"), lambda _: Location("demo.yaml", 1, 1))
    source.fetch(artefacts)
    return source.describe(artefacts)


@pytest.mark.usefixtures("small")
def test_program_pip_requirements_and_script_are_in_the_component(source: ToolkitSource) -> None:
    artefacts = {entry.path: entry for entry in locked(source)}
    version = metadata.version("appliance")
    program = f"appliance-{version}-py3-none-any.whl"
    assert sorted(artefacts) == [
        program,
        "bootstrap.sh",
        "dep-2.0-py3-none-any.whl",
        "pip-99.0-py3-none-any.whl",
        "requirements.txt",
    ]
    assert artefacts[program].origin == {"kind": "toolkit"}
    assert artefacts[program].licence == "Apache-2.0"
    text = source.station.store.path(artefacts["requirements.txt"].sha256).read_text()
    assert text.splitlines()[0] == f"appliance=={version} --hash=sha256:{artefacts[program].sha256}"
    assert len(text.splitlines()) == 3


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


# --- the script ---------------------------------------------------------------------------------


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    """A folder as on the medium: this program alone, without what it needs, and the pip of this system."""
    folder = tmp_path / "medium with space"
    folder.mkdir()
    wheel = pack_toolkit()
    (folder / wheel.file).write_bytes(wheel.data)
    digest = hashlib.sha256(wheel.data).hexdigest()
    (folder / "requirements.txt").write_text(f"appliance=={wheel.version} --hash=sha256:{digest}\n")
    (folder / "bootstrap.sh").write_bytes(bootstrap(f"{sys.version_info[0]}.{sys.version_info[1]}"))
    pip = metadata.distribution("pip")
    with zipfile.ZipFile(folder / f"pip-{pip.version}-py3-none-any.whl", "w") as archive:
        for file in pip.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                archive.write(file.locate(), str(file))
    return folder


def run_script(medium: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The script in a network namespace without any interface, with python3 of this test."""
    tools = medium.parent / "tools"
    tools.mkdir(exist_ok=True)
    if not (tools / "python3").exists():
        (tools / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (tools / "python3").chmod(0o755)
    return subprocess.run(
        ["unshare", "--map-root-user", "--net", "sh", medium / "bootstrap.sh", folder],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PIP_INDEX_URL": "http://127.0.0.1:9/"},
    )


def test_it_says_which_python_it_wants_and_changes_nothing(medium: Path, tmp_path: Path) -> None:
    (medium / "bootstrap.sh").write_bytes(bootstrap("3.99"))
    run = run_script(medium, tmp_path / "new")
    assert run.returncode == 5
    assert "these wheels are for Python 3.99" in run.stderr
    assert not (tmp_path / "new").exists()


def test_it_leaves_an_existing_folder_alone(medium: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    assert run_script(medium, tmp_path / "old").returncode == 2
    assert list((tmp_path / "old").iterdir()) == []


def test_what_differs_from_its_digest_is_not_installed_and_nothing_is_left(
    medium: Path, tmp_path: Path
) -> None:
    with next(medium.glob("appliance-*.whl")).open("ab") as wheel:
        wheel.write(b"!")
    run = run_script(medium, tmp_path / "new")
    assert run.returncode != 0
    assert "DO NOT MATCH" in run.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.archive
def test_the_whole_component_sets_the_program_up_offline(
    target: Target, station: Station, tmp_path: Path
) -> None:
    """With the real closure, for the Python of this test on this test's system."""
    ours = target.model_copy(
        update={"suite": "bookworm", "python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    )
    medium = tmp_path / "medium"
    medium.mkdir()
    for entry in locked(ToolkitSource(ours, station)):
        shutil.copyfile(station.store.path(entry.sha256), medium / entry.path)
    run = run_script(medium, tmp_path / "new")
    assert run.returncode == 0, run.stderr
    program = run.stdout.strip()
    assert program == f"{tmp_path}/new/bin/appliance"
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert version == f"appliance {appliance.__version__}\n"
    assert (tmp_path / "new" / "bin" / "ansible-playbook").exists()
