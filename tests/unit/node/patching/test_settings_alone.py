"""Two bundles of the same components that are served otherwise: a patch of some kilobytes, and a switch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.parity.creating import parity_companion
from appliance.bundle.verify import verify_bundle
from appliance.definition.names import Inference
from appliance.node.patching.target import is_keys_alone
from appliance.progress import Silent
from tests.conftest import BundleMaker
from tests.unit.bundle.patch.conftest import Station, old_contents, root_with_patches
from tests.unit.node.patching.conftest import Bundles, NodeHere

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Holders


def test_a_bundle_that_is_served_otherwise_and_else_the_same_is_patched(
    tmp_path: Path, holders: Holders
) -> None:
    """No byte of the payload travels or is written; the node is switched, as for any other version."""
    station = Station(BundleMaker(tmp_path, holders), root_with_patches(holders))
    parity = [parity_companion(5)]
    old = station.bundle("old", old_contents(), sequence=1, companions=parity)
    served = Inference(engine="engine", model="model", file="tiny.gguf", name="demo", context=4096)
    new = station.bundle("new", old_contents(), sequence=2, locked={"inference": served}, companions=parity)
    built = station.build(old, new)
    assert built.size < 64 << 10
    patch = station.maker.sign(built.folder, "carol", "mallory", role="patch")
    bundles = Bundles(
        verify_bundle(old, station.root_data, progress=Silent()),
        verify_bundle(new, station.root_data, progress=Silent()),
        verify_bundle(patch, station.root_data, progress=Silent(), role="patch"),
    )
    node = NodeHere(tmp_path, bundles)
    node.install(bundles.old)
    target = node.target()
    assert not target.keys_alone
    assert target.bundle.manifest.inference.context == 4096
    payload = [file for file in target.files if file.path.startswith("payload/")]
    assert payload
    assert all(file.same == file.path for file in payload)
    assert dict(target.parts) == {}
    transfer = node.begin(target)
    assert {target.files[index].path.partition("/")[0] for index, _ in transfer.want} <= {
        *("VERIFY.txt", "blocks.bin", "manifest.json", "trust", "sbom", "provenance")
    }
    transfer.send(Silent())
    assert node.held(bundles.new).whole
    made = (node.copy(bundles.new) / "manifest.json").read_bytes()
    assert made == (bundles.new.folders[0] / "manifest.json").read_bytes()


@pytest.mark.parametrize("what", ["product", "components", "inference", "target", "hardware", "expires"])
def test_other_keys_with_anything_else_are_no_patch_of_keys_alone(what: str, bundles: Bundles) -> None:
    """It would be learnt, and not applied."""
    old = bundles.old.manifest
    rotated = replace(old, files={**old.files, "trust/root.2.json": old.files["trust/root.1.json"]})
    another: dict[str, Any] = {what: "another"}
    assert is_keys_alone(rotated, old)
    assert not is_keys_alone(replace(rotated, **another), old)
