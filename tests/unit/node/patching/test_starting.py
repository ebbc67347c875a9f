"""Nodes that a patch cannot start from: each is named, and why, before anything is made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import PatchUnfit
from appliance.node.patching.apply import startable
from appliance.node.patching.rollback import copy_to_go_to
from appliance.trust.node_inventory import HeldCopy, NodeInventory, Running
from tests.unit.node.patching.conftest import NODE, Bundles

if TYPE_CHECKING:
    from collections.abc import Mapping

OTHER = replace(NODE, name="other")


def says(running: Running | None, *copies: HeldCopy) -> NodeInventory:
    return NodeInventory("site", "here", "", "active", copies, running, None, b"", b"")


def held(bundle: str, *, complete: bool = True) -> HeldCopy:
    return HeldCopy(bundle, complete, 3, 0, 0)


@pytest.fixture
def old(bundles: Bundles) -> Running:
    manifest = bundles.old.manifest
    return Running(bundles.old.digest, manifest.product, manifest.version, manifest.sequence)


def test_a_node_with_the_base_can_start(old: Running, bundles: Bundles) -> None:
    assert startable({"here": says(old)}, [NODE], bundles.patch.manifest) == (["here"], ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bundle": "f" * 64}, "the patch is for another base"),
        ({"bundle": "f" * 64, "sequence": 0}, "a patch before this one is missing"),
        ({"bundle": "f" * 64, "sequence": 2}, "the patch is older than the base"),
        ({"bundle": "f" * 64, "product": "another"}, "the patch is for another product"),
    ],
)
def test_another_base_is_refused(
    change: Mapping[str, object], said: str, old: Running, bundles: Bundles
) -> None:
    running = replace(old, **change)  # type: ignore[arg-type]
    with pytest.raises(PatchUnfit, match=f"other: {said}") as raised:
        startable({"here": says(old), "other": says(running)}, [NODE, OTHER], bundles.patch.manifest)
    assert running.bundle in str(raised.value.found)
    assert bundles.old.digest in str(raised.value.wanted)


def test_a_node_with_nothing_installed_is_refused(bundles: Bundles) -> None:
    with pytest.raises(PatchUnfit, match="here has no bundle that a patch could start from"):
        startable({"here": says(None)}, [NODE], bundles.patch.manifest)


def test_a_patch_is_applied_once_and_nodes_that_have_it_are_passed_over(
    old: Running, bundles: Bundles
) -> None:
    has = replace(old, bundle=bundles.new.digest, sequence=2)
    with pytest.raises(PatchUnfit, match="applied already"):
        startable({"here": says(has)}, [NODE], bundles.patch.manifest)
    with pytest.raises(PatchUnfit, match="applied already, on every node"):
        startable({"here": says(has), "other": says(has)}, [NODE, OTHER], bundles.patch.manifest)
    said = {"here": says(has), "other": says(old)}
    assert startable(said, [NODE, OTHER], bundles.patch.manifest) == (["other"], ("here",))


def test_the_way_back_leads_to_the_one_other_copy(old: Running) -> None:
    here = says(old, held(old.bundle), held("b" * 64), held("c" * 64, complete=False))
    assert copy_to_go_to({"here": here}, None) == "b" * 64
    assert copy_to_go_to({"here": here}, "bbb") == "b" * 64


@pytest.mark.parametrize(
    ("copies", "to"),
    [([], None), ([held("b" * 64), held("c" * 64)], None), ([held("b" * 64)], "c")],
    ids=["none", "two", "another"],
)
def test_without_one_there_is_no_way_back(copies: list[HeldCopy], to: str | None, old: Running) -> None:
    with pytest.raises(PatchUnfit, match="there is not one version"):
        copy_to_go_to({"here": says(old, held(old.bundle), *copies)}, to)


def test_nodes_that_could_go_back_to_different_versions_are_not_taken_together(old: Running) -> None:
    said = {"here": says(old, held("b" * 64)), "other": says(old, held("c" * 64))}
    with pytest.raises(PatchUnfit, match="there is not one version") as raised:
        copy_to_go_to(said, None)
    assert "other: " + "c" * 64 in str(raised.value.found)
