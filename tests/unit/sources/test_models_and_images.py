"""Model repositories and images through the commands: from a definition to a bundle others can read."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest
import yaml

from appliance.cli.app import main
from appliance.definition.bundle_definition import read_definition
from appliance.errors import InProgress
from appliance.sources.station import Settings
from appliance.sources.store import Store

from .hub_server import COMMIT, HubServer, Repository, safetensors
from .loopback import Asked, Loopback, Reply, serving
from .registry_server import RegistryServer, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Index

NAME = "example-org/Example-7B"
WEIGHTS = safetensors(4_000_000)
LAYER = hashlib.shake_256(b"layer").digest(1_000_000)
DEFINITION = """\
format: 1
product: models
version: "1.0.0"
sequence: 1
parity: 0
target: {distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}
components:
  engine: {kind: python, requirements: [app]}
  images:
    kind: oci
    images: [{repository: team/exporter, digest: "IMAGE"}]
  model:
    kind: huggingface
    repository: example-org/Example-7B
    revision: main
inference: {engine: engine, model: model, file: model.safetensors, name: example}
"""


@pytest.fixture
def station(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, HubServer, RegistryServer]]:
    """A definition; and a hub and a registry that this station is told of by its settings."""
    index.add("app")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("APPLIANCE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    for name in ("HF_TOKEN", "HF_ENDPOINT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    with serving(Loopback()) as web, serving(Loopback()) as storage, serving(Loopback()) as registry_web:
        hub = HubServer(web, storage)
        hub.repositories[NAME] = Repository(
            {"config.json": b"{}", "LICENSE": b"Apache License\n", "model.safetensors": WEIGHTS}
        )
        registry = RegistryServer(registry_web, storage)
        image = registry.index({"amd64": registry.image(LAYER)})
        settings = tmp_path / "config" / "appliance" / "station.yaml"
        settings.parent.mkdir(parents=True)
        settings.write_text(
            f"huggingface: {{endpoint: '{web.address}'}}\noci: {{registry: '{registry_web.address}'}}\n"
        )
        definition = tmp_path / "site" / "models.yaml"
        definition.parent.mkdir()
        definition.write_text(DEFINITION.replace("IMAGE", digest_of(image)))
        yield definition, hub, registry


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the program in this process; returns its exit code."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["appliance", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    return run


def test_a_model_that_is_served_and_an_image_become_a_bundle(
    station: tuple[Path, HubServer, RegistryServer], run: Callable[..., int], tmp_path: Path
) -> None:
    definition, hub, _ = station
    assert run("lock", definition) == 0
    text = definition.with_name("models.lock.json").read_text()
    assert "127.0.0.1" not in text
    assert "://" not in text
    assert json.loads(text)["components"]["model"]["artefacts"][0]["version"] == COMMIT

    hub.repositories[NAME].refs["main"] = "f" * 40  # the branch moves on
    assert run("build", definition, "--out", tmp_path / "one", "--store", tmp_path / "cold") == 0
    assert run("build", definition, "--out", tmp_path / "two") == 0
    one, two = ((tmp_path / name / "trust" / "SHA256SUMS").read_bytes() for name in ("one", "two"))
    assert one == two
    payload = tmp_path / "one" / "payload"
    assert (payload / "model" / "model.safetensors").read_bytes() == WEIGHTS
    layout = payload / "images"
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads((layout / "blobs/sha256" / entry["digest"].removeprefix("sha256:")).read_text())
    layer = layout / "blobs/sha256" / manifest["layers"][0]["digest"].removeprefix("sha256:")
    assert layer.read_bytes() == LAYER
    (listed,) = json.loads((tmp_path / "one" / "manifest.json").read_text())["components"]["model"][
        "files"
    ][-1:]
    assert listed["origin"] == {
        "kind": "huggingface",
        "repository": NAME,
        "revision": COMMIT,
        "upstream": "sha256",
    }


def test_a_file_to_serve_that_the_repository_lacks_is_said_at_its_place(
    station: tuple[Path, HubServer, RegistryServer],
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    definition, hub, _ = station
    definition.write_text(definition.read_text().replace("file: model.safetensors", "file: model.gguf"))
    assert run("lock", definition, "--json") == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"] == "DefinitionInvalid"
    assert f"{definition}:16:49: error: inference.file is not in component model" in printed.err
    assert not definition.with_name("models.lock.json").exists()
    weights = f"/blobs/{hashlib.sha256(WEIGHTS).hexdigest()}"
    assert hub.storage.ranges(weights) == []  # said before gigabytes are fetched


def test_what_a_repository_ships_to_run_ends_the_lock_with_its_name(
    station: tuple[Path, HubServer, RegistryServer],
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    definition, hub, _ = station
    hub.repositories[NAME].files["pytorch_model.bin"] = b"x"
    assert run("lock", definition, "--json") == 3
    values = json.loads(capsys.readouterr().out)
    assert (values["error"], values["found"]) == ("FormatRefused", "pytorch_model.bin")
    assert values["where"] == f"{definition}:14:17"


def test_a_lock_killed_in_the_middle_of_the_weights_goes_on(
    station: tuple[Path, HubServer, RegistryServer], run: Callable[..., int], tmp_path: Path
) -> None:
    definition, hub, _ = station
    blob = f"/blobs/{hashlib.sha256(WEIGHTS).hexdigest()}"
    partial = tmp_path / "store" / "partial" / hashlib.sha256(WEIGHTS).hexdigest()
    release, reached = Event(), Event()

    def hold(_: Asked, reply: Reply, __: bytes) -> Reply:
        return replace(reply, cut=3_000_000, then=lambda: (reached.set(), release.wait(30)))

    hub.storage.faults[blob].append(hold)
    program = str(Path(sys.executable).with_name("appliance"))
    with subprocess.Popen([program, "lock", str(definition)], stderr=subprocess.DEVNULL) as process:
        assert reached.wait(60)
        end = time.monotonic() + 30
        while not partial.exists() or partial.stat().st_size < 2_900_000:
            assert time.monotonic() < end  # what the server has sent, the client need not have written yet
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    release.set()
    assert not definition.with_name("models.lock.json").exists()
    assert run("lock", definition) == 0
    _, second = hub.storage.ranges(blob)
    assert second is not None
    assert int(second.removeprefix("bytes=").rstrip("-")) >= 2_900_000


@pytest.mark.parametrize("command", ["lock", "build"])
def test_nobody_tidies_the_store_while_it_is_relied_on(
    station: tuple[Path, HubServer, RegistryServer],
    run: Callable[..., int],
    tmp_path: Path,
    command: str,
) -> None:
    definition, hub, _ = station
    options: list[object] = []
    if command == "build":
        assert run("lock", definition) == 0
        options = ["--out", tmp_path / "bundle", "--store", tmp_path / "cold"]
    refused = []

    def tidy(_: Asked, reply: Reply, __: bytes) -> Reply:
        with pytest.raises(InProgress), Store(tmp_path / ("cold" if options else "store")).alone():
            pass
        refused.append(reply)
        return reply

    hub.storage.faults[f"/blobs/{hashlib.sha256(WEIGHTS).hexdigest()}"].append(tidy)
    assert run(command, definition, *options) == 0
    assert len(refused) == 1


# --- what the documentation shows ---------------------------------------------------------------

PAGE = Path(__file__).parents[3] / "docs" / "sources.md"


def test_the_examples_of_the_documentation_are_valid() -> None:
    """Each component shown is put into a definition that holds nothing else of its name."""
    blocks = [part.partition("```")[0] for part in PAGE.read_text().split("```yaml\n")[1:]]
    settings = [block for block in blocks if block.startswith(("store:", "repositories:"))]
    components = [block for block in blocks if block not in settings and not block.startswith("format:")]
    assert [Settings.model_validate(yaml.safe_load(block)).repositories.keys() for block in settings] == [
        {"nvidia"},
        set(),
    ]
    kinds = set()
    for block in components:
        text = DEFINITION.replace("components:\n", "components:\n" + block)
        read = read_definition(text.replace("IMAGE", "sha256:" + "0" * 64).encode(), PAGE)
        kinds |= {component.kind for component in read.definition.components.values()}
    assert kinds >= {"huggingface", "oci", "files", "python"}
    assert len(components) >= 3
