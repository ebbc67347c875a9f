"""The demonstration, from the registries this station is configured to use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.definition.lock import parse_lock
from appliance.sources.apt import AptRoot

pytestmark = pytest.mark.archive

DEMO = Path(__file__).parents[3] / "bundles" / "demo.yaml"
OFFLINE = ("unshare", "--map-root-user", "--net")


def program(*arguments: object, before: tuple[str, ...] = ()) -> None:
    command = [*before, str(Path(sys.executable).with_name("appliance")), *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demonstration's lock, the store it filled, and a bundle built from it offline."""
    folder = tmp_path_factory.mktemp("demo")
    program("lock", DEMO, "--out", folder / "lock.json", "--store", folder / "store")
    arguments = ("build", DEMO, "--lock", folder / "lock.json", "--store", folder / "store")
    program(*arguments, "--out", folder / "bundle", before=OFFLINE)
    return folder


def test_it_is_locked_for_the_node_and_not_for_this_machine(workplace: Path) -> None:
    components = parse_lock((workplace / "lock.json").read_text()).components
    engine = [artefact.path for artefact in components["engine"].artefacts]
    assert any(path.startswith("xllamacpp-") and "manylinux" in path for path in engine)
    native = [
        artefact.path for artefact in components["toolkit"].artefacts if "-cp313-cp313-" in artefact.path
    ]
    assert native
    assert {artefact.origin.get("suite") for artefact in components["system"].artefacts} == {"trixie", None}
    assert "://" not in (workplace / "lock.json").read_text()


def test_the_debian_component_is_complete_from_nothing(workplace: Path, tmp_path: Path) -> None:
    component = parse_lock((workplace / "lock.json").read_text()).components["system"]
    folder = workplace / "bundle" / "payload" / "system"
    root = AptRoot(tmp_path, "amd64", (), tmp_path)
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{folder} ./\n")
    root.update()
    closure = {package.file for package in root.closure(component.packages)}
    assert closure == {artefact.path for artefact in component.artefacts} - {"Packages"}


def test_built_again_from_the_registries_it_is_the_same_to_the_byte(
    workplace: Path, tmp_path: Path
) -> None:
    arguments = ("build", DEMO, "--lock", workplace / "lock.json", "--store", tmp_path / "cold")
    program(*arguments, "--out", tmp_path / "again")
    sums = [folder / "trust" / "SHA256SUMS" for folder in (workplace / "bundle", tmp_path / "again")]
    assert sums[0].read_bytes() == sums[1].read_bytes()
