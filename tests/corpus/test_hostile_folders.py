"""Folders that somebody without a key has touched: none is accepted, none is changed."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import hashing, hashing_processes, reader
from appliance.errors import (
    BundleMalformed,
    BundleUntrusted,
    DigestMismatch,
    FileMissing,
    FileUnexpected,
    SignatureInvalid,
    SignerUnknown,
    ThresholdNotMet,
)
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.corpus.groups import cases
from tests.independent.agreement import verify_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import Holders

pytestmark = pytest.mark.group(4)

FILES = [
    "VERIFY.txt",
    "blocks.bin",
    "manifest.json",
    "payload/engine/engine-1.0-py3-none-any.whl",
    "payload/engine/requirements.txt",
    "payload/extras/empty",
    "payload/extras/site/notice.txt",
    "payload/model/tiny.gguf",
    "trust/SHA256SUMS",
    "trust/SHA256SUMS.alice.sig",
    "trust/SHA256SUMS.bob.sig",
    "trust/root.1.json",
]
#: Signed on its own, and may be missing: tests/corpus/test_provenance.py.
STATED = ["trust/provenance.alice.dsse.json", "trust/provenance.bob.dsse.json"]
WHEEL = "payload/engine/engine-1.0-py3-none-any.whl"
SIGNATURE = "trust/SHA256SUMS.bob.sig"


@pytest.fixture(params=["few", "many"], autouse=True)
def taken_for(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many files the short ones are hashed while the rest is looked at: with the same refusals."""
    if request.param == "many":
        monkeypatch.setattr(hashing, "MANY", 1)
        monkeypatch.setattr(reader, "WORTH_ASKING", 1 << 60)
        monkeypatch.setattr(hashing_processes, "_SETTLED", -(10**18))  # as if they lay there for long


@pytest.mark.control
def test_the_untouched_bundle_is_accepted(bundle: Path, two_of_three: Root) -> None:
    """The control: every refusal below is for what was touched; and the list above is complete."""
    found = verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert [signer.holder for signer in found.signers] == ["alice", "bob"]
    found_files = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert found_files == {*FILES, *STATED}


def refused(bundle: Path, root: Root, snapshot: Callable[[Path], object]) -> BundleUntrusted:
    """The error verifying raises; nothing may have changed, and the error must be safe to print."""
    before = snapshot(bundle)
    with pytest.raises(BundleUntrusted) as caught:
        verify_bundle(bundle, root_bytes(root), progress=Silent())
    assert snapshot(bundle) == before
    error = caught.value
    assert error.exit_code == 4
    for text in (error.message, error.found, error.wanted, error.hint):
        assert text is None or text.isprintable(), "a hostile name must not reach a terminal raw"
    return error


