"""The kinds huggingface, oci and files: what can be asked for, and a catalogue of what cannot."""

from __future__ import annotations

import pytest

from appliance.definition.bundle_definition import ReadDefinition, read_definition
from appliance.definition.components import HuggingFace, Image, Oci
from appliance.errors import DefinitionInvalid

DIGEST = "sha256:" + "ab" * 32
VALID = f"""\
format: 1
product: demo
version: "1.0.0"
sequence: 1
target: {{distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}}
components:
  model:
    kind: huggingface
    repository: example-org/Example-7B.v2
    revision: main
    include: ["*.safetensors", "*.json"]
    exclude: [original/*]
    allow: [pickle]
    licence: Apache-2.0
  engine:
    kind: python
    requirements: [vllm]
  images:
    kind: oci
    images:
      - {{repository: team/exporter, digest: "{DIGEST}", platform: linux/amd64, licence: MIT}}
  extras:
    kind: files
    files:
      - {{path: big.bin, sha256: "{"0" * 64}", size: 80000000000, licence: proprietary}}
inference:
  engine: engine
  model: model
  file: config.json
  name: demo
"""


def read(text: str) -> ReadDefinition:
    return read_definition(text.encode(), "demo.yaml")


def test_the_kinds_are_read() -> None:
    components = read(VALID).definition.components
    assert components["model"] == HuggingFace(
        kind="huggingface",
        repository="example-org/Example-7B.v2",
        revision="main",
        include=("*.safetensors", "*.json"),
        exclude=("original/*",),
        allow=("pickle",),
        licence="Apache-2.0",
    )
    image = Image(repository="team/exporter", digest=DIGEST, platform="linux/amd64", licence="MIT")
    assert components["images"] == Oci(kind="oci", images=(image,))


def test_a_repository_can_be_what_is_served_whatever_file_it_is() -> None:
    """Which files there are, only the repository knows; the lock checks it."""
    assert read(VALID).definition.inference.file == "config.json"


def test_an_image_is_fine_with_a_digest_alone() -> None:
    text = VALID.replace(", platform: linux/amd64, licence: MIT", "")
    assert read(text).definition.components["images"].images[0].platform is None  # type: ignore[union-attr]  # it is an Oci


REPOSITORY = "    repository: example-org/Example-7B.v2"
# case: (text to replace, replacement, part of the message)
WRONG = {
    "an address for a model": (
        "example-org/Example-7B.v2",
        "https://hub.example/a/b",
        "without an address",
    ),
    "a model in three parts": ("example-org/Example-7B.v2", "a/b/c", "organisation/name"),
    "a model that leaves": ("example-org/Example-7B.v2", "../../b", "organisation/name"),
    "a model that ends in .git": ("example-org/Example-7B.v2", "a/b.git", "can have this name"),
    "a model with two hyphens": ("example-org/Example-7B.v2", "a/b--c", "can have this name"),
    "no revision": ("    revision: main\n", "", "revision is missing"),
    "a revision that leaves": ("revision: main", "revision: refs/../../x", "a revision is a commit"),
    "a revision as an option": ("revision: main", "revision: --all", "a revision is a commit"),
    "a pattern that leaves": ("[original/*]", "[../*]", "a pattern of paths"),
    "an absolute pattern": ("[original/*]", "[/etc/*]", "a pattern of paths"),
    "an unknown permission": ("[pickle]", "[everything]", "allow.0 is wrong"),
    "an unknown key of a model": (REPOSITORY, f"{REPOSITORY}\n    token: x", "unknown key 'token'"),
    "an image by tag": (f'digest: "{DIGEST}"', "tag: latest", "a tag can be moved"),
    "an image by tag and digest": (
        f'digest: "{DIGEST}"',
        f'digest: "{DIGEST}", tag: v1',
        "a tag can be moved",
    ),
    "an image with its tag": ("team/exporter", "team/exporter:v1", "a tag can be moved"),
    "an image with its digest": ("team/exporter", f"team/exporter@{DIGEST}", "a key of its own"),
    "a digest that is a tag": (DIGEST, "latest", "a tag can be moved"),
    "a digest of another algorithm": (DIGEST, "sha512:" + "ab" * 64, "write sha256:"),
    "an image at an address": (
        "team/exporter",
        "https://registry.example/team/exporter",
        "without an address",
    ),
    "an image in capitals": ("team/exporter", "Team/exporter", "without an address"),
    "a platform without architecture": ("linux/amd64", "linux", "platform is wrong"),
    "no images": (
        VALID[VALID.index("      - {repository") : VALID.index("  extras")],
        "      []\n",
        "images is wrong",
    ),
    "a negative size": ("80000000000", "-1", "size is wrong"),
    "a size as text": ("80000000000", '"8 GB"', "size is wrong"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_its_place(case: str) -> None:
    old, new, message = WRONG[case]
    assert old in VALID
    with pytest.raises(DefinitionInvalid) as caught:
        read(VALID.replace(old, new, 1))
    assert message in caught.value.message
    assert caught.value.where is not None


def test_an_image_is_listed_once_for_each_platform() -> None:
    line = VALID[VALID.index("      - {repository") : VALID.index("  extras")]
    read(VALID.replace(line, line + line.replace("linux/amd64", "linux/arm64"), 1))
    with pytest.raises(DefinitionInvalid, match="listed twice in component images"):
        read(VALID.replace(line, line + line, 1))
