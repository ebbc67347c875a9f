"""The state file: what is written is read again, and nothing else is believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.errors import LabFailed
from appliance.lab.plan import Lab
from appliance.lab.state import parse_state, state_text

LAB = Lab("ward", 7, 2, "0123456789", (4, 4026531840), Path("/cache/abc/root"), tpm=True, drives=2)

PATH = Path("/labs/ward/state.json")


def test_a_lab_is_read_as_it_was_written() -> None:
    assert parse_state(state_text(LAB), PATH) == LAB


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 1),
        ("name", "../etc"),
        ("name", None),
        ("segment", 0),
        ("segment", 255),
        ("segment", "x"),
        ("count", 0),
        ("token", "xyz"),
        ("token", "0123456789ab"),
        ("netns", [1]),
        ("netns", "12"[:1]),
        ("root", None),
        ("machine", "yes"),
        ("capture", 1),
        ("restored", None),
        ("bond", 0),
        ("tpm", "in"),
        ("drives", -1),
        ("drives", 9),
        ("drives", "x"),
    ],
)
def test_a_state_with_one_wrong_value_is_refused(key: str, value: object) -> None:
    values = json.loads(state_text(LAB))
    assert key in values
    with pytest.raises(LabFailed, match=str(PATH.parent)) as caught:
        parse_state(json.dumps({**values, key: value}), PATH)
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    "key",
    ["format", "name", "segment", "count", "token", "netns", "root", "machine", "bond", "tpm", "drives"],
)
def test_a_state_with_a_value_left_out_is_refused(key: str) -> None:
    values = json.loads(state_text(LAB))
    del values[key]
    with pytest.raises(LabFailed):
        parse_state(json.dumps(values), PATH)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"ward"', "7"])
def test_a_text_that_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(LabFailed):
        parse_state(text, PATH)
