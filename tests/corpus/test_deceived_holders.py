"""Bundles whose holders signed something that breaks the format, and roots that are not the right one.

A signature says who is responsible, not that the builder worked.  What is signed but wrong is refused
like anything else, so a mistake or a malicious builder cannot make the node do what no bundle may do.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.errors import (
    BundleMalformed,
    BundleUntrusted,
    FileMissing,
    KeyRefused,
    RootInvalid,
    SignatureInvalid,
    SignerUnknown,
)
from appliance.progress import Silent
from appliance.trust.canonical import canonical_bytes
from appliance.trust.root import parse_root, root_bytes
from tests.conftest import CONTENTS
from tests.independent.agreement import verify_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders

pytestmark = pytest.mark.group(4)

D = "0" * 64


def refused(bundle: Path, root: bytes, **options: str) -> BundleUntrusted:
    with pytest.raises(BundleUntrusted) as caught:
        verify_bundle(bundle, root, progress=Silent(), **options)
    assert caught.value.exit_code == 4
    return caught.value


@pytest.mark.control
def test_the_control(bundle: Path, two_of_three: Root, sign_files: Callable[[Path], None]) -> None:
    sign_files(bundle)
    verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def _edit(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def spoil(values: dict[str, Any]) -> None:
        place: Any = values
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return spoil


def _drop_file(values: dict[str, Any]) -> None:
    del values["components"]["engine"]["files"][0]


def _add_file(values: dict[str, Any]) -> None:
    file = dict(values["components"]["engine"]["files"][-1], path="payload/engine/zzz")
    values["components"]["engine"]["files"].append(file)


def _cut_file(values: dict[str, Any]) -> None:
    file = values["components"]["model"]["files"][0]
    file["size"] = 8 << 20
    file["slices"] = [{"size": 4 << 20, "sha256": D}] * 2


ENGINE = ("components", "engine", "files", 0)
MANIFESTS = {
    "lacks a listed file": (_drop_file, "lacks listed files"),
    "has an unlisted file": (_add_file, "has unlisted files"),
    "has slices that are not there": (_cut_file, "lacks listed files"),
    "another digest than the list": (_edit(*ENGINE, "sha256", to=D), "disagree"),
    "another digest of the block index": (_edit("files", 1, "sha256", to=D), "disagree"),
    "root of another version": (_edit("files", 2, "path", to="trust/root.2.json"), "lacks listed files"),
    "a later format": (_edit("format", to=2), "another format"),
    "depends on another bundle": (_edit("requires", to=["x"]), "requires"),
    "unknown key": (_edit("critical", to=True), "unknown keys"),
}


@pytest.mark.parametrize(("spoil", "reason"), MANIFESTS.values(), ids=MANIFESTS)
def test_a_signed_manifest_that_contradicts_the_folder(
    spoil: Callable[[dict[str, Any]], None],
    reason: str,
    bundle: Path,
    two_of_three: Root,
    sign_files: Callable[[Path], None],
) -> None:
    path = bundle / "manifest.json"
    values = json.loads(path.read_bytes())
    spoil(values)
    path.write_bytes(canonical_bytes(values))
    sign_files(bundle)
    error = refused(bundle, root_bytes(two_of_three))
    assert isinstance(error, BundleMalformed)
    assert reason in error.message


@pytest.mark.parametrize("place", [ENGINE, ("files", 0)], ids=["wheel", "review page"])
def test_a_signed_size_that_is_wrong(
    place: tuple[str | int, ...], bundle: Path, two_of_three: Root, sign_files: Callable[[Path], None]
) -> None:
    path = bundle / "manifest.json"
    values = json.loads(path.read_bytes())
    _edit(*place, "size", to=6)(values)
    path.write_bytes(canonical_bytes(values))
    sign_files(bundle)
    assert "size" in refused(bundle, root_bytes(two_of_three)).message


RAW_MANIFESTS = {
    "empty": b"",
    "indented": b'{\n "format": 1\n}',
    "key twice": b'{"format":1,"format":2}',
    "not a number": b'{"format":NaN}',
    "huge number": b'{"format":' + b"1" * 1_000_000 + b"}",
    "deep": b"[" * 200_000 + b"]" * 200_000,
    "deep objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "byte order mark": b"\xef\xbb\xbf{}",
    "not UTF-8": b'{"a":"\xff"}',
    "surrogate": b'{"a":"\\ud800"}',
    "trailing bytes": b"{}{}",
    "YAML": b"format: 1\n",
}


@pytest.mark.parametrize("data", RAW_MANIFESTS.values(), ids=RAW_MANIFESTS)
@pytest.mark.group(7)
def test_a_signed_manifest_that_is_none(
    data: bytes, bundle: Path, two_of_three: Root, sign_files: Callable[[Path], None]
) -> None:
    (bundle / "manifest.json").write_bytes(data)
    sign_files(bundle)
    assert isinstance(refused(bundle, root_bytes(two_of_three)), BundleMalformed)


@pytest.mark.parametrize("size", [0, 32, 31, 1 << 20])
@pytest.mark.group(7)
def test_a_signed_block_index_of_a_wrong_size(
    size: int, bundle: Path, two_of_three: Root, sign_files: Callable[[Path], None]
) -> None:
    _index(bundle, bytes(size))
    sign_files(bundle)
    assert isinstance(refused(bundle, root_bytes(two_of_three)), BundleMalformed)


@pytest.mark.parametrize("end", [-1, -31, -32], ids=["a byte", "all but a byte", "an entry"])
@pytest.mark.group(7)
def test_a_signed_block_index_that_ends_early_in_a_file_of_two_blocks(
    end: int, maker: BundleMaker, two_of_three: Root, sign_files: Callable[[Path], None]
) -> None:
    """No entry of such a file is compared with its digest."""
    lock = maker.lock(CONTENTS | {"model": ("tiny-gguf", {"tiny.gguf": bytes(BLOCK_SIZE + 1)})})
    bundle = maker.write("two-blocks", two_of_three, lock)
    _index(bundle, (bundle / "blocks.bin").read_bytes()[:end])
    sign_files(bundle)
    assert isinstance(refused(bundle, root_bytes(two_of_three)), BundleMalformed)


def _index(bundle: Path, data: bytes) -> None:
    """Lay another block index into a bundle, and say so in its manifest."""
    (bundle / "blocks.bin").write_bytes(data)
    values = json.loads((bundle / "manifest.json").read_bytes())
    values["files"][1].update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    (bundle / "manifest.json").write_bytes(canonical_bytes(values))


def _line(path: str) -> bytes:
    return f"{D}  {path}\n".encode()


LISTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no last line feed": lambda good: good[:-1],
    "carriage returns": lambda good: good.replace(b"\n", b"\r\n"),
    "blank line": lambda good: good + b"\n",
    "byte order mark": lambda good: b"\xef\xbb\xbf" + good,
    "capital digits": lambda good: good[:64].upper() + good[64:],
    "binary mark": lambda good: good.replace(b"  ", b" *"),
    "out of order": lambda good: b"".join(reversed(good.splitlines(keepends=True))),
    "line twice": lambda good: good + good.splitlines(keepends=True)[-1],
    "parent": lambda good: _line("../secret") + good,
    "absolute": lambda good: _line("/etc/passwd") + good,
    "escaped": lambda good: b"\\" + good,
    "comment": lambda good: b"# signed\n" + good,
    "device": lambda good: good.replace(b"payload/engine/req", b"payload/engine/aux.req"),
    "case": lambda good: good.replace(b"payload/extras/empty", b"payload/Extras/empty"),
    "itself": lambda good: good.replace(b"trust/root.1.json", b"trust/SHA256SUMS"),
    "no manifest": lambda good: b"".join(
        line for line in good.splitlines(keepends=True) if b"manifest" not in line
    ),
    "program beside the bundle": lambda good: good.replace(b"VERIFY.txt", b"VERIFY.sh"),
}


@pytest.mark.parametrize("spoil", LISTS.values(), ids=LISTS)
@pytest.mark.group(7)
def test_a_signed_list_that_breaks_the_format(
    spoil: Callable[[bytes], bytes], bundle: Path, two_of_three: Root, sign_list: Callable[..., None]
) -> None:
    sign_list(bundle, spoil((bundle / "trust/SHA256SUMS").read_bytes()))
    assert isinstance(refused(bundle, root_bytes(two_of_three)), BundleMalformed)


def test_a_signed_list_of_a_file_that_is_not_there(
    bundle: Path, two_of_three: Root, sign_list: Callable[..., None]
) -> None:
    good = (bundle / "trust/SHA256SUMS").read_bytes()
    lines = sorted([*good.splitlines(keepends=True), _line("payload/zzz")], key=lambda line: line[66:])
    sign_list(bundle, b"".join(lines))
    assert isinstance(refused(bundle, root_bytes(two_of_three)), FileMissing)


@pytest.mark.group(8)
def test_signatures_for_another_role(
    bundle: Path, two_of_three: Root, sign_list: Callable[..., None]
) -> None:
    sign_list(bundle, role="root")
    assert isinstance(refused(bundle, root_bytes(two_of_three)), SignatureInvalid)
    # These holders do fill the role root: only by asking for it is the bundle accepted.
    verify_bundle(bundle, root_bytes(two_of_three), progress=Silent(), role="root")


@pytest.mark.group(9)
def test_a_role_nobody_fills(bundle: Path, two_of_three: Root) -> None:
    assert isinstance(refused(bundle, root_bytes(two_of_three), role="patch"), SignerUnknown)
    assert isinstance(refused(bundle, root_bytes(two_of_three), role="../release"), SignerUnknown)


@pytest.mark.group(10)
def test_a_second_root_of_the_same_version(bundle: Path, holders: Holders) -> None:
    """Same keys, same version, other thresholds: somebody made two roots."""
    other = holders.root("alice", "bob", "carol", root=3)
    error = refused(bundle, root_bytes(other))
    assert isinstance(error, RootInvalid)
    assert "another root 1" in error.message


@pytest.mark.group(10)
def test_a_later_root_judges_a_bundle_for_an_earlier_one(
    bundle: Path, two_of_three: Root, holders: Holders
) -> None:
    """Nothing went back: the same people may still release, by what is known of them now."""
    later = parse_root(root_bytes(replace(two_of_three, version=2)))
    assert verify_bundle(bundle, root_bytes(later), progress=Silent()).root == later
    without_bob = parse_root(root_bytes(replace(holders.root("alice", "carol"), version=2)))
    assert isinstance(refused(bundle, root_bytes(without_bob)), SignerUnknown)


@pytest.mark.group(10)
def test_a_carried_root_under_another_version_s_name(
    bundle: Path, two_of_three: Root, sign_files: Callable[[Path], None]
) -> None:
    (bundle / "trust/root.1.json").rename(bundle / "trust/root.2.json")
    path = bundle / "manifest.json"
    values = json.loads(path.read_bytes())
    values["files"][2]["path"] = "trust/root.2.json"
    path.write_bytes(canonical_bytes(values))
    sign_files(bundle)
    assert isinstance(refused(bundle, root_bytes(two_of_three)), RootInvalid)


@pytest.mark.control
def test_a_bundle_without_a_root_is_judged_by_the_trusted_one(
    maker: BundleMaker, two_of_three: Root
) -> None:
    from appliance.bundle.sign import sign_bundle

    bundle = maker.write("rootless", None)
    for name in ("alice", "bob"):
        sign_bundle(bundle, maker.holders.key(name), holder=name)
    verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


@pytest.mark.group(9)
def test_the_carried_root_is_never_the_one_trusted(maker: BundleMaker, two_of_three: Root) -> None:
    """An attacker makes a bundle that is perfect by a root of their own."""
    theirs = maker.holders.root("mallory", solo=True)
    forged = maker.sign(maker.write("forged", theirs), "mallory")
    verify_bundle(forged, root_bytes(theirs), progress=Silent())
    assert isinstance(refused(forged, root_bytes(two_of_three)), SignerUnknown)


@pytest.mark.group(8)
def test_a_trusted_root_with_a_weak_key_is_not_used(bundle: Path, two_of_three: Root) -> None:
    import base64

    from appliance.trust.keys import encode_blob

    values = json.loads(root_bytes(two_of_three))
    weak = base64.b64encode(encode_blob("ssh-ed25519", (1).to_bytes(32, "little"))).decode()
    next(iter(values["keys"].values()))["public"] = f"ssh-ed25519 {weak}"
    assert isinstance(refused(bundle, canonical_bytes(values)), KeyRefused)


@pytest.mark.group(10)
def test_parts_of_two_good_bundles_do_not_mix(maker: BundleMaker, two_of_three: Root) -> None:
    one = maker.sign(maker.write("one", two_of_three), "alice", "bob")
    contents = {
        "engine": (
            "python",
            {"engine-1.0-py3-none-any.whl": b"WHEEL", "requirements.txt": b"engine==1.0\n"},
        ),
        "model": ("tiny-gguf", {"tiny.gguf": b"GGUF"}),
    }
    other = maker.sign(maker.write("other", two_of_three, maker.lock(contents)), "alice", "bob")
    shutil.copy(other / "payload/engine/engine-1.0-py3-none-any.whl", one / "payload/engine/")
    assert "not what was signed" in refused(one, root_bytes(two_of_three)).message
    shutil.copy(other / "manifest.json", one / "manifest.json")
    assert refused(one, root_bytes(two_of_three)).message.startswith("manifest.json")
    for name in ("SHA256SUMS", "SHA256SUMS.alice.sig"):
        shutil.copy(other / "trust" / name, one / "trust" / name)
    assert isinstance(refused(one, root_bytes(two_of_three)), SignatureInvalid)
