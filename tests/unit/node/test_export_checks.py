"""Preflight of a node that exports: the card, the program in the bundle, the kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.manifest import Manifest, parse_manifest
from appliance.definition.inventory_schema import parse_inventory
from appliance.node.export_checks import export_checks
from tests.unit.definition.test_inventory_export import PATH, VALID

if TYPE_CHECKING:
    from pathlib import Path

INVENTORY, _ = parse_inventory(VALID, PATH)
NODE = INVENTORY.node("gpu-01")
CARD = {"name": "eno2", "mac": "02:00:00:00:00:0e", "pci": "", "made": ""}
FACTS: dict[str, Any] = {"interfaces": [CARD], "export_line": None, "bpf": True, "python": [3, 13, 5]}


@pytest.fixture(scope="module")
def manifest(pristine_bundle: Path) -> Manifest:
    """A small bundle's, with a toolkit."""
    found = parse_manifest((pristine_bundle / "manifest.json").read_bytes())
    (name,) = (name for name, each in found.components.items() if each.kind == "files")
    part = found.components[name]
    file = replace(part.files[0], path="payload/toolkit/requirements-3.13.txt")
    return replace(
        found, components={**found.components, "toolkit": replace(part, kind="toolkit", files=(file,))}
    )


def stopping(manifest: Manifest, **changed: Any) -> dict[str, str]:
    """What stops, and where in the inventory it points."""
    found = export_checks(NODE, {**FACTS, **changed}, manifest, INVENTORY)
    return {each.name: each.where for each in found if each.stops}


def test_a_fit_node_passes(manifest: Manifest) -> None:
    assert stopping(manifest) == {}


def test_a_node_that_exports_nothing_is_asked_nothing(manifest: Manifest) -> None:
    assert list(export_checks(replace(NODE, export=None), {}, manifest, INVENTORY)) == []


def test_a_card_that_is_up_already_is_in_its_namespace_and_not_missing(manifest: Manifest) -> None:
    up = {"mac": CARD["mac"], "pci": ""}
    assert stopping(manifest, interfaces=[], export_line=up) == {}
    assert "export-card" in stopping(
        manifest, interfaces=[], export_line={**up, "mac": "02:00:00:00:00:99"}
    )


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"interfaces": []}, "export-card"),
        ({"interfaces": [CARD, {**CARD, "name": "eno3"}]}, "export-card"),
        ({"interfaces": [{**CARD, "made": "bond"}]}, "export-card"),
        ({"interfaces": [{**CARD, "pci": "0000:5e:00.0"}]}, "export-card-free"),
        ({"python": [3, 12, 1]}, "export-toolkit"),
        ({"bpf": False}, "export-bpf"),
    ],
)
def test_what_would_fail_later_stops_now(manifest: Manifest, changed: dict[str, Any], name: str) -> None:
    found = stopping(manifest, **changed)
    assert found.keys() == {name}
    assert found[name].startswith(f"{PATH}:21:")


def test_a_bundle_without_a_toolkit_is_told_what_to_do(manifest: Manifest) -> None:
    without = replace(
        manifest,
        components={name: each for name, each in manifest.components.items() if each.kind != "toolkit"},
    )
    (check,) = (each for each in export_checks(NODE, FACTS, without, INVENTORY) if each.stops)
    assert check.found == "the bundle has no toolkit component"
    assert "kind: toolkit whose pythons have 3.13" in check.hint
