"""Who exports: the secret half, and the one that is carried to a receiver."""

from __future__ import annotations

import pytest

from appliance.errors import ExportIdentityInvalid
from appliance.export.identity import new_identity, parse_identity, parse_sender
from tests.unit.export.nodes import identity


def test_both_halves_are_read_as_they_were_written() -> None:
    made = identity()
    again = parse_identity(made.data)
    assert again.data == made.data
    sender = parse_sender(made.sender.data)
    sender.key.verify(again.key.sign(b"x"), b"x")
    assert (sender.name, sender.node, sender.tag_key) == ("gpu-01", made.node, made.tag_key)


def test_the_carried_half_holds_nothing_of_the_secret_key() -> None:
    made = identity()
    assert made.key.private_bytes_raw().hex() in made.data.decode()
    assert made.key.private_bytes_raw().hex() not in made.sender.data.decode()


@pytest.mark.parametrize("name", ["", "GPU", "a b", "-a", "a-", "a" * 64, "../a"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ExportIdentityInvalid):
        new_identity(name, bytes(72))


def test_too_little_chance_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="72"):
        new_identity("gpu-01", bytes(71))
