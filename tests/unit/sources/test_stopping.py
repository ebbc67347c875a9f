"""Who interrupts is not kept waiting."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from appliance.errors import DigestMismatch
from appliance.progress import Silent
from appliance.sources import store as store_module
from appliance.sources.http_download import fetch_resuming
from appliance.sources.stopping import Stopped, StopSignal, awaited, run_program, sha256_of
from appliance.sources.store import Store
from appliance.sources.together import together

from .test_store_contents import lock_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedRandom
    from pathlib import Path

    from appliance.sources.station import Station

MIB = 1 << 20
DATA = b"x" * (3 * MIB)
DIGEST = hashlib.sha256(DATA).hexdigest()


def reading_stops(stop: threading.Event) -> io.BufferedIOBase:
    """A file that is interrupted once its first piece is read."""

    class Interrupted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            stop.set()
            return super().read(size)

    return Interrupted(DATA)


def test_a_file_is_hashed_whole_or_not_at_all() -> None:
    stop = threading.Event()
    assert sha256_of(io.BytesIO(DATA), stop) == sha256_of(io.BytesIO(DATA), None) == DIGEST
    file = reading_stops(stop)
    with pytest.raises(Stopped):
        sha256_of(file, stop)
    assert file.tell() == MIB


def test_a_download_that_is_interrupted_while_it_is_hashed_is_kept_whole(tmp_path: Path) -> None:
    """Twelve gigabytes take a quarter of a minute, which nobody waits for after Ctrl-C."""
    store, stop = Store(tmp_path / "store"), threading.Event()

    def fetch() -> None:
        with store.fetch(DIGEST, len(DATA), "x", stop) as file:
            assert file
            file.write(DATA)
            stop.set()

    with pytest.raises(Stopped):
        fetch()
    assert store.fetched(DIGEST) == len(DATA)
    assert not store.holds(DIGEST, len(DATA))
    with store.fetch(DIGEST, len(DATA), "x", threading.Event()) as file:
        assert file
        assert file.tell() == len(DATA)
    assert store.holds(DIGEST, len(DATA))


def test_a_copy_into_the_store_is_interrupted(tmp_path: Path) -> None:
    store, stop = Store(tmp_path / "store"), threading.Event()
    source = tmp_path / "source"
    source.write_bytes(DATA)
    stop.set()
    with pytest.raises(Stopped):
        store.add_file(source, stop)
    with store.scratch() as scratch, scratch.open("w+b") as file, pytest.raises(Stopped):
        store.replace(file, source, stop)


class Watched(Silent):
    """What is shown beside a phase: names and sizes as they begin, then every count."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.counts: list[int] = []

    @contextmanager
    def beside(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        self.begun.append((name, size))
        yield self.counts.append


@pytest.mark.parametrize("long", [True, False])
def test_how_far_a_long_file_is_compared_is_shown(
    long: bool, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LONG", len(DATA) + (not long))
    watched = Watched()
    (artefact,) = lock_of(DATA).components["m"].artefacts

    def append(file: BufferedRandom) -> None:
        file.write(DATA)

    fetch_resuming(replace(station, progress=watched), artefact, append)
    assert station.store.holds(DIGEST, len(DATA))
    assert watched.begun == ([("compare file-0", len(DATA))] if long else [])
    assert sum(watched.counts) == (len(DATA) if long else 0)
    assert len(watched.counts) == (3 if long else 0), "every piece is told"


def test_how_far_a_long_copy_is_compared_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is locked is read twice: to learn its digest, and as it comes into the store."""
    monkeypatch.setattr(store_module, "LONG", len(DATA))
    source, watched = tmp_path / "source", Watched()
    source.write_bytes(DATA)
    Store(tmp_path / "store").add_file(source, name="weights", beside=watched.beside)
    assert watched.begun == [("compare weights", len(DATA))] * 2
    assert sum(watched.counts) == 2 * len(DATA)


def test_a_fetch_hands_the_signal_on(station: Station) -> None:
    (artefact,) = lock_of(DATA).components["m"].artefacts

    def append(file: BufferedRandom) -> None:
        file.write(DATA)
        station.stop.set()

    with pytest.raises(Stopped):
        fetch_resuming(station, artefact, append)
    assert station.store.fetched(DIGEST) == len(DATA)


def test_programs_are_run_to_their_end() -> None:
    echo = (
        "import sys, os; print(sys.stdin.read() * 2, os.environ['A']); sys.exit(sys.stderr.write('no') + 1)"
    )
    run = run_program(
        [sys.executable, "-c", echo], threading.Event(), text="x" * MIB, environment={"A": "b"}
    )
    assert (run.returncode, run.stderr) == (3, "no")
    assert run.stdout == "x" * 2 * MIB + " b\n"


def test_programs_that_take_long_still_get_all_they_read() -> None:
    late = "import sys, time; time.sleep(0.5); print(len(sys.stdin.read()))"
    assert run_program([sys.executable, "-c", late], None, text="x" * MIB).stdout == f"{MIB}\n"


def test_programs_inherit_what_they_are_to() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as answer:
        run_program(
            [sys.executable, "-c", f"import os; os.write({writing}, b'here')"], None, descriptors=[writing]
        )
        os.close(writing)
        assert answer.read() == "here"


def test_a_program_ends_when_the_work_is_given_up(tmp_path: Path) -> None:
    stop, began = threading.Event(), tmp_path / "began"
    waits = f"import os, time; os.mkdir({str(began)!r}); time.sleep(60)"

    def interrupt() -> None:
        while not began.exists():
            time.sleep(0.01)
        stop.set()

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    start = time.monotonic()
    with pytest.raises(Stopped):
        run_program([sys.executable, "-c", waits], stop)
    interrupting.join()
    assert time.monotonic() - start < 30


def test_what_waits_for_its_turn_does_not_begin_once_the_work_is_given_up() -> None:
    """Each would ask the index for its file first, dozens of them one after the other."""
    begun: list[int] = []
    stop = threading.Event()

    def task(number: int) -> None:
        begun.append(number)
        stop.set()

    with pytest.raises(Stopped):
        together([partial(task, number) for number in range(50)], 1, stop)
    assert begun == [0]


def test_a_failure_is_told_rather_than_what_it_stopped() -> None:
    stop = threading.Event()

    def fails() -> None:
        raise DigestMismatch("other bytes")

    def waits() -> None:
        stop.wait(30)
        raise Stopped

    tasks: list[Callable[[], None]] = [waits, fails]
    with pytest.raises(DigestMismatch):
        together(tasks, 2, stop)


def test_what_is_awaited_is_given_or_raised_as_it_is() -> None:
    stop = StopSignal()
    assert awaited(lambda: 7, stop) == 7
    with pytest.raises(ZeroDivisionError):
        awaited(lambda: 1 // 0, stop)
    with pytest.raises(TimeoutError, match="of the work itself"):
        awaited(raise_timeout, stop)


def raise_timeout() -> None:
    raise TimeoutError("of the work itself")


def test_what_is_awaited_is_left_when_the_work_is_given_up() -> None:
    stop, never, began = StopSignal(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        never.wait(60)

    threading.Thread(target=lambda: began.wait(30) and stop.set()).start()
    with pytest.raises(Stopped):
        awaited(work, stop)
    never.set()
    with pytest.raises(Stopped):
        awaited(lambda: pytest.fail("it was begun"), stop)


def test_the_signal_ends_what_is_under_way_and_nothing_else() -> None:
    stop = StopSignal()
    ended: list[str] = []
    with stop.ending(lambda: ended.append("before")):
        pass
    with stop.ending(lambda: ended.append("one")), stop.ending(lambda: ended.append("other")):
        stop.set()
    assert ended == ["one", "other"]
    with pytest.raises(Stopped), stop.ending(lambda: ended.append("late")):
        pytest.fail("it was begun")
    stop.set()
    assert ended == ["one", "other"]
