"""Paths that lead elsewhere, or that two systems on the way would read differently, in what holders signed.

Each is put into the list and into the manifest, which must agree; either refuses it by itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from appliance.bundle.media.label import parse_label
from appliance.errors import BundleMalformed, LabelInvalid
from appliance.trust.canonical import canonical_bytes
from tests.corpus.groups import cases
from tests.corpus.parsers import json_parsers, manifest_bytes
from tests.independent.agreement import parse_listing, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

DIGEST: Final = "a" * 64
HERE: Final = "payload/model/"
PATHS: Final = {
    "parent": "../secret",
    "parent within": HERE + "../../../etc/passwd",
    "parent at the end": HERE + "..",
    "parent, then back": "payload/../payload/model/m2",
    "itself": HERE + "./m2",
    "nothing between": "payload//model/m2",
    "a folder": HERE,
    "absolute": "/etc/passwd",
    "twice absolute": "//server/share",
    "at home": "~/.ssh/authorized_keys",
    "of a user": "~root/x",
    "backslash": HERE + "..\\..\\x",
    "drive letter": "C:/x",
    "drive letter, relative": "C:x",
    "share of Windows": "\\\\server\\share",
    "another stream": HERE + "m2:stream",
    "an address": "https://example.org/x",
    "percent": HERE + "%2e%2e%2fx",
    "a variable": HERE + "$HOME",
    "a command": HERE + "$(id)",
    "a command, ended": HERE + "x;id",
    "a pipe": HERE + "x|id",
    "a wildcard": HERE + "*",
    "a question mark": HERE + "m?",
    "brackets": HERE + "[m]",
    "quotes": HERE + "'x'",
    "a double quote": HERE + 'x"',
    "a space": HERE + "m 2",
    "a space at the end": HERE + "m2 ",
    "a tab": HERE + "m\t2",
    "a NUL": HERE + "m\x00.txt",
    "a line feed": HERE + "m\nx",
    "a carriage return": HERE + "m\rx",
    "an escape sequence": HERE + "\x1b[2J",
    "a bell": HERE + "\x07",
    "delete": HERE + "m\x7f",
    "a leading dash": HERE + "-rf",
    "two leading dashes": HERE + "--checkpoint-action=exec=sh",
    "a folder with a dash": "payload/-model/x",
    "a dot at the end": HERE + "m2.",
    "a folder with a dot at the end": "payload/model./x",
    "three dots": HERE + "...",
    "CON": HERE + "CON",
    "nul.txt": HERE + "nul.txt",
    "com1.tar.gz": HERE + "com1.tar.gz",
    "Lpt9": HERE + "Lpt9",
    "a folder AUX": "payload/model/aux/x",
    "com0": HERE + "com0",
    "a short name": HERE + "GIT~1",
    "a short name with a suffix": HERE + "MODEL~1.GGU",
    "umlaut": HERE + "mü",
    "umlaut, decomposed": HERE + "mu\u0308",
    "cyrillic that looks like Latin": HERE + "m\u043edel",
    "full width": HERE + "\uff0e\uff0e\uff0fx",
    "one dot leader": HERE + "\u2024\u2024/x",
    "division slash": HERE + "..\u2215x",
    "right to left": HERE + "\u202egpj.exe",
    "zero width": HERE + "m\u200b2",
    "byte order mark": "\ufeffpayload/model/m2",
    "Turkish i": HERE + "\u0130",
    "long s": HERE + "\u017f",
    "Kelvin": HERE + "\u212a",
    "part of 256 bytes": HERE + "x" * 256,
    "path of 513 bytes": HERE + "/".join(["x" * 125] * 4) + "/y",
    "33 parts": HERE + "/".join("x" * 31),
    "a thousand parts": HERE + "/".join("x" * 240),
    "empty": "",
    "dot": ".",
    "outside the payload": "usr/bin/x",
    "the payload itself": "payload",
    "beside the components": "payload/m2",
    "another component's": "payload/engine/../model/x",
    "a slice's name": HERE + "m2.slice-0000",
    "a signature's": "trust/SHA256SUMS.alice.sig",
    "the list's": "trust/SHA256SUMS",
    "a label's": "volume.json",
    "a hidden folder's": ".git/config",
}
COLLIDING: Final[dict[str, Sequence[str]]] = {
    "twice": (HERE + "m2", HERE + "m2"),
    "in capitals": (HERE + "Q", HERE + "q"),
    "all in capitals": (HERE + "ABC", HERE + "abc"),
    "folders in capitals": (HERE + "A/x", HERE + "a/y"),
    "folder and file in capitals": (HERE + "A/x", HERE + "a"),
    "file and folder": (HERE + "x", HERE + "x/y"),
    "file and folder, deep": (HERE + "x/y", HERE + "x/y/z/w"),
    "file and folder, with one between": (HERE + "x", HERE + "x-1", HERE + "x/y"),
    "out of order": (HERE + "n", HERE + "m"),
}


def listed(*paths: str, ordered: bool = True) -> bytes:
    """A list of these, and of what every bundle has."""
    every = ["VERIFY.txt", "blocks.bin", "manifest.json", *paths]
    lines = [f"{DIGEST}  {path}\n".encode() for path in every]
    return b"".join(sorted(lines, key=lambda line: line[66:]) if ordered else lines)


def manifest_of(*paths: str) -> bytes:
    """A manifest with these beside the one it has."""
    values = json.loads(manifest_bytes())
    files = values["components"]["model"]["files"]
    values["components"]["model"]["files"] = files + [dict(files[0], path=path) for path in paths]
    values["components"]["model"]["files"].sort(key=lambda file: file["path"].encode("utf-8"))
    return canonical_bytes(values)


@pytest.mark.group(1)
@pytest.mark.control
def test_good_paths() -> None:
    good = [HERE + "m2", HERE + "a_b~c@d=e+f.g-h", HERE + "x/" * 20 + "y", HERE + "x" * 255]
    assert len(parse_listing(listed(*good))) == 3 + len(good)
    assert len(list(parse_manifest(manifest_of(*good)).payload())) == 1 + len(good)


#: Of the list, these are wrong only together with what the manifest says of components.
ONLY_IN_A_MANIFEST: Final = {"beside the components", "a slice's name"}


@pytest.mark.parametrize(
    "path", cases(1, {name: path for name, path in PATHS.items() if name not in ONLY_IN_A_MANIFEST})
)
def test_a_path_in_the_list(path: str) -> None:
    with pytest.raises(BundleMalformed) as caught:
        parse_listing(listed(path))
    assert f"{caught.value.message}{caught.value.found}".isprintable()


@pytest.mark.parametrize("path", cases(1, PATHS))
def test_a_path_in_the_manifest(path: str) -> None:
    with pytest.raises(BundleMalformed) as caught:
        parse_manifest(manifest_of(path))
    assert f"{caught.value.message}{caught.value.found}".isprintable()


@pytest.mark.parametrize("path", cases(1, PATHS))
def test_a_path_of_the_served_model(path: str) -> None:
    """It is joined to the model's folder, on the node."""
    values = json.loads(manifest_bytes())
    values["inference"]["file"] = path
    with pytest.raises(BundleMalformed):
        parse_manifest(canonical_bytes(values))


