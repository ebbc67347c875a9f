"""The files of a lock as files of a bundle: the same bytes whether it is kept as text or as objects."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import draft, manifest_pieces
from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.draft import draft_manifest
from appliance.bundle.large_manifest import MARK
from appliance.bundle.listing import listing_bytes
from appliance.bundle.locked_files import LockedFiles
from appliance.bundle.manifest import ListedFile, file_values, manifest_bytes
from appliance.bundle.manifest_pieces import listed_parts
from appliance.definition.lock import lock_text, read_lock_bytes
from appliance.definition.lock_records import StoredArtefacts
from appliance.trust.canonical import canonical_bytes
from tests.unit.definition.test_lock_records import ARTEFACTS, artefact, lock_of

if TYPE_CHECKING:
    from appliance.definition.lock import Lock
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

SLICE = 2 * BLOCK_SIZE
LONG = artefact("long", size=2 * SLICE + 5)
SMALL = ["VERIFY.txt", "trust/root.1.json"]


def stored(lock: Lock) -> Lock:
    read = read_lock_bytes(lock_text(lock).encode())
    assert all(isinstance(each.artefacts, StoredArtefacts) for each in read.components.values())
    return read


LOCK = lock_of(e=ARTEFACTS[:2], m=[each for each in [*ARTEFACTS, LONG] if each.size < 1 << 40])
#: One that a bundle can hold: every text is printable and there, every origin has a kind.
COMMON = lock_of(e=ARTEFACTS[:2], m=[ARTEFACTS[0], *ARTEFACTS[2:5], ARTEFACTS[7], LONG])


@pytest.mark.parametrize("lock", [LOCK, stored(LOCK)], ids=["objects", "text"])
def test_files_are_those_of_the_artefacts(lock: Lock) -> None:
    files = LockedFiles("m", lock.components["m"].artefacts, SLICE)
    names = ("size", "sha256", "name", "version", "licence")
    for file, each in zip(files, LOCK.components["m"].artefacts, strict=True):
        assert file.path == f"payload/m/{each.path}"
        assert [getattr(file, name) for name in names] == [getattr(each, name) for name in names]
        assert file.origin == each.origin
        assert [part.size for part in file.slices] == ([SLICE, SLICE, 5] if each.path == "long" else [])
    assert files[3] == list(files)[3]
    assert files[1:3] == list(files)[1:3]
    assert list(files.brief()) == [(file.path, file.size, file.sha256) for file in files]
    assert list(files.parts()) == [(path, part.sha256) for file in files for path, part in file.parts()]


def test_most_records_want_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has a backslash, or a brace in its origin, does; the rest only for an origin not seen before."""
    artefacts = [
        *[artefact(f"a{number}") for number in range(5)],
        artefact("b", licence='a "quoted": text'),
        artefact("c", origin={"kind": "generated", "sentence": "a } b"}),
        artefact("d", licence="Çelik-Lizenz", name="two  spaces"),
        artefact("e"),
    ]
    lock = stored(lock_of(m=artefacts))
    parsed = []

    def note(text: str | bytes) -> object:
        parsed.append(text)
        return real(text)

    real = json.loads
    monkeypatch.setattr(json, "loads", note)
    files = list(LockedFiles("m", lock.components["m"].artefacts, SLICE))
    monkeypatch.undo()
    assert len(parsed) == 3
    names = ("size", "sha256", "name", "version", "licence", "origin")
    for file, each in zip(files, artefacts, strict=True):
        assert [getattr(file, name) for name in names] == [getattr(each, name) for name in names]


def test_what_files_have_in_common_is_kept_once() -> None:
    origins = [{"kind": "file"}, {"kind": "generated", "generator": "x"}]
    lock = stored(lock_of(m=[artefact(f"a{number}", origin=origins[number % 2]) for number in range(6)]))
    files = list(LockedFiles("m", lock.components["m"].artefacts, SLICE))
    assert len({id(file.origin) for file in files}) == 2
    assert len({id(file.licence) for file in files}) == len({id(file.version) for file in files}) == 1


