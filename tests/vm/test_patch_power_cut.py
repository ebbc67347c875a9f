"""Power goes while a patch is staged and at each state of a switch, on a kernel and a disk of its own.

The plug is pulled (QEMU is killed), or the machine resets itself without a sync: either way what the
guest's kernel still held is lost, and what it had given to the disk stays (docs/lab.md, The plug).
A cut before every single step, in memory: tests/unit/node/patching/test_switch.py.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.patching.base import read_base
from appliance.node.patching.reader import CopyReader
from appliance.node.patching.switch import _PROGRAM
from appliance.node.patching.target import make_target
from appliance.node.patching.transfer import begin_transfer
from appliance.node.script import load_script
from appliance.node.sent import files_to_send
from appliance.node.transfer import STAGED, Transfer
from appliance.progress import Silent
from appliance.trust.node_inventory import HeldCopy
from tests.unit.node.patching.conftest import LONG_BYTES, NODE, Bundles, make_bundles
from tests.vm.guest import power_cuts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Machines, NewMachines

    from appliance.node.patching.transfer import PatchTransfer
    from tests.conftest import Holders

pytestmark = pytest.mark.vm

PATIENCE = 1500


@dataclass(frozen=True)
class Wire:
    """The way to the machine, as stations go it, from the desk's network namespace."""

    machines: Machines
    node = NODE

    def argv(self, command: str) -> list[str]:
        shell = ["appliance", "lab", "shell", self.machines.node.name, "--", "sh", "-c", command]
        return self.machines.operator.command(shell)


class Pulled(BaseException):
    """Power went."""


class PullsThePlug(Silent):
    """Cuts power in the middle of the long file: its end was not sent yet."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines

    def advance(self, count: int) -> None:
        if count > len(LONG_BYTES) // 2:
            self.machines.power("cut")
            raise Pulled


@pytest.fixture(scope="module")
def machines(new_machines: NewMachines) -> Iterator[Machines]:
    with new_machines() as made:
        run, home = made.node.run, power_cuts.HOME
        run(f"mkdir -p {home} && cat > {home}/power_cuts.py", input=Path(power_cuts.__file__).read_text())
        run(f"cat > {home}/program", input=load_script(*_PROGRAM).decode())
        run(f"python3 -I {home}/power_cuts.py prepare")
        yield made


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, holders: Holders) -> Bundles:
    return make_bundles(tmp_path_factory.mktemp("patching"), holders)


def begin(machines: Machines, bundles: Bundles, folder: Path) -> PatchTransfer:
    """Begin to make the new copy of the old one, as ``patch apply`` does."""
    wire: Any = Wire(machines)
    old = bundles.old
    for name in ("base", "target"):
        (folder / name).mkdir(parents=True)
    with CopyReader(wire, old.digest) as reader:
        base = read_base(reader, old.digest, folder / "base")
        held = HeldCopy(old.digest, complete=True, files=len(old.files), hashed=0, wrong=0)
        target = make_target(bundles.patch, base, held, folder / "target", progress=Silent())
    return begin_transfer(wire, target, bundles.patch.folders, home=STAGED, progress=Silent())


def whole(digest: str) -> str:
    """A command that compares a copy with its list, but for recovery data, which copies may lack."""
    listed = "grep -v ' parity/' trust/SHA256SUMS | sha256sum --check --strict --quiet"
    return f"cd {STAGED}/{digest} && {listed} && sha256sum trust/SHA256SUMS | grep -q ^{digest}"


def test_power_goes_while_a_patch_is_staged(machines: Machines, bundles: Bundles, tmp_path: Path) -> None:
    wire: Any = Wire(machines)
    old, new = bundles.old, bundles.new
    sent = files_to_send(old)
    Transfer.begin(wire, old.folders, old.digest, sent, progress=Silent()).send(Silent())
    with pytest.raises(Pulled):
        begin(machines, bundles, tmp_path / "cut").send(PullsThePlug(machines))
    machines.power("on")
    machines.node.run(f"{whole(old.digest)} && test -e {STAGED}/{old.digest}.complete")
    machines.node.run(f"test -d {STAGED}/{new.digest} && test ! -e {STAGED}/{new.digest}.complete")
    assert machines.node.run("systemctl is-active appliance-inference").stdout == "active\n"
    begin(machines, bundles, tmp_path / "again").send(Silent())
    machines.node.run(f"{whole(new.digest)} && test -e {STAGED}/{new.digest}.complete")
    machines.node.run(whole(old.digest))


OLD, BACK = {"serves": "old", "environments": ["old"]}, "went back"
NEW = {"serves": "new", "environments": ["new", "old"]}
RESTARTED = "the node restarted before the new version was proven"
#: What runs after each cut; what the history says is new since the cut before, and why.
EXPECTED: list[tuple[str, dict[str, Any], list[str], str | None]] = [
    ("", OLD, [], None),
    ("applied, and again while the start goes back", OLD, [BACK], RESTARTED),
    ("back, before it is written down", OLD, [BACK], "it failed"),
    ("proven, before it is called so", OLD, [BACK], RESTARTED),
    ("proven, before it is written down", NEW, ["done"], None),
]


def test_power_goes_at_each_state_of_a_switch(machines: Machines) -> None:
    """Each start finds one version, whole, which serves; the node says which, and nothing is left over."""
    before = machines.node_status()["boots"]
    machines.node.run("systemctl enable power-cuts && sync && systemctl start --no-block power-cuts")
    told, results = said(machines), []
    for found, (after, runs, more, why) in zip(told, EXPECTED, strict=True):
        results += more
        assert found == {
            **runs,
            "after": after,
            "whole": True,
            "pending": None,
            "results": results,
            "reason": why if more else found["reason"],
            "left": [],
            "lost": True,
        }, told
    again = 1  # one case is cut twice
    assert machines.node_status()["boots"] == before + len(power_cuts.CASES) + again
    history = ["appliance", "history", "-i", str(machines.lab.inventory), "--json"]
    node = json.loads(machines.operator.run(history).stdout)["nodes"][machines.node.name]
    assert [line["result"] for line in node["history"]] == results
    assert node["pending"] is None


def said(machines: Machines) -> list[dict[str, Any]]:
    """What the machine told its console at each start, once it told the last."""
    console_log = machines.lab.inventory.parent / "nodes" / machines.node.name / "console.log"
    until = time.monotonic() + PATIENCE
    while True:
        console = console_log.read_text(errors="replace")
        lines = [line.strip() for line in console.splitlines() if line.startswith("CUT ")]
        found = [json.loads(line.removeprefix("CUT ")) for line in lines]
        if len(found) == len(EXPECTED):
            return found
        assert time.monotonic() < until, console[-3000:]
        time.sleep(1)
