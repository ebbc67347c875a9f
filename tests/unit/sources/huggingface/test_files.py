"""Which files are taken: by pattern, and none that may run code."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import DefinitionInvalid, FormatRefused
from tests.unit.sources.huggingface.asking import NAME, locked, spec, where

if TYPE_CHECKING:
    from appliance.sources.huggingface import HuggingFaceRepository
    from tests.unit.sources.hub_server import HubServer


def test_patterns_choose_files(hub: HubServer, source: HuggingFaceRepository) -> None:
    hub.repositories[NAME].files["original/params.json"] = b"{}"

    def paths(**changes: Any) -> list[str]:
        return [entry.path for entry in source.resolve(spec(**changes), where)]

    assert paths() == ["LICENSE", "config.json", "model.safetensors", "original/params.json"]
    assert paths(exclude=["original/*"]) == ["LICENSE", "config.json", "model.safetensors"]
    assert paths(include=["*.json"]) == ["config.json", "original/params.json"]
    assert paths(include=["*.json"], exclude=["orig*"]) == ["config.json"]


def test_a_pattern_that_matches_nothing_is_a_slip(source: HuggingFaceRepository) -> None:
    with pytest.raises(DefinitionInvalid, match=r"\*\.safetensor matches no file") as caught:
        source.resolve(spec(include=["*.json", "*.safetensor"]), where)
    assert str(caught.value.where) == "demo.yaml:7:2"


def test_a_repository_of_which_nothing_is_left(source: HuggingFaceRepository) -> None:
    with pytest.raises(DefinitionInvalid, match="nothing of"):
        source.resolve(spec(exclude=["*"]), where)


@pytest.mark.parametrize("path", ["a b.json", "aux.json", "GIT~1", "-x.json", "ü.json", "a/../x.json"])
def test_a_name_that_no_bundle_can_hold_is_said_before_anything_is_fetched(
    hub: HubServer, source: HuggingFaceRepository, path: str
) -> None:
    hub.repositories[NAME].files[path] = b"{}"
    with pytest.raises(DefinitionInvalid, match="the path") as caught:
        source.resolve(spec(), where)
    assert caught.value.hint == "leave it out with exclude"
    assert len(hub.web.asked) == 1
    assert source.resolve(spec(include=["config.json"]), where)


REFUSED = {
    "pytorch_model.bin": "pickle",
    "consolidated.00.pth": "pickle",
    "model.PT": "pickle",
    "optimizer.pkl": "pickle",
    "model.ckpt": "pickle",
    "flax_model.msgpack": "pickle",
    "tf_model.h5": "pickle",
    "embeddings.npz": "pickle",
    "model.t7": "pickle",
    "model.keras": "pickle",
    "modeling_example.py": "code",
    "lib/kernel.so": "code",
    "install.sh": "code",
    "model.Q4_K_M.gguf": "gguf",
    "model.onnx": "other",
    "model": "other",
    "README.tar.gz": "other",
    "LICENSE.zip": "other",
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_may_run_is_refused_by_default_and_taken_when_it_is_allowed(
    hub: HubServer, source: HuggingFaceRepository, path: str
) -> None:
    hub.repositories[NAME].files[path] = b"whatever"
    kind = REFUSED[path]
    with pytest.raises(FormatRefused) as caught:
        source.resolve(spec(), where)
    assert caught.value.exit_code == 3
    assert f"{NAME}: {path} " in caught.value.message
    assert f"allow: [{kind}]" in caught.value.hint
    assert len(hub.web.asked) == 1
    others = sorted({"pickle", "code", "gguf", "other"} - {kind})
    with pytest.raises(FormatRefused):
        source.resolve(spec(allow=others), where)
    assert path in [entry.path for entry in locked(source, allow=[kind])]
    assert path not in [entry.path for entry in source.resolve(spec(exclude=[path]), where)]


def test_all_files_of_a_kind_are_named_at_once(hub: HubServer, source: HuggingFaceRepository) -> None:
    hub.repositories[NAME].files.update({f"part-{number}.bin": b"x" for number in range(7)})
    with pytest.raises(FormatRefused) as caught:
        source.resolve(spec(), where)
    assert caught.value.found is not None
    assert caught.value.found.startswith("part-0.bin, part-1.bin")
    assert caught.value.found.endswith("and 2 others")


DECEIVED = {
    "a pickle called text": ("vocab.txt", pickle.dumps({"a": 1}, protocol=4)),
    "weights that are a pickle": ("more.safetensors", pickle.dumps({"a": b"1" * 100}, protocol=2)),
}


@pytest.mark.parametrize("case", DECEIVED)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    hub: HubServer, source: HuggingFaceRepository, case: str
) -> None:
    path, data = DECEIVED[case]
    hub.repositories[NAME].files[path] = data
    with pytest.raises(FormatRefused, match=f"{NAME}: {path} "):
        locked(source)
