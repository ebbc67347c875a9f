"""The ledger: what is there, what is missing, and what cannot be one history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.export import ledger as module
from appliance.export.gap_history import Change, Look, changes, look_at, without
from appliance.export.ledger import Gap, Ledger, Standing
from appliance.export.refusal import RefusedError, Why
from tests.unit.export.nodes import Node, chance

if TYPE_CHECKING:
    from appliance.export.block import Block


def ledger_of(*blocks: Block) -> Ledger:
    made = Ledger()
    for each in blocks:
        made.add(each.header)
    return made


def node_of(count: int) -> Node:
    """The opening and so many blocks of one record: block n has sequence n."""
    made = Node()
    made.many(count)
    return made


def test_a_whole_chain_is_one_run_without_gaps() -> None:
    made = ledger_of(*node_of(9).blocks)
    assert [(run.first, run.last) for run in made.runs] == [(0, 9)]
    assert (made.gaps(), made.breaks, made.forks) == ([], [], {})


@given(st.permutations(range(20)), st.integers(0, 20))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_blocks_in_any_order_leave_exactly_the_missing_ones_as_gaps(order: list[int], count: int) -> None:
    node = node_of(19)
    made = ledger_of(*(node.blocks[number] for number in order[:count]))
    made.note(node.checkpoint())
    missing = {block for gap in made.gaps() for block in range(gap.first, gap.last + 1)}
    assert missing == set(order[count:])
    sequences = {each for gap in made.gaps() for each in range(gap.first_sequence, gap.last_sequence + 1)}
    assert sequences == {number for number in order[count:] if number}
    assert made.breaks == []


def test_the_same_block_again_is_known() -> None:
    node = node_of(5)
    made = ledger_of(*node.blocks)
    assert {made.add(each.header) for each in node.blocks} == {Standing.KNOWN}


def test_who_starts_late_misses_the_beginning() -> None:
    assert ledger_of(*node_of(9).blocks[5:]).gaps() == [Gap(0, 4, 1, 4)]


def test_a_cut_end_is_seen_by_the_next_checkpoint() -> None:
    node = node_of(9)
    made = ledger_of(*node.blocks[:7])
    assert made.gaps() == []
    made.note(node.checkpoint())
    assert made.gaps() == [Gap(7, 9, 7, 9)]


def test_a_checkpoint_alone_says_that_all_is_missing() -> None:
    made = Ledger()
    made.note(node_of(9).checkpoint())
    assert made.gaps() == [Gap(0, 9, 1, 9)]


def test_a_gap_is_lost_as_far_as_the_node_says_that_it_has_it_no_more() -> None:
    node = node_of(9)
    made = ledger_of(node.blocks[0], *node.blocks[7:])
    assert [(gap.state, gap.lost) for gap in made.gaps()] == [("open", 0)]
    made.note(node.checkpoint(oldest=3))
    assert [(gap.state, gap.lost) for gap in made.gaps()] == [("partly lost", 2)]
    made.note(node.checkpoint(oldest=9))
    assert [(gap.state, gap.lost) for gap in made.gaps()] == [("lost", 6)]
    made.note(node.checkpoint(oldest=0))
    assert [gap.state for gap in made.gaps()] == ["lost"]
    for each in node.blocks[1:7]:
        assert made.add(each.header) is Standing.NEW
    assert made.gaps() == []


def test_an_older_checkpoint_is_refused() -> None:
    node = node_of(3)
    made = Ledger()
    old, new = node.checkpoint(), node.checkpoint()
    made.note(new)
    for stale in (old, new):
        with pytest.raises(RefusedError) as caught:
            made.note(stale)
        assert caught.value.why is Why.STALE_CHECKPOINT
    node.restart()
    made.note(node.checkpoint(number=0))


def test_a_restart_goes_on_in_the_next_epoch() -> None:
    node = node_of(3)
    node.restart()
    node.many(3)
    made = ledger_of(*node.blocks)
    assert (len(made.runs), made.breaks, made.forks) == (1, [], {})
    assert made.runs[0].epochs == [(0, 1), (4, 2)]


def test_epochs_are_known_in_whatever_order_blocks_come() -> None:
    node = node_of(2)
    for _ in range(4):
        node.restart()
        node.many(2)
    blocks = list(node.blocks)
    chance(5).shuffle(blocks)
    made = ledger_of(*blocks)
    assert made.runs[0].epochs == [(0, 1), (3, 2), (6, 3), (9, 4), (12, 5)]
    assert made.breaks == []


def restored(node: Node, *, blocks: int, epoch: int) -> Node:
    """The node as it was after so many blocks, started again."""
    made = Node(identity=node.identity, epoch=1)
    made.blocks = node.blocks[:blocks]
    made.head = type(made.head)()
    for each in made.blocks:
        made.head = made.head.after(each.header)
    made.restart(epoch)
    return made


def test_a_node_restored_from_an_old_state_makes_a_fork_and_then_a_break() -> None:
    node = node_of(9)
    made = ledger_of(*node.blocks)
    old = restored(node, blocks=5, epoch=2)
    old.many(8)
    standings = [made.add(each.header) for each in old.blocks[5:]]
    assert standings == [Standing.FORK] * 5 + [Standing.NEW] * 4
    assert made.breaks == [10]
    assert {made.add(each.header) for each in old.blocks[5:]} == {Standing.KNOWN}
    assert made.forked == 5
    assert [(run.first, run.last) for run in made.forks[2]] == [(5, 9)]


def test_two_nodes_with_one_key_in_one_epoch_are_a_fork() -> None:
    one, other = node_of(3), node_of(3)
    block, clone = one.block(b"mine"), other.block(b"its own")
    made = ledger_of(*one.blocks)
    assert made.add(clone.header) is Standing.FORK
    assert made.add(block.header) is Standing.KNOWN
    assert (made.forked, made.forks[1][0].hash) == (1, clone.header.hash)
    assert made.add(clone.header) is Standing.KNOWN


@pytest.mark.parametrize("have", [slice(0, 3), slice(6, 9)], ids=["after", "before"])
def test_a_block_whose_epoch_does_not_fit_its_number_is_a_fork(have: slice) -> None:
    node = Node(epoch=5)
    node.many(9)
    made = ledger_of(*node.blocks[have])
    odd = node.forged(node.blocks[5], epoch=4 if have.start == 0 else 6)
    assert made.add(odd.header) is Standing.FORK
    assert made.add(node.blocks[5].header) is Standing.NEW


@pytest.mark.parametrize("change", [{"previous": b"x" * 32}, {"first": 7, "last": 7}])
@pytest.mark.parametrize("order", [1, -1])
def test_a_block_that_does_not_follow_is_taken_and_a_break(change: dict[str, object], order: int) -> None:
    node = node_of(3)
    blocks = [*node.blocks[:3], node.forged(node.blocks[3], **change)]
    made = ledger_of(*blocks[::order])
    assert made.breaks == [3]
    assert [(run.first, run.last) for run in made.runs] == [(0, 3)]


@pytest.mark.parametrize("first", ["blocks", "checkpoint"])
def test_a_checkpoint_of_another_history_is_noticed(first: str) -> None:
    node = node_of(3)
    made = Ledger()
    stated = node.checkpoint(hash=b"x" * 32)
    if first == "checkpoint":
        made.note(stated)
    for each in node.blocks:
        made.add(each.header)
    if first == "blocks":
        made.note(stated)
    assert made.contradictions == 1
    made.note(node.checkpoint())
    assert made.contradictions == 1


def test_a_ledger_with_too_many_gaps_takes_no_more_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RUNS", 3)
    node = node_of(20)
    made = ledger_of(*node.blocks[0:6:2])
    with pytest.raises(RefusedError) as caught:
        made.judge(node.blocks[10].header)
    assert caught.value.why is Why.LEDGER_FULL
    assert made.judge(node.blocks[5].header) is Standing.NEW
    assert made.judge(node.blocks[1].header) is Standing.NEW
    made.add(node.blocks[1].header)
    assert made.judge(node.blocks[10].header) is Standing.NEW


def test_a_long_fork_needs_no_more_memory_than_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FORKS", 1)
    monkeypatch.setattr(module, "_RECENT", 1)
    node = node_of(60)
    made = ledger_of(*node.blocks)
    old = restored(node, blocks=5, epoch=2)
    old.many(40)
    for each in old.blocks[5:]:
        assert made.judge(each.header) is Standing.FORK
        made.add(each.header)
    assert {made.judge(each.header) for each in old.blocks[5:]} == {Standing.KNOWN}
    assert (made.forked, len(made.forks[2])) == (41, 1)


def test_a_ledger_with_too_many_gaps_in_forks_takes_no_more_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_FORKS", 2)
    node = node_of(12)
    made = ledger_of(*node.blocks)
    old = restored(node, blocks=5, epoch=2)
    old.many(6)
    for each in old.blocks[5:8:2]:
        assert made.add(each.header) is Standing.FORK
    with pytest.raises(RefusedError) as caught:
        made.judge(old.blocks[9].header)
    assert caught.value.why is Why.LEDGER_FULL
    assert made.judge(old.blocks[6].header) is Standing.FORK


def test_what_changed_between_two_looks() -> None:
    node = node_of(9)
    made = ledger_of(node.blocks[0], node.blocks[5], node.blocks[9])
    first = look_at(made)
    assert changes(Look(), first) == [Change("opened", 1, 4), Change("opened", 6, 8)]
    for number in (1, 7):
        made.add(node.blocks[number].header)
    made.note(node.checkpoint(oldest=3))
    second = look_at(made)
    assert changes(first, second) == [
        Change("filled", 1, 1),
        Change("filled", 7, 7),
        Change("lost", 2, 2),
    ]
    made.add(node.blocks[2].header)
    assert changes(second, look_at(made)) == [Change("filled", 2, 2)]


_NUMBERS = st.sets(st.integers(0, 40))


def ranges_of(numbers: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for each in sorted(numbers):
        if found and found[-1][1] == each - 1:
            found[-1] = (found[-1][0], each)
        else:
            found.append((each, each))
    return found


@given(_NUMBERS, _NUMBERS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_ranges_without_others_are_the_difference_of_sets(one: set[int], other: set[int]) -> None:
    left = without(ranges_of(one), ranges_of(other))
    assert {each for first, last in left for each in range(first, last + 1)} == one - other
    assert left == sorted(left)


def test_checkpoints_that_name_other_walls_are_counted() -> None:
    ledger, walls = Ledger(), {"ruleset": "a" * 64, "xdp": "b" * 64}
    node = node_of(3)
    for number, digests in enumerate([walls, walls, {**walls, "xdp": "c" * 64}, {}, {}]):
        ledger.note(node.checkpoint(number=number, digests=digests))
    assert ledger.walls_changed == 2
