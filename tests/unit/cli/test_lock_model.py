"""``appliance lock`` of a model that is another than it says: refused, and no lock is written."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants

from appliance.definition.engines import ENGINES
from tests.unit.planning.conftest import TINY, safetensors, tensors_of
from tests.unit.sources.hub_server import HubServer, Repository
from tests.unit.sources.loopback import Loopback, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.definition.engines import Engine
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
        weights = safetensors(tensors_of(TINY))
        kept = Repository({"model.safetensors": weights, "tokenizer.json": b"{}", "LICENSE": b"MIT\n"})
        HubServer(web, storage).repositories["org/model"] = kept
        yield kept


LIES = {**TINY, "num_hidden_layers": 3}
#: vLLM, as if it came in a file: no wheel has to be resolved then.
IN_A_FILE = replace(next(each for each in ENGINES if each.name == "vllm"), archive=re.compile("engine.bin"))


@pytest.mark.parametrize(
    ("config", "engines", "code", "said"),
    [
        (TINY, (IN_A_FILE,), 0, ""),
        (LIES, (IN_A_FILE,), 4, "demo.yaml:11:"),
        ([], (IN_A_FILE,), 4, "weights/config.json does not describe a model"),
        ({**TINY, "model_type": "mamba2"}, (IN_A_FILE,), 0, "description and weights are not compared"),
        (LIES, ENGINES, 0, "brings no engine that this version can run"),
    ],
    ids=["honest", "lies", "no description", "another kind", "an engine that is not known"],
)
def test_a_lock_is_written_of_a_model_that_is_what_it_says(  # noqa: PLR0917 - a case's parts
    config: object,
    engines: tuple[Engine, ...],
    code: int,
    said: str,
    model: Repository,
    appliance: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("appliance.definition.engines.ENGINES", engines)
    model.files["config.json"] = json.dumps(config).encode()
    (tmp_path / "engine.bin").write_bytes(ENGINE)
    definition = tmp_path / "demo.yaml"
    definition.write_text(DEFINITION)
    done = appliance("lock", definition, "--out", tmp_path / "demo.lock.json")
    assert done.code == code, done.err
    assert said in done.err
    assert (tmp_path / "demo.lock.json").exists() is (code == 0)
