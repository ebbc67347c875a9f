"""The small files of a bundle, as they are read before anything is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.bundle.reader import MAX_PROVENANCE_BYTES, read_contents, read_signed
from appliance.bundle.tree import Tree
from appliance.errors import BundleMalformed, FileUnexpected

if TYPE_CHECKING:
    from pathlib import Path


def test_provenance_is_collected_by_holder_and_belongs_to_the_set(bundle: Path) -> None:
    (bundle / "trust/provenance.alice.dsse.json").write_bytes(b"{}")
    with Tree(bundle) as tree:
        signed = read_signed(tree)
        read_contents(tree, signed)
    stated = (bundle / "trust/provenance.bob.dsse.json").read_bytes()
    assert signed.provenance == {"alice": b"{}", "bob": stated}
    assert set(signed.signatures) == {"alice", "bob"}


def test_provenance_of_endless_length_is_refused(bundle: Path) -> None:
    path = bundle / "trust/provenance.alice.dsse.json"
    path.write_bytes(b" " * (MAX_PROVENANCE_BYTES + 1))
    with Tree(bundle) as tree, pytest.raises(BundleMalformed, match="too large"):
        read_signed(tree)


def test_provenance_that_is_a_link_is_refused(bundle: Path) -> None:
    path = bundle / "trust/provenance.alice.dsse.json"
    path.unlink()
    path.symlink_to(bundle / "manifest.json")
    with Tree(bundle) as tree, pytest.raises(FileUnexpected):
        read_signed(tree)
