"""Nodes that a patch cannot start from: each is named, and why, before anything is made."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from appliance.cli.app import app
from appliance.errors import InProgress, PatchUnfit
from appliance.node.patching import rollback, switch
from appliance.node.patching.apply import startable
from appliance.node.patching.rollback import copy_to_go_to, require_older
from appliance.node.request import Request
from appliance.progress import Silent
from appliance.trust.node_inventory import HeldCopy, NodeInventory, Running
from tests.unit.node.patching.conftest import NODE, Bundles
from tests.unit.node.patching.test_going_back import Says

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
    assert startable({"here": says(has)}, [NODE], bundles.patch.manifest) == ([], ("here",))
    both = {"here": says(has), "other": says(has)}
    assert startable(both, [NODE, OTHER], bundles.patch.manifest) == ([], ("here", "other"))
    said = {"here": says(has), "other": says(old)}
    assert startable(said, [NODE, OTHER], bundles.patch.manifest) == (["other"], ("here",))


#: What was installed before on every node of these tests.
FORMER = "b" * 64


def formers(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, FORMER)


def test_the_way_back_leads_to_what_was_installed_before(old: Running) -> None:
    """Of three copies one is the present, one was staged since, or failed, and is newer."""
    here = says(old, held("c" * 64), held(old.bundle), held(FORMER))
    assert copy_to_go_to({"here": here}, formers("here"), None) == FORMER
    assert copy_to_go_to({"here": here}, {"here": ""}, "ccc") == "c" * 64


@pytest.mark.parametrize(
    ("copies", "to"),
    [
        ([], None),
        ([held("c" * 64)], None),
        ([held(FORMER, complete=False)], None),
        ([held(FORMER)], "c"),
        ([held("cc" + "0" * 62), held("cc" + "1" * 62)], "cc"),
    ],
    ids=["none", "another alone", "not all of it", "none so called", "two so called"],
)
def test_without_one_there_is_no_way_back(copies: list[HeldCopy], to: str | None, old: Running) -> None:
    with pytest.raises(PatchUnfit, match="there is not one version"):
        copy_to_go_to({"here": says(old, held(old.bundle), *copies)}, formers("here"), to)


def test_nodes_that_could_go_back_to_different_versions_are_not_taken_together(old: Running) -> None:
    said = {"here": says(old, held(FORMER)), "other": says(old, held("c" * 64))}
    with pytest.raises(PatchUnfit, match="there is not one version") as raised:
        copy_to_go_to(said, {"here": FORMER, "other": "c" * 64}, None)
    assert "other: " + "c" * 64 in str(raised.value.found)


def test_the_way_back_does_not_lead_forward(old: Running, bundles: Bundles) -> None:
    """After going back, what was installed before is the newer version."""
    require_older(bundles.old.manifest, {"here": says(replace(old, sequence=2))})
    for manifest in (bundles.old.manifest, bundles.new.manifest):
        with pytest.raises(PatchUnfit, match="here: the way back does not lead to a newer version"):
            require_older(manifest, {"here": says(old)})


def undo(waits: bool, restored: bool, *, check: bool = False) -> tuple[Says, dict[str, switch.WentBack]]:
    pending = {"to": {"version": "2"}} if waits else None
    node = Says(lambda _: {"pending": pending, "restored": restored})
    return node, rollback._undo({"here": node}, Silent(), check=check)  # type: ignore[dict-item]


def test_what_waits_for_its_proof_is_left_at_once() -> None:
    node, done = undo(waits=True, restored=True)
    assert list(done) == ["here"]
    assert [asked["do"] for asked in node.asked] == ["status", "back"]
    assert undo(waits=False, restored=False)[1] == {}


def test_a_check_says_what_would_be_left_and_leaves_nothing() -> None:
    node, done = undo(waits=True, restored=True, check=True)
    assert list(done) == ["here"]
    assert [asked["do"] for asked in node.asked] == ["status"]


def test_a_version_that_was_proven_in_between_is_not_said_to_be_left() -> None:
    with pytest.raises(InProgress, match="was proven"):
        undo(waits=True, restored=False)


@pytest.mark.parametrize("check", [False, True])
def test_nobody_goes_on_from_what_was_undone(
    check: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is newest on the node then is what just failed."""
    (undone, _), fine = undo(waits=True, restored=True), Says(lambda _: {"pending": None}, "other")
    connections = {"here": undone, "other": fine}
    monkeypatch.setattr("appliance.node.site.load_inventory", lambda _: None)
    monkeypatch.setattr("appliance.node.site.select_nodes", lambda *_: [NODE, OTHER])
    monkeypatch.setattr("appliance.node.connection.open_connections", lambda *_: connections)
    request = Request((), b"", tmp_path, tmp_path / "state", check=check)
    done = rollback.roll_back(request, progress=Silent())
    assert (list(done.undone), done.left, done.applied) == (["here"], ("other",), None)
    monkeypatch.setattr("appliance.node.patching.rollback.roll_back", lambda *_, **__: done)
    monkeypatch.setattr("appliance.bundle.roots.load_root", lambda *_: b"")
    flags = ["--check"] if check else []
    said = json.loads(CliRunner().invoke(app, ["rollback", "-i", str(tmp_path), "--json", *flags]).stdout)
    assert (said["undone"], said["would_be_undone"]) == (([], ["here"]) if check else (["here"], []))
    assert said["left"] == ["other"]
