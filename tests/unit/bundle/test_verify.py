"""Verification: its order, what it reports, and that one flipped byte anywhere is noticed."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from array import array
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.bundle import hashing, lists, reader
from appliance.bundle import verify as verifier
from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.fileset import ListedFiles
from appliance.bundle.inspection import inspect_bundle
from appliance.bundle.listing import Listing
from appliance.bundle.lists import Lists
from appliance.bundle.tree import Tree
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    BundleUntrusted,
    DigestMismatch,
    FileMissing,
    SignatureInvalid,
    ThresholdNotMet,
    Usage,
)
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker


class Recorder(Silent):
    """Progress that remembers; called from several threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.began: list[tuple[str, int, int | None]] = []
        self.bytes = 0
        self.items: list[str] = []
        self.ended = 0

    def begin(self, phase: str, items: int, size: int | None = None) -> None:
        self.began.append((phase, items, size))

    def advance(self, count: int) -> None:
        with self.lock:
            self.bytes += count

    def item(self, name: str) -> None:
        with self.lock:
            self.items.append(name)

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("workers", [None, 1, 7])
def test_what_a_verified_bundle_says(workers: int | None, bundle: Path, two_of_three: Root) -> None:
    recorder = Recorder()
    found = verify_bundle(bundle, root_bytes(two_of_three), progress=recorder, workers=workers)
    assert found.digest == hashlib.sha256((bundle / "trust/SHA256SUMS").read_bytes()).hexdigest()
    assert found.root_digest == two_of_three.fingerprint
    assert (found.role, found.folder, found.manifest.product) == ("release", bundle, "demo")
    for path, file in found.files.items():
        data = (bundle / path).read_bytes()
        assert (file.sha256, file.size) == (hashlib.sha256(data).hexdigest(), len(data))
    on_disk = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    beside = {path for path in on_disk if path.startswith(("trust/SHA256SUMS", "trust/provenance."))}
    assert set(found.files) == on_disk - beside
    assert found.provenance == ("alice", "bob")
    assert recorder.began == [("verify", len(found.files), found.size)]
    assert recorder.bytes == found.size
    assert sorted(recorder.items) == sorted(found.files)
    assert recorder.ended == 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_flipped_bit_anywhere_is_noticed(bundle: Path, two_of_three: Root, data: st.DataObject) -> None:
    """In any file: payload, list, signatures, the root it carries, the review page."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path.stat().st_size)
    path = data.draw(st.sampled_from(files))
    good = path.read_bytes()
    position, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    path.write_bytes(good[:position] + bytes([good[position] ^ 1 << bit]) + good[position + 1 :])
    try:
        with pytest.raises(BundleUntrusted):
            verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    finally:
        path.write_bytes(good)


def test_a_flipped_byte_in_every_slice_is_noticed(maker: BundleMaker, two_of_three: Root) -> None:
    contents = {
        "engine": ("python", {"engine.whl": b"wheel"}),
        "model": ("tiny-gguf", {"tiny.gguf": os.urandom(3 * BLOCK_SIZE + 5)}),
    }
    bundle = maker.write("bundle", two_of_three, maker.lock(contents), slice_size=BLOCK_SIZE)
    maker.sign(bundle, "alice", "bob")
    root = root_bytes(two_of_three)
    slices = sorted((bundle / "payload/model").iterdir())
    assert len(slices) == 4
    for part in slices:
        good = part.read_bytes()
        part.write_bytes(good[:-1] + bytes([good[-1] ^ 0x80]))
        with pytest.raises(DigestMismatch, match=part.name):
            verify_bundle(bundle, root, progress=Silent())
        part.write_bytes(good)
    verify_bundle(bundle, root, progress=Silent())
    shutil.copy(slices[0], slices[1])
    with pytest.raises(DigestMismatch, match=slices[1].name):
        verify_bundle(bundle, root, progress=Silent())


def test_nothing_is_parsed_before_the_signatures_held(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("the manifest was parsed, or the payload read, before the signatures were judged")

    (bundle / "trust/SHA256SUMS.bob.sig").unlink()
    for module, name in (
        (reader, "parse_manifest"),
        (lists, "parse_listing"),
        (reader, "parse_lists"),
        (verifier, "parse_lists"),
        (verifier, "hashing_meanwhile"),
        (verifier, "check_bytes"),
    ):
        monkeypatch.setattr(module, name, never)
    with pytest.raises(ThresholdNotMet):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_a_truncated_copy_is_refused_before_the_long_pass(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("half a terabyte would have been read for nothing")

    path = bundle / "payload/model/tiny.gguf"
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(verifier, "check_bytes", never)
    with pytest.raises(DigestMismatch, match="size"):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_verification_uses_the_threads_it_is_given(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = hashing.ThreadPoolExecutor

    def record(workers: int) -> object:
        asked.append(workers)
        return real(workers)

    monkeypatch.setattr(hashing, "ThreadPoolExecutor", record)
    for workers in (None, 3):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent(), workers=workers)
    assert asked == [len(os.sched_getaffinity(0)), 3]


def test_ctrl_c_stops_all_threads(bundle: Path, two_of_three: Root) -> None:
    class Interrupt(Recorder):
        def advance(self, count: int) -> None:
            raise KeyboardInterrupt

    before = threading.active_count()
    recorder = Interrupt()
    with pytest.raises(KeyboardInterrupt):
        verify_bundle(bundle, root_bytes(two_of_three), progress=recorder)
    assert threading.active_count() == before
    assert recorder.ended == 1


def test_one_fault_ends_the_long_reads_of_the_others(tmp_path: Path) -> None:
    """Half a minute of hashing that nobody waits for any more."""

    class Broken(Recorder):
        def item(self, name: str) -> None:
            raise RuntimeError(name)

    (tmp_path / "small").write_bytes(b"")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 30)
    listing = b"%s  large\n%s  small\n" % (b"0" * 64, hashlib.sha256(b"").hexdigest().encode())
    files = ListedFiles(Lists(Listing(listing, array("I", [0, 72, 144]))), array("q", [64 << 30, 0]))
    started = time.process_time()
    with Tree(tmp_path) as tree, pytest.raises(RuntimeError, match="small"):
        hashing.check_bytes(tree, files, progress=Broken(), workers=2)
    assert time.process_time() - started < 10


def test_what_is_left_of_a_bundle_is_none(bundle: Path, two_of_three: Root) -> None:
    (bundle / "manifest.json").unlink()
    with pytest.raises(FileMissing, match="is not a bundle") as caught:
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert caught.value.found == "no manifest.json"


def test_what_is_no_bundle(tmp_path: Path, two_of_three: Root) -> None:
    root = root_bytes(two_of_three)
    with pytest.raises(FileMissing, match="holds nothing of a bundle"):
        verify_bundle(tmp_path, root, progress=Silent())
    with pytest.raises(Usage):
        verify_bundle(tmp_path / "nothing", root, progress=Silent())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Usage):
        verify_bundle(tmp_path / "file", root, progress=Silent())


def test_no_descriptor_is_left_open(bundle: Path, two_of_three: Root) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counting names

    before = descriptors()
    verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    (bundle / "payload/model/tiny.gguf").write_bytes(b"x")
    with pytest.raises(DigestMismatch):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert descriptors() == before


def test_inspecting_says_whether_it_verified(bundle: Path, two_of_three: Root) -> None:
    seen = inspect_bundle(bundle, trusted=None, progress=Silent())
    assert not seen.verified
    assert [(one.holder, one.namespace) for one in seen.signatures] == [
        ("alice", "release@appliance"),
        ("bob", "release@appliance"),
    ]
    assert seen.root == two_of_three
    assert inspect_bundle(bundle, trusted=root_bytes(two_of_three), progress=Silent()).verified
    (bundle / "payload/extras/site/notice.txt").write_bytes(b"NOTICE\n")
    assert not inspect_bundle(bundle, trusted=None, progress=Silent()).verified
    with pytest.raises(DigestMismatch):
        inspect_bundle(bundle, trusted=root_bytes(two_of_three), progress=Silent())


def test_inspecting_refuses_what_is_malformed(bundle: Path) -> None:
    path = bundle / "trust/SHA256SUMS.bob.sig"
    path.write_bytes(path.read_bytes() + b"\x1b[2J")
    with pytest.raises(SignatureInvalid):
        inspect_bundle(bundle, trusted=None, progress=Silent())


def test_a_bundle_exchanged_between_verifying_and_inspecting(
    bundle: Path, maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.bundle import inspection

    other = maker.write("other", None)

    def verify_then_exchange(folder: Path, *arguments: object, **options: object) -> object:
        found = verify_bundle(folder, *arguments, **options)
        shutil.rmtree(folder)
        other.rename(folder)
        return found

    monkeypatch.setattr(inspection, "verify_bundle", verify_then_exchange)
    with pytest.raises(DigestMismatch, match="exchanged"):
        inspect_bundle(bundle, trusted=root_bytes(two_of_three), progress=Silent())
