"""``parity:`` of a definition and of a lock: whole percent, 0 for none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from appliance.definition.bundle_definition import read_definition
from appliance.definition.lock import lock_text, parse_lock
from appliance.errors import DefinitionInvalid, LockInvalid

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

DEMO = Path(__file__).parents[3] / "bundles/demo.yaml"


def definition(**changes: object) -> bytes:
    return yaml.safe_dump({**yaml.safe_load(DEMO.read_text()), **changes}).encode()


def test_five_percent_unless_it_says_otherwise() -> None:
    assert read_definition(definition(), "x").definition.parity == 5
    assert read_definition(definition(parity=0), "x").definition.parity == 0


@pytest.mark.parametrize("value", [-1, 11, 2.5, "5%", True, None])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(DefinitionInvalid, match="parity"):
        read_definition(definition(parity=value), "x")


def test_a_lock_without_the_key_means_none(maker: BundleMaker) -> None:
    lock = maker.lock()
    assert "parity" not in lock_text(lock)
    assert parse_lock(lock_text(lock)).parity == 0
    three = lock.model_copy(update={"parity": 3})
    assert parse_lock(lock_text(three)) == three
    with pytest.raises(LockInvalid, match="parity"):
        parse_lock(lock_text(lock.model_copy(update={"parity": 11})))
