"""A node takes a bundle of the profile cnsa by the digests of both of its lists."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.list_kind import SHA256, SHA384
from appliance.bundle.post_quantum_keys import generate_key
from appliance.bundle.sign import sign_bundle
from appliance.bundle.verify import verify_bundle
from appliance.definition.inventory import NodeEntry
from appliance.errors import DigestMismatch, PreflightFailed
from appliance.node.connection import LocalConnection
from appliance.node.sent import files_to_send
from appliance.node.transfer import Transfer
from appliance.progress import Silent
from appliance.trust.founding import Enrolment, compose
from appliance.trust.keys import parse_public_file
from appliance.trust.root import Policy, root_bytes
from tests.cnsa import sign_twice

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.node.sent import SentFile
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders

BLOCK = 4 << 20
MODEL = "payload/model/tiny.gguf"
DATA = random.Random(12).randbytes(2 * BLOCK + 777)  # noqa: S311 - the same bytes each time
NODE = NodeEntry("here", "local", IPv4Address("10.20.0.11"), 22, ())


class Case:
    """A verified bundle whose model is cut into three slices, and a home for copies of it."""

    def __init__(self, source: Path, root: Root) -> None:
        verified = verify_bundle(source, root_bytes(root), progress=Silent())
        self.source, self.digest, self.files = source, verified.digest, files_to_send(verified)
        self.home = source.parent / "staged"
        self.copy = self.home / verified.digest

    def run(self, files: list[SentFile] | None = None, *, recheck: bool = False) -> list[str]:
        """Copy; the paths that were wanted."""
        files = files or self.files
        transfer = Transfer.begin(
            LocalConnection(NODE),
            self.source,
            self.digest,
            files,
            progress=Silent(),
            home=str(self.home),
            recheck=recheck,
        )
        wanted = [files[index].path for index, _ in transfer.want]
        transfer.send(Silent())
        return wanted

    def with_wrong(self, path: str) -> list[SentFile]:
        """What is sent, with another SHA-384 for a file or a slice."""
        wrong = (("sha384", "0" * 96),)
        changed = []
        for file in self.files:
            if file.path == path:
                assert file.further, "it has none to be changed"
                file = replace(file, further=wrong)  # noqa: PLW2901 - changed on its way
            slices = tuple(
                replace(each, further=wrong) if each.path == path else each for each in file.slices
            )
            changed.append(replace(file, slices=slices))
        assert changed != self.files
        return changed


@pytest.fixture
def case(maker: BundleMaker, cnsa_root: Root, cnsa_holders: Holders) -> Case:
    contents = {"engine": ("python", {"engine.whl": b"wheel"}), "model": ("tiny-gguf", {"tiny.gguf": DATA})}
    bundle = maker.write("bundle", cnsa_root, maker.lock(contents), slice_size=BLOCK)
    return Case(sign_twice(bundle, cnsa_holders), cnsa_root)


PATHS = ["payload/engine/engine.whl", f"{MODEL}.slice-0001", "manifest.json", "trust/SHA256SUMS"]


def test_both_lists_and_every_signature_come_along(case: Case) -> None:
    assert set(case.run()) == {file.path for file in case.files}
    assert (case.copy / MODEL).read_bytes() == DATA
    for path in case.source.glob("trust/*"):
        assert (case.copy / "trust" / path.name).read_bytes() == path.read_bytes()
    assert case.run() == case.run(recheck=True) == []


def test_of_a_cut_file_the_slices_have_the_second_digest(case: Case) -> None:
    [model] = [file for file in case.files if file.path == MODEL]
    assert model.further == ()
    assert [each.further for each in model.slices] == [
        (("sha384", SHA384.digest(DATA[start : start + BLOCK])),) for start in range(0, len(DATA), BLOCK)
    ]


@pytest.mark.parametrize("path", PATHS)
def test_what_arrives_is_compared_by_it(case: Case, path: str) -> None:
    with pytest.raises(DigestMismatch, match="wrote something else"):
        case.run(case.with_wrong(path))
    assert not case.copy.with_name(f"{case.digest}.complete").exists()
    assert case.run(), "and then goes on"


@pytest.mark.parametrize("path", PATHS)
def test_what_is_there_is_compared_by_it(case: Case, path: str) -> None:
    """With the mark gone, or ``recheck``: what has another SHA-384 is wanted again."""
    case.run()
    with pytest.raises(DigestMismatch, match="wrote something else"):
        case.run(case.with_wrong(path), recheck=True)
    assert case.run() == [path.partition(".slice-")[0]]


def test_what_the_stricter_list_does_not_say_makes_no_complete_copy(case: Case) -> None:
    """The station was deceived about the list: digests that the bytes have, and the list has not."""
    path = case.source / SHA384.path
    text = path.read_bytes()
    line = next(each for each in text.splitlines(keepends=True) if b"engine.whl" in each)
    path.write_bytes(text.replace(line, b"0" * 96 + line[96:]))
    [listed] = [file for file in case.files if file.path == SHA384.path]
    data = path.read_bytes()
    changed = replace(listed, size=len(data), sha256=SHA256.digest(data))
    files = [changed if file is listed else file for file in case.files]
    with pytest.raises(PreflightFailed) as caught:
        case.run(files)
    assert caught.value.found == "the files sent are not those of the signed list trust/SHA384SUMS"


def test_without_its_digests_a_copy_is_not_complete(case: Case) -> None:
    bare = [
        replace(file, further=(), slices=tuple(replace(each, further=()) for each in file.slices))
        for file in case.files
    ]
    with pytest.raises(PreflightFailed) as caught:
        case.run(bare)
    assert "trust/SHA384SUMS" in str(caught.value.found)


def test_ml_dsa_signatures_over_the_first_list_come_along(
    maker: BundleMaker, holders: Holders, tmp_path: Path
) -> None:
    """Of a root that requires them without the profile; a node refused these copies once."""
    enrolments = []
    for name in ("alice", "bob"):
        second = generate_key(tmp_path / f"{name}-2", passphrase=b"", comment=name)
        enrolments += [Enrolment(name, parse_public_file(holders.public(name))), Enrolment(name, second)]
    root = compose(enrolments, policy=Policy("require"))
    bundle = maker.sign(maker.write("two-kinds", root), "alice", "bob")
    for name in ("alice", "bob"):
        sign_bundle(bundle, tmp_path / f"{name}-2")
    case = Case(bundle, root)
    case.run()
    assert (case.copy / "trust/SHA256SUMS.bob.mldsa87").is_file()
