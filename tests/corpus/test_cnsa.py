"""Bundles of the profile cnsa that somebody has touched, or that their holders signed without looking.

What SHA-256 alone vouches for is nothing here: a list that was taken away, signatures over the other list,
an older bundle of the same people.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import hashing, hashing_processes, reader
from appliance.bundle.list_kind import INDEX, SHA256, SHA384
from appliance.bundle.listing import listing_bytes, parse_listing
from appliance.errors import (
    BundleMalformed,
    BundleUntrusted,
    DigestMismatch,
    FileMissing,
    FileUnexpected,
    ProfileNotMet,
    SignatureInvalid,
    ThresholdNotMet,
)
from appliance.progress import Silent
from appliance.trust.founding import compose
from appliance.trust.root import Policy, root_bytes
from tests.cnsa import enrolments, sign_by_hand, sign_twice
from tests.corpus.groups import cases
from tests.independent.agreement import verify_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders

MODEL = "payload/model/tiny.gguf"


@pytest.fixture(params=["few", "many"], autouse=True)
def taken_for(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many files the short ones are hashed while the rest is looked at: with the same refusals."""
    if request.param == "many":
        monkeypatch.setattr(hashing, "MANY", 1)
        monkeypatch.setattr(reader, "LARGE", 1)
        monkeypatch.setattr(hashing_processes, "_SETTLED", -(10**18))


def refused(bundle: Path, root: Root, snapshot: Callable[[Path], object]) -> BundleUntrusted:
    before = snapshot(bundle)
    with pytest.raises(BundleUntrusted) as caught:
        verify_bundle(bundle, root_bytes(root), progress=Silent())
    assert snapshot(bundle) == before
    assert caught.value.exit_code == 4
    return caught.value


@pytest.mark.group(9)
@pytest.mark.control
def test_the_untouched_bundle_is_accepted(cnsa_bundle: Path, cnsa_root: Root) -> None:
    assert verify_bundle(cnsa_bundle, root_bytes(cnsa_root), progress=Silent()).kind is SHA384


# --- touched by somebody without a key ---------------------------------------------------------------


def _strict(bundle: Path) -> Path:
    return bundle / SHA384.path


def _without(*patterns: str) -> Callable[[Path], None]:
    def touch(bundle: Path) -> None:
        for pattern in patterns:
            for path in (bundle / "trust").glob(pattern):
                path.unlink()

    return touch


def _edited(pattern: bytes, to: bytes) -> Callable[[Path], None]:
    def touch(bundle: Path) -> None:
        data = _strict(bundle).read_bytes()
        changed = re.sub(pattern, to, data, count=1)
        assert changed != data
        _strict(bundle).write_bytes(changed)

    return touch


def _truncated(bundle: Path) -> None:
    _strict(bundle).write_bytes(_strict(bundle).read_bytes()[:-100])


def _linked(bundle: Path) -> None:
    elsewhere = bundle.parent / "elsewhere"
    shutil.move(_strict(bundle), elsewhere)
    _strict(bundle).symlink_to(elsewhere)


def _second_name(bundle: Path) -> None:
    (bundle.parent / "second").hardlink_to(_strict(bundle))


def _pipe(bundle: Path) -> None:
    _strict(bundle).unlink()
    os.mkfifo(_strict(bundle))


def _folder(bundle: Path) -> None:
    _strict(bundle).unlink()
    _strict(bundle).mkdir()


def _renamed(bundle: Path) -> None:
    for path in (bundle / "trust").glob("SHA384SUMS.*"):
        path.rename(path.with_name(path.name.replace("384", "256")))


def _index_instead(bundle: Path) -> None:
    shutil.copy(bundle / INDEX.path, _strict(bundle))


