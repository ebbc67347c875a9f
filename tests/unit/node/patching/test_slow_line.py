"""Bytes of the base that are read from a node over a slow line, to unpack a frame against them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from appliance.node import transfer as transfer_module
from appliance.node.patching import transfer as patch_transfer
from appliance.node.patching.reader import CopyReader
from appliance.node.patching.transfer import PatchTransfer
from appliance.progress import Silent
from tests.unit.node.patching.conftest import LONG, LONG_BYTES, NodeHere

if TYPE_CHECKING:
    import pytest


def test_the_receiver_hears_something_for_each_mebibyte(
    node: NodeHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives a silent station up after 30 s; a frame looks back to 16 MiB, at 70 kB/s four minutes."""
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
