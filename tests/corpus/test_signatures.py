"""Signatures that are malleated, misspelled, for another purpose, by weak keys or by strangers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import SignatureInvalid
from appliance.trust.dsse import Envelope, verify_envelope
from appliance.trust.mldsa import PostQuantumKey
from tests.corpus.groups import cases
from tests.corpus.raw_signature_cases import CONTROL, PAYLOAD, SIGNED, mldsa_cases, raw_cases
from tests.corpus.signature_cases import MESSAGE, signature_cases
from tests.independent.agreement import decide, parse_public, verify_post_quantum
from tests.roots import first_root

if TYPE_CHECKING:
    from tests.corpus.raw_signature_cases import RawCase
    from tests.corpus.signature_cases import SignatureCase

CASES = signature_cases()
CONTROLS = {name: case for name, case in CASES.items() if case.expected is None}
HOSTILE = {name: case for name, case in CASES.items() if case.expected is not None}


def judge(case: SignatureCase) -> None:
    """A root that enrols the key, if it can; and the signature as the only one that is needed."""
    root = first_root({"holder": parse_public(case.public)}, solo=True)
    decide(MESSAGE, {"holder": case.armoured}, root, "release").require()


@pytest.mark.parametrize("case", cases(8, CONTROLS, control=CONTROLS))
def test_a_good_one(case: SignatureCase) -> None:
    judge(case)


@pytest.mark.parametrize("case", cases(8, HOSTILE))
def test_one_that_must_not_count(case: SignatureCase) -> None:
    assert case.expected is not None
    with pytest.raises(case.expected) as caught:
        judge(case)
    for text in (caught.value.message, caught.value.found, caught.value.wanted, caught.value.hint):
        assert text is None or (text.isprintable() and len(text) < 1000)


RAW = {**raw_cases(), **mldsa_cases()}
RAW_CONTROLS = {name: case for name, case in RAW.items() if CONTROL in name}
RAW_HOSTILE = {name: case for name, case in RAW.items() if CONTROL not in name}


def judge_raw(case: RawCase) -> None:
    if isinstance(case.key, PostQuantumKey):
        verify_post_quantum(case.key, case.signature, SIGNED, case.context)
    else:
        verify_envelope(Envelope(PAYLOAD, case.key.keyid, case.signature), case.key)


@pytest.mark.parametrize("case", cases(8, RAW_CONTROLS, control=RAW_CONTROLS))
def test_a_good_raw_one(case: RawCase) -> None:
    judge_raw(case)


@pytest.mark.parametrize("case", cases(8, RAW_HOSTILE))
def test_a_raw_one_that_must_not_count(case: RawCase) -> None:
    with pytest.raises(SignatureInvalid):
        judge_raw(case)