def _flipped(path: str) -> Callable[[Path], None]:
    def touch(bundle: Path) -> None:
        data = bytearray((bundle / path).read_bytes())
        data[len(data) // 2] ^= 1
        (bundle / path).write_bytes(bytes(data))

    return touch


def _another_kind(name: str) -> Callable[[Path], None]:
    def touch(bundle: Path) -> None:
        shutil.copy(_strict(bundle), bundle / "trust" / name)

    return touch


TOUCHED = {
    "the list and who signed it, taken away": (
        _without("SHA384SUMS*", "provenance.*"),
        ProfileNotMet,
    ),
    "the list alone, taken away": (_without("SHA384SUMS"), ProfileNotMet),
    "the other list, taken away": (_without("SHA256SUMS"), FileMissing),
    "both lists, taken away": (_without("SHA*SUMS"), FileMissing),
    "every signature, taken away": (_without("SHA384SUMS.*", "provenance.*"), ThresholdNotMet),
    "the ML-DSA signatures, taken away": (_without("*.mldsa87"), ThresholdNotMet),
    "one ML-DSA signature, taken away": (_without("SHA384SUMS.emil.mldsa87"), ThresholdNotMet),
    "the SSH signatures, taken away": (_without("*.sig"), ThresholdNotMet),
    "signatures renamed for the other list": (_renamed, ThresholdNotMet),
    "the other list in its place": (_index_instead, SignatureInvalid),
    "a digest": (_edited(rb"^[0-9a-f]{96}", b"0" * 96), SignatureInvalid),
    "a digest in capitals": (_edited(rb"[0-9a-f]{96}(?=  blocks)", b"A" * 96), SignatureInvalid),
    "a digest too short": (_edited(rb"[0-9a-f]{32}  ", b"  "), SignatureInvalid),
    "a line less": (_edited(rb".*tiny\.gguf\n", b""), SignatureInvalid),
    "truncated": (_truncated, SignatureInvalid),
    "a byte appended": (_edited(rb"\n\Z", b"\n\n"), SignatureInvalid),
    "carriage returns": (_edited(rb"\n", b"\r\n"), SignatureInvalid),
    "a link in its place": (_linked, FileUnexpected),
    "a second name": (_second_name, FileUnexpected),
    "a pipe in its place": (_pipe, FileUnexpected),
    "a folder in its place": (_folder, FileUnexpected),
    "a byte of the other list": (_flipped(INDEX.path), DigestMismatch),
    "a byte of the model": (_flipped(MODEL), DigestMismatch),
    "a byte of the manifest": (_flipped("manifest.json"), DigestMismatch),
    "a byte of a signature": (_flipped("trust/SHA384SUMS.dora.sig"), SignatureInvalid),
    "a byte of an ML-DSA signature": (_flipped("trust/SHA384SUMS.dora.mldsa87"), SignatureInvalid),
    "a third list": (_another_kind("SHA512SUMS"), FileUnexpected),
    "its name in small letters": (_another_kind("sha384sums"), FileUnexpected),
    "a signature without a list": (_another_kind("SHA512SUMS.dora.sig"), FileUnexpected),
}


@pytest.mark.parametrize(("touch", "error"), cases(9, TOUCHED))
def test_touched(
    touch: Callable[[Path], None],
    error: type[BundleUntrusted],
    cnsa_bundle: Path,
    cnsa_root: Root,
    snapshot: Callable[[Path], object],
) -> None:
    touch(cnsa_bundle)
    if error is FileUnexpected and _strict(cnsa_bundle).is_fifo():
        with pytest.raises(error):  # the snapshot would wait for it
            verify_bundle(cnsa_bundle, root_bytes(cnsa_root), progress=Silent())
        return
    found = refused(cnsa_bundle, cnsa_root, snapshot)
    assert type(found) is error, repr(found)


# --- signed over SHA-256 -----------------------------------------------------------------------------


@pytest.mark.group(9)
@pytest.mark.parametrize("keep", [True, False], ids=["beside the list", "instead of it"])
def test_signatures_over_the_other_list(
    keep: bool,
    cnsa_bundle: Path,
    cnsa_root: Root,
    cnsa_holders: Holders,
    snapshot: Callable[[Path], object],
) -> None:
    """Real ones, of both holders, with both keys."""
    _without("provenance.*", "SHA384SUMS.*" if keep else "SHA384SUMS*")(cnsa_bundle)
    sign_by_hand(cnsa_bundle, cnsa_holders, INDEX)
    error = refused(cnsa_bundle, cnsa_root, snapshot)
    assert type(error) is (ThresholdNotMet if keep else ProfileNotMet)


@pytest.mark.group(9)
def test_signatures_over_the_other_list_under_the_right_name(
    cnsa_bundle: Path, cnsa_root: Root, cnsa_holders: Holders, snapshot: Callable[[Path], object]
) -> None:
    sign_by_hand(cnsa_bundle, cnsa_holders, INDEX)
    for path in (cnsa_bundle / "trust").glob("SHA256SUMS.*"):
        path.rename(path.with_name(path.name.replace("256", "384")))
    assert type(refused(cnsa_bundle, cnsa_root, snapshot)) is SignatureInvalid


@pytest.mark.group(8)
@pytest.mark.parametrize(
    "hashed", ["sha256", pytest.param("sha512", marks=pytest.mark.control)], ids=["sha256", "sha512"]
)
def test_the_hash_within_an_ssh_signature(
    hashed: str, cnsa_bundle: Path, cnsa_root: Root, cnsa_holders: Holders
) -> None:
    sign_by_hand(cnsa_bundle, cnsa_holders, SHA384, "emil", hashed=hashed)
    if hashed == "sha512":
        assert verify_bundle(cnsa_bundle, root_bytes(cnsa_root), progress=Silent())
        return
    with pytest.raises(SignatureInvalid, match="the profile cnsa allows no signature with this hash"):
        verify_bundle(cnsa_bundle, root_bytes(cnsa_root), progress=Silent())


@pytest.mark.group(10)
def test_a_bundle_of_the_same_people_from_before_the_profile(
    maker: BundleMaker, cnsa_root: Root, cnsa_holders: Holders, snapshot: Callable[[Path], object]
) -> None:
    before = compose(enrolments(cnsa_holders), policy=Policy("require"))
    old = sign_twice(maker.write("old", before), cnsa_holders)
    (old / "trust/root.1.json").unlink()  # as if it had been built for no root
    assert type(refused(old, cnsa_root, snapshot)) is ProfileNotMet


@pytest.mark.group(10)
def test_a_list_more_than_a_root_without_the_profile_asks_for(
    bundle: Path, two_of_three: Root, cnsa_bundle: Path, snapshot: Callable[[Path], object]
) -> None:
    shutil.copy(_strict(cnsa_bundle), _strict(bundle))
    assert type(refused(bundle, two_of_three, snapshot)) is ProfileNotMet


# --- signed by holders who were deceived -------------------------------------------------------------


def _list(bundle: Path) -> dict[str, str]:
    return dict(parse_listing(_strict(bundle).read_bytes(), SHA384))


def _rewritten(change: Callable[[dict[str, str]], object]) -> Callable[[Path], bytes]:
    def make(bundle: Path) -> bytes:
        digests = _list(bundle)
        change(digests)
        return listing_bytes(digests)

    return make


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], bytes]:
    return lambda bundle: change(_strict(bundle).read_bytes())


