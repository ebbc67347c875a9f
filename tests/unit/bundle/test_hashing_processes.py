"""Many short files are hashed by processes, while others read the manifest: the same promises."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import hashing, hashing_processes, reader
from appliance.bundle import verify as verifier
from appliance.bundle.hashing import check_bytes, hashing_meanwhile
from appliance.bundle.listing import Listing, parse_listing
from appliance.bundle.lists import Lists
from appliance.bundle.manifest import parse_manifest
from appliance.bundle.reader import read_apart, read_contents, read_signed
from appliance.bundle.tree import Tree
from appliance.bundle.verify import verify_bundle
from appliance.errors import DigestMismatch, FileMissing, FileUnexpected, ThresholdNotMet
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from appliance.bundle.manifest import Manifest
    from appliance.bundle.opening import BundleTree
    from appliance.trust.root import Root

WHEEL = "payload/engine/engine-1.0-py3-none-any.whl"


@pytest.fixture(params=["just written", "settled"], autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[int]:
    """Take the few files of a test for many, in batches of two; notes the numbers of processes."""
    if request.param == "settled":
        monkeypatch.setattr(hashing_processes, "_SETTLED", -(10**18))
    numbers: list[int] = []

    class Noted(hashing_processes.Processes):
        def __init__(self, tree: BundleTree, listed: Listing, read: Collection[str], count: int) -> None:
            numbers.append(count)
            super().__init__(tree, listed, read, count)

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
    """Everything was in order when the set of files was checked; the processes came late."""

    def change_then_begin(_: Tree, files: Sequence[str], seen: Callable[[Sequence[int]], None]) -> None:
        change()
        seen(range(len(files)))

    monkeypatch.setattr(Tree, "check_names", change_then_begin)


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
    model = bundle / "payload/model/tiny.gguf"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch, match="payload/model/tiny"):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


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


def test_what_others_read_is_left_to_them(bundle: Path) -> None:
    with Tree(bundle) as tree:
        signed = read_signed(tree)
        files = read_contents(tree, signed).files
        apart = read_apart(files.listing)
        assert apart == ("manifest.json", "blocks.bin", "trust/root.1.json")
        for name in apart:
            (bundle / name).unlink()
        with hashing_meanwhile(tree, files.lists, apart) as begun:
            assert begun
            begun.begin(range(len(files)))
            heard = Heard()
            check_bytes(tree, files, progress=heard, read=apart, begun=begun)
    assert (heard.items, heard.bytes) == (len(files), files.size)


def test_hashing_begins_before_the_manifest_is_read(
    bundle: Path, two_of_three: Root, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []

    def parse(data: bytes) -> Manifest:
        assert multiprocessing.active_children()
        parsed.append(data)
        return parse_manifest(data)

    monkeypatch.setattr(reader, "parse_manifest", parse)
    verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert (len(parsed), len(asked)) == (1, 1)


def test_nothing_is_hashed_of_an_unsigned_list(bundle: Path, two_of_three: Root, asked: list[int]) -> None:
    (bundle / "trust/SHA256SUMS.bob.sig").unlink()
    with pytest.raises(ThresholdNotMet):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert asked == []


def test_nothing_is_opened_before_its_folder_was_looked_at(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that is opened may do harm."""
    (bundle / WHEEL).unlink()
    os.mkfifo(bundle / WHEEL)
    begun: list[int] = []
    real = hashing_processes.Processes.begin

    def note(processes: hashing_processes.Processes, numbers: Sequence[int]) -> None:
        begun.extend(numbers)
        real(processes, numbers)

    monkeypatch.setattr(hashing_processes.Processes, "begin", note)
    with pytest.raises(FileUnexpected, match=WHEEL):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    paths = parse_listing((bundle / "trust/SHA256SUMS").read_bytes()).paths
    assert paths.index("manifest.json") in begun
    assert paths.index(WHEEL) not in begun


def test_a_batch_begins_when_all_of_it_may_be_opened(bundle: Path) -> None:
    listed = parse_listing((bundle / "trust/SHA256SUMS").read_bytes())
    assert len(listed) > 4
    with Tree(bundle) as tree, hashing_processes.Processes(tree, Lists(listed), (), 1) as processes:
        submitted: list[int] = []
        processes._forked.submit = submitted.append  # type: ignore[method-assign,assignment]
        for numbers, expected in (
            ([1], []),
            ([0, 3], [0]),
            ([2, 5, len(listed), 99], [0, 2]),
            ([4], [0, 2, 4]),
        ):
            processes.begin(numbers)
            assert submitted == expected


