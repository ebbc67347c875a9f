"""Digests kept beside the store's files: the same bundle with and without them, whatever they say."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import known_digests, streams
from appliance.bundle.blocks import BLOCK_SIZE, split_blocks
from appliance.bundle.known_digests import digests_of, known_bytes, parse_known
from appliance.bundle.manifest import SLICE_SIZE, ListedFile, parse_manifest
from appliance.bundle.verify import verify_bundle
from appliance.errors import DigestMismatch
from appliance.progress import Silent
from appliance.sources.store import Store
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.streams import Digests
    from appliance.definition.lock import Lock
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

BIG = os.urandom(BLOCK_SIZE) + bytes(BLOCK_SIZE) + os.urandom(BLOCK_SIZE + 17)
FILE = ListedFile(hashlib.sha256(BIG).hexdigest(), len(BIG))


@pytest.fixture
def lock(maker: BundleMaker) -> Lock:
    return maker.lock(
        {
            "engine": ("python", {"engine-1.0-py3-none-any.whl": b"wheel"}),
            "model": ("tiny-gguf", {"tiny.gguf": BIG}),
        }
    )


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that were hashed by blocks, by slices or as a whole, one entry for each block."""
    sizes: list[int] = []
    real = streams._update

    def update(digest: object, block: memoryview) -> bytes:
        sizes.append(len(block))
        return real(digest, block)  # type: ignore[arg-type]

    monkeypatch.setattr(streams, "_update", update)
    return sizes


def digests(slice_size: int, data: bytes = BIG) -> Digests:
    """What the digests of these bytes are, computed in the plainest way."""
    cut = [data[start : start + slice_size] for start in range(0, len(data), slice_size)]
    blocks = [part[start : start + BLOCK_SIZE] for part in cut for start in range(0, len(part), BLOCK_SIZE)]
    return streams.Digests(
        hashlib.sha256(data).hexdigest(),
        tuple(ListedFile(hashlib.sha256(part).hexdigest(), len(part)) for part in cut)
        if len(cut) > 1
        else (),
        b"".join(hashlib.sha256(block).digest() for block in blocks),
    )


def listing(bundle: Path) -> bytes:
    return (bundle / "trust/SHA256SUMS").read_bytes()