def _flip(position: float) -> Callable[[Path], None]:
    def touch(path: Path) -> None:
        data = bytearray(path.read_bytes())
        place = min(int(len(data) * position), len(data) - 1)
        data[place] ^= 1
        path.write_bytes(bytes(data))

    return touch


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _crlf(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


CHANGES = {
    "first byte flipped": _flip(0),
    "middle byte flipped": _flip(0.5),
    "last byte flipped": _flip(1),
    "truncated": _truncate,
    "appended": _append,
    "emptied": _empty,
    "line ends changed": _crlf,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", FILES)
def test_changed_bytes(
    name: str,
    change: Callable[[Path], None],
    bundle: Path,
    two_of_three: Root,
    snapshot: Callable[[Path], object],
) -> None:
    path = bundle / name
    before = path.read_bytes()
    if not before and change is not _append:
        path.write_bytes(b"x")  # of an empty file, every other change is this one
    else:
        change(path)
    if path.read_bytes() == before:
        path.write_bytes(before + b"\r\n")  # no line ends to change
    error = refused(bundle, two_of_three, snapshot)
    judged_first = name.startswith("trust/SHA256SUMS")  # by the signatures: which way they fail depends
    assert isinstance(error, BundleUntrusted if judged_first else DigestMismatch)


@pytest.mark.parametrize("name", FILES)
def test_missing_files(
    name: str, bundle: Path, two_of_three: Root, snapshot: Callable[[Path], object]
) -> None:
    (bundle / name).unlink()
    expected = ThresholdNotMet if name.endswith(".sig") else FileMissing
    assert isinstance(refused(bundle, two_of_three, snapshot), expected)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.group(3)
def test_a_link_in_place_of_a_file(
    name: str, bundle: Path, two_of_three: Root, tmp_path: Path, snapshot: Callable[[Path], object]
) -> None:
    """The very bytes are there, but somebody else decides what they are a moment later."""
    shutil.move(bundle / name, tmp_path / "elsewhere")
    (bundle / name).symlink_to(tmp_path / "elsewhere")
    assert isinstance(refused(bundle, two_of_three, snapshot), FileUnexpected)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.group(3)
def test_a_second_name_outside(
    name: str, bundle: Path, two_of_three: Root, tmp_path: Path, snapshot: Callable[[Path], object]
) -> None:
    (tmp_path / "outside").hardlink_to(bundle / name)
    assert isinstance(refused(bundle, two_of_three, snapshot), FileUnexpected)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.group(3)
def test_a_named_pipe_in_place_of_a_file(
    name: str, bundle: Path, two_of_three: Root, snapshot: Callable[[Path], object]
) -> None:
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    assert isinstance(refused(bundle, two_of_three, snapshot), FileUnexpected)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.group(3)
def test_a_folder_in_place_of_a_file(
    name: str, bundle: Path, two_of_three: Root, snapshot: Callable[[Path], object]
) -> None:
    (bundle / name).unlink()
    (bundle / name).mkdir()
    assert isinstance(refused(bundle, two_of_three, snapshot), FileUnexpected)


def _folder_link(folder: str) -> Callable[[Path], None]:
    def touch(bundle: Path) -> None:
        shutil.move(bundle / folder, bundle.parent / "moved")
        (bundle / folder).symlink_to(bundle.parent / "moved", target_is_directory=True)

    return touch


def _add(name: str, data: bytes = b"x") -> Callable[[Path], None]:
    def touch(bundle: Path) -> None:
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_bytes(data)

    return touch


def _add_folder(name: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).mkdir(parents=True)


def _add_link(name: str, target: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).symlink_to(target)


def _add_bytes_name(bundle: Path) -> None:
    (bundle / os.fsdecode(b"payload/\xff\xfe")).write_bytes(b"x")


def _mode(name: str, bits: int) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).chmod(0o644 | bits)


def _socket(bundle: Path) -> None:
    here = os.open(bundle, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{here}/socket")
    finally:
        os.close(here)


def _file_for_folder(bundle: Path) -> None:
    shutil.rmtree(bundle / "payload/model")
    (bundle / "payload/model").write_bytes(b"x")


def _many(bundle: Path) -> None:
    for number in range(300):
        (bundle / "payload" / f"extra{number}").write_bytes(b"")


def _link_loop(bundle: Path) -> None:
    (bundle / WHEEL).unlink()
    (bundle / WHEEL).symlink_to((bundle / WHEEL).name)


NAMES: dict[str, Callable[[Path], None]] = {
    "name of a device node": _add("payload/con"),
    "name with a line feed": _add("payload/engine/x\nVERIFIED"),
    "name with an escape": _add("payload/\x1b[2J\x1b[32mverified"),
    "name with a bell": _add("payload/\a"),
    "name bidirectional": _add("payload/\u202egpj.exe"),
    "name zero width": _add("payload/engine/\u200b"),
    "name not UTF-8": _add_bytes_name,
    "name of 255 bytes": _add("x" * 255),
}
LIKE_OTHERS: dict[str, Callable[[Path], None]] = {
    "name like a listed one, in capitals": _add("MANIFEST.JSON"),
    "name like a listed one, decomposed": _add("payload/e\u0301"),
    "file for a folder": _file_for_folder,
    "signature's name in capitals": _add("trust/SHA256SUMS.Carol.sig"),
    "provenance's name in capitals": _add("trust/provenance.Alice.dsse.json"),
}
KINDS: dict[str, Callable[[Path], None]] = {
    "extra link": _add_link("payload/link", "/etc/passwd"),
    "extra link, dangling": _add_link("payload/link", "/nowhere"),
    "extra link to the bundle": _add_link("payload/loop", ".."),
    "extra socket": _socket,
    "extra pipe": lambda bundle: os.mkfifo(bundle / "pipe"),
    "second name inside": lambda bundle: (bundle / "payload/copy").hardlink_to(bundle / WHEEL),
    "setuid": _mode(WHEEL, stat.S_ISUID),
    "setgid": _mode("payload/model/tiny.gguf", stat.S_ISGID),
    "sticky": _mode("manifest.json", stat.S_ISVTX),
    "folder a link: payload": _folder_link("payload"),
    "folder a link: component": _folder_link("payload/engine"),
    "folder a link: inner": _folder_link("payload/extras/site"),
    "folder a link: trust": _folder_link("trust"),
    "link loop": _link_loop,
}
EXTRA: dict[str, Callable[[Path], None]] = {
    "extra at the top": _add("README"),
    "extra in a component": _add("payload/engine/evil.whl"),
    "extra beside the components": _add("payload/evil"),
    "extra component": _add("payload/evil/x"),
    "extra hidden file": _add(".hidden"),
    "extra repository": _add(".git/config"),
    "extra in trust": _add("trust/notes.txt"),
    "extra root": _add("trust/root.0.json", b"{}"),
    "extra empty file": _add("payload/engine/nothing", b""),
    "extra folder, empty": _add_folder("payload/later"),
    "extra folder, hidden": _add_folder(".Trash-0"),
    "extra folder in a component": _add_folder("payload/engine/__pycache__"),
    "extra folder in trust": _add_folder("trust/SHA256SUMS.d"),
    "extra folder, deep": _add_folder("payload/" + "/".join("abcdefgh")),
    "three hundred extra files": _many,
    "signature of nobody": _add("trust/SHA256SUMS.sig"),
    "signature's backup": _add("trust/SHA256SUMS.alice.sig~"),
    "provenance of nobody": _add("trust/provenance.dsse.json"),
    "parity that is not listed": _add("parity/set-0000.par2"),
    "table of parts that is not listed": _add("sbom/bundle.cdx.json"),
    "a thousand signatures": lambda bundle: [
        (bundle / f"trust/SHA256SUMS.h{number}.sig").write_bytes(b"x") for number in range(1000)
    ],
}
UNEXPECTED = [*cases(1, NAMES), *cases(2, LIKE_OTHERS), *cases(3, KINDS), *cases(4, EXTRA)]


@pytest.mark.parametrize("touch", UNEXPECTED)
def test_what_does_not_belong_there(
    touch: Callable[[Path], None], bundle: Path, two_of_three: Root, snapshot: Callable[[Path], object]
) -> None:
    touch(bundle)
    assert isinstance(refused(bundle, two_of_three, snapshot), FileUnexpected)


@pytest.mark.skipif(os.geteuid() != 0, reason="making device nodes needs root")
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK], ids=["character", "block"])
@pytest.mark.group(3)
def test_a_device_in_place_of_a_file(
    kind: int, bundle: Path, two_of_three: Root, snapshot: Callable[[Path], object]
) -> None:
    (bundle / WHEEL).unlink()
    os.mknod(bundle / WHEEL, kind | 0o644, os.makedev(1, 3))
    assert isinstance(refused(bundle, two_of_three, snapshot), FileUnexpected)


