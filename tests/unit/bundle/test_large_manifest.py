"""The manifest of a very large bundle is read in pieces, and never otherwise than as a whole."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.bundle import large_manifest, reader
from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.files_on_medium import FilesOnMedium
from appliance.bundle.large_manifest import MARK, LargeManifest, read_large
from appliance.bundle.listing import listing_bytes, parse_listing
from appliance.bundle.manifest import (
    Component,
    Inference,
    ListedFile,
    Manifest,
    PayloadFile,
    Target,
    manifest_bytes,
    parse_manifest,
)
from appliance.bundle.pieces import read_pieces
from appliance.bundle.verify import verify_bundle
from appliance.errors import BundleMalformed, DigestMismatch, FileMissing, FileUnexpected
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.bundle.pieces import Pieces
    from appliance.trust.root import Root

D = "0" * 64
WHEEL = "payload/engine/engine-1.0-py3-none-any.whl"


def pieces_of(data: bytes, size: int) -> Pieces:
    """As if read from a medium that gives ``size`` bytes at a time."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as pieces are asked for
    file.write(data)
    file.flush()
    return read_pieces(
        lambda: nullcontext(file.fileno()), "manifest.json", mark=MARK, limit=len(data), size=size
    )


def file(path: str, size: int = 7, **fields: object) -> PayloadFile:
    sha256 = hashlib.sha256(path.encode()).hexdigest()
    known = PayloadFile(path, size, sha256, "name", "1.0", "MIT", {"kind": "file"})
    return replace(known, **fields)  # type: ignore[arg-type]


