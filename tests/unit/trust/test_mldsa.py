"""The second signature: what is a key, what is a signature, and who could forge one."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import KeyRefused, SignatureInvalid
from appliance.trust.mldsa import (
    KEY_SIZE,
    SIGNATURE_SIZE,
    parse_post_quantum,
    post_quantum_key,
    verify_post_quantum,
)
from tests.unit.trust.people import Person

ALICE = Person("alice")
KEY = ALICE.second_key
SIGNED = ALICE.sign_second(b"message")


def test_a_key_is_read_back() -> None:
    assert parse_post_quantum(KEY.text) == KEY
    assert len(KEY.raw) == KEY_SIZE
    assert KEY.text.startswith("ml-dsa-87 ")
    assert KEY.pem.startswith("-----BEGIN PUBLIC KEY-----")


def test_a_good_signature() -> None:
    assert len(SIGNED) == SIGNATURE_SIZE
    verify_post_quantum(KEY, SIGNED, b"message", "release@appliance")


@pytest.mark.parametrize(
    ("message", "space", "spoil"),
    [
        (b"another", "release@appliance", 0),
        (b"message", "root@appliance", 0),
        (b"message", "release@appliance", 1),
    ],
    ids=["another message", "another role", "a bit flipped"],
)
def test_a_signature_that_does_not_verify(message: bytes, space: str, spoil: int) -> None:
    raw = SIGNED[:100] + bytes([SIGNED[100] ^ spoil]) + SIGNED[101:]
    with pytest.raises(SignatureInvalid, match="does not verify"):
        verify_post_quantum(KEY, raw, message, space)


@pytest.mark.parametrize("raw", [b"", SIGNED[:-1], SIGNED + b"\0"], ids=["empty", "short", "long"])
def test_a_signature_of_a_wrong_length(raw: bytes) -> None:
    with pytest.raises(SignatureInvalid, match="wrong length"):
        verify_post_quantum(KEY, raw, b"message", "release@appliance")


@pytest.mark.parametrize(
    "tail", [bytes(2560), b"\1" * 2560, bytes(range(100)) * 26], ids=["zero", "one", "few"]
)
def test_a_key_that_does_not_look_random_is_refused(tail: bytes) -> None:
    """With t1 = 0 the challenge drops out of the equation, and anybody finds a signature."""
    with pytest.raises(KeyRefused, match="weak"):
        post_quantum_key(os.urandom(32) + tail[:2560])


WRONG = {
    "too short": base64.b64encode(KEY.raw[:-1]).decode(),
    "too long": base64.b64encode(KEY.raw + b"x").decode(),
    "no base64": "?" * 3456,
    "with a comment": KEY.text.split(" ")[1] + " alice",
    "nothing": "",
    "not ASCII": "ä" * 3456,
}


@pytest.mark.parametrize("encoded", WRONG.values(), ids=WRONG)
def test_a_key_in_another_spelling(encoded: str) -> None:
    with pytest.raises(KeyRefused):
        parse_post_quantum(f"ml-dsa-87 {encoded}")


def test_a_key_without_the_name_of_its_kind() -> None:
    """One key, one spelling; and a very long one is not even decoded."""
    for text in (KEY.text.split()[1], KEY.text.upper(), f"{KEY.text}\n", "ml-dsa-87 " + "A" * 10_000_000):
        with pytest.raises(KeyRefused):
            parse_post_quantum(text)


@given(st.text(max_size=4000))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(KeyRefused):
        parse_post_quantum(f"ml-dsa-87 {text}")