def _swap(bundle: Path) -> None:
    one, other = bundle / "payload/engine/requirements.txt", bundle / WHEEL
    data = one.read_bytes(), other.read_bytes()
    one.write_bytes(data[1])
    other.write_bytes(data[0])


def _same_length(bundle: Path) -> None:
    path = bundle / "payload/model/tiny.gguf"
    path.write_bytes(bytes(path.stat().st_size))


def _sparse(bundle: Path) -> None:
    with (bundle / WHEEL).open("r+b") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("touch", [_swap, _same_length, _sparse])
def test_other_bytes(
    touch: Callable[[Path], None], bundle: Path, two_of_three: Root, snapshot: Callable[[Path], object]
) -> None:
    touch(bundle)
    if touch is _sparse:
        with pytest.raises(DigestMismatch):
            verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    else:
        assert isinstance(refused(bundle, two_of_three, snapshot), DigestMismatch)


@pytest.mark.parametrize("more", [1 << 31, 1 << 32, 1 << 33, 1 << 40])
@pytest.mark.parametrize("name", [WHEEL, "manifest.json", "blocks.bin", "trust/root.1.json"])
def test_a_size_that_is_right_in_32_bits(name: str, more: int, bundle: Path, two_of_three: Root) -> None:
    """The right bytes, then a hole: who counts in 32 bits sees the file that was signed."""
    size = (bundle / name).stat().st_size
    with (bundle / name).open("r+b") as file:
        file.truncate(size + more)
    with pytest.raises(BundleMalformed if name == "manifest.json" else DigestMismatch):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def _copy_signature(source: str, target: str) -> Callable[[Path], None]:
    return lambda bundle: shutil.copy(
        bundle / f"trust/SHA256SUMS.{source}.sig", bundle / f"trust/SHA256SUMS.{target}.sig"
    )


