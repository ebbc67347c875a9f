"""The stick with the patch is pulled: it is named, the node is as before, and the same command goes on."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import DigestMismatch, MediumFailed
from appliance.node.connection import LocalConnection
from appliance.node.patching import target as target_module
from appliance.node.sent import files_to_send
from appliance.node.transfer import Transfer
from appliance.progress import Silent
from tests.unit.bundle.parity.test_mounted_repair import BAD_SECTOR
from tests.unit.node.patching.conftest import LONG, NODE, Bundles, NodeHere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Stick:
    """The patch on a medium of its own, whose driver can end."""

    def __init__(self, patch: Path, place: Path) -> None:
        place.mkdir()
        self.patch, self.place = patch, place
        self.put_in()

    def put_in(self) -> None:
        command = [sys.executable, str(BAD_SECTOR), str(self.patch), str(self.place), "no such file"]
        self.driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not self.place.is_mount():
            assert self.driver.poll() is None
            time.sleep(0.02)
        self.mounted = True

    def pull(self) -> None:
        self.driver.kill()
        self.driver.wait()

    def unmount(self) -> None:
        """As a person or udev does once it was pulled."""
        self.pull()
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.place)], check=True)
        self.mounted = False


@pytest.fixture
def stick(bundles: Bundles, tmp_path: Path) -> Iterator[Stick]:
    made = Stick(bundles.patch.folder, tmp_path / "stick")
    yield made
    made.unmount()


@pytest.fixture
def node(tmp_path: Path, bundles: Bundles, stick: Stick) -> NodeHere:
    """With the old bundle staged, and the patch on the stick."""
    patch = replace(bundles.patch, folders=(stick.place,))
    here = NodeHere(tmp_path, replace(bundles, patch=patch))
    here.install(bundles.old)
    return here


class Then(Silent):
    """Does something once the first file has arrived."""

    def __init__(self, do: Callable[[], None]) -> None:
        self.do = do

    def item(self, name: str) -> None:
        self.do()


@contextmanager
def told(stick: Stick) -> Iterator[None]:
    """What it is called; it is pulled within the block."""
    with pytest.raises(MediumFailed, match=f"the medium at {stick.place} cannot be read any more") as fault:
        yield
    assert (fault.value.exit_code, "run the same command again" in str(fault.value.hint)) == (5, True)


@pytest.mark.parametrize("how", ["pull", "unmount"])
def test_while_the_station_reads_it(how: str, stick: Stick, node: NodeHere, bundles: Bundles) -> None:
    getattr(stick, how)()
    with told(stick):
        node.target()
    assert sorted(each.name for each in node.home.iterdir() if each.is_dir()) == [bundles.old.digest]


@pytest.mark.parametrize("how", ["pull", "unmount"])
@pytest.mark.parametrize("late", [False, True], ids=["before it is read", "after the first file"])
def test_while_a_copy_is_made(how: str, late: bool, stick: Stick, node: NodeHere, bundles: Bundles) -> None:
    target = node.target()
    transfer = node.begin(target)
    pull = getattr(stick, how)
    if not late:
        pull()
    with told(stick):
        transfer.send(Then(lambda: stick.mounted and pull()))
    assert transfer.process.poll() is not None, "nothing runs on"
    assert not (node.home / f"{bundles.new.digest}.complete").exists()
    assert node.held(bundles.old).whole
    stick.unmount()
    stick.put_in()
    again = node.begin(target)
    assert (len(again.want) < len(transfer.want)) == late, "it goes on"
    again.send(Silent())
    assert node.held(bundles.new).whole


@pytest.mark.parametrize("staged", [False, True], ids=["before a node is asked", "before anything is sent"])
def test_a_whole_bundle_is_told_likewise(
    staged: bool, stick: Stick, node: NodeHere, bundles: Bundles
) -> None:
    """As ``install`` sends it; what lies on the stick is of no matter here."""
    there = replace(bundles.patch, folders=(stick.place,))
    files = files_to_send(there)
    if not staged:
        stick.unmount()
        with told(stick):
            files_to_send(there)
        return
    transfer = Transfer.begin(
        LocalConnection(NODE),
        there.folders,
        there.digest,
        files,
        progress=Silent(),
        home=str(node.home),
    )
    stick.unmount()
    with told(stick):
        transfer.send(Silent())
    assert transfer.process.poll() is not None, "nothing runs on"


def test_a_recipe_that_is_exchanged_between_two_readings_is_refused(
    node: NodeHere, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps every rule, and names a file that the base never had: whoever owns the stick can do that."""
    recipe = bundles.patch.folders[0] / "payload/patch/recipe"
    signed = recipe.read_bytes()
    lines = signed.splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if line.startswith(b"base "))
    lines[last] = b"base " + b"f" * 64 + lines[last][69:]
    real = target_module.file_parts

    def exchanged(*arguments: Any) -> Any:
        recipe.write_bytes(b"".join(lines))
        return real(*arguments)

    monkeypatch.setattr(target_module, "file_parts", exchanged)
    try:
        with pytest.raises(DigestMismatch, match="the recipe was changed after the patch was verified"):
            node.target()
    finally:
        recipe.write_bytes(signed)


@pytest.mark.parametrize("told", ["by a frame", "by the node"])
def test_a_patch_whose_bytes_are_exchanged_under_way_is_named_and_not_the_base(
    told: str, node: NodeHere, bundles: Bundles
) -> None:
    """Nothing of it is believed: a frame gives nothing then, or a file comes out otherwise on the node."""
    target = node.target()
    blocks = bundles.patch.folders[0] / "payload/patch/blocks"
    signed, at = blocks.read_bytes(), target.parts[LONG].start
    transfer = node.begin(target)
    line = {"error": "altered", "path": LONG, "found": "another digest"}

    def heard() -> None:
        with transfer._reading():
            transfer._raise(line)

    try:
        with pytest.raises(DigestMismatch, match="is not what it was when the node was asked"):
            heard()
        blocks.write_bytes(signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :])
        with pytest.raises(DigestMismatch, match="the patch was changed after it was verified"):
            transfer.send(Silent()) if told == "by a frame" else heard()
    finally:
        transfer.abandon()
        blocks.write_bytes(signed)
    assert not (node.home / f"{bundles.new.digest}.complete").exists()
    assert node.held(bundles.old).whole