@pytest.mark.parametrize("lock", [LOCK, stored(LOCK)], ids=["objects", "text"])
def test_records_are_canonical(lock: Lock) -> None:
    files = LockedFiles("m", lock.components["m"].artefacts, SLICE)
    assert list(files.records()) == [canonical_bytes(file_values(file)) for file in files]


def test_slices_that_were_found_are_in_files_parts_and_records() -> None:
    found = tuple(ListedFile(digit * 64, size) for digit, size in (("1", SLICE), ("2", SLICE), ("3", 5)))
    files = LockedFiles("m", stored(LOCK).components["m"].artefacts, SLICE)
    files = files.with_slices({"payload/m/long": found})
    [long] = [file for file in files if file.path == "payload/m/long"]
    assert long.slices == found
    assert ("payload/m/long.slice-0002", "3" * 64) in list(files.parts())
    assert canonical_bytes(file_values(long)) in list(files.records())


@pytest.mark.parametrize("piece", [1, 700, 1 << 20])
@pytest.mark.parametrize("lock", [COMMON, stored(COMMON)], ids=["objects", "text"])
def test_a_manifest_in_pieces_is_the_manifest(
    lock: Lock, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_pieces, "_PIECE", piece)
    manifest = draft_manifest(lock, SMALL, SLICE)
    pieces = list(manifest_pieces.manifest_pieces(manifest))
    assert b"".join(pieces) == manifest_bytes(manifest)
    assert all(each.startswith(MARK) for each in pieces[1:])
    assert (len(pieces) > 2) is (piece < 1000)
    whole = {name: replace(part, files=tuple(part.files)) for name, part in manifest.components.items()}
    plain = replace(manifest, components=whole)
    assert list(manifest_pieces.manifest_pieces(plain)) == pieces
    assert dict(listed_parts(plain)) == dict(listed_parts(manifest))
    assert dict(listed_parts(plain)) == {path: file.sha256 for path, file in plain.listed().items()}


@pytest.mark.parametrize("lock", [COMMON, stored(COMMON)], ids=["objects", "text"])
def test_a_draft_is_judged_by_pieces(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never as a whole, which takes a gigabyte for 200,000 files, unless something is wrong."""
    monkeypatch.setattr(draft, "judge_values", lambda _: pytest.fail("judged as a whole"))
    assert len(draft_manifest(lock, SMALL, SLICE).components["m"].files) == 6


def test_a_list_is_sorted_by_the_bytes_of_paths() -> None:
    paths = ["a/b", "a", "a-b", "a.b", "a/", "a~", "B"]
    lines = listing_bytes(dict.fromkeys(paths, "0" * 64)).decode().splitlines()
    assert [line[66:] for line in lines] == sorted(paths, key=str.encode)
    assert all(line[:66] == "0" * 64 + "  " for line in lines)


def test_a_bundle_is_the_same_from_a_lock_that_is_kept_as_text(
    maker: BundleMaker, two_of_three: Root
) -> None:
    data = os.urandom(2 * BLOCK_SIZE + 17)
    lock = maker.lock(
        {
            "engine": ("python", {"engine-1.0-py3-none-any.whl": b"wheel"}),
            "extras": ("files", {f"d{number // 7}/f{number}": b"%d" % number for number in range(40)}),
            "model": ("tiny-gguf", {"tiny.gguf": data, "tiny.gguf-notes": b"x", "z": b""}),
        }
    )
    bundles = [
        maker.write(name, two_of_three, each, slice_size=BLOCK_SIZE)
        for name, each in (("objects", lock), ("text", stored(lock)))
    ]
    for path in sorted(bundles[0].rglob("*")):
        other = bundles[1] / path.relative_to(bundles[0])
        assert path.is_dir() or path.read_bytes() == other.read_bytes()
    assert (bundles[0] / "payload/model/tiny.gguf.slice-0002").stat().st_size == 17
