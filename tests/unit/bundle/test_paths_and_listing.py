"""Paths that every system can hold, and a list with one spelling."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.bundle import listing
from appliance.bundle.list_kind import INDEX, SHA384
from appliance.bundle.listing import listing_bytes, parse_listing
from appliance.bundle.paths import (
    check_path,
    check_paths,
    folders_of,
    parity_number,
    parity_path,
    provenance_holder,
    provenance_path,
    signature_holder,
)
from appliance.errors import BundleMalformed

if TYPE_CHECKING:
    from pathlib import Path

D = "0" * 64
ALWAYS = {"VERIFY.txt": D, "blocks.bin": D, "manifest.json": D}

GOOD_PATHS = [
    "manifest.json",
    "payload/engine/xllamacpp-0.2.0-cp313-cp313-manylinux_2_28_x86_64.whl",
    "payload/system/libstdc++6_14.2.0-19_amd64.deb",
    "payload/system/login_4.16.0-2+really2.41-5_amd64.deb",
    "payload/system/netplan.io_1.1.2-7~bpo1_amd64.deb",
    "payload/model/model@main=q4",
    "payload/x/.hidden",
    "payload/x/console.txt",
    "/".join(["a"] * 32),
    "a" * 255,
]

BAD_PATHS = {
    "empty": "",
    "absolute": "/etc/passwd",
    "parent": "../x",
    "parent inside": "payload/../../x",
    "parent at the end": "payload/..",
    "dot": "./x",
    "dot inside": "payload/./x",
    "empty part": "payload//x",
    "folder": "payload/",
    "backslash": "payload\\x",
    "drive": "C:\\x",
    "NUL": "payload/x\0y",
    "line feed": "payload/x\ny",
    "carriage return": "payload/x\r",
    "tab": "payload/x\ty",
    "space": "payload/x y",
    "percent": "payload/x%2e%2e",
    "colon, which FAT and exFAT refuse": "payload/epoch_1:2.0.txt",
    "option": "payload/-rf",
    "option first": "-rf",
    "trailing dot": "payload/x.",
    "three dots": "payload/...",
    "device": "payload/aux",
    "device with suffix": "payload/NUL.txt",
    "device com": "payload/com1.gguf/x",
    "short name": "payload/GIT~1/x",
    "short name with suffix": "payload/longfi~1.txt",
    "unicode": "payload/é",
    "bidirectional": "payload/\u202etxt.exe",
    "zero width": "payload/a\u200bb",
    "full-width slash": "payload\uff0fx",
    "escape": "payload/\x1b[2J",
    "shell": "payload/$(reboot)",
    "glob": "payload/*",
    "quote": "payload/x'",
    "part too long": "a" * 256,
    "too long": "/".join(["a" * 100] * 6),
    "too deep": "/".join(["a"] * 33),
}


@pytest.mark.parametrize("path", GOOD_PATHS)
def test_paths_of_real_files_are_accepted(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize("path", BAD_PATHS.values(), ids=BAD_PATHS)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(BundleMalformed) as caught:
        check_path(path)
    assert caught.value.message.isprintable()
    assert caught.value.message.isascii()


@pytest.mark.parametrize(
    "paths",
    [
        ("payload/a", "payload/a/b"),
        ("payload/a", "payload/a.b", "payload/a/b"),
        ("payload/a/b/c", "payload/a"),
        ("payload/Model", "payload/model"),
        ("payload/M/x", "payload/m/y"),
        ("payload/m/x", "payload/M"),
        ("manifest.json", "MANIFEST.json"),
    ],
)
def test_paths_that_collide_are_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(BundleMalformed):
        check_paths(paths)


def test_the_folders_of_a_path() -> None:
    assert list(folders_of("a/b/c")) == ["a", "a/b"]
    assert list(folders_of("a")) == []


@pytest.mark.parametrize(
    "name",
    ["SHA256SUMS", "SHA256SUMS.sig", "SHA256SUMS..sig", "SHA256SUMS.A.sig", "SHA256SUMS.-a.sig",
     "SHA256SUMS.a-.sig", "SHA256SUMS.a.sig.bak", "xSHA256SUMS.a.sig", "SHA256SUMS.a.sig\n",
     f"SHA256SUMS.{'a' * 64}.sig", "SHA256SUMS.é.sig", "SHA256SUMS.a b.sig", "SHA256SUMS.*.sig"],
)  # fmt: skip
def test_only_signatures_have_a_signature_s_name(name: str) -> None:
    assert signature_holder("SHA256SUMS.alice-2.sig", INDEX) == "alice-2"
    assert signature_holder(name, INDEX) is None


@pytest.mark.parametrize(
    "name",
    ["provenance.dsse.json", "provenance..dsse.json", "provenance.A.dsse.json", "provenance.a-.dsse.json",
     "provenance.a.json", "xprovenance.a.dsse.json", "provenance.a.dsse.json~", "provenance.é.dsse.json"],
)  # fmt: skip
def test_only_provenance_has_its_name(name: str) -> None:
    assert provenance_path("alice-2") == "trust/provenance.alice-2.dsse.json"
    assert provenance_holder("provenance.alice-2.dsse.json") == "alice-2"
    assert provenance_holder(name) is None


@pytest.mark.parametrize("path", ["parity/set-1.par2", "parity/set-00001.par2", "parity/set-0001.par2\n"])
def test_parity_files_have_four_digits(path: str) -> None:
    assert parity_path(17) == "parity/set-0017.par2"
    assert parity_number("parity/set-0017.par2") == 17
    assert parity_number(path) is None


OPTIONAL = ["bootstrap.sh", "sbom/bundle.cdx.json", "parity/set-0000.par2", "parity/set-0001.par2"]


def test_a_list_may_name_the_optional_files() -> None:
    digests = {**ALWAYS, **dict.fromkeys(OPTIONAL, D), "payload/a/x": D}
    assert parse_listing(listing_bytes(digests)) == digests
    for absent in OPTIONAL[:2]:
        assert parse_listing(listing_bytes({path: D for path in digests if path != absent})), (
            "each is optional by itself"
        )


def test_a_list_is_read_back_in_order() -> None:
    digests = {**ALWAYS, "payload/a/x": "1" * 64, "payload/a-b/x": "2" * 64, "trust/root.1.json": "3" * 64}
    data = listing_bytes(digests)
    assert parse_listing(data) == digests
    assert [line.split(b"  ")[1] for line in data.splitlines()] == sorted(path.encode() for path in digests)


def test_sha256sum_reads_the_list(bundle: Path) -> None:
    command = ["sha256sum", "--strict", "--quiet", "--check", "trust/SHA256SUMS"]
    assert subprocess.run(command, cwd=bundle, check=False).returncode == 0


BASE = listing_bytes({**ALWAYS, "payload/a/x": "a" * 64})
LAST = BASE.splitlines(keepends=True)[-1]
BAD_LISTS = {
    "empty": b"",
    "line feed": b"\n",
    "no last line feed": BASE[:-1],
    "blank line at the end": BASE + b"\n",
    "blank line first": b"\n" + BASE,
    "carriage returns": BASE.replace(b"\n", b"\r\n"),
    "byte order mark": b"\xef\xbb\xbf" + BASE,
    "UTF-16": BASE.decode().encode("utf-16"),
    "capital digits": BASE.replace(b"a" * 64, b"A" * 64),
    "63 digits": BASE.replace(b"a" * 64, b"a" * 63),
    "65 digits": BASE.replace(b"a" * 64, b"a" * 65),
    "binary mark": BASE.replace(b"  payload", b" *payload"),
    "one space": BASE.replace(b"  payload", b" payload"),
    "three spaces": BASE.replace(b"  payload", b"   payload"),
    "tab": BASE.replace(b"  payload", b"\tpayload"),
    "trailing space": BASE.replace(b"/x\n", b"/x \n"),
    "escaped line": BASE.replace(LAST, b"\\" + LAST.replace(b"a/x", b"a\\n/x")),
    "BSD style": BASE.replace(LAST, b"SHA256 (payload/a/x) = " + b"a" * 64 + b"\n"),
    "comment": b"# list\n" + BASE,
    "out of order": LAST + BASE.replace(LAST, b""),
    "repeated": BASE + LAST,
    "repeated with another digest": BASE + LAST.replace(b"a" * 64, b"b" * 64),
    "parent": BASE.replace(b"payload/a/x", b"payload/../x"),
    "absolute": BASE.replace(b"payload/a/x", b"/payload/a/x"),
    "NUL": BASE.replace(b"payload/a/x", b"payload/a/x\0"),
    "not ASCII": BASE.replace(b"payload/a/x", "payload/a/é".encode()),
    "itself": listing_bytes({**ALWAYS, "trust/SHA256SUMS": D}),
    "a signature": listing_bytes({**ALWAYS, "trust/SHA256SUMS.alice.sig": D}),
    "a gap between roots": listing_bytes({**ALWAYS, "trust/root.1.json": D, "trust/root.3.json": D}),
    "two revocations": listing_bytes({**ALWAYS, "trust/revoked.1.json": D, "trust/revoked.2.json": D}),
    "revocation zero": listing_bytes({**ALWAYS, "trust/revoked.0.json": D}),
    "a signature of no root": listing_bytes({**ALWAYS, "trust/root.1.alice.3f1c9a2b.sig": D}),
    "a signature of no known kind": listing_bytes(
        {**ALWAYS, "trust/root.1.json": D, "trust/root.1.alice.3f1c9a2b.pgp": D}
    ),
    "root zero": listing_bytes({**ALWAYS, "trust/root.0.json": D}),
    "root with zeros": listing_bytes({**ALWAYS, "trust/root.01.json": D}),
    "another file at the top": listing_bytes({**ALWAYS, "autorun.inf": D}),
    "another file in trust": listing_bytes({**ALWAYS, "trust/notes.txt": D}),
    "provenance": listing_bytes({**ALWAYS, "trust/provenance.alice.dsse.json": D}),
    "another table of parts": listing_bytes({**ALWAYS, "sbom/other.cdx.json": D}),
    "another program": listing_bytes({**ALWAYS, "install.sh": D}),
    "parity without its first": listing_bytes({**ALWAYS, parity_path(1): D}),
    "parity with a gap": listing_bytes({**ALWAYS, parity_path(0): D, parity_path(2): D}),
    "something else in parity": listing_bytes({**ALWAYS, "parity/set-0000.vol00+10.par2": D}),
    "a label": listing_bytes({**ALWAYS, "volume.json": D}),
    "payload a file": listing_bytes({**ALWAYS, "payload": D}),
    "no manifest": listing_bytes({"VERIFY.txt": D, "blocks.bin": D}),
    "no block index": listing_bytes({"VERIFY.txt": D, "manifest.json": D}),
    "no review page": listing_bytes({"blocks.bin": D, "manifest.json": D}),
    "case": listing_bytes({**ALWAYS, "payload/a/x": D, "payload/a/X": D}),
    "file and folder": listing_bytes({**ALWAYS, "payload/a": D, "payload/a/x": D}),
    "endless line": b"a" * 64 + b"  payload/" + b"x" * 1_000_000 + b"\n",
}


@pytest.mark.parametrize("data", BAD_LISTS.values(), ids=BAD_LISTS)
def test_other_lists_are_refused(data: bytes) -> None:
    assert parse_listing(BASE)
    with pytest.raises(BundleMalformed):
        parse_listing(data)


def test_an_endless_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_BYTES", len(BASE) - 1)
    with pytest.raises(BundleMalformed, match="too long"):
        parse_listing(BASE)


@settings(deadline=None)
@given(
    st.binary(max_size=400)
    | st.lists(st.sampled_from([*BASE.splitlines(keepends=True), b"x"])).map(b"".join)
)
def test_any_bytes_are_read_in_one_spelling_or_refused(data: bytes) -> None:
    try:
        digests = parse_listing(data)
    except BundleMalformed:
        return
    assert listing_bytes(digests) == data


SOME_PATHS = st.lists(
    st.lists(st.text("aB-.~1cn", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join)
    | st.sampled_from(["con", "com1.x", "nul/x", "a/AUX.y", "GIT~1", "x~y", "a/b", "a/B", "A/b", "a"]),
    max_size=8,
)


@settings(deadline=None)
@given(SOME_PATHS)
def test_what_is_read_at_a_glance_keeps_every_rule(paths: list[str]) -> None:
    data = listing_bytes({**ALWAYS, **{f"payload/{path}": D for path in paths}})
    for kind, text in ((INDEX, data), (SHA384, as_sha384(data))):
        starts = listing._read_common(text, kind)
        if starts is not None:
            assert starts == listing._read_strictly(text, kind)


def as_sha384(data: bytes) -> bytes:
    """A list of the same files, and of the first list, by longer digests."""
    digests = {line[66:]: "a" * 96 for line in data.decode().splitlines()}
    return listing_bytes({**digests, "trust/SHA256SUMS": "b" * 96})


#: Of the lists that are wrong, those that are misspelled.
MISSPELLED = list(BAD_LISTS)[: list(BAD_LISTS).index("itself")]


@pytest.mark.parametrize("name", MISSPELLED)
def test_the_stricter_list_has_the_same_grammar(name: str) -> None:
    """What is wrong in one is wrong in the other."""

    def lengthened(data: bytes) -> bytes:
        longer = re.sub(rb"([0-9A-Fa-f]{32})(?=[^0-9A-Fa-f])", rb"\1\1", data)
        return longer + b"b" * 96 + b"  trust/SHA256SUMS\n"

    assert parse_listing(lengthened(BASE), SHA384)
    with pytest.raises(BundleMalformed):
        parse_listing(lengthened(BAD_LISTS[name]), SHA384)


def test_it_lists_the_other_and_has_longer_digests() -> None:
    good = as_sha384(BASE)
    listed = parse_listing(good, SHA384)
    assert listed["payload/a/x"] == listed.digest(listed.paths.index("payload/a/x")) == "a" * 96
    assert list(listed) == [*sorted([*ALWAYS, "payload/a/x"]), "trust/SHA256SUMS"]
    without = b"".join(line for line in good.splitlines(keepends=True) if b"SHA256SUMS" not in line)
    for wrong in (
        without,
        BASE,
        good.replace(b"a" * 96, b"A" * 96),
        good.replace(b"b" * 96, b"b" * 64),
        good.replace(b"b" * 96, b"b" * 128),
        good.replace(b"trust/SHA256SUMS", b"trust/SHA384SUMS"),
        good + b"b" * 96 + b"  trust/SHA384SUMS\n",
        good[:-1],
    ):
        with pytest.raises(BundleMalformed, match="SHA384SUMS"):
            parse_listing(wrong, SHA384)
    with pytest.raises(BundleMalformed, match="SHA256SUMS"):
        parse_listing(good)


def test_an_ordinary_list_is_read_at_a_glance() -> None:
    """Ten times as fast; what is peculiar but allowed is looked at closely, and read all the same."""
    ordinary = {path: D for path in GOOD_PATHS if path.startswith("payload/") and "~" not in path}
    ordinary |= {"payload/x/a.slice-0000": D, "payload/X-y/Z": D}
    del ordinary["payload/x/console.txt"]
    assert listing._read_common(listing_bytes({**ALWAYS, **ordinary}), INDEX) is not None
    for peculiar in ("payload/x/console.txt", "payload/system/netplan.io_1.1.2-7~bpo1_amd64.deb"):
        data = listing_bytes({**ALWAYS, peculiar: D})
        assert listing._read_common(data, INDEX) is None
        assert peculiar in parse_listing(data)


def test_a_list_that_was_read_finds_its_paths() -> None:
    paths = ["payload/a-b/x", "payload/a/x", "payload/a/y", *ALWAYS]
    read = parse_listing(listing_bytes({path: f"{number:064x}" for number, path in enumerate(paths)}))
    assert list(read) == list(read.paths) == sorted(paths)
    assert len(read) == 6
    assert [read[path] for path in paths] == [f"{number:064x}" for number in range(6)]
    assert [read.paths.index(path) for path in read] == list(range(6))
    assert dict(read.items()) == dict(zip(paths, map("{:064x}".format, range(6)), strict=True))
    assert read.paths[1:4] == sorted(paths)[1:4]
    assert read.paths[::-2] == sorted(paths)[::-2]
    assert read.paths[-1] == max(paths)
    for absent in ("payload/a", "payload/a/", "", "zzz"):
        assert absent not in read
        assert absent not in read.paths
        with pytest.raises(KeyError):
            read[absent]
        with pytest.raises(ValueError, match=f"^{absent}$"):
            read.paths.index(absent)
    with pytest.raises(IndexError):
        read.paths[6]


def test_the_files_of_a_folder_and_of_those_within_it() -> None:
    below = ["payload/a/b/c", "payload/a/d"]
    paths = parse_listing(
        listing_bytes(dict.fromkeys([*ALWAYS, *below, "payload/a-b/c", "payload/ab"], D))
    ).paths
    assert paths.under("payload/a") == below
    assert paths.under("payload") == ["payload/a-b/c", *below, "payload/ab"]
    assert paths.under("trust") == []