def _rename_signature(source: str, target: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / f"trust/SHA256SUMS.{source}.sig").rename(
        bundle / f"trust/SHA256SUMS.{target}.sig"
    )


def _write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).write_bytes(data)


def _after(data: bytes) -> Callable[[Path], None]:
    def touch(bundle: Path) -> None:
        path = bundle / SIGNATURE
        path.write_bytes(path.read_bytes() + data)

    return touch


SIGNATURES: dict[str, tuple[Callable[[Path], None], type[BundleUntrusted]]] = {
    "copied to a third name": (_copy_signature("alice", "carol"), SignatureInvalid),
    "copied to a stranger's name": (_copy_signature("alice", "mallory"), SignatureInvalid),
    "renamed": (_rename_signature("bob", "carol"), SignatureInvalid),
    "swapped in": (_copy_signature("alice", "bob"), SignatureInvalid),
    "empty": (_write(SIGNATURE, b""), SignatureInvalid),
    "blank": (_write(SIGNATURE, b"\n"), SignatureInvalid),
    "a list": (_write(SIGNATURE, b"0" * 64 + b"  x\n"), SignatureInvalid),
    "text after it": (_after(b"Good signature for alice\n"), SignatureInvalid),
    "twice": (_after(b"-----BEGIN SSH SIGNATURE-----\n"), SignatureInvalid),
    "too long": (_after(b"\n" * 100_000), BundleMalformed),
    "list too long": (_write("trust/SHA256SUMS", b"x" * (64 * 1024 * 1024 + 1)), BundleMalformed),
    "list empty": (_write("trust/SHA256SUMS", b""), SignatureInvalid),
}


@pytest.mark.parametrize(("touch", "expected"), cases(8, SIGNATURES))
def test_signatures_that_were_touched(
    touch: Callable[[Path], None],
    expected: type[BundleUntrusted],
    bundle: Path,
    two_of_three: Root,
    snapshot: Callable[[Path], object],
) -> None:
    touch(bundle)
    assert isinstance(refused(bundle, two_of_three, snapshot), expected)


@pytest.mark.group(9)
def test_a_root_that_enrols_others(
    bundle: Path, holders: Holders, snapshot: Callable[[Path], object]
) -> None:
    other = holders.root("carol", "mallory")
    assert isinstance(refused(bundle, other, snapshot), SignerUnknown)