A = "a" * 96
SIGNED = {
    "a wrong digest": (_rewritten(lambda each: each.update({MODEL: A})), DigestMismatch),
    "a wrong digest of an empty file": (
        _rewritten(lambda each: each.update({"payload/extras/empty": A})),
        DigestMismatch,
    ),
    "a wrong digest of the manifest": (
        _rewritten(lambda each: each.update({"manifest.json": A})),
        DigestMismatch,
    ),
    "a wrong digest of the block index": (
        _rewritten(lambda each: each.update({"blocks.bin": A})),
        DigestMismatch,
    ),
    "a wrong digest of the carried root": (
        _rewritten(lambda each: each.update({"trust/root.1.json": A})),
        BundleUntrusted,
    ),
    "a wrong digest of the other list": (
        _rewritten(lambda each: each.update({INDEX.path: A})),
        DigestMismatch,
    ),
    "the other list is not in it": (_rewritten(lambda each: each.pop(INDEX.path)), BundleMalformed),
    "itself is in it": (_rewritten(lambda each: each.update({SHA384.path: A})), BundleMalformed),
    "a file more": (_rewritten(lambda each: each.update({"payload/model/x": A})), BundleMalformed),
    "a file less": (_rewritten(lambda each: each.pop(MODEL)), BundleMalformed),
    "another file in a file's place": (
        _rewritten(lambda each: each.update({"payload/model/u": each.pop(MODEL)})),
        BundleMalformed,
    ),
    "a signature in it": (
        _rewritten(lambda each: each.update({"trust/SHA384SUMS.dora.sig": A})),
        BundleMalformed,
    ),
    "SHA-256 in it": (lambda bundle: (bundle / INDEX.path).read_bytes(), BundleMalformed),
    "one digest of SHA-256": (_rewritten(lambda each: each.update({MODEL: "a" * 64})), BundleMalformed),
    "one digest of SHA-512": (_rewritten(lambda each: each.update({MODEL: "a" * 128})), BundleMalformed),
    "one digit less": (_rewritten(lambda each: each.update({MODEL: "a" * 95})), BundleMalformed),
    "capitals": (_bytes(lambda data: data.replace(data[:96], data[:96].upper())), BundleMalformed),
    "no last line feed": (_bytes(lambda data: data[:-1]), BundleMalformed),
    "out of order": (
        _bytes(lambda data: b"".join(reversed(data.splitlines(keepends=True)))),
        BundleMalformed,
    ),
    "a line twice": (
        _bytes(lambda data: data.splitlines(keepends=True)[0] + data),
        BundleMalformed,
    ),
    "one space": (_bytes(lambda data: data.replace(b"  ", b" ")), BundleMalformed),
    "a binary mark": (_bytes(lambda data: data.replace(b"  ", b" *")), BundleMalformed),
    "carriage returns": (_bytes(lambda data: data.replace(b"\n", b"\r\n")), BundleMalformed),
    "a path that leaves": (
        _bytes(lambda data: data.replace(b"payload/model/tiny", b"payload/../tiny")),
        BundleMalformed,
    ),
    "empty": (lambda _: b"", BundleMalformed),
    "zeros": (lambda _: bytes(1000), BundleMalformed),
}


