"""Sets of files by number: what belongs in which folder, and what is known of each file."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.bundle.fileset import A_FOLDER, Children, ListedFiles, Sizes, children_of
from appliance.bundle.listing import listing_bytes, parse_listing
from appliance.bundle.lists import Lists
from appliance.bundle.manifest import ListedFile

FILES = ["b/x", "a", "b/c/y", "b/a", "d/e/f/g"]


def test_each_folder_has_its_files_and_folders() -> None:
    children = Children(FILES)
    assert sorted(children) == ["", "b", "b/c", "d", "d/e", "d/e/f"]
    assert children[""] == {"a": 1, "b": A_FOLDER, "d": A_FOLDER}
    assert children["b"] == {"x": 0, "a": 3, "c": A_FOLDER}
    assert children["d/e"] == {"f": A_FOLDER}
    with pytest.raises(KeyError):
        children["c"]


@settings(deadline=None)
@given(st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)))
def test_every_file_is_in_one_folder(paths: set[str]) -> None:
    children = children_of(paths)
    found = {
        number: f"{folder}/{name}".lstrip("/")
        for folder in children
        for name, number in children[folder].items()
        if number != A_FOLDER
    }
    assert [found[number] for number in sorted(found)] == list(children.files)
    assert set(children.files) == paths


def test_sizes_are_in_the_order_of_the_files() -> None:
    sizes = Sizes(FILES, array("q", [5, 4, 3, 2, 1 << 40]))
    assert dict(sizes) == {"b/x": 5, "a": 4, "b/c/y": 3, "b/a": 2, "d/e/f/g": 1 << 40}
    assert list(sizes.values()) == [5, 4, 3, 2, 1 << 40]
    assert "b" not in sizes
    with pytest.raises(KeyError):
        sizes["b"]


def test_listed_files_join_list_and_sizes() -> None:
    digests = {
        path: f"{number:064x}" for number, path in enumerate(["VERIFY.txt", "blocks.bin", "manifest.json"])
    }
    files = ListedFiles(Lists(parse_listing(listing_bytes(digests))), array("q", [1, 2, 3 << 40]))
    wanted = {
        path: ListedFile(digests[path], size) for path, size in zip(digests, [1, 2, 3 << 40], strict=True)
    }
    assert dict(files.items()) == {path: files[path] for path in files} == wanted
    assert list(files.values()) == list(wanted.values())
    assert (len(files), files.size) == (3, 3 + (3 << 40))
    assert "payload" not in files
    with pytest.raises(KeyError):
        files["payload"]
