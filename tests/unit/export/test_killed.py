"""Either side is killed at every call that touches its disk, one after the other: what each is outlived by.

A process that is killed leaves what it wrote, up to the middle of a write.  So every state that a sender or
a receiver can be killed in is that before one of these calls, or within a write.  After each, the killed
side starts again, and every record that was on the sender's disk comes out, once.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.export.test_faults import ALARMS, Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CALLS = ("write", "fdatasync", "fsync", "rename", "replace", "unlink", "ftruncate", "open", "mkdir")


class Killed(BaseException):
    """What no handler of ours takes for an error."""


class Knife:
    """Counts calls of one side, and kills it before one of them, or in the middle of a write.

    Args:
        at: which call; None: none.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at, self.side, self.of = at, "", ""
        self.names: list[str] = []

    @property
    def count(self) -> int:
        return len(self.names)

    def wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            if self.side != self.of:
                return real(*given, **more)
            self.names.append(name)
            if self.count - 1 == self.at:
                if name == "write":
                    real(given[0], bytes(given[1])[: len(given[1]) // 2])
                raise Killed(name)
            return real(*given, **more)

        return call


def lived(folder: Path, of: str, knife: Knife, monkeypatch: pytest.MonkeyPatch) -> Whole:
    """Both sides from their start on, with records, passes and checkpoints; until one of them is killed."""
    system = Whole(folder)
    take, feed = system.receiver.take, system.receiver.feed

    def as_receiver(act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(*given: Any) -> Any:
            knife.side = "receiver"
            try:
                return act(*given)
            finally:
                knife.side = "sender"

        return acted

    system.receiver.take, system.receiver.feed = as_receiver(take), as_receiver(feed)  # type: ignore[method-assign]
    with drawn(knife, of, monkeypatch), suppress(Killed):
        knife.side = "sender"
        for _ in range(3):
            system.log(8, 12_000)
            system.run(system.second + 5)
            system.begin()
    return system


@contextmanager
def drawn(knife: Knife, of: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Meanwhile the knife is at every call of this side."""
    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, knife.wrapped(name, getattr(os, name)))
        knife.of, knife.side = of, of
        try:
            yield
        finally:
            knife.side = "nobody"


def again(system: Whole, of: str) -> None:
    """The side that was killed starts again."""
    if of == "sender":
        system.start()
    else:
        system.hear()


def comes_back(system: Whole, of: str, which: str) -> None:
    """It goes on, and everything comes out once, though not in order: what came late stands behind."""
    if of == "sender":
        system.logged = system.exporter.next_sequence - 1
    system.log(5)
    system.run(system.second + 45)
    system.accounted()
    assert sorted(system.sequences("record")) == list(range(1, system.logged + 1)), which
    assert not any(system.status[each] for each in (*ALARMS, "gaps", "dropped")), which


@pytest.mark.parametrize("of", ["sender", "receiver"])
def test_killed_at_every_call_it_comes_back_and_nothing_is_lost(
    tmp_path: Path, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Knife()
    lived(tmp_path / "counting", of, counting, monkeypatch).close()
    assert counting.count > 12
    for at in range(counting.count):
        system = lived(tmp_path / str(at), of, Knife(at), monkeypatch)
        gone(system, of)
        again(system, of)
        comes_back(system, of, f"call {at}")
        system.close()


def held(system: Whole, of: str) -> object:
    """What has the disk of that side."""
    return system.kept if of == "sender" else system.receiver


def gone(system: Whole, of: str) -> None:
    if of == "sender":
        system.kill()
    else:
        system.receiver.close()


@pytest.mark.parametrize("of", ["sender", "receiver"])
def test_killed_while_it_starts_it_comes_back_and_nothing_is_lost(
    tmp_path: Path, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill that left half of a write, at every call of the start that clears it away."""
    counting = Knife()
    lived(tmp_path / "counting", of, counting, monkeypatch).close()
    torn = max(number for number, name in enumerate(counting.names) if name == "write")
    starts, killed = 0, True
    while killed:
        system = lived(tmp_path / str(starts), of, Knife(torn), monkeypatch)
        gone(system, of)
        before = held(system, of)
        with drawn(Knife(starts), of, monkeypatch), suppress(Killed):
            again(system, of)
            killed = False
        if held(system, of) is not before:
            gone(system, of)
        again(system, of)
        comes_back(system, of, f"call {starts} of the start")
        system.close()
        starts += 1
    assert starts > 4
