"""The pins of a lock, under other numbers: that nothing else was changed is proven, not believed."""

from __future__ import annotations

import pytest

from appliance.definition.bundle_definition import read_definition
from appliance.definition.lock import Lock
from appliance.definition.renumbering import renumbered
from appliance.errors import LockInvalid

TEXT = """format: 1
product: demo
version: "1.0"   # for people
sequence: 7
target: {distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}
components:
  model: {kind: tiny-gguf, sentence: "sequence: 7", licence: CC0-1.0}
  engine: {kind: python, requirements: [app==1.0]}
inference: {engine: engine, model: model, file: tiny.gguf, name: small}
valid_days: 30
"""


def lock_of(text: str) -> Lock:
    """As ``appliance lock`` would write it, but for its artefacts."""
    read = read_definition(text.encode(), "demo.yaml")
    found = read.definition
    kept = ("product", "version", "sequence", "target", "inference", "valid_days")
    values = {name: getattr(found, name) for name in kept}
    values |= {"format": 1, "definition": read.digest, "created": "2026-01-01T00:00:00Z", "components": {}}
    return Lock(**values)


def kept(text: str) -> Lock:
    return renumbered(text.encode(), read_definition(text.encode(), "demo.yaml"), lock_of(TEXT))


@pytest.mark.parametrize(
    "changes",
    [
        {"\nsequence: 7": "\nsequence: 8"},
        {'"1.0" ': '"1.1" '},
        {"\nsequence: 7": "\nsequence: 12", '"1.0" ': '"2" '},
    ],
    ids=["sequence", "version", "both"],
)
def test_other_numbers_keep_everything_else(changes: dict[str, str]) -> None:
    text = TEXT
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after, 1)
    found, wanted = kept(text), lock_of(text)
    assert found == wanted
    assert found.expires == lock_of(TEXT).expires, "its date stays"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("app==1.0", "app==1.1", "in more than its numbers"),
        ("valid_days: 30", "valid_days: 31", "in more than its numbers"),
        ("# for people", "# for you", "in more than its numbers"),
        ('sentence: "sequence: 7"', 'sentence: "sequence: 8"', "in more than its numbers"),
        ("demo", "demo", "has the numbers of the locked one"),
    ],
    ids=["a requirement", "how long it is good", "a comment", "a sentence", "nothing"],
)
def test_whatever_else_was_changed_is_to_be_locked_anew(before: str, after: str, said: str) -> None:
    text = TEXT.replace(before, after, 1).replace(
        "\nsequence: 7", "\nsequence: 8" if before != after else "\nsequence: 7"
    )
    with pytest.raises(LockInvalid, match=said):
        kept(text)