@pytest.mark.parametrize(
    "name",
    cases(1, {name: name for name in ("..", ".", "", "a/b", "-x", "A", "ä", "x" * 65, "a.b", "a b")}),
)
@pytest.mark.parametrize("place", ["component", "kind", "product", "engine", "suite"])
def test_a_name_that_becomes_part_of_a_path(place: str, name: str) -> None:
    values = json.loads(manifest_bytes())
    if place == "component":
        values["components"][name] = {"kind": "files", "files": []}
    elif place == "kind":
        values["components"]["engine"]["kind"] = name
    elif place == "product":
        values["product"] = name
    elif place == "engine":
        values["inference"]["engine"] = name
    else:
        values["target"]["suite"] = name
    with pytest.raises(BundleMalformed):
        parse_manifest(canonical_bytes(values))


LABEL_PATHS = {
    name: path
    for name, path in PATHS.items()
    if name not in {"beside the components", "a slice's name", "another component's"}
}


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("path", cases(1, LABEL_PATHS))
def test_a_path_in_a_label(path: str, place: str) -> None:
    values = json.loads(json_parsers()["label"].good)
    values["volumes"][0][place] = path
    with pytest.raises(LabelInvalid):
        parse_label(canonical_bytes(values))


@pytest.mark.parametrize("paths", cases(2, {name: (list(each),) for name, each in COLLIDING.items()}))
def test_paths_that_collide_in_the_list(paths: list[str]) -> None:
    with pytest.raises(BundleMalformed):
        parse_listing(listed(*paths, ordered=paths == sorted(paths)))


@pytest.mark.parametrize(
    "paths",
    cases(2, {name: (list(each),) for name, each in COLLIDING.items() if name != "out of order"}),
)
def test_paths_that_collide_in_the_manifest(paths: list[str]) -> None:
    with pytest.raises(BundleMalformed):
        parse_manifest(manifest_of(*paths))


@pytest.mark.group(2)
@pytest.mark.parametrize(
    "wrong",
    ["verify.txt", "Manifest.json", "BLOCKS.BIN", "Payload/model/m2", "trust/Root.1.json", "Parity/x"],
)
def test_a_name_of_the_format_in_another_case(wrong: str) -> None:
    with pytest.raises(BundleMalformed):
        parse_listing(listed(wrong))
