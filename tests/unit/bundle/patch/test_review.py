"""A patch is verified by the page that every bundle has; a role brings bundles of its own kind only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.trust.allowed_signers import allowed_signers
from tests.unit.bundle.test_review_page import PASSED, Reviewer, failed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.bundle.patch.conftest import Pair


def desk(pair: Pair, folder: Path, role: str) -> Reviewer:
    return Reviewer(folder, allowed_signers(pair.station.root), role=role)


def test_a_patch_passes_as_one(pair: Pair, tmp_path: Path) -> None:
    assert desk(pair, tmp_path, "patch").review(pair.patch)[:6] == PASSED


def test_a_patch_does_not_pass_as_a_bundle(pair: Pair, tmp_path: Path) -> None:
    assert failed(desk(pair, tmp_path, "release"), pair.patch) == [3, 5]


def test_a_bundle_does_not_pass_as_a_patch(pair: Pair, tmp_path: Path) -> None:
    reviewer = desk(pair, tmp_path, "patch")
    assert failed(reviewer, pair.new) == [3, 5]
    bundle = pair.station.bundle("whole", {**_contents()}, sequence=9, signed=False)
    pair.station.maker.sign_regardless(bundle, "carol", "mallory", role="patch")
    assert failed(reviewer, bundle) == [5]


def _contents() -> dict[str, tuple[str, dict[str, bytes]]]:
    return {"engine": ("python", {"e.whl": b"wheel"}), "model": ("tiny-gguf", {"tiny.gguf": b"GGUF"})}
