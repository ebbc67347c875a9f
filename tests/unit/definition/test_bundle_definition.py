"""Bundle definitions: one that is right, and a catalogue of what can be wrong with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from appliance.definition.bundle_definition import ReadDefinition, read_definition
from appliance.definition.components import Debian, Python, TinyGguf
from appliance.errors import DefinitionInvalid

BUNDLES = Path(__file__).parents[3] / "bundles"

VALID = f"""\
format: 1
product: demo
version: "1.0.0"
sequence: 1
target: {{distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}}
components:
  model:
    kind: tiny-gguf
    sentence: An answer.
    licence: CC0-1.0
  engine:
    kind: python
    requirements: [xllamacpp]
  system:
    kind: debian
    packages: [ufw, netplan.io]
  extras:
    kind: files
    files:
      - {{path: site/notice.txt, sha256: "{"0" * 64}", licence: proprietary}}
  toolkit:
    kind: toolkit
inference:
  engine: engine
  model: model
  file: tiny.gguf
  name: demo
"""


def read(text: str) -> ReadDefinition:
    return read_definition(text.encode(), "demo.yaml")


def test_a_valid_definition_is_read_with_its_digest() -> None:
    result = read(VALID)
    assert result.digest == hashlib.sha256(VALID.encode()).hexdigest()
    components = result.definition.components
    assert components["model"] == TinyGguf(kind="tiny-gguf", sentence="An answer.", licence="CC0-1.0")
    assert components["engine"] == Python(kind="python", requirements=("xllamacpp",))
    assert components["system"] == Debian(kind="debian", packages=("ufw", "netplan.io"))


@pytest.mark.parametrize("path", sorted(BUNDLES.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_definitions_are_valid(path: Path) -> None:
    read_definition(path.read_bytes(), path)


# case: (text to replace, replacement, place, part of the message)
WRONG = {
    "malformed YAML": ("format: 1", "format: [1", "2:8", "expected ',' or ']'"),
    "unknown key": ("sequence: 1", "sequence: 1\nsequenze: 2", "5:1", "unknown key 'sequenze'"),
    "duplicate key": ("sequence: 1", "sequence: 1\nsequence: 2", "5:1", "written twice"),
    "missing key": ("sequence: 1\n", "", "1:1", "sequence is missing"),
    "another format": ("format: 1", "format: 2", "1:9", "reads format 1"),
    "format true": ("format: 1", "format: true", "1:9", "format is wrong"),
    "product of other letters": ("product: demo", "product: Demo!", "2:10", "product is wrong"),
    "version as a number": ('version: "1.0.0"', "version: 1.0", "3:10", "version is wrong"),
    "sequence as text": ("sequence: 1", 'sequence: "1"', "4:11", "sequence is wrong"),
    "sequence zero": ("sequence: 1", "sequence: 0", "4:11", "sequence is wrong"),
    "sequence beyond exact numbers": ("sequence: 1", f"sequence: {2**53}", "4:11", "sequence is wrong"),
    "unknown suite": ("suite: trixie", "suite: sid", "5:39", "target.suite is wrong"),
    "unknown architecture": ("amd64", "riscv64", "5:61", "target.architecture is wrong"),
    "python as a number": ('python: "3.13"', "python: 3.13", "5:76", "target.python is wrong"),
    "python with a patch level": ('"3.13"', '"3.13.1"', "5:76", "target.python is wrong"),
    "unknown kind": ("kind: tiny-gguf", "kind: gguf", "8:11", "components.model: unknown kind"),
    "no kind": ("    kind: toolkit", "    {}", "22:5", "components.toolkit.kind is missing"),
    "component name in capitals": ("  extras:", "  Extras:", "17:3", "'Extras' is not a name"),
    "component name that leaves": ("  extras:", "  ../extras:", "17:3", "'../extras' is not a name"),
    "unknown key of a kind": (
        "    requirements: [xllamacpp]",
        "    requirements: [xllamacpp]\n    packages: [x]",
        "14:5",
        "unknown key 'packages'",
    ),
    "key of a files component like its kind": (
        "    kind: files\n",
        "    kind: files\n    licence: x\n",
        "19:5",
        "unknown key 'licence'",
    ),
    "no requirements": ("[xllamacpp]", "[]", "13:19", "requirements is wrong"),
    "requirements not a list": ("[xllamacpp]", "xllamacpp", "13:19", "requirements is wrong"),
    "a requirement that is none": ("[xllamacpp]", "['x y z']", "13:20", "not a requirement"),
    "a requirement by address": (
        "[xllamacpp]",
        "['x @ https://mirror.example/x.whl']",
        "13:20",
        "names a project, not an address",
    ),
    "a requirement by path": ("[xllamacpp]", "[./x.whl]", "13:20", "not a requirement"),
    "a requirement option": ("[xllamacpp]", "['--index-url=x']", "13:20", "not a requirement"),
    "a requirement twice": ("[xllamacpp]", "[x, x]", "13:23", "listed twice"),
    "a package that is none": ("[ufw, ", "['-o=x', ", "16:16", "packages.0 is wrong"),
    "a package with a version": ("[ufw, ", "[ufw=1, ", "16:16", "packages.0 is wrong"),
    "a package twice": ("[ufw, netplan.io]", "[ufw, ufw]", "16:21", "listed twice"),
    "a path that leaves": ("site/notice.txt", "../notice.txt", "20:16", "must not leave its folder"),
    "a path that leaves further in": ("site/notice.txt", "a/../../b", "20:16", "must not leave its folder"),
    "an absolute path": ("site/notice.txt", "/etc/passwd", "20:16", "path is wrong"),
    "a path with a space": ("site/notice.txt", "'a b'", "20:16", "path is wrong"),
    "a path with an empty part": ("site/notice.txt", "a//b", "20:16", "path is wrong"),
    "a path without end": ("site/notice.txt", "a" * 500, "20:16", "path is wrong"),
    "a digest too short": ("0" * 64, "0" * 63, "20:41", "sha256 is wrong"),
    "a digest in capitals": ("0" * 64, "A" * 64, "20:41", "sha256 is wrong"),
    "an engine that is missing": ("engine: engine", "engine: motor", "24:11", "not defined"),
    "an engine of another kind": (
        "engine: engine",
        "engine: system",
        "24:11",
        "must be a component of wheels or of plain files",
    ),
    "a model that is missing": ("model: model", "model: weights", "25:10", "not defined"),
    "a model of another kind": ("model: model", "model: system", "25:10", "holds weights"),
    "a file the model lacks": ("file: tiny.gguf", "file: big.gguf", "26:9", "not in component model"),
    "a Python twice": (
        "kind: toolkit",
        "kind: toolkit\n    pythons: ['3.12', '3.12']",
        "23:23",
        "listed twice",
    ),
    "a Python this program does not run on": (
        "kind: toolkit",
        "kind: toolkit\n    pythons: ['3.10']",
        "23:15",
        "pythons.0 is wrong",
    ),
    "no Python": (
        "kind: toolkit",
        "kind: toolkit\n    pythons: []",
        "23:14",
        "pythons is wrong",
    ),
    "a Python that is a number": (
        "kind: toolkit",
        "kind: toolkit\n    pythons: [3.12]",
        "23:15",
        "pythons.0 is wrong",
    ),
    "the toolkit twice": ("inference:", "  again: {kind: toolkit}\ninference:", "23:3", "the toolkit once"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_its_place(case: str) -> None:
    old, new, place, message = WRONG[case]
    assert old in VALID
    with pytest.raises(DefinitionInvalid) as caught:
        read(VALID.replace(old, new, 1))
    assert message in caught.value.message
    assert str(caught.value.where) == f"demo.yaml:{place}"
    assert caught.value.exit_code == 3


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(DefinitionInvalid, match="not UTF-8"):
        read_definition(b"\xff\xfe", "demo.yaml")


def test_unknown_kind_says_which_there_are() -> None:
    with pytest.raises(DefinitionInvalid) as caught:
        read(VALID.replace("kind: tiny-gguf", "kind: gguf"))
    assert caught.value.wanted == "one of: tiny-gguf, python, debian, files, huggingface, oci, toolkit"
