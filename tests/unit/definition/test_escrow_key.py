"""To whom keys of drives are escrowed, as an operator writes it."""

from __future__ import annotations

import pyrage
import pytest

from appliance.definition.escrow import Escrow
from appliance.definition.inventory_schema import parse_inventory
from appliance.errors import InventoryInvalid
from tests.unit.definition.test_host_keys import PATH, VALID

# Of keys that nobody kept; always the same, so that tests have the same names in every process.
ANA = "age18h0xf3d5zpjydu8jqm635l5argzp6mahwnv7xu6jeu2fp9wvm3asd0u22h"
BO = "age1qcvsudpde5kfv9arwnjwywr9wh6zdvwdzqzrnzhnj6yz9hwzrqasd066l3"
CY = "age13a0a46nmuvsv6zflnkzc3f9psa9jj2vzgpd8r7f8avuq3rwjy4mqugv3vk"
LINES = VALID.count("\n")


def parse(more: str) -> Escrow | None:
    return parse_inventory(VALID + more, PATH)[0].escrow


def test_without_the_key_nothing_is_escrowed() -> None:
    assert parse("") is None


def test_each_recipient_alone_or_several_together() -> None:
    alone = parse(f"escrow: {{recipients: {{ana: {ANA}, bo: {BO}}}}}\n")
    assert alone == Escrow((("ana", ANA), ("bo", BO)), 1)
    assert not alone.split
    several = parse(f"escrow: {{threshold: 2, recipients: {{ana: {ANA}, bo: {BO}, cy: {CY}}}}}\n")
    assert several is not None
    assert (several.threshold, several.split, len(several.recipients)) == (2, True, 3)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("escrow: {}", "recipients"),
        ("escrow: {recipients: {}}", "at least 1"),
        (f"escrow: {{recipients: {{ana: {ANA}}}, threshold: 0}}", "greater than or equal to 1"),
        (f"escrow: {{recipients: {{ana: {ANA}}}, threshold: 2}}", "nobody could open it"),
        (f"escrow: {{recipients: {{ana: {ANA}, bo: {ANA}}}}}", "same recipient"),
        (f"escrow: {{recipients: {{ana: {ANA[:-1]}q}}}}", "no age recipient"),
        (f"escrow: {{recipients: {{ana: {ANA.upper()}x}}}}", "no age recipient"),
        ("escrow: {recipients: {ana: 7}}", "must be text"),
        ("escrow: {recipients: {ana: ssh-ed25519}}", "no age recipient"),
        (f"escrow: {{recipients: {{Ana B: {ANA}}}}}", "pattern"),
        (f"escrow: {{recipients: {{ana: {ANA}}}, other: 1}}", "other"),
        (
            "escrow: {recipients: {" + ", ".join(f"n{i}: {ANA}" for i in range(17)) + "}}",
            "at most 16",
        ),
    ],
)
def test_an_escrow_that_cannot_be(written: str, found: str) -> None:
    with pytest.raises(InventoryInvalid) as raised:
        parse(written + "\n")
    error = raised.value
    assert found in f"{error.message} {error.found} {error.wanted}"
    assert error.where is not None
    assert error.where.line == LINES + 1


def test_a_secret_key_in_the_inventory_is_refused_and_not_repeated() -> None:
    secret = str(pyrage.x25519.Identity.generate())
    with pytest.raises(InventoryInvalid) as raised:
        parse(f"escrow: {{recipients: {{ana: {secret}}}}}\n")
    error = raised.value
    assert "this is a secret key" in f"{error.message} {error.wanted}"
    assert secret not in " ".join(str(part) for part in error.as_dict().values())