@pytest.mark.parametrize("left_to_them", [True, False])
def test_other_sizes_are_refused_as_those_of_few_files_are(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch, *, left_to_them: bool
) -> None:
    (bundle / WHEEL).write_bytes(b"w")
    (bundle / "payload/extras/site/notice.txt").write_bytes(b"")
    monkeypatch.setattr(reader, "WORTH_ASKING", 1 << 60 if left_to_them else 0)
    refusals = []
    for many in (1, 1 << 60):
        monkeypatch.setattr(hashing, "MANY", many)
        with pytest.raises(DigestMismatch, match="another size than was signed: 2 files") as caught:
            verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
        refusals.append((caught.value.message, caught.value.found, caught.value.wanted, caught.value.hint))
    assert refusals[0] == refusals[1]


def test_a_size_that_was_another_for_a_moment_is_refused(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too long for a process to hash it, and too short for a thread: nobody would have."""
    monkeypatch.setattr(hashing_processes, "LONG", 1 << 10)
    monkeypatch.setattr(hashing_processes, "measure", lambda *_: None)
    monkeypatch.setattr(reader, "WORTH_ASKING", 1 << 60)
    (bundle / WHEEL).write_bytes(bytes(1 << 10))
    with pytest.raises(DigestMismatch, match=f"{WHEEL} was changed"):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_long_files_of_another_size_are_refused_before_the_long_pass(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("half a terabyte would have been read for nothing")

    path = bundle / "payload/model/tiny.gguf"
    monkeypatch.setattr(reader, "WORTH_ASKING", path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(verifier, "check_bytes", never)
    with pytest.raises(DigestMismatch, match="payload/model/tiny"):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("name", ["manifest.json", "blocks.bin", "trust/root.1.json"])
def test_sizes_of_what_others_read_are_compared_too(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(reader, "WORTH_ASKING", 1 << 60)
    (bundle / name).write_bytes((bundle / name).read_bytes() + b" ")
    with pytest.raises(DigestMismatch, match=name):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_a_refusal_meanwhile_ends_the_processes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute of hashing that nobody waits for any more."""
    for name in ("a", "b"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(64 << 30)
    listing = b"".join(b"%s  %s\n" % (b"0" * 64, name) for name in (b"a", b"b"))
    listed = Listing(listing, array("I", [0, 68, 136]))
    monkeypatch.setattr(hashing_processes, "LONG", 1 << 60)
    heard, tell = os.pipe()

    class Telling(Silent):
        def advance(self, count: int) -> None:
            os.write(tell, b"x")

    def refuse_once_they_are_at_it(tree: Tree) -> None:
        with hashing_meanwhile(tree, Lists(listed), ()) as begun:
            assert begun
            begun.begin([0, 1])
            os.read(heard, 1)
            raise RuntimeError

    monkeypatch.setattr(hashing_processes, "Silent", Telling)
    before = os.times().children_user
    with Tree(tmp_path) as tree, pytest.raises(RuntimeError):
        refuse_once_they_are_at_it(tree)
    assert multiprocessing.active_children() == []
    assert os.times().children_user - before < 10
    os.close(heard)
    os.close(tell)


def test_volumes_are_hashed_by_processes_once_it_is_known_what_lies_where(
    bundle: Path, two_of_three: Root, volumes: Callable[..., list[Path]], asked: list[int]
) -> None:
    three = volumes(bundle, 2, 3)
    root = root_bytes(two_of_three)
    found = verify_bundle(three, root, progress=Silent())
    assert len(asked) == 1
    assert dict(found.files) == dict(verify_bundle(bundle, root, progress=Silent()).files)
    (three[0] / WHEEL).write_bytes(b"WHEEL")
    with pytest.raises(DigestMismatch, match="volume 1"):
        verify_bundle(three, root, progress=Silent())


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


KILLED = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from appliance.bundle import hashing, hashing_processes
from appliance.bundle.verify import verify_bundle
from appliance.progress import Silent

class Asleep(hashing.Hasher):
    def check(self, *_):
        time.sleep(60)

class Killed(Silent):
    def begin(self, *_):
        print(*(process.pid for process in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

hashing.MANY = 1
hashing_processes.Hasher = Asleep
verify_bundle(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), progress=Killed())
"""


def test_processes_end_with_the_one_they_work_for(bundle: Path, root_file: Path) -> None:
    """Killed, it cannot end them itself, and each of them holds the pipe open that the others wait at."""
    command = [sys.executable, "-c", KILLED, bundle, root_file]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=50)
    assert done.returncode == -signal.SIGTERM
    processes = done.stdout.split()
    assert processes
    deadline = time.monotonic() + 20
    while running := [pid for pid in processes if Path("/proc", pid).exists()]:
        assert time.monotonic() < deadline, running
        time.sleep(0.05)
