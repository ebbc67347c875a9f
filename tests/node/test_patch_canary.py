"""A patch on two booted nodes: the first goes alone, and the first failure stops it.

Tests of this module build on each other: both nodes are installed once, and patched one after the other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.node.patches import ASK, SABOTAGE, build_patch, leads_to
from tests.node.test_journal import DEMO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Installer, NewBundle, NewInstaller, NewLab, PracticeNode

    from tests.conftest import Holders

pytestmark = [pytest.mark.node, pytest.mark.archive]

FIRST = "This answer was computed on this node, with no way out."
SECOND = "The second version answers otherwise, on both nodes."
UNIT = "/etc/systemd/system/appliance-inference.service"


@dataclass
class Pair:
    """Two nodes with the demonstration, and the patch that leads from it to the next version."""

    installer: Installer
    patch: Path
    root: Path

    @property
    def nodes(self) -> tuple[PracticeNode, ...]:
        return self.installer.lab.nodes

    def run(self, *words: str, state: bool = True) -> tuple[int, Any]:
        known = ["--trust", str(self.root), "--state", str(self.installer.state)] if state else []
        command = ["appliance", *words, "-i", str(self.installer.lab.inventory), "--json", *known]
        done = self.nodes[0].operator_side.run(command, check=False, timeout=900)
        return done.returncode, json.loads(done.stdout)

    def apply(self) -> tuple[int, Any]:
        return self.run("patch", "apply", str(self.patch))

    def results(self) -> list[list[str]]:
        """What each node's history says of patches, the oldest first."""
        said = self.run("history", state=False)[1]["nodes"]
        return [
            [line["result"] for line in said[node.name]["history"] if line["action"] == "patch"]
            for node in self.nodes
        ]

    def answers(self) -> list[str]:
        return [node.inside(f"python3 - <<'E'\n{ASK}\nE").stdout.strip() for node in self.nodes]

    def copies(self) -> list[int]:
        look = "ls -d /var/lib/appliance/staged/*.complete | wc -l"
        return [int(node.inside(look).stdout) for node in self.nodes]

    def sabotage(self, node: PracticeNode) -> None:
        node.inside(SABOTAGE.format(unit=UNIT, digest=leads_to(self.patch), deed="exit 7"))


@pytest.fixture(scope="module")
def pair(  # noqa: PLR0917 - what it is made of
    new_lab: NewLab,
    new_installer: NewInstaller,
    new_bundle: NewBundle,
    demo: Path,
    trusted: Path,
    holders: Holders,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    definition = folder / "demo.yaml"
    text = DEMO.read_text().replace(FIRST, SECOND).replace('"1.0.0"', '"2.0.0"')
    definition.write_text(text.replace("sequence: 1", "sequence: 2"))
    patch = build_patch(demo, new_bundle(definition, folder), folder / "patch", holders.key("alice"))
    with new_lab(nodes=2) as lab:
        made = Pair(new_installer(lab), patch, trusted)
        code, result, _ = made.installer()
        assert code == 0, result
        yield made


def test_where_the_first_node_fails_the_second_one_is_not_touched(pair: Pair) -> None:
    first, second = pair.nodes
    pair.sabotage(first)
    code, result = pair.apply()
    assert (code, result["error"]) == (7, "ApplyFailed")
    assert f"{first.name} went back to 1.0.0, which ran before" in result["hint"]
    assert f"{second.name}: as before" in result["hint"]
    assert pair.results() == [["went back"], []]
    assert pair.copies()[1] == 1, "no copy was made on it"
    assert pair.answers() == [FIRST, FIRST]
    first.inside(f"rm -r {UNIT}.d && systemctl daemon-reload")


def test_where_the_second_one_fails_the_first_stays_proven(pair: Pair) -> None:
    first, second = pair.nodes
    pair.sabotage(second)
    code, result = pair.apply()
    assert (code, result["error"]) == (7, "ApplyFailed")
    assert f"{second.name} went back to 1.0.0, which ran before" in result["hint"]
    assert f"{first.name}: on 2.0.0, proven" in result["hint"]
    assert pair.results() == [["went back", "done"], ["went back"]]
    assert pair.answers() == [SECOND, FIRST]
    second.inside(f"rm -r {UNIT}.d && systemctl daemon-reload")


def test_the_same_command_again_brings_the_second_one_too(pair: Pair) -> None:
    code, result = pair.apply()
    assert code == 0, result
    assert result["already"] == [pair.nodes[0].name]
    assert pair.results() == [["went back", "done"], ["went back", "done"]]
    assert pair.answers() == [SECOND, SECOND]
