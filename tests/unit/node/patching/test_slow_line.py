"""Bytes of the base that are read from a node over a slow line, to unpack a frame against them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.patch.recipe import Part, Range
from appliance.node import transfer as transfer_module
from appliance.node.patching import transfer as patch_transfer
from appliance.node.patching.parts import FileParts
from appliance.node.patching.reader import CopyReader
from appliance.node.patching.transfer import PatchTransfer
from appliance.progress import Silent
from tests.unit.node.patching.conftest import LONG, LONG_BYTES, NodeHere, make_bundles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Holders


@pytest.fixture
def scattered(tmp_path: Path, holders: Holders) -> NodeHere:
    """With an old bundle, and a patch by which every thousandth byte of a long file becomes another."""
    changed = bytearray(LONG_BYTES)
    changed[::1000] = bytes(len(changed[::1000]))
    (tmp_path / "station").mkdir()
    bundles = make_bundles(tmp_path / "station", holders, (LONG_BYTES, bytes(changed)), parity=0)
    node = NodeHere(tmp_path, bundles)
    node.install(bundles.old)
    return node


def test_the_receiver_hears_something_for_each_mebibyte(
    scattered: NodeHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives a silent station up after 30 s; a frame looks back to 16 MiB, at 70 kB/s four minutes."""
    node = scattered
    target = node.target()
    log: list[int | str] = []
    read, frame = CopyReader.read, PatchTransfer._frame

    def noted_read(self: CopyReader, path: str, at: int, length: int) -> bytes:
        log.append(length)
        return read(self, path, at, length)

    def noted_frame(self: PatchTransfer, message: dict[str, Any]) -> None:
        log.append("frame")
        frame(self, message)

    monkeypatch.setattr(CopyReader, "read", noted_read)
    monkeypatch.setattr(PatchTransfer, "_frame", noted_frame)
    node.begin(target).send(Silent())
    lengths = [each for each in log if isinstance(each, int)]
    assert sum(lengths) > len(LONG_BYTES), f"{LONG} is a frame against all of what it was"
    assert max(lengths) <= patch_transfer.CHUNK == transfer_module.CHUNK == 1 << 20
    assert all("frame" in pair for pair in pairwise(log)), "no two without a word between"
    assert node.held(node.bundles.new).whole


@pytest.mark.parametrize("looks_back", [True, False])
def test_the_node_is_asked_to_begin_reading_before_the_first_frame_needs_it(
    looks_back: bool, node: NodeHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting a program there takes as long as hashing 64 MiB; none is started for nothing."""
    target = node.target()
    log: list[str] = []
    start, send = CopyReader.start, PatchTransfer._send_parts

    def noted_start(self: CopyReader) -> None:
        log.append("start")
        start(self)

    def noted_send(self: PatchTransfer, *what: Any) -> None:
        log.append("send")
        send(self, *what)

    monkeypatch.setattr(CopyReader, "start", noted_start)
    monkeypatch.setattr(PatchTransfer, "_send_parts", noted_send)
    if not looks_back:
        monkeypatch.setattr(FileParts, "reads_prefixes", False)
    node.begin(target).send(Silent())
    assert log[0] == ("start" if looks_back else "send")
    assert node.held(node.bundles.new).whole


def test_only_frames_with_a_prefix_look_back() -> None:
    parts = FileParts(0)
    for part in (Part(9, 9), Part(9, 5, compressed=True), Part(9, source=Range(0, 0, 9))):
        parts.add(part)
    assert not parts.reads_prefixes
    parts.add(Part(9, 5, Range(0, 0, 9), compressed=True))
    assert parts.reads_prefixes
