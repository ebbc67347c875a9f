"""A file that is cut into slices in both bundles: on a node it is one, and what is said of it names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import DigestMismatch
from appliance.node.remote.staged_copy import BLOCK
from appliance.progress import Silent
from tests.unit.node.patching.conftest import LONG, LONGER_BYTES, NodeHere, make_bundles
from tests.unit.node.patching.test_copies import change_in_place

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Holders


@pytest.fixture
def node(tmp_path: Path, holders: Holders) -> NodeHere:
    (tmp_path / "station").mkdir()
    here = NodeHere(tmp_path, make_bundles(tmp_path / "station", holders, parity=0, slice_size=BLOCK))
    here.install(here.bundles.old)
    return here


def test_it_is_made_whole(node: NodeHere) -> None:
    assert (node.bundles.new.folder / f"{LONG}.slice-0000").exists()
    node.patch()
    assert (node.copy(node.bundles.new) / LONG).read_bytes() == LONGER_BYTES


def test_if_it_was_changed_meanwhile_it_is_the_base_that_is_suspected(node: NodeHere) -> None:
    """Not the node's memory: the digest that failed is of a slice, by whose name no part is known."""
    target = node.target()
    change_in_place(node.copy(node.bundles.old) / LONG)
    with pytest.raises(DigestMismatch, match=f"bundle, what {LONG} is made of is not what it was"):
        node.begin(target).send(Silent())
