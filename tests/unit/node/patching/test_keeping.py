"""What stays on a node once a new version is proven: two versions, newer ones, and marks that fit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from appliance.node.patching import switch
from appliance.node.script import load_script
from tests.unit.node.patching.conftest import Bundles, NodeHere, reflinks
from tests.unit.node.patching.test_copies import KEPT, change_in_place


def keep_two(node: NodeHere, bundle: str, *, back: bool = False) -> dict[str, Any]:
    """Run the node's program."""
    script = load_script(*switch._KEEPING).decode()
    asked = {"home": str(node.home.parent), "environments": str(node.folder / "opt"), "bundle": bundle}
    asked |= {"back": back}  # type: ignore[dict-item]
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_two_versions_are_kept_and_their_marks_fit_again(node: NodeHere, bundles: Bundles) -> None:
    node.patch()
    linked = not reflinks(node.folder)
    assert bool(node.held(bundles.old).hashed) is linked, "a hard link moves the time of change"
    installed = {"digest": bundles.old.digest, "previous": "a" * 64}
    (node.home.parent / "installed.json").write_text(json.dumps(installed))
    (node.home / ("a" * 64)).mkdir()
    (node.home / f"{'a' * 64}.complete").write_text("{}")
    for name in ("a" * 12, bundles.old.digest[:12], bundles.new.digest[:12]):
        (node.folder / "opt/inference" / name).mkdir(parents=True)
    said = keep_two(node, bundles.new.digest)
    assert said["kept"] == [bundles.new.digest, bundles.old.digest]
    assert said["removed"] == ["a" * 64, str(node.folder / "opt/inference" / ("a" * 12))]
    for bundle in (bundles.old, bundles.new):
        assert (node.held(bundle).hashed, node.held(bundle).wrong) == (0, 0)


def test_a_version_that_goes_leaves_the_marks_of_the_others_right(node: NodeHere, bundles: Bundles) -> None:
    node.patch()
    (node.home.parent / "installed.json").write_text(json.dumps({"digest": bundles.new.digest}))
    keep_two(node, bundles.new.digest)
    assert sorted(each.name for each in node.home.iterdir() if each.is_dir()) == [bundles.new.digest]
    held = node.held(bundles.new)
    assert (held.hashed, held.whole) == (0, True)


def test_a_file_that_was_changed_is_not_remembered_as_right(node: NodeHere, bundles: Bundles) -> None:
    node.patch()
    change_in_place(node.copy(bundles.new) / KEPT)
    say_installed(node, bundles.old.digest)
    keep_two(node, bundles.new.digest)
    assert KEPT in node.held(bundles.new).faults


def test_what_was_staged_for_later_or_is_being_sent_stays(node: NodeHere, bundles: Bundles) -> None:
    """Whoever staged them would have to begin anew."""
    names = {"newer": "e" * 64, "older": "d" * 64, "coming": "c" * 64}
    for name, sequence in (("newer", 3), ("older", 0)):
        (node.home / names[name]).mkdir()
        (node.home / names[name] / "manifest.json").write_text(json.dumps({"sequence": sequence}))
    (node.home / names["coming"]).mkdir()
    (node.home / f"{names['coming']}.incoming").mkdir()
    node.install(bundles.new)
    say_installed(node, bundles.old.digest)
    assert keep_two(node, bundles.new.digest)["removed"] == [names["older"]]


def test_of_versions_that_a_node_went_back_from_the_last_one_stays(
    node: NodeHere, bundles: Bundles
) -> None:
    """Three patches that fail take no more room than one; what was staged for later is none of them."""
    node.patch()
    names = {"failed": "f" * 64, "later": "e" * 64, "before": "d" * 64}
    for each in names.values():
        (node.home / each).mkdir()
        (node.home / f"{each}.complete").write_text('{"files": {}}')
    tried = [
        (names["failed"], "went back"),
        (names["before"], "done"),
        (bundles.new.digest, "went back, but …"),
    ]
    lines = [json.dumps({"to": {"digest": digest}, "result": result}) for digest, result in tried]
    (node.home.parent / "history.jsonl").write_text(
        "\n".join(["damaged", '{"to": 3, "result": "went back"}', *lines])
    )
    installed = {"digest": bundles.old.digest, "previous": names["before"]}
    (node.home.parent / "installed.json").write_text(json.dumps(installed))
    mark = node.home / f"{bundles.old.digest}.complete"
    before = mark.read_bytes()
    environment = node.folder / "opt/inference" / ("a" * 12)
    environment.mkdir(parents=True)
    assert keep_two(node, bundles.new.digest, back=True)["removed"] == [names["failed"]]
    assert environment.exists()
    assert mark.read_bytes() == before, "an audit compares it"
    assert sorted(each.name for each in node.home.iterdir() if each.is_dir()) == sorted(
        {bundles.old.digest, bundles.new.digest, names["later"], names["before"]}
    )


@pytest.mark.parametrize("said", [None, "damaged", "[]"])
def test_without_a_sound_record_nothing_is_removed(
    said: str | None, node: NodeHere, bundles: Bundles
) -> None:
    if said is not None:
        (node.home.parent / "installed.json").write_text(said)
    answer = keep_two(node, bundles.new.digest)
    assert "installed.json cannot be read" in answer["refused"]
    assert node.copy(bundles.old).exists()


def say_installed(node: NodeHere, digest: str) -> None:
    (node.home.parent / "installed.json").write_text(json.dumps({"digest": digest}))
