"""Edited YAML: what is read, what is refused, and where each complaint points."""

from __future__ import annotations

import pytest
from pydantic import Field

from appliance.definition.document import MAX_BYTES, read_document, validate_document
from appliance.definition.names import Frozen
from appliance.errors import DefinitionInvalid, InventoryInvalid

NAME = "site.yaml"


def test_plain_values_come_out_as_written() -> None:
    document = read_document(
        "a: 1\nb: [x, no, 1.5, true, ~]\nc: {d: 02:00:00:00:00:01, e: '1'}\n", NAME, DefinitionInvalid
    )
    assert document.values == {
        "a": 1,
        "b": ["x", "no", 1.5, True, None],
        "c": {"d": "02:00:00:00:00:01", "e": "1"},
    }


@pytest.mark.parametrize(
    "text", ["no", "on", "12:30:00", "0x1f", "1_000", "2026-01-01", ".inf", "=", "0o7"]
)
def test_what_yaml_1_1_would_convert_stays_text(text: str) -> None:
    assert read_document(f"key: {text}", NAME, DefinitionInvalid).values == {"key": text}


def test_places_of_values_and_keys() -> None:
    document = read_document("a: 1\nb:\n  - x\n  - {c: 2}\n", NAME, DefinitionInvalid)
    assert str(document.where(("b", 1, "c"))) == "site.yaml:4:9"
    assert str(document.where_key(("b", 1, "c"))) == "site.yaml:4:6"
    assert str(document.where(("b", 1, "missing", 0))) == "site.yaml:4:5"
    assert str(document.where_key(("b", 0))) == "site.yaml:3:5"


MALFORMED = {
    "a key twice": ("a: 1\nb: 2\na: 3\n", "3:1", "key 'a' is written twice; first on line 1"),
    "a key twice, deep": ("a:\n  - {x: 1, x: 2}\n", "2:12", "key 'x' is written twice"),
    "an anchor": ("a: &x 1\n", "1:4", "anchors and aliases"),
    "an alias": ("a: *x\n", "1:4", "anchors and aliases"),
    "a tag": ("a: !!python/object:os.system x\n", "1:4", "tags are not allowed"),
    "a plain tag": ("a: !!str 3\n", "1:4", "tags are not allowed"),
    "an open bracket": ("a: [1, 2\nb: 3\n", "2:2", "expected ',' or ']'"),
    "a tab": ("a:\n\tb: 1\n", "2:1", "cannot start any token"),
    "two documents": ("a: 1\n---\nb: 2\n", "2:1", "another document"),
    "a key that is a number": ("1: x\n", "1:1", "a key must be text"),
    "a key that is a list": ("? [a]\n: x\n", "1:3", "a key must be text"),
    "a control character": ("a: b\nc: \x01\n", "2:4", "no text file may hold"),
    "a lone surrogate": ('a: "\\ud800"\n', "1:4", "neither text nor a number"),
    "a number without end": (f"a: {'9' * 5000}\n", "1:4", "neither text nor a number"),
    "nothing": ("", "1:1", "is empty"),
    "comments only": ("# nothing\n", "1:1", "is empty"),
    "too deep": ("a: " + "[" * 5000, "1:19", "nested deeper"),
    "too large": ("a: " + "x" * MAX_BYTES, "1:1", "too large"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_text_is_refused_at_its_place(case: str) -> None:
    text, place, message = MALFORMED[case]
    with pytest.raises(InventoryInvalid) as caught:
        read_document(text, NAME, InventoryInvalid)
    assert message in caught.value.message
    assert str(caught.value.where) == f"{NAME}:{place}"


class Inner(Frozen):
    """A model within another."""

    size: int
    names: tuple[str, ...] = ()


class Outer(Frozen):
    """A model with a plain field and a mapping of models."""

    inner: Inner
    by_name: dict[str, Inner] = Field(default_factory=dict)


def test_a_strict_model_takes_lists_for_tuples_and_nothing_else() -> None:
    document = read_document("inner: {size: 1, names: [a, b]}", NAME, DefinitionInvalid)
    assert validate_document(document, Outer, DefinitionInvalid).inner.names == ("a", "b")


UNFIT = {
    "unknown key": ("inner:\n  size: 1\n  sise: 2\n", "3:3", "unknown key 'sise'", "keys: size, names"),
    "unknown key below a mapping": (
        "inner: {size: 1}\nby_name:\n  x: {size: 1, q: 2}\n",
        "3:16",
        "unknown key 'q'",
        "keys: size, names",
    ),
    "missing": ("inner:\n  names: []\n", "2:3", "inner.size is missing", "keys: size, names"),
    "wrong type": ("inner: {size: '1'}\n", "1:15", "inner.size is wrong", "a valid integer"),
    "true is not a number": ("inner: {size: true}\n", "1:15", "inner.size is wrong", "a valid integer"),
    "wrong type in a list": (
        "inner: {size: 1, names: [a, 2]}\n",
        "1:29",
        "inner.names.1",
        "a valid string",
    ),
    "not a mapping": ("[1]\n", "1:1", "the document is wrong", "an object"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_values_that_do_not_fit_name_place_and_wanted(case: str) -> None:
    text, place, message, wanted = UNFIT[case]
    document = read_document(text, NAME, DefinitionInvalid)
    with pytest.raises(DefinitionInvalid) as caught:
        validate_document(document, Outer, DefinitionInvalid)
    assert message in caught.value.message
    assert wanted in (caught.value.wanted or "")
    assert str(caught.value.where) == f"{NAME}:{place}"


def test_the_first_fault_in_the_file_leads_and_the_others_follow() -> None:
    document = read_document("by_name: {x: 1}\ninner: {size: a}\n", NAME, DefinitionInvalid)
    with pytest.raises(DefinitionInvalid) as caught:
        validate_document(document, Outer, DefinitionInvalid)
    assert caught.value.where.line == 1
    assert "site.yaml:2:15: inner.size is wrong" in caught.value.hint
