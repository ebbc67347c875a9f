"""Bundles of the profile cnsa: the list of SHA-384 digests is what is signed, and all that is signed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import hashing, hashing_processes, reader, stricter_lists, writer
from appliance.bundle.attestation import summary_bytes
from appliance.bundle.fileset import ListedFiles
from appliance.bundle.list_kind import (
    INDEX,
    KINDS,
    SHA256,
    SHA384,
    Hashes,
    kind_for,
    kinds_for,
    strongest,
)
from appliance.bundle.listing import listing_bytes, parse_listing
from appliance.bundle.lists import Lists, Stricter
from appliance.bundle.post_quantum_keys import open_signer
from appliance.bundle.reader import read_signed
from appliance.bundle.sign import sign_bundle
from appliance.bundle.tree import Tree
from appliance.bundle.verify import verify_bundle
from appliance.bundle.writer import write_bundle
from appliance.errors import (
    DigestMismatch,
    FileUnexpected,
    ProfileNotMet,
    RootInvalid,
    SignatureInvalid,
    ThresholdNotMet,
)
from appliance.progress import Silent
from appliance.trust.documents import signature_name
from appliance.trust.dsse import parse_envelope
from appliance.trust.founding import compose
from appliance.trust.mldsa import PostQuantumKey
from appliance.trust.profiles import CNSA, PROFILES, STANDARD
from appliance.trust.root import Policy, root_bytes
from tests.cnsa import PEOPLE, enrolments, sign_by_hand, sign_twice

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.verify import VerifiedBundle
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders

MODEL = "payload/model/tiny.gguf"


@pytest.fixture(params=["few", "many"])
def taken_for(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few files are hashed by threads, many by processes while the manifest is read."""
    if request.param == "many":
        monkeypatch.setattr(hashing, "MANY", 1)
        monkeypatch.setattr(reader, "LARGE", 1)  # and the manifest in pieces
        monkeypatch.setattr(hashing_processes, "_SETTLED", -(10**18))


def verify(bundle: Path, root: Root) -> VerifiedBundle:
    return verify_bundle(bundle, root_bytes(root), progress=Silent())


def test_every_profile_has_its_list() -> None:
    assert [kind_for(each) for each in PROFILES.values()] == list(KINDS)
    assert (kinds_for(STANDARD), kinds_for(CNSA)) == ((SHA256,), (SHA256, SHA384))
    assert strongest(["SHA256SUMS", "SHA384SUMS"]) is SHA384
    assert strongest(["SHA256SUMS", "SHA384SUMS.dora.sig"]) is strongest([]) is SHA256
    assert INDEX is SHA256, "a bundle's identity"


def test_sha384sum_agrees_with_the_list(pristine_cnsa_bundle: Path) -> None:
    """Stock tools, and every file but the list itself and who signed it."""
    subprocess.run(
        ["sha384sum", "--strict", "--quiet", "--check", "trust/SHA384SUMS"],
        cwd=pristine_cnsa_bundle,
        check=True,
    )
    listed = {line[98:] for line in (pristine_cnsa_bundle / SHA384.path).read_text().splitlines()}
    there = {
        str(each.relative_to(pristine_cnsa_bundle))
        for each in pristine_cnsa_bundle.rglob("*")
        if each.is_file()
    }
    assert there - listed == {
        SHA384.path,
        *(f"{SHA384.path}.{name}.{kind}" for name in PEOPLE for kind in ("sig", "mldsa87")),
        *(f"trust/provenance.{name}.dsse.json" for name in PEOPLE),
    }
    assert listed - there == set()
    assert "trust/SHA256SUMS" in listed
    subprocess.run(["sha256sum", "--quiet", "-c", INDEX.path], cwd=pristine_cnsa_bundle, check=True)


