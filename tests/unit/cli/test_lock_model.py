"""``appliance lock`` of a model that is another than it says: refused, and no lock is written."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants

from tests.unit.planning.conftest import TINY, safetensors, tensors_of
from tests.unit.sources.hub_server import HubServer, Repository
from tests.unit.sources.loopback import Loopback, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import Outcome

ENGINE = b"an engine"
DEFINITION = f"""\
format: 1
product: demo
version: "1"
sequence: 1
target: {{distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}}
components:
  weights: {{kind: huggingface, repository: org/model, revision: main}}
  engine:
    kind: files
    files: [{{path: engine.bin, sha256: {hashlib.sha256(ENGINE).hexdigest()}, licence: MIT}}]
inference: {{engine: engine, model: weights, file: model.safetensors, name: demo}}
"""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Repository]:
    """A repository on a hub that the station asks."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
    monkeypatch.setenv("APPLIANCE_STORE", str(tmp_path / "store"))
    with serving(Loopback()) as web, serving(Loopback()) as storage:
        monkeypatch.setenv("APPLIANCE_HUGGINGFACE_ENDPOINT", web.address)
        kept = Repository({"model.safetensors": safetensors(tensors_of(TINY)), "LICENSE": b"MIT\n"})
        HubServer(web, storage).repositories["org/model"] = kept
        yield kept


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        (TINY, 0, ""),
        ({**TINY, "num_hidden_layers": 3}, 4, "demo.yaml:11:"),
        ([], 4, "weights/config.json does not describe a model"),
        ({**TINY, "model_type": "mamba2"}, 0, "description and weights are not compared"),
    ],
)
def test_a_lock_is_written_of_a_model_that_is_what_it_says(  # noqa: PLR0917 - a case's parts
    config: object,
    code: int,
    said: str,
    model: Repository,
    appliance: Callable[..., Outcome],
    tmp_path: Path,
) -> None:
    model.files["config.json"] = json.dumps(config).encode()
    (tmp_path / "engine.bin").write_bytes(ENGINE)
    definition = tmp_path / "demo.yaml"
    definition.write_text(DEFINITION)
    done = appliance("lock", definition, "--out", tmp_path / "demo.lock.json")
    assert done.code == code, done.err
    assert said in done.err
    assert (tmp_path / "demo.lock.json").exists() is (code == 0)