@pytest.mark.parametrize("slice_size", [BLOCK_SIZE, 2 * BLOCK_SIZE, SLICE_SIZE])
def test_digests_of_a_file_are_those_of_its_bytes(slice_size: int, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(BIG)
    with (tmp_path / "x").open("rb") as file:
        found = digests_of(file.fileno(), len(BIG), slice_size)
        assert found == digests(slice_size)
        assert parse_known(known_bytes(found, len(BIG), slice_size), FILE, slice_size) == found
        with pytest.raises(EOFError):
            digests_of(file.fileno(), len(BIG) + 1, slice_size)


@pytest.mark.parametrize("slice_size", [BLOCK_SIZE, SLICE_SIZE])
def test_nothing_else_than_what_was_kept_for_this_file_is_accepted(slice_size: int) -> None:
    """Every byte that is changed, every length, another file, another size, another cut."""
    data = known_bytes(digests(slice_size), len(BIG), slice_size)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        assert parse_known(bytes(changed), FILE, slice_size) is None
        assert parse_known(data[:place], FILE, slice_size) is None
    assert parse_known(data + b"\0", FILE, slice_size) is None
    assert parse_known(data, replace(FILE, sha256="0" * 64), slice_size) is None
    assert parse_known(data, replace(FILE, size=FILE.size - 1), slice_size) is None
    assert parse_known(data, FILE, 3 * BLOCK_SIZE) is None


def test_what_comes_into_the_store_is_known_at_once(maker: BundleMaker, lock: Lock) -> None:
    store = maker.store()
    assert store.known(FILE.sha256) == known_bytes(digests(SLICE_SIZE), len(BIG))
    assert {path.name for path in (store.folder / "partial").iterdir()} == set()
    assert store.known(lock.components["engine"].artefacts[0].sha256) is None


def test_a_build_hashes_each_byte_once(
    maker: BundleMaker, two_of_three: Root, lock: Lock, hashed: list[int]
) -> None:
    maker.write("bundle", two_of_three, lock)
    assert sum(hashed) == len(BIG)


@pytest.mark.parametrize("slice_size", [BLOCK_SIZE, 2 * BLOCK_SIZE, SLICE_SIZE])
def test_known_or_not_the_bundle_is_the_same(
    slice_size: int, maker: BundleMaker, two_of_three: Root, lock: Lock, hashed: list[int]
) -> None:
    """Whatever is not known, the first build finds out and keeps for the second."""
    kept = maker.store().path(FILE.sha256).with_name(f"{FILE.sha256}.digests")
    kept.unlink()
    first = maker.write("first", two_of_three, lock, slice_size=slice_size)
    assert sum(hashed) > len(BIG)
    assert kept.read_bytes() == known_bytes(digests(slice_size), len(BIG), slice_size)
    hashed.clear()
    second = maker.write("second", two_of_three, lock, slice_size=slice_size)
    assert sum(hashed) == len(BIG)
    assert listing(first) == listing(second)
    manifest = parse_manifest((second / "manifest.json").read_bytes())
    index = dict(split_blocks(manifest, (second / "blocks.bin").read_bytes()))
    parts = [path for path in sorted(index) if path.startswith("payload/model/")]
    assert b"".join(b"".join(index[path]) for path in parts) == digests(slice_size).blocks
    maker.sign(second, "alice", "bob")
    verify_bundle(second, root_bytes(two_of_three), progress=Silent())


def damaged(data: bytes) -> bytes:
    return data[:-40] + b"!" + data[-39:]


def foreign(_: bytes) -> bytes:
    """In itself whole, but the digests are of other bytes."""
    return known_bytes(replace(digests(SLICE_SIZE, b"x" * len(BIG)), whole=FILE.sha256), len(BIG))


@pytest.mark.parametrize("change", [damaged, foreign, lambda data: data[:100], lambda _: b""])
def test_wrong_digests_are_not_used_and_are_put_right(
    change: Callable[[bytes], bytes], maker: BundleMaker, two_of_three: Root, lock: Lock
) -> None:
    store = maker.store()
    right = store.known(FILE.sha256)
    assert right
    wanted = listing(maker.write("before", two_of_three, lock))
    store.keep_known(FILE.sha256, change(right))
    assert store.known(FILE.sha256) == change(right)
    assert listing(maker.write("after", two_of_three, lock)) == wanted
    assert store.known(FILE.sha256) == right


def test_one_block_of_each_slice_is_hashed_again(
    maker: BundleMaker, two_of_three: Root, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digests with one that is wrong are refused if just that block is chosen."""
    store = maker.store()
    wanted = listing(maker.write("before", two_of_three, lock))
    good = digests(SLICE_SIZE)
    last = bytes(32) + good.blocks[32:]
    store.keep_known(FILE.sha256, known_bytes(replace(good, blocks=last), len(BIG)))
    asked = []

    def choose(count: int) -> int:
        asked.append(count)
        return 0

    monkeypatch.setattr(known_digests.secrets, "randbelow", choose)
    assert listing(maker.write("after", two_of_three, lock)) == wanted
    assert asked == [4]


def test_digests_that_are_wrong_all_the_same_make_a_bundle_that_is_refused(
    maker: BundleMaker, two_of_three: Root, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signed list then names a slice that is not there; it never makes wrong bytes right."""
    monkeypatch.setattr(known_digests, "_agrees", lambda *_: True)
    wrong = replace(digests(2 * BLOCK_SIZE, bytes(len(BIG))), whole=FILE.sha256)
    maker.store().keep_known(FILE.sha256, known_bytes(wrong, len(BIG), 2 * BLOCK_SIZE))
    bundle = maker.write("bundle", two_of_three, lock, slice_size=2 * BLOCK_SIZE)
    maker.sign(bundle, "alice", "bob")
    with pytest.raises(DigestMismatch, match="2 files are not what was signed") as caught:
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert "tiny.gguf.slice-0000" in caught.value.found


def test_a_file_that_changed_in_the_store_is_noticed_though_its_digests_are_known(
    maker: BundleMaker, two_of_three: Root, lock: Lock
) -> None:
    """Nothing but the whole digest can tell: the changed block is not the one that is looked at."""
    path = maker.store().path(FILE.sha256)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(len(BIG) - 1)
        file.write(bytes([BIG[-1] ^ 1]))
    with pytest.raises(DigestMismatch, match="a file of the store is damaged"):
        maker.write("bundle", two_of_three, lock)


@pytest.mark.usefixtures("lock")
def test_keeping_fails_in_silence(maker: BundleMaker) -> None:
    """Whatever the system says: here, that a folder has the name."""
    store = maker.store()
    path = store.path(FILE.sha256).with_name(f"{FILE.sha256}.digests")
    path.unlink()
    path.mkdir()
    store.keep_known(FILE.sha256, b"x")
    assert store.known(FILE.sha256) is None
    assert list((store.folder / "partial").iterdir()) == []


@pytest.mark.usefixtures("lock")
def test_checking_the_store_puts_digests_right(maker: BundleMaker) -> None:
    store = maker.store()
    right = store.known(FILE.sha256)
    assert right
    store.keep_known(FILE.sha256, damaged(right))
    assert store.check(FILE.sha256)
    assert store.known(FILE.sha256) == right


def test_an_interrupted_fetch_stops_hashing(tmp_path: Path) -> None:
    import threading

    from appliance.sources.stopping import Stopped

    stop = threading.Event()
    store = Store(tmp_path / "store")
    (store.folder / "partial" / FILE.sha256).write_bytes(BIG)
    stop.set()
    with pytest.raises(Stopped), store.fetch(FILE.sha256, FILE.size, "x", stop):
        pass
    assert store.fetched(FILE.sha256) == FILE.size
    assert not store.holds(FILE.sha256, FILE.size)