def test_two_builds_give_the_same_list(maker: BundleMaker, cnsa_root: Root) -> None:
    one, other = (maker.write(name, cnsa_root) / SHA384.path for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_a_bundle_without_the_profile_has_one_list(bundle: Path) -> None:
    assert not list((bundle / "trust").glob("SHA384SUMS*"))


@pytest.mark.usefixtures("taken_for")
def test_it_verifies(cnsa_bundle: Path, cnsa_root: Root) -> None:
    found = verify(cnsa_bundle, cnsa_root)
    assert found.kind is SHA384
    listing, message = ((cnsa_bundle / kind.path).read_bytes() for kind in KINDS)
    assert found.digest == hashlib.sha256(listing).hexdigest()
    assert found.signed_digest == hashlib.sha384(message).hexdigest()
    assert found.digests == {"sha256": found.digest, "sha384": hashlib.sha384(listing).hexdigest()}
    assert [one.holder for one in found.signers] == list(PEOPLE)
    assert all(one.post_quantum for one in found.signers)
    assert len(found.files) == len(listing.splitlines())


def lists_of(bundle: Path, spoilt: ListKind | None = None, path: str = MODEL) -> Lists:
    """The lists of a bundle, one of which has another digest of a file."""
    read = []
    for kind in KINDS:
        digests = dict(parse_listing((bundle / kind.path).read_bytes(), kind))
        if kind is spoilt:
            digests[path] = "0" * kind.digits
        read.append(parse_listing(listing_bytes(digests), kind))
    index, strict = read
    return Lists(index, (Stricter(strict, strict.paths.index(INDEX.path)),))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("many", [False, True])
def test_a_file_must_have_the_digest_of_each_list(
    cnsa_bundle: Path, kind: ListKind, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "MANY", 1 if many else 1 << 30)
    with Tree(cnsa_bundle) as tree:
        files = reader.read_contents(tree, read_signed(tree)).files
        hashing.check_bytes(tree, files, progress=Silent())
        spoilt = ListedFiles(lists_of(cnsa_bundle, kind), files.sizes)
        with pytest.raises(DigestMismatch) as caught:
            hashing.check_bytes(tree, spoilt, progress=Silent())
    data = (cnsa_bundle / MODEL).read_bytes()
    assert caught.value.wanted == f"{kind.algorithm} {'0' * kind.digits}"
    assert caught.value.found == f"{kind.algorithm} {kind.digest(data)}"


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("path", ["manifest.json", "blocks.bin", "trust/root.1.json"])
def test_what_is_read_apart_too(cnsa_bundle: Path, kind: ListKind, path: str) -> None:
    with Tree(cnsa_bundle) as tree:
        assert reader.read_listed(tree, lists_of(cnsa_bundle), path, limit=1 << 20)
        with pytest.raises(DigestMismatch, match="not what was signed") as caught:
            reader.read_listed(tree, lists_of(cnsa_bundle, kind, path), path, limit=1 << 20)
    assert caught.value.wanted == f"{kind.algorithm} {'0' * kind.digits}"


def test_a_manifest_in_pieces_too(cnsa_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LARGE", 1)
    with Tree(cnsa_bundle) as tree:
        signed = read_signed(tree)
        assert reader.read_contents(tree, signed, lists_of(cnsa_bundle)).manifest.product == "demo"
        for kind in KINDS:
            lists = lists_of(cnsa_bundle, kind, "manifest.json")
            with pytest.raises(DigestMismatch, match=r"manifest\.json is not what was signed"):
                reader.read_contents(tree, signed, lists)


def test_bytes_are_read_once(cnsa_bundle: Path, cnsa_root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two digests, one pass: of the payload no byte is read twice."""
    read = []
    real = os.readv

    def counted(fd: int, buffers: object) -> int:
        count = real(fd, buffers)  # type: ignore[arg-type] # as it came
        read.append(count)
        return count

    monkeypatch.setattr(os, "readv", counted)
    found = verify(cnsa_bundle, cnsa_root)
    apart = reader.read_apart(found.files.listing)
    assert sum(read) == found.size - sum(found.files[path].size for path in apart)


def test_numbers_are_those_of_the_first_list(cnsa_bundle: Path) -> None:
    """From any number to any other: the stricter list has one line more, in its middle."""
    lists = lists_of(cnsa_bundle)
    every = list(lists.some(0, len(lists)))
    assert [path for path, _ in every] == list(lists.index)
    for path, digests in every:
        data = (cnsa_bundle / path).read_bytes()
        assert digests == (SHA256.digest(data), SHA384.digest(data)) == lists.wanted(path)
        assert lists.digests(path) == {"sha256": digests[0], "sha384": digests[1]}
        assert lists.further(path) == (("sha384", digests[1]),)
    for first in range(len(lists) + 1):
        for end in range(first, len(lists) + 3):
            assert list(lists.some(first, end)) == every[first:end]


def test_hashes_go_on_from_a_copy() -> None:
    hashes = Hashes.of(KINDS)
    hashes.update(b"one")
    copy = hashes.copy()
    copy.update(b" two")
    assert hashes.hexdigests() == tuple(kind.digest(b"one") for kind in KINDS)
    assert copy.hexdigests() == tuple(kind.digest(b"one two") for kind in KINDS)


class TestDowngrade:
    """Nobody turns a bundle of this profile into one that SHA-256 alone vouches for."""

    def test_the_list_was_taken_away(self, cnsa_bundle: Path, cnsa_root: Root) -> None:
        for path in (cnsa_bundle / "trust").glob("SHA384SUMS*"):
            path.unlink()
        with pytest.raises(ProfileNotMet) as caught:
            verify(cnsa_bundle, cnsa_root)
        assert (caught.value.found, caught.value.exit_code) == (
            "trust/SHA256SUMS is the strongest list there",
            4,
        )
        assert caught.value.wanted == "trust/SHA384SUMS, and the holders' signatures over it"

    def test_and_the_other_was_signed(
        self, cnsa_bundle: Path, cnsa_root: Root, cnsa_holders: Holders
    ) -> None:
        """Real signatures of both holders over SHA256SUMS: they do not count."""
        for path in (cnsa_bundle / "trust").glob("SHA384SUMS*"):
            path.unlink()
        for stated in (cnsa_bundle / "trust").glob("provenance.*"):
            stated.unlink()
        sign_by_hand(cnsa_bundle, cnsa_holders, INDEX)
        with pytest.raises(ProfileNotMet):
            verify(cnsa_bundle, cnsa_root)
        with pytest.raises(ProfileNotMet):
            sign_bundle(cnsa_bundle, cnsa_holders.key("dora"))

    def test_signatures_over_the_first_list_are_no_part_of_it(
        self, cnsa_bundle: Path, cnsa_root: Root, cnsa_holders: Holders
    ) -> None:
        sign_by_hand(cnsa_bundle, cnsa_holders, INDEX)
        with pytest.raises(FileUnexpected) as caught:
            verify(cnsa_bundle, cnsa_root)
        assert "SHA256SUMS.dora.sig" in str(caught.value.found)

    def test_nor_do_they_count_under_the_other_name(
        self, cnsa_bundle: Path, cnsa_root: Root, cnsa_holders: Holders
    ) -> None:
        sign_by_hand(cnsa_bundle, cnsa_holders, INDEX)
        for path in (cnsa_bundle / "trust").glob("SHA256SUMS.*"):
            path.rename(path.with_name(path.name.replace("256", "384")))
        with pytest.raises(SignatureInvalid):
            verify(cnsa_bundle, cnsa_root)

    def test_a_bundle_of_before_the_profile(
        self, maker: BundleMaker, cnsa_holders: Holders, cnsa_root: Root
    ) -> None:
        """The same people, the same keys, before their root asked for the profile."""
        before = compose(enrolments(cnsa_holders), policy=Policy("require"))
        bundle = sign_twice(maker.write("old", before), cnsa_holders)
        assert verify(bundle, before).kind is SHA256
        after = replace(cnsa_root, version=2)
        with pytest.raises(ProfileNotMet) as caught:
            verify(bundle, after)
        assert "profile cnsa" in caught.value.message

    def test_of_a_chain_the_last_root_judges(
        self, maker: BundleMaker, cnsa_holders: Holders, cnsa_root: Root
    ) -> None:
        """An old node trusts root 1, without a profile; the bundle brings root 2, with it."""
        before = compose(enrolments(cnsa_holders), policy=Policy("require"))
        after = replace(cnsa_root, version=2)
        documents = {"trust/root.1.json": root_bytes(before), **signatures_of(after, cnsa_holders)}
        bundle = write_bundle(
            maker.folder / "chained",
            maker.lock(),
            maker.store(),
            root=root_bytes(after),
            documents=documents,
            progress=Silent(),
        )
        sign_twice(bundle, cnsa_holders)
        found = verify(bundle, before)
        assert (found.root.version, found.kind) == (2, SHA384)
        for path in (bundle / "trust").glob("SHA384SUMS*"):
            path.unlink()
        for stated in (bundle / "trust").glob("provenance.*"):
            stated.unlink()
        sign_by_hand(bundle, cnsa_holders, INDEX)
        for root in (before, after):
            with pytest.raises(ProfileNotMet):
                verify(bundle, root)

    def test_another_root_s_list(self, cnsa_bundle: Path, maker: BundleMaker, two_of_three: Root) -> None:
        """The other way round: a root without the profile is not judged by a list it does not ask for."""
        plain = maker.sign(maker.write("plain", two_of_three), "alice", "bob")
        shutil.copy(cnsa_bundle / SHA384.path, plain / SHA384.path)
        with pytest.raises(ProfileNotMet) as caught:
            verify(plain, two_of_three)
        assert caught.value.found == "trust/SHA384SUMS is the strongest list there"

    def test_a_bundle_built_without_a_root_has_no_such_list(
        self, maker: BundleMaker, cnsa_root: Root, cnsa_holders: Holders
    ) -> None:
        bundle = maker.write("rootless", None)
        sign_bundle(bundle, cnsa_holders.key("dora"), holder="dora")
        with pytest.raises(ProfileNotMet):
            verify(bundle, cnsa_root)


def test_an_ssh_signature_must_not_hash_with_sha_256(
    cnsa_bundle: Path, cnsa_root: Root, cnsa_holders: Holders
) -> None:
    """``ssh-keygen -O hashalg=sha256``: OpenSSH's own choice is sha512."""
    sign_by_hand(cnsa_bundle, cnsa_holders, SHA384, "dora", hashed="sha512")
    assert verify(cnsa_bundle, cnsa_root)
    sign_by_hand(cnsa_bundle, cnsa_holders, SHA384, "dora", hashed="sha256")
    with pytest.raises(SignatureInvalid, match="the profile cnsa") as caught:
        verify(cnsa_bundle, cnsa_root)
    assert caught.value.message.startswith("signature of dora: ")
    assert (caught.value.found, caught.value.wanted) == ("sha256", "sha512")


def test_a_second_root_of_the_trusted_version_is_refused(
    cnsa_bundle: Path, cnsa_root: Root, cnsa_holders: Holders
) -> None:
    """By the digest that the signed list has of the carried one."""
    other = compose(enrolments(cnsa_holders), {"root": 1}, policy=Policy("require", "cnsa"), solo=True)
    with pytest.raises(RootInvalid, match="carries another root 1") as caught:
        verify(cnsa_bundle, other)
    assert caught.value.found == f"sha384 {SHA384.digest(root_bytes(cnsa_root))}"


def test_both_kinds_of_signatures_are_needed(cnsa_bundle: Path, cnsa_root: Root) -> None:
    (cnsa_bundle / f"{SHA384.path}.emil.mldsa87").unlink()
    with pytest.raises(ThresholdNotMet, match="too few") as caught:
        verify(cnsa_bundle, cnsa_root)
    assert "without the ML-DSA signature: emil" in str(caught.value.found)


def test_building_ends_if_a_file_changes_before_it_is_hashed_again(
    maker: BundleMaker, cnsa_root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = stricter_lists.write_stricter_lists

    def spoil_first(folder: Path, *rest: object) -> None:
        (folder / MODEL).write_bytes(b"X" * 4000)
        real(folder, *rest)  # type: ignore[arg-type] # as they came

    monkeypatch.setattr(writer, "write_stricter_lists", spoil_first)
    with pytest.raises(DigestMismatch, match="changed while the bundle was written"):
        maker.write("bundle", cnsa_root)
    assert not (maker.folder / "bundle").exists()


def test_slices_are_listed_as_they_lie_there(
    maker: BundleMaker, cnsa_root: Root, cnsa_holders: Holders
) -> None:
    block = 4 << 20
    lock = maker.lock(
        {"engine": ("python", {"e.whl": b"x"}), "model": ("tiny-gguf", {"tiny.gguf": bytes(2 * block + 5)})}
    )
    bundle = sign_twice(maker.write("cut", cnsa_root, lock, slice_size=block), cnsa_holders)
    found = verify(bundle, cnsa_root)
    assert len(found.files.lists.further(f"{MODEL}.slice-0002")) == 1
    with pytest.raises(KeyError):
        found.files.lists.further(MODEL)


def test_who_signed_first_does_not_matter(
    maker: BundleMaker, cnsa_root: Root, cnsa_holders: Holders
) -> None:
    bundle = maker.write("bundle", cnsa_root)
    told = [sign_bundle(bundle, cnsa_holders.key(key)) for key in ("emil-2", "dora", "emil", "dora-2")]
    assert [each.enough for each in told] == [False, False, False, True]
    assert {each.path.name for each in told} == {
        f"SHA384SUMS.{name}.{kind}" for name in PEOPLE for kind in ("sig", "mldsa87")
    }


def test_what_others_tools_read_names_both_digests(cnsa_bundle: Path, cnsa_root: Root) -> None:
    """Provenance and verification summary: the bundle by SHA-256, its name, and by SHA-384."""
    found = verify(cnsa_bundle, cnsa_root)
    wanted = [{"digest": dict(found.digests), "name": "trust/SHA256SUMS"}]
    summary = json.loads(summary_bytes(found, "2026-01-31T12:00:00Z"))
    envelope = parse_envelope((cnsa_bundle / "trust/provenance.dora.dsse.json").read_bytes())
    statement = json.loads(envelope.payload)
    assert summary["subject"] == statement["subject"] == wanted
    (manifest,) = statement["predicate"]["runDetails"]["byproducts"]
    data = (cnsa_bundle / "manifest.json").read_bytes()
    assert manifest["digest"] == {kind.algorithm: kind.digest(data) for kind in KINDS}


def signatures_of(root: Root, holders: Holders) -> dict[str, bytes]:
    """The signatures of both holders over a root, by path in a bundle."""
    data, files = root_bytes(root), {}
    for name in PEOPLE:
        for key in (name, f"{name}-2"):
            signer = open_signer(holders.key(key))
            post_quantum = key != name
            keyid = next(
                each
                for each, entry in root.keys.items()
                if entry.holder == name and isinstance(entry.key, PostQuantumKey) == post_quantum
            )
            path = signature_name(
                f"trust/root.{root.version}.json", name, keyid[:8], post_quantum=post_quantum
            )
            files[path] = signer.sign(data, "root@appliance")
    return files
