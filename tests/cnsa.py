"""People, roots and bundles of the profile cnsa: P-384 and ML-DSA-87 keys, and lists of SHA-384."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.post_quantum_keys import generate_key, open_signer
from appliance.bundle.sign import sign_bundle
from appliance.trust.founding import Enrolment, compose
from appliance.trust.keys import parse_public_file
from appliance.trust.mldsa import PostQuantumKey, parse_post_quantum
from appliance.trust.root import Policy, root_bytes
from tests.conftest import BundleMaker, Holders

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.list_kind import ListKind
    from appliance.trust.root import Root

#: Who holds a key of each kind: ``dora`` and ``dora-2``.
PEOPLE = ("dora", "emil")


def enrolments(holders: Holders) -> list[Enrolment]:
    """The keys of both kinds, for root and release."""
    found = []
    for name in PEOPLE:
        second = (holders.folder / f"{name}-2.pub").read_text()
        found += [
            Enrolment(name, parse_public_file(holders.public(name))),
            Enrolment(name, read_second(second)),
        ]
    return found


def read_second(text: str) -> PostQuantumKey:
    """The key in a public file of ML-DSA."""
    algorithm, encoded, *_ = text.split()
    return parse_post_quantum(f"{algorithm} {encoded}")


def sign_twice(bundle: Path, holders: Holders, *names: str) -> Path:
    """Each of these people signs with both keys."""
    for name in names or PEOPLE:
        for key in (name, f"{name}-2"):
            sign_bundle(bundle, holders.key(key))
    return bundle


def sign_by_hand(
    bundle: Path, holders: Holders, kind: ListKind, *names: str, hashed: str = "sha512"
) -> None:
    """Sign one of the lists with stock ssh-keygen, and with the ML-DSA keys if no name is given."""
    data = (bundle / kind.path).read_bytes()
    for name in names or PEOPLE:
        command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(holders.key(name))]
        command += ["-n", "release@appliance", "-O", f"hashalg={hashed}"]
        done = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True)
        (bundle / f"{kind.path}.{name}.sig").write_bytes(done.stdout)
        if not names:
            second = open_signer(holders.key(f"{name}-2"))
            (bundle / f"{kind.path}.{name}.mldsa87").write_bytes(second.sign(data, "release@appliance"))


@pytest.fixture(scope="session")
def cnsa_holders(tmp_path_factory: pytest.TempPathFactory) -> Holders:
    """Dora and emil, each with a P-384 key and an ML-DSA-87 one (``dora-2``)."""
    folder = tmp_path_factory.mktemp("cnsa-holders")
    for name in PEOPLE:
        command = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
        generate_key(folder / f"{name}-2", passphrase=b"", comment=name)
    return Holders(folder)


@pytest.fixture(scope="session")
def cnsa_root(cnsa_holders: Holders) -> Root:
    """A root of dora and emil, both of whom must sign, with the profile cnsa."""
    return compose(enrolments(cnsa_holders), policy=Policy("require", "cnsa"))


@pytest.fixture(scope="session")
def pristine_cnsa_bundle(
    tmp_path_factory: pytest.TempPathFactory, cnsa_holders: Holders, cnsa_root: Root
) -> Path:
    """A bundle signed by dora and emil; read only, never changed by a test."""
    maker = BundleMaker(tmp_path_factory.mktemp("pristine-cnsa"), cnsa_holders)
    return sign_twice(maker.write("bundle", cnsa_root), cnsa_holders)


@pytest.fixture
def cnsa_bundle(pristine_cnsa_bundle: Path, tmp_path: Path) -> Path:
    """This test's own copy of the bundle signed by dora and emil."""
    return shutil.copytree(pristine_cnsa_bundle, tmp_path / "cnsa-bundle", symlinks=True)


@pytest.fixture
def cnsa_root_file(cnsa_root: Root, tmp_path: Path) -> Path:
    """The trusted root, as a file."""
    path = tmp_path / "trusted-cnsa-root.json"
    path.write_bytes(root_bytes(cnsa_root))
    return path
