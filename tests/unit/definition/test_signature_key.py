"""What a definition may say of a model's signature by its makers, and where it is wrong."""

from __future__ import annotations

import pytest

from appliance.definition.bundle_definition import read_definition
from appliance.definition.components import Files, HuggingFace, MakersSignature
from appliance.errors import DefinitionInvalid

ZEROS = "0" * 64
VALID = f"""\
format: 1
product: demo
version: "1.0.0"
sequence: 1
target: {{distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}}
components:
  engine: {{kind: python, requirements: [vllm]}}
  hub:
    kind: huggingface
    repository: example-org/Example-7B
    revision: main
    signature: {{file: model.sig, key: keys/example-org.pem, sha256: "{ZEROS}"}}
  model:
    kind: files
    files:
      - {{path: weights/model.safetensors, sha256: "{ZEROS}", licence: MIT}}
      - {{path: weights/model.sig, sha256: "{ZEROS}", licence: MIT}}
    signature: {{file: weights/model.sig, authority: keys/ca.pem}}
inference: {{engine: engine, model: model, file: weights/model.safetensors, name: demo}}
"""


def test_by_a_key_by_an_authority_or_unchecked() -> None:
    components = read_definition(VALID.encode(), "demo.yaml").definition.components
    hub, model = components["hub"], components["model"]
    assert isinstance(hub, HuggingFace)
    assert isinstance(model, Files)
    assert hub.signature == MakersSignature(file="model.sig", key="keys/example-org.pem", sha256=ZEROS)
    assert hub.signature.anchor == ("key", "keys/example-org.pem")
    assert model.signature is not None
    assert model.signature.anchor == ("authority", "keys/ca.pem")
    text = VALID.replace(", authority: keys/ca.pem", "")
    unchecked = read_definition(text.encode(), "demo.yaml").definition.components["model"]
    assert isinstance(unchecked, Files)
    assert unchecked.signature == MakersSignature(file="weights/model.sig")


# case: (text to replace, replacement, part of the message, line)
WRONG = {
    "no file": ("file: model.sig, ", "", "signature.file is missing", 12),
    "a file that leaves": ("file: model.sig", "file: ../model.sig", "must not leave its folder", 12),
    "a key that leaves": ("keys/example-org.pem", "../example-org.pem", "must not leave its folder", 12),
    "an absolute key": ("keys/example-org.pem", "/etc/key.pem", "signature.key is wrong", 12),
    "key and authority": ("authority: keys/ca.pem", "authority: ca.pem, key: k.pem", "not both", 18),
    "a digest of nothing": ("authority: keys/ca.pem", f'sha256: "{ZEROS}"', "neither is named", 18),
    "a digest that is none": (
        f'pem, sha256: "{ZEROS}"',
        'pem, sha256: "x"',
        "signature.sha256 is wrong",
        12,
    ),
    "an unknown key": ("authority: keys/ca.pem", "trust: x", "unknown key 'trust'", 18),
    "a file that is not there": (
        "file: weights/model.sig",
        "file: model.sig",
        "signature.file is not in component model",
        18,
    ),
    "a component without one": (
        "requirements: [vllm]",
        "requirements: [vllm], signature: {file: a}",
        "unknown key",
        7,
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_its_place(case: str) -> None:
    old, new, message, line = WRONG[case]
    assert old in VALID
    with pytest.raises(DefinitionInvalid) as caught:
        read_definition(VALID.replace(old, new, 1).encode(), "demo.yaml")
    assert message in caught.value.message
    assert caught.value.where is not None
    assert caught.value.where.line == line
