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
FACTS: dict[str, Any] = {
    "interfaces": [CARD],
    "export_line": None,
    "bpf": True,
    "python": [3, 13, 5],
    "packages": {},
}


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


@pytest.mark.parametrize(
    ("audit", "installed", "brought", "found"),
    [
        (False, {}, "", None),
        (True, {}, "", "neither in the bundle nor on the node: auditd"),
        (True, {"ufw": "1"}, "audit", "neither in the bundle nor on the node: auditd"),
        (True, {"auditd": "1:4.0.2-2"}, "", "auditd 1:4.0.2-2 on the node"),
        (True, {}, "auditd", "auditd in the bundle"),
    ],
)
def test_an_audit_log_that_nobody_writes_stops_before_anything_is_changed(
    manifest: Manifest, audit: bool, installed: dict[str, str], brought: str, found: str | None
) -> None:
    asked = f"port: 5514}}\n      sources: {{audit: {str(audit).lower()}}}\n  gpu-02"
    inventory, _ = parse_inventory(VALID.replace("port: 5514}\n  gpu-02", asked), PATH)
    part = manifest.components["toolkit"]
    system = replace(part, kind="debian", files=(replace(part.files[0], name=brought),))
    bundle = replace(manifest, components={**manifest.components, "system": system})
    facts = {**FACTS, "packages": installed}
    checks = export_checks(inventory.node("gpu-01"), facts, bundle, inventory)
    looked = [each for each in checks if each.name == "export-auditd"]
    assert [each.found for each in looked] == ([] if found is None else [found])
    for each in looked:
        assert each.passed is not found.startswith("neither")  # type: ignore[union-attr] # it is one here
        assert each.where == f"{PATH}:24:24"
        assert "take sources.audit out" in each.hint