def cut(path: str, size: int) -> PayloadFile:
    rest = size % BLOCK_SIZE or BLOCK_SIZE
    parts = [BLOCK_SIZE] * ((size - 1) // BLOCK_SIZE) + [rest]
    return file(
        path, size, slices=tuple(ListedFile(f"{number:064x}", one) for number, one in enumerate(parts))
    )


def manifest_of(components: dict[str, Sequence[PayloadFile]]) -> Manifest:
    """A manifest of these files, which are put in order; engine and model are added."""
    parts = {
        "engine": [file("payload/engine/e.whl")],
        "model": [file("payload/model/m.gguf")],
        **components,
    }
    return Manifest(
        product="demo",
        version="1",
        sequence=1,
        created="2026-01-31T12:00:00Z",
        target=Target("debian", "trixie", "amd64", "3.13"),
        inference=Inference("engine", "model", "m.gguf", "demo"),
        components={
            name: Component("files", tuple(sorted(parts[name], key=lambda one: one.path)))
            for name in sorted(parts)
        },
        files={path: ListedFile(D, 1) for path in ("VERIFY.txt", "blocks.bin", "trust/root.1.json")},
    )


def list_of(manifest: Manifest, data: bytes) -> bytes:
    digests = {path: listed.sha256 for path, listed in manifest.listed().items()}
    return listing_bytes({**digests, "manifest.json": hashlib.sha256(data).hexdigest()})


def read(manifest: Manifest, size: int) -> LargeManifest | None:
    data = manifest_bytes(manifest)
    return read_large(pieces_of(data, size), parse_listing(list_of(manifest, data)))


DEBIAN = {"kind": "debian", "suite": "trixie", "package": "x"}
GOOD: dict[str, dict[str, Sequence[PayloadFile]]] = {
    "two files": {},
    "many alike": {"system": [file(f"payload/system/{n:04d}.deb", n, origin=DEBIAN) for n in range(300)]},
    "many origins": {
        "data": [file(f"payload/data/{n:03d}", origin={"kind": "x", f"key{n}": "y"}) for n in range(40)]
    },
    "text beyond ASCII": {"data": [file(f"payload/data/{n}", name="Größe", licence="©") for n in range(9)]},
    "text that JSON escapes": {"data": [file(f"payload/data/{n}", name='a"b\\c') for n in range(9)]},
    "cut files among others": {
        "weights": [
            cut("payload/weights/b.gguf", 9 << 20),
            *(file(f"payload/weights/{name}") for name in ("a", "b", "b.gguf-x", "b.txt", "c")),
            cut("payload/weights/z/y.gguf", 8 << 20),
        ]
    },
    "a large size": {"data": [file("payload/data/a"), file("payload/data/b", 2**53 - 1)]},
    "components in another order than the list": {
        "a": [file("payload/a/x"), file("payload/a/y")],
        "a-b": [file("payload/a-b/x"), file("payload/a-b/y")],
    },
    "folders within folders": {
        "data": [file(f"payload/data/{path}") for path in ("a", "a-b", "a.c/x", "b/a/x", "b/b", "b/c/y")]
    },
    "a component without files": {"data": []},
    "text like a record": {"data": [file(f"payload/data/{n}", name=',{"licence":') for n in range(3)]},
}


@pytest.mark.parametrize("size", [1, 50, 400, 5000, 1 << 20])
@pytest.mark.parametrize("components", GOOD.values(), ids=GOOD)
def test_it_says_what_the_whole_says(components: dict[str, Sequence[PayloadFile]], size: int) -> None:
    manifest = manifest_of(components)
    large = read(manifest, size)
    assert large
    assert large.manifest == parse_manifest(manifest_bytes(manifest))
    data = manifest_bytes(manifest)
    assert manifest_bytes(large.manifest) == data
    listing = parse_listing(list_of(manifest, data))
    listed = {**manifest.listed(), "manifest.json": ListedFile("", len(data))}
    assert list(large.sizes) == [listed[path].size for path in listing]
    parts = [path for one in manifest.payload() for path, _ in one.parts()]
    assert [listing.paths[number] for number in large.order] == parts


def test_files_are_a_sequence() -> None:
    manifest = manifest_of(GOOD["many alike"])
    large = read(manifest, 2000)
    assert large
    packed, plain = large.manifest.components["system"].files, manifest.components["system"].files
    assert isinstance(packed, FilesOnMedium)
    assert len(packed) == 300
    assert [packed[0], packed[137], packed[-1]] == [plain[0], plain[137], plain[-1]]
    assert packed[5:8] == list(plain[5:8])
    assert list(large.manifest.payload()) == list(manifest.payload())
    assert packed != plain[:-1]
    assert packed != (*plain[:-1], plain[0])
    with pytest.raises(IndexError):
        packed[300]


BAD: dict[str, tuple[bytes, bytes]] = {
    "space after a comma": (
        b',{"licence":"MIT","mode":"0644","name":"b',
        b', {"licence":"MIT","mode":"0644","name":"b',
    ),
    "another mode": (b'"0644","name":"b"', b'"0755","name":"b"'),
    "a number with a zero before": (b'"size":77', b'"size":077'),
    "a number too large": (b'"size":77', b'"size":9007199254740992'),
    "a negative number": (b'"size":77', b'"size":-77'),
    "a fraction": (b'"size":77', b'"size":77.0'),
    "capital digits": (b'"sha256":"', b'"sha256":"A'),
    "an escape nobody needs": (b'"name":"b"', b'"name":"\\u0062"'),
    "a control character": (b'"name":"b"', b'"name":"b\\u0007"'),
    "a bidirectional character": (b'"name":"b"', '"name":"\u202eb"'.encode()),
    "not UTF-8": (b'"name":"b"', b'"name":"\xff"'),
    "no name": (b'"name":"b"', b'"name":""'),
    "a key twice": (b'"name":"b"', b'"name":"b","name":"b"'),
    "keys out of order": (b'"mode":"0644","name":"b"', b'"name":"b","mode":"0644"'),
    "a key too many": (b'"name":"b"', b'"name":"b","note":"x"'),
    "origin without kind": (b'"origin":{"kind":"b"}', b'"origin":{"kinf":"b"}'),
    "origin out of order": (b'"origin":{"kind":"b"}', b'"origin":{"kind":"b","a":"b"}'),
    "a file of another component": (b"payload/data/b", b"payload/model/b"),
    "a file of no component": (b"payload/data/b", b"payload/b"),
    "a path that is not listed": (b"payload/data/b", b"payload/data/bb"),
    "a path out of order": (b"payload/data/b", b"payload/data/d"),
    "a path twice": (b"payload/data/b", b"payload/data/a"),
    "one file less": (b"payload/data/b", b""),
    "a number for the files": (b'"engine":{"files":[', b'"engine":{"files":[0,'),
    "a number after the files": (b'],"kind":"files"},"model"', b',0],"kind":"files"},"model"'),
    "other bytes at the end": (b'"version":"1"}', b'"version":"1"} '),
    "files of the bundle in a component": (b'"files":[{"path"', b'"files":[{"licence"'),
    "an engine that is not there": (b'"engine":"engine"', b'"engine":"motor"'),
    "a file served that is not there": (b'"file":"m.gguf"', b'"file":"n.gguf"'),
    "a root file more": (b'"files":[{"path":"VERIFY.txt"', b'"files":[{"path":"AVERIFY.txt"'),
    "another component's kind": (b'"kind":"files"', b'"kind":"Files"'),
}


@pytest.mark.parametrize(("old", "new"), BAD.values(), ids=BAD)
def test_what_is_refused_as_a_whole_is_not_read_in_pieces(old: bytes, new: bytes) -> None:
    manifest = manifest_of(
        {
            "data": [
                file("payload/data/0", name="0", origin={"kind": "0"}),
                file("payload/data/a", name="a", origin={"kind": "a"}),
                file("payload/data/b", 77, name="b", origin={"kind": "b"}),
                file("payload/data/c", name="c", origin={"kind": "c"}),
            ]
        }
    )
    good = manifest_bytes(manifest)
    assert old in good
    if old and not new:
        start = good.index(b',{"licence":"MIT","mode":"0644","name":"b"')
        bad = good[:start] + good[good.index(MARK, start + 1) :]
    else:
        bad = good.replace(old, new, 1)
    listing = parse_listing(list_of(manifest, bad))
    for size in (1, 300, 1 << 20):
        assert read_large(pieces_of(good, size), parse_listing(list_of(manifest, good)))
        assert read_large(pieces_of(bad, size), listing) is None


COLLISIONS = {
    "a cut file, and the same name whole": ["payload/data/x.gguf"],
    "a cut file, and a folder": ["payload/data/x.gguf/y"],
    "a cut file in other letters": ["payload/data/X.gguf"],
    "a cut file, and a folder in other letters": ["payload/data/X.GGUF/y"],
}


@pytest.mark.parametrize("others", COLLISIONS.values(), ids=COLLISIONS)
def test_a_cut_file_s_own_name_is_not_another_s(others: list[str]) -> None:
    manifest = manifest_of({"data": [cut("payload/data/x.gguf", 9 << 20), *map(file, others)]})
    with pytest.raises(BundleMalformed):
        parse_manifest(manifest_bytes(manifest))
    assert read(manifest, 1 << 20) is None


names = st.text("aB-.0", min_size=1, max_size=3)
texts = st.text('ab"\\é ~\u200b', min_size=1, max_size=3)
origins = st.dictionaries(st.sampled_from(["kind", "a", "suite"]), texts, max_size=3)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    components: dict[str, list[PayloadFile]] = {}
    for name in draw(st.sets(st.sampled_from(["a", "a-b", "data"]))):
        paths = draw(st.sets(st.lists(names, min_size=1, max_size=3).map("/".join), max_size=6))
        components[name] = [
            replace(
                cut(f"payload/{name}/{path}", 9 << 20)
                if draw(st.booleans()) and draw(st.booleans())
                else file(f"payload/{name}/{path}", draw(st.integers(0, 2**53))),
                name=draw(texts),
                origin={"kind": "k", **draw(origins)},
            )
            for path in sorted(paths)
        ]
    return manifest_of(components)


@settings(deadline=None)  # a loaded machine is no fault
@given(manifests(), st.integers(1, 3000), st.data())
def test_both_ways_of_reading_agree(manifest: Manifest, size: int, data: st.DataObject) -> None:
    """Whatever is read in pieces is what is read as a whole; with bytes exchanged, too."""
    try:
        good = manifest_bytes(manifest)
        listing = list_of(manifest, good)
        parse_listing(listing)
    except (BundleMalformed, ValueError):
        return
    position = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.binary(max_size=2))
    for text in (good, good[:position] + other + good[position + 1 :]):
        large = read_large(pieces_of(text, size), parse_listing(listing))
        try:
            whole = parse_manifest(text)
        except BundleMalformed:
            assert large is None
            continue
        if text == good:
            assert large, "nothing that keeps the rules is too uncommon"
        if large:
            assert large.manifest == whole


