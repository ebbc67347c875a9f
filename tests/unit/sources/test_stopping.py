"""Who interrupts is not kept waiting."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from appliance.errors import DigestMismatch
from appliance.sources import http_download
from appliance.sources.http_download import fetch_resuming
from appliance.sources.stopping import Stopped, run_program, sha256_of
from appliance.sources.store import Store
from appliance.sources.together import together

from .test_store_contents import lock_of

if TYPE_CHECKING:
    from collections.abc import Callable
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


def test_a_fetch_hands_the_signal_on_and_says_what_takes_so_long(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_download, "_LONG", len(DATA))
    notes: list[str] = []
    monkeypatch.setattr(station.progress, "note", notes.append)
    (artefact,) = lock_of(DATA).components["m"].artefacts

    def append(file: BufferedRandom) -> None:
        file.write(DATA)
        station.stop.set()

    with pytest.raises(Stopped):
        fetch_resuming(station, artefact, append)
    assert station.store.fetched(DIGEST) == len(DATA)
    assert notes == ["comparing file-0 with its digest"]


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