@pytest.mark.parametrize(("make", "error"), cases(4, SIGNED))
def test_signed_without_looking(
    make: Callable[[Path], bytes],
    error: type[BundleUntrusted],
    *,
    cnsa_bundle: Path,
    cnsa_root: Root,
    cnsa_holders: Holders,
    snapshot: Callable[[Path], object],
) -> None:
    """All holders sign the list as it lies there, with all keys."""
    data = make(cnsa_bundle)
    assert data != _strict(cnsa_bundle).read_bytes()
    _without("provenance.*")(cnsa_bundle)
    _strict(cnsa_bundle).write_bytes(data)
    sign_by_hand(cnsa_bundle, cnsa_holders, SHA384)
    assert isinstance(refused(cnsa_bundle, cnsa_root, snapshot), error)


@pytest.mark.group(4)
def test_a_digest_of_the_other_list_that_no_file_has(
    cnsa_bundle: Path, cnsa_root: Root, cnsa_holders: Holders, snapshot: Callable[[Path], object]
) -> None:
    """The signed list is right, and names the other one: which lies about a file, in the manifest too."""
    old = SHA256.digest((cnsa_bundle / MODEL).read_bytes())
    digests = _list(cnsa_bundle)
    for path in ("manifest.json", "blocks.bin", INDEX.path):
        data = (cnsa_bundle / path).read_bytes()
        spoilt = data.replace(old.encode(), b"0" * 64).replace(bytes.fromhex(old), bytes(32))
        if path == INDEX.path:
            for other in ("manifest.json", "blocks.bin"):
                spoilt = re.sub(
                    rb"(?m)^[0-9a-f]{64}(?=  %b$)" % re.escape(other.encode()),
                    SHA256.digest((cnsa_bundle / other).read_bytes()).encode(),
                    spoilt,
                )
        elif path == "manifest.json":
            blocks = (cnsa_bundle / "blocks.bin").read_bytes()
            changed = blocks.replace(bytes.fromhex(old), bytes(32))
            spoilt = spoilt.replace(SHA256.digest(blocks).encode(), SHA256.digest(changed).encode())
        (cnsa_bundle / path).write_bytes(spoilt)
        digests[path] = SHA384.digest(spoilt)
    _without("provenance.*")(cnsa_bundle)
    _strict(cnsa_bundle).write_bytes(listing_bytes(digests))
    sign_by_hand(cnsa_bundle, cnsa_holders, SHA384)
    error = refused(cnsa_bundle, cnsa_root, snapshot)
    assert type(error) is DigestMismatch, repr(error)
    assert (error.found, error.wanted) == (f"sha256 {old}", f"sha256 {'0' * 64}")
