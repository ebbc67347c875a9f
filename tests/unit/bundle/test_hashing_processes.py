"""Many short files are hashed by processes: the same promises, kept by others."""

from __future__ import annotations

import multiprocessing
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import hashing, hashing_processes
from appliance.bundle import verify as verifier
from appliance.bundle.verify import verify_bundle
from appliance.errors import DigestMismatch, FileMissing, FileUnexpected
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.opening import BundleTree
    from appliance.trust.root import Root

WHEEL = "payload/engine/engine-1.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take the few files of a test for many, in batches of two; notes the numbers of processes."""
    numbers: list[int] = []

    class Noted(hashing_processes.Processes):
        def __init__(self, tree: BundleTree, files: ListedFiles, read: Collection[str], count: int) -> None:
            numbers.append(count)
            super().__init__(tree, files, read, count)

    monkeypatch.setattr(hashing, "MANY", 1)
    monkeypatch.setattr(hashing_processes, "_BATCH", 2)
    monkeypatch.setattr(hashing_processes, "Processes", Noted)
    return numbers


class Heard(Silent):
    """Progress that remembers."""

    def __init__(self) -> None:
        self.items = self.bytes = self.ended = 0

    def advance(self, count: int) -> None:
        self.bytes += count

    def item(self, name: str, count: int = 1) -> None:
        self.items += count

    def end(self) -> None:
        self.ended += 1


def change_before_hashing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Everything was in order when the set of files was checked."""

    def change_then_check(*arguments: object, **options: object) -> None:
        change()
        hashing.check_bytes(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(verifier, "check_bytes", change_then_check)


def test_every_file_is_hashed_and_told_of_once(bundle: Path, two_of_three: Root, asked: list[int]) -> None:
    heard = Heard()
    found = verify_bundle(bundle, root_bytes(two_of_three), progress=heard, workers=3)
    assert asked == [3]
    assert heard.items == len(found.files)
    assert (heard.bytes, heard.ended) == (found.size, 1)
    assert multiprocessing.active_children() == []


def test_long_files_are_hashed_by_threads(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "LONG", 100)
    monkeypatch.setattr(hashing_processes, "LONG", 100)
    heard = Heard()
    found = verify_bundle(bundle, root_bytes(two_of_three), progress=heard)
    assert heard.items == len(found.files)
    assert heard.bytes == found.size


def test_all_damaged_files_are_named(bundle: Path, two_of_three: Root) -> None:
    (bundle / WHEEL).write_bytes(b"WHEEL")
    (bundle / "payload/extras/site/notice.txt").write_bytes(b"NOTICE\n")
    with pytest.raises(DigestMismatch, match="2 files") as caught:
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert WHEEL in (caught.value.found or "")
    assert "notice.txt" in (caught.value.found or "")


def test_an_error_comes_back_as_it_was(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_before_hashing(monkeypatch, (bundle / WHEEL).unlink)
    with pytest.raises(FileMissing, match=WHEEL) as caught:
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert "`appliance media repair` mends it" in (caught.value.hint or "")
    assert multiprocessing.active_children() == []


def test_a_folder_exchanged_for_a_link_is_refused(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link() -> None:
        shutil.move(bundle / "payload/engine", bundle.parent / "elsewhere")
        (bundle / "payload/engine").symlink_to(bundle.parent / "elsewhere")

    change_before_hashing(monkeypatch, link)
    with pytest.raises(FileUnexpected):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_what_was_read_and_hashed_is_not_asked_for_again(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove() -> None:
        for name in ("manifest.json", "blocks.bin", "trust/root.1.json"):
            (bundle / name).unlink()

    change_before_hashing(monkeypatch, remove)
    verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_ctrl_c_ends_the_processes(bundle: Path, two_of_three: Root) -> None:
    class Interrupt(Heard):
        def item(self, name: str, count: int = 1) -> None:
            if name.startswith("payload/"):
                raise KeyboardInterrupt

    heard = Interrupt()
    with pytest.raises(KeyboardInterrupt):
        verify_bundle(bundle, root_bytes(two_of_three), progress=heard)
    assert heard.ended == 1
    assert multiprocessing.active_children() == []


def test_processes_begin_before_progress_does(bundle: Path, two_of_three: Root, asked: list[int]) -> None:
    """Showing progress may take a thread."""

    class Begun(Heard):
        def begin(self, phase: str, items: int, size: int | None = None) -> None:
            assert asked
            assert multiprocessing.active_children()

    verify_bundle(bundle, root_bytes(two_of_three), progress=Begun())


def test_a_program_with_threads_is_not_forked(bundle: Path, two_of_three: Root, asked: list[int]) -> None:
    """A lock that another thread holds would stay locked in the copy for ever."""
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    finally:
        done.set()
        other.join()
    assert asked == []
