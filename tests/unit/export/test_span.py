"""A proof between two checkpoints: what lies between them decides, and nothing before or after."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import Usage
from appliance.export.checking import Fork, Proof, check_folders
from appliance.export.segments import FrameKind
from appliance.export.span import parse_name
from tests.unit.export.nodes import Node
from tests.unit.export.test_checking import archive

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.export.checkpoint import Checkpoint

Frames = list[tuple[int, bytes]]


class History:
    """Thirty blocks of a node, a checkpoint after each ten: 1/0, 1/1 and 1/2."""

    def __init__(self) -> None:
        self.node = Node()
        self.stated: list[Checkpoint] = []
        for _ in range(3):
            self.node.many(10)
            self.stated.append(self.node.checkpoint())

    def frames(self, *without: int) -> Frames:
        found = [
            (FrameKind.BLOCK, each.data) for each in self.node.blocks if each.header.block not in without
        ]
        return found + [(FrameKind.CHECKPOINT, self.node.signed(each)) for each in self.stated]


@pytest.fixture
def history() -> History:
    return History()


def between(folder: Path, frames: Frames, since: str = "1/0", until: str = "1/1") -> Proof:
    archive(folder, *frames)
    return check_folders([folder], Node().identity.sender, since=parse_name(since), until=parse_name(until))


def test_what_lies_between_is_proven(tmp_path: Path, history: History) -> None:
    proof = between(tmp_path, history.frames())
    assert proof.whole
    assert proof.span
    assert (proof.span.begin, proof.span.end) == (11, 21)


@pytest.mark.parametrize("missing", [0, 5, 10, 21, 30])
def test_what_is_missing_elsewhere_takes_nothing_from_it(
    tmp_path: Path, history: History, missing: int
) -> None:
    assert between(tmp_path, history.frames(missing)).whole


@pytest.mark.parametrize("missing", range(11, 21))
def test_any_block_that_is_missing_between_is_named(tmp_path: Path, history: History, missing: int) -> None:
    proof = between(tmp_path, history.frames(missing))
    assert not proof.whole
    assert [(each.first, each.last) for each in proof.gaps] == [(missing, missing)]


def test_of_a_gap_over_an_end_the_part_within_is_said(tmp_path: Path, history: History) -> None:
    history.stated[1] = replace(history.stated[1], oldest=12)
    proof = between(tmp_path, history.frames(*range(5, 15)))
    (gap,) = proof.gaps
    assert (gap.first, gap.last, gap.lost) == (11, 14, 1)
    assert (gap.first_sequence, gap.last_sequence) == (11, 14)


def test_what_was_altered_between_is_missing_and_elsewhere_only_said(
    tmp_path: Path, history: History
) -> None:
    for number, whole in ((5, True), (15, False)):
        frames = history.frames()
        kind, data = frames[number]
        frames[number] = (kind, data[:-1] + bytes([data[-1] ^ 1]))
        folder = tmp_path / str(number)
        folder.mkdir()
        proof = between(folder, frames)
        assert len(proof.altered) == 1
        assert proof.whole is whole


@pytest.mark.parametrize("which", [0, 1])
def test_a_checkpoint_of_another_history_is_no_end(tmp_path: Path, history: History, which: int) -> None:
    history.stated[which] = replace(history.stated[which], hash=bytes(32))
    proof = between(tmp_path, history.frames())
    assert proof.span
    assert proof.span.faults()
    assert not proof.whole


def test_the_first_block_must_follow_what_the_first_checkpoint_names(
    tmp_path: Path, history: History
) -> None:
    """Also if the block before it is not there any more."""
    history.stated[0] = replace(history.stated[0], hash=bytes(32))
    proof = between(tmp_path, history.frames(*range(11)))
    assert proof.span
    assert len(proof.span.faults()) == 1
    assert not proof.whole


def test_a_break_between_is_no_proof(tmp_path: Path, history: History) -> None:
    frames = history.frames(15)
    frames.append((FrameKind.BLOCK, history.node.forged(history.node.blocks[15], previous=bytes(32)).data))
    proof = between(tmp_path, frames)
    assert 15 in proof.breaks
    assert not proof.whole


@pytest.mark.parametrize(("begin", "whole"), [(2, True), (12, False)])
def test_another_history_counts_where_it_overlaps(
    tmp_path: Path, history: History, begin: int, whole: bool
) -> None:
    """Two runs of it, with a hole between them: both are listed."""
    forked = [
        (FrameKind.BLOCK, history.node.forged(each, epoch=9).data)
        for each in history.node.blocks[begin : begin + 5]
        if each.header.block != begin + 2
    ]
    proof = between(tmp_path, history.frames() + forked)
    assert proof.whole is whole
    assert proof.forks == 4
    expected = [Fork(9, 12, 13, 12, 13), Fork(9, 15, 16, 15, 16)]
    assert proof.histories == ([] if whole else expected)


def test_without_a_first_one_it_begins_with_block_0(tmp_path: Path, history: History) -> None:
    archive(tmp_path, *history.frames(3, 25))
    proof = check_folders([tmp_path], history.node.identity.sender, until=(1, 1))
    assert [(each.first, each.last) for each in proof.gaps] == [(3, 3)]
    proof = check_folders([tmp_path], history.node.identity.sender, since=(1, 1))
    assert [(each.first, each.last) for each in proof.gaps] == [(25, 25)]


@pytest.mark.parametrize(
    ("since", "until"), [("1/1", "1/0"), ("1/1", "1/1"), ("1/0", "2/0"), ("1/9", "1/1")]
)
def test_checkpoints_that_are_not_there_or_do_not_follow_are_refused(
    tmp_path: Path, history: History, since: str, until: str
) -> None:
    with pytest.raises(Usage):
        between(tmp_path, history.frames(), since, until)


@pytest.mark.parametrize("text", ["", "1", "1/", "/1", "1/2/3", "-1/2", "a/b", "1/1 "])
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_name(text)
