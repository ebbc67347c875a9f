"""The content store: what is in it is whole and right, whoever else uses it and whenever it was killed."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from appliance.errors import DigestMismatch
from appliance.sources.store import Store

if TYPE_CHECKING:
    from pathlib import Path

DATA = b"0123456789" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def partials(store: Store) -> list[str]:
    return sorted(path.name for path in (store.folder / "partial").iterdir())


def test_bytes_are_kept_by_their_digest_read_only(store: Store) -> None:
    assert store.add_bytes(DATA) == (DIGEST, len(DATA))
    assert store.path(DIGEST).read_bytes() == DATA
    assert store.path(DIGEST).stat().st_mode & 0o777 == 0o444
    assert store.holds(DIGEST, len(DATA))
    assert not store.holds(DIGEST, len(DATA) + 1)
    assert partials(store) == []


def test_a_file_is_copied_in(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(DATA)
    assert store.add_file(source) == (DIGEST, len(DATA))
    source.write_bytes(b"changed")
    assert store.path(DIGEST).read_bytes() == DATA


def test_a_broken_fetch_goes_on_where_it_stopped(store: Store) -> None:
    with suppress(ConnectionError), store.fetch(DIGEST, len(DATA), "x") as partial:
        partial.write(DATA[:4000])
        raise ConnectionError
    assert store.fetched(DIGEST) == 4000
    assert not store.holds(DIGEST, len(DATA))
    with store.fetch(DIGEST, len(DATA), "x") as partial:
        assert partial.tell() == 4000
        partial.write(DATA[4000:])
    assert store.path(DIGEST).read_bytes() == DATA
    assert partials(store) == []


def test_a_partial_longer_than_the_file_starts_over(store: Store) -> None:
    (store.folder / "partial" / DIGEST).write_bytes(DATA + b"!")
    with store.fetch(DIGEST, len(DATA), "x") as partial:
        assert partial.tell() == 0
        partial.write(DATA)
    assert store.holds(DIGEST, len(DATA))


@pytest.mark.parametrize("sent", [DATA[:-1], DATA[:-1] + b"!", DATA + b"!", b""])
def test_other_bytes_are_refused_and_not_kept(store: Store, sent: bytes) -> None:
    with (
        pytest.raises(DigestMismatch, match=r"x\.whl is not the file") as caught,
        store.fetch(DIGEST, len(DATA), "x.whl") as partial,
    ):
        partial.write(sent)
    assert caught.value.exit_code == 4
    assert hashlib.sha256(sent).hexdigest() in caught.value.found
    assert not store.path(DIGEST).exists()
    assert partials(store) == []


def test_what_is_here_is_not_fetched_again(store: Store) -> None:
    store.add_bytes(DATA)
    with store.fetch(DIGEST, len(DATA), "x") as partial:
        assert partial is None
    assert partials(store) == []


def test_a_file_that_changed_in_the_store_is_found_and_removed(store: Store) -> None:
    store.add_bytes(DATA)
    assert store.check(DIGEST)
    path = store.path(DIGEST)
    path.chmod(0o644)
    path.write_bytes(DATA[:-1] + b"!")
    assert not store.check(DIGEST)
    assert not path.exists()


def _fetch_slowly(folder: Path, fetches: multiprocessing.Queue[int]) -> None:
    with Store(folder).fetch(DIGEST, len(DATA), "x") as partial:
        if partial:
            fetches.put(1)
            for start in range(0, len(DATA), 1000):
                partial.write(DATA[start : start + 1000])
                partial.flush()
                time.sleep(0.002)


def test_processes_that_want_the_same_file_fetch_it_once(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    fetches: multiprocessing.Queue[int] = context.Queue()
    workers = [context.Process(target=_fetch_slowly, args=(store.folder, fetches)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert fetches.get(timeout=5) == 1
    assert fetches.empty()
    assert store.path(DIGEST).read_bytes() == DATA
    assert partials(store) == []


def test_a_killed_fetch_leaves_a_partial_and_no_lock(store: Store) -> None:
    script = f"""
import pathlib, time
from appliance.sources.store import Store
with Store(pathlib.Path({str(store.folder)!r})).fetch({DIGEST!r}, {len(DATA)}, "x") as partial:
    partial.write({DATA[:500]!r}); partial.flush(); print("ready", flush=True); time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert store.fetched(DIGEST) == 500
    with store.fetch(DIGEST, len(DATA), "x") as partial:
        assert partial.tell() == 500
        partial.write(DATA[500:])
    assert store.holds(DIGEST, len(DATA))


def test_a_missing_file_in_a_fetch_is_not_taken_for_a_lost_lock(store: Store) -> None:
    with pytest.raises(FileNotFoundError), store.fetch(DIGEST, len(DATA), "x"):
        (store.folder / "nowhere").read_bytes()


def test_a_full_disk_is_said_and_what_came_is_kept(tmp_path: Path) -> None:
    """On a file system of 64 KiB, in a mount namespace of its own."""
    script = f"""
import hashlib, pathlib
from appliance.errors import SpaceExhausted
from appliance.sources.store import Store
store = Store(pathlib.Path({str(tmp_path)!r}) / "store")
data = b"x" * 1_000_000
digest = hashlib.sha256(data).hexdigest()
try:
    store.add_bytes(data)
except SpaceExhausted as error:
    print(error.exit_code, error.message)
print(store.fetched(digest) > 0, store.holds(digest, len(data)))
"""
    inner = f'mount -t tmpfs -o size=64k none {tmp_path} && exec {sys.executable} -c "$1"'
    run = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", inner, "sh", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.splitlines() == [f"5 the disk of {tmp_path}/store is full", "True False"], run.stderr


def test_errors_of_the_disk_other_than_full_stay_what_they_are(store: Store) -> None:
    with pytest.raises(PermissionError), store.fetch(DIGEST, len(DATA), "x"):
        raise PermissionError
