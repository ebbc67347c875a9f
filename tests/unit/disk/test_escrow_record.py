"""What a record says in the open, and what is none; and secrets that do not show."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.disk.escrow.record import Record, parse_record
from appliance.disk.secret import ALPHABET, Secret, new_passphrase, new_pin
from appliance.errors import (
    EscrowInvalid,
)
from appliance.trust.canonical import canonical_bytes
from tests.unit.disk.escrows import CREATED, DRIVE

if TYPE_CHECKING:
    from collections.abc import Callable

STEM = "S6C%2F1%20%25.0001.keys"


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format, lambda one: f"{one:>30}"])
def test_a_secret_does_not_show(show: Callable[[object], str]) -> None:
    assert show(Secret(b"tiger")).strip() == "<secret>"


def test_a_secret_is_in_no_json_pickle_or_set() -> None:
    secret = Secret(b"tiger")
    for refuse in (json.dumps, pickle.dumps, hash):
        with pytest.raises(TypeError) as raised:
            refuse(secret)
        assert "tiger" not in str(raised.value)
    assert secret == Secret(b"tiger")
    assert secret != Secret(b"tigers")
    assert secret != b"tiger"


def test_pins_and_passphrases_are_random_and_can_be_typed() -> None:
    pins, phrases = {new_pin().reveal() for _ in range(50)}, {new_passphrase().reveal() for _ in range(50)}
    assert len(pins) == len(phrases) == 50
    assert {len(pin) for pin in pins} == {32}
    assert {tuple(map(len, phrase.split(b"-"))) for phrase in phrases} == {(5,) * 8}
    assert {chr(one) for pin in pins for one in pin} == set(ALPHABET)


# --- records

GOOD = Record("gpu-01", DRIVE, "keys", "opal", 1, CREATED, {"safe": "age1x"}, 1, {f"{STEM}.age": "0" * 64})


def test_a_record_is_read_as_it_was_written() -> None:
    assert parse_record(GOOD.to_bytes(), f"{STEM}.json") == GOOD


def test_keys_of_a_volume_that_was_there_name_it() -> None:
    """Others are spelled as ever, so old records stay what they are."""
    uuid = "01234567-89ab-4cde-8f01-23456789abcd"
    made = replace(GOOD, volume=uuid)
    assert parse_record(made.to_bytes(), f"{STEM}.json") == made
    assert (made.uuid, made.mark) == (uuid, "0" * 32)
    assert GOOD.uuid == "00000000-0000-0000-0000-000000000000"
    assert b"volume" not in GOOD.to_bytes()


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 2},
        {"kind": "other"},
        {"purpose": "other"},
        {"layers": "none"},
        {"generation": 0},
        {"generation": True},
        {"generation": 10000},
        {"created": "2026-05-04"},
        {"created": 7},
        {"threshold": 2},
        {"threshold": 0},
        {"recipients": {}},
        {"recipients": []},
        {"recipients": {"safe": 1}},
        {"holds": ["admin-pin"]},
        {"host": None},
        {"drive": {}},
        {"drive": {**dict.fromkeys(("serial", "model", "firmware", "namespace"), ""), "size": 1}},
        {"sealed": {}},
        {"sealed": {f"{STEM}.age": "0"}},
        {"sealed": {"../else.age": "0" * 64}},
        {"more": 1},
        {"volume": ""},
        {"volume": "x"},
        {"volume": "0" * 36},
    ],
)
def test_a_record_that_is_none(changed: dict[str, Any]) -> None:
    values = {**json.loads(GOOD.to_bytes()), **changed}
    with pytest.raises(EscrowInvalid, match="is no escrow record"):
        parse_record(canonical_bytes(values), f"{STEM}.json")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", GOOD.to_bytes() + b"\n", b" " + GOOD.to_bytes()])
def test_bytes_that_are_no_record(data: bytes) -> None:
    with pytest.raises(EscrowInvalid, match="is no escrow record"):
        parse_record(data, f"{STEM}.json")


def test_a_record_under_another_name_is_another_drives() -> None:
    with pytest.raises(EscrowInvalid, match="another drive's"):
        parse_record(GOOD.to_bytes(), "S6C.0001.keys.json")