def test_a_large_bundle_verifies_and_its_faults_are_named(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bundle, taken for a large one."""
    root = root_bytes(two_of_three)
    small = verify_bundle(bundle, root, progress=Silent())
    seen = []

    def watch(*arguments: object) -> LargeManifest | None:
        seen.append(read_large(*arguments))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(reader, "LARGE", 0)
    monkeypatch.setattr(large_manifest, "read_large", watch)
    large = verify_bundle(bundle, root, progress=Silent())
    assert len(seen) == 1
    assert isinstance(large.manifest.components["engine"].files, FilesOnMedium)
    assert (large.manifest, large.size) == (small.manifest, small.size)
    assert dict(large.files) == dict(small.files)


def test_the_files_of_a_large_bundle_are_read_from_where_it_lay(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LARGE", 0)
    monkeypatch.chdir(bundle.parent)
    large = verify_bundle(Path(bundle.name), root_bytes(two_of_three), progress=Silent())
    files = large.manifest.components["engine"].files
    monkeypatch.chdir("/")
    assert [file.path for file in files] == [WHEEL, "payload/engine/requirements.txt"]
    manifest = bundle / "manifest.json"
    good = manifest.read_bytes()
    manifest.write_bytes(good.replace(b"engine-1.0", b"engine-2.0"))
    with pytest.raises(DigestMismatch, match="was changed after"):
        list(files)
    manifest.rename(bundle / "other.json")
    manifest.symlink_to("other.json")
    with pytest.raises(FileUnexpected):
        list(files)
    manifest.unlink()
    with pytest.raises(FileMissing):
        list(files)
    bundle.rename(bundle.parent / "elsewhere")
    with pytest.raises(DigestMismatch, match="cannot be read"):
        list(files)
