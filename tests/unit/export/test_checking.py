"""Checking an archive offline: whole, or exactly what is missing, altered or of another history."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import Usage
from appliance.export.checking import Proof, check_folders
from appliance.export.ledger import Gap
from appliance.export.payload import Drop
from appliance.export.ranges import parse_range, range_text
from appliance.export.segment_log import SegmentLog
from appliance.export.segments import FrameKind
from tests.unit.export.nodes import NOW, Node, chance, identity, with_payload

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def node() -> Node:
    made = Node()
    for number in range(9):
        made.block(chance(number).randbytes(900))
    return made


def archive(folder: Path, *frames: tuple[int, bytes]) -> None:
    log = SegmentLog(str(folder), segment=4000)
    for each in frames:
        log.append([each])
    log.sync()
    log.close()


def blocks(node: Node, *without: int) -> list[tuple[int, bytes]]:
    kept = [each for each in node.blocks if each.header.block not in without]
    return [(FrameKind.BLOCK, each.data) for each in kept]


def checkpoint(node: Node, **changes: object) -> tuple[int, bytes]:
    return FrameKind.CHECKPOINT, node.signed(node.checkpoint(**changes))


def checked(folder: Path, node: Node) -> Proof:
    return check_folders([folder], node.identity.sender)


def test_an_archive_with_everything_is_whole(tmp_path: Path, node: Node) -> None:
    drop = node.builder.drop(5, Drop("spool-full", 1, NOW, NOW), NOW)
    node.blocks.append(drop)
    node.head = node.builder.head
    archive(tmp_path, *blocks(node), checkpoint(node))
    proof = checked(tmp_path, node)
    assert proof.whole
    assert (proof.blocks, proof.records, proof.dropped, proof.checkpoints) == (11, 9, 5, 1)


def test_without_a_checkpoint_nobody_knows_where_the_end_was(tmp_path: Path, node: Node) -> None:
    archive(tmp_path, *blocks(node))
    assert not checked(tmp_path, node).whole


def test_the_end_cut_off_is_missing(tmp_path: Path, node: Node) -> None:
    archive(tmp_path, *blocks(node, 8, 9), checkpoint(node))
    proof = checked(tmp_path, node)
    assert proof.gaps == [Gap(8, 9, 8, 9)]
    assert not proof.whole


def test_several_folders_prove_together(tmp_path: Path, node: Node) -> None:
    """What came over the wire, and what came on a medium."""
    wire, medium = tmp_path / "wire", tmp_path / "medium"
    wire.mkdir()
    medium.mkdir()
    archive(wire, *blocks(node, 3, 4), checkpoint(node))
    archive(medium, *blocks(node, 0, 1, 2, 5, 6, 7, 8))
    assert not checked(wire, node).whole
    proof = check_folders([wire, medium], node.identity.sender)
    assert proof.whole
    assert proof.repeated == 1


def altered(node: Node, number: int, **changes: object) -> tuple[int, bytes]:
    block = node.blocks[number]
    return FrameKind.BLOCK, replace(block, header=replace(block.header, **changes)).data


def test_every_altered_block_is_named_and_missing(tmp_path: Path, node: Node) -> None:
    forged = node.blocks[5].data[:-1] + b"x"
    clone = Node(identity("gpu-02"))
    archive(
        tmp_path,
        *blocks(node, 2, 5),
        altered(node, 2, time=1),
        (FrameKind.BLOCK, forged),
        (FrameKind.BLOCK, clone.block().data),
        (FrameKind.CHECKPOINT, clone.signed(clone.checkpoint())),
        checkpoint(node),
    )
    proof = checked(tmp_path, node)
    found = " ".join(proof.altered)
    assert all(each in found for each in ("signature-forged", "payload-altered", "other-block"))
    assert len(proof.altered) == 4
    assert [(gap.first, gap.last) for gap in proof.gaps] == [(2, 2), (5, 5)]


def test_signed_nonsense_is_named_and_missing(tmp_path: Path, node: Node) -> None:
    nonsense = with_payload(node, b"no zlib")
    archive(tmp_path, *blocks(node, 10), (FrameKind.BLOCK, nonsense.data), checkpoint(node))
    proof = checked(tmp_path, node)
    assert "malformed" in proof.altered[0]
    assert [(gap.first, gap.last) for gap in proof.gaps] == [(10, 10)]


def test_damage_on_the_disk_is_named_and_the_rest_is_checked(tmp_path: Path, node: Node) -> None:
    archive(tmp_path, *blocks(node), checkpoint(node))
    path = min(tmp_path.iterdir())
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(bytes(data))
    proof = checked(tmp_path, node)
    assert len(proof.altered) == 1
    assert proof.gaps
    assert proof.checkpoints == 1


def test_two_histories_are_no_proof(tmp_path: Path, node: Node) -> None:
    other = node.forged(node.blocks[4], time=1)
    archive(tmp_path, *blocks(node), (FrameKind.FORK, other.data), checkpoint(node))
    proof = checked(tmp_path, node)
    assert (proof.forks, proof.whole) == (1, False)


def test_a_broken_chain_is_no_proof(tmp_path: Path, node: Node) -> None:
    broken = node.forged(node.blocks[9], previous=b"x" * 32)
    archive(
        tmp_path,
        *blocks(node, 9),
        (FrameKind.BLOCK, broken.data),
        checkpoint(node, hash=broken.header.hash),
    )
    proof = checked(tmp_path, node)
    assert (proof.breaks, proof.contradictions, proof.whole) == ([9], 0, False)


def test_a_checkpoint_of_another_history_is_no_proof(tmp_path: Path, node: Node) -> None:
    archive(tmp_path, *blocks(node), checkpoint(node, hash=b"x" * 32))
    proof = checked(tmp_path, node)
    assert (proof.contradictions, proof.whole) == (1, False)


# --- ranges by hand ------------------------------------------------------------------------------

NODE = identity().node


def test_a_range_is_read_as_it_was_written() -> None:
    for first, last in ((0, 0), (41, 57), (7, 7), (2**62, 2**63 - 1)):
        assert parse_range(range_text(first, last, NODE), NODE) == (first, last)
    assert range_text(7, 7, NODE).startswith("7/")
    assert parse_range(f" {range_text(41, 57, NODE)}\n", NODE) == (41, 57)


def test_every_wrong_digit_and_every_swapped_pair_is_noticed() -> None:
    text = range_text(41_325, 57_908, NODE)
    wrong = set()
    for place, letter in enumerate(text):
        if letter.isdigit():
            wrong |= {text[:place] + other + text[place + 1 :] for other in "0123456789"}
        if place + 1 < len(text) and (letter + text[place + 1]).isdigit():
            wrong.add(text[:place] + text[place + 1] + letter + text[place + 2 :])
    wrong.discard(text)
    assert len(wrong) > 100
    for each in wrong:
        with pytest.raises(Usage):
            parse_range(each, NODE)


def test_another_nodes_range_is_noticed() -> None:
    others = [identity(f"gpu-{number:02}").node for number in range(2, 40)]
    text = range_text(41, 57, NODE)
    refused = 0
    for each in others:
        try:
            parse_range(text, each)
        except Usage:
            refused += 1
    assert refused == len(others)


@pytest.mark.parametrize(
    "text", ["", "41-57", "57-41/00", "-1/00", "41\u201357/83", "41-57/8", "9" * 30 + "/00"]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_range(text, NODE)
