"""Bundles of one product, one a little later than the other, and patches between them."""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from appliance.bundle.opening import open_tree
from appliance.bundle.patch.building import build_patch
from appliance.bundle.patch.holdings import bundle_holdings, open_bundle
from appliance.bundle.patch.joining import join_patch
from appliance.progress import Silent
from appliance.trust.documents import SignedDocument
from appliance.trust.founding import Enrolment, compose
from appliance.trust.keys import parse_public_file
from appliance.trust.policy import Signatures
from appliance.trust.revocation import Revocation, revocation_bytes
from appliance.trust.root import root_bytes
from tests.conftest import BundleMaker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from appliance.bundle.patch.joining import Joined
    from appliance.bundle.patch.result import BuiltPatch
    from appliance.trust.root import Root
    from tests.conftest import Holders

RANDOM: Final = random.Random(61)  # noqa: S311 - the same bytes each time
WEIGHTS: Final = RANDOM.randbytes(300_000)
WHEEL: Final = RANDOM.randbytes(20_000)
OTHER_WHEEL: Final = RANDOM.randbytes(21_000)
TOKENS: Final = b"".join(b'"token-%d": %d,\n' % (n, n * n) for n in range(4000))

Contents = dict[str, tuple[str, dict[str, bytes]]]


def old_contents() -> Contents:
    """What is installed."""
    return {
        "engine": (
            "python",
            {"a-1.0.whl": WHEEL, "b-1.0.whl": OTHER_WHEEL, "requirements.txt": b"a==1.0\n"},
        ),
        "model": ("tiny-gguf", {"tiny.gguf": WEIGHTS, "tokens.json": TOKENS}),
    }


def new_contents() -> Contents:
    """A wheel of another version, a token more, ten bytes of the weights, one new file."""
    contents = old_contents()
    engine, model = contents["engine"][1], contents["model"][1]
    del engine["a-1.0.whl"]
    engine["a-1.1.whl"] = random.Random(62).randbytes(20_500)  # noqa: S311 - likewise
    engine["requirements.txt"] = b"a==1.1\n"
    model["tokens.json"] = TOKENS.replace(b'"token-2000"', b'"TOKEN-2000"')
    model["tiny.gguf"] = WEIGHTS[:100_000] + b"0123456789" + WEIGHTS[100_010:]
    model["licence.txt"] = b"Be good.\n" * 20
    return contents


@dataclass(frozen=True)
class Station:
    """A folder in which bundles are made: signed by alice and bob, patches by carol and mallory."""

    maker: BundleMaker
    root: Root

    @property
    def folder(self) -> Path:
        return self.maker.folder

    @property
    def root_data(self) -> bytes:
        return root_bytes(self.root)

    def bundle(
        self,
        name: str,
        contents: Contents,
        *,
        sequence: int,
        signed: bool = True,
        locked: Mapping[str, object] | None = None,
        **options: Any,
    ) -> Path:
        """A bundle; ``locked``: what its lock says besides, ``options`` as of ``write_bundle``."""
        values = {"sequence": sequence, "version": f"1.0.{sequence}", **(locked or {})}
        lock = self.maker.lock(contents).model_copy(update=values)
        folder = self.maker.write(name, self.root, lock, **options)
        return self.maker.sign(folder, "alice", "bob") if signed else folder

    def build(self, old: Path, new: Path, name: str = "patch") -> BuiltPatch:
        """A patch from a bundle to another, not signed."""
        with open_tree(old) as tree:
            holdings = bundle_holdings(open_bundle(tree))
            return build_patch(holdings, new, self.folder / name, progress=Silent())

    def patch(self, old: Path, new: Path, name: str = "patch") -> Path:
        """The same, signed."""
        return self.maker.sign(self.build(old, new, name).folder, "carol", "mallory", role="patch")

    def join(self, old: Path, patch: Path, name: str = "joined", *revoked: SignedDocument) -> Joined:
        return join_patch(
            old, patch, self.folder / name, self.root_data, progress=Silent(), revocations=revoked
        )

    def revoking(self, *bundles: str, serial: int = 1) -> SignedDocument:
        """Bundles taken back, by alice and bob."""
        data = revocation_bytes(Revocation(serial, bundles=tuple(sorted(bundles))))
        return SignedDocument(data, Signatures(dict(self._signed(data, "revoke"))))

    def revocation_files(self, document: SignedDocument, serial: int = 1) -> dict[str, bytes]:
        """As a bundle carries it."""
        files = {f"trust/revoked.{serial}.json": document.data}
        beside = document.signatures.ssh.items()
        return files | {f"trust/revoked.{serial}.{name}.sig": data for name, data in beside}

    def _signed(self, data: bytes, role: str) -> Iterator[tuple[str, bytes]]:
        for name in ("alice", "bob"):
            key = self.maker.holders.key(name)
            keyid = parse_public_file(self.maker.holders.public(name)).keyid
            command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", f"{role}@appliance"]
            done = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True)
            yield f"{name}.{keyid[:8]}", done.stdout


@pytest.fixture(scope="session")
def patch_root(holders: Holders) -> Root:
    return root_with_patches(holders)


def root_with_patches(holders: Holders) -> Root:
    """A root with the role patch, whose keys are others than release's."""
    roles = {"carol": ("patch",), "mallory": ("patch",)}
    return compose(
        [
            Enrolment(
                name,
                parse_public_file(holders.public(name)),
                roles.get(name, ("root", "release", "revoke")),
            )
            for name in ("alice", "bob", "carol", "mallory")
        ]
    )


@pytest.fixture
def station(tmp_path: Path, holders: Holders, patch_root: Root) -> Station:
    return Station(BundleMaker(tmp_path, holders), patch_root)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@dataclass(frozen=True)
class Pair:
    """An old bundle, a new one, and the signed patch between them; a test changes copies only."""

    station: Station
    old: Path
    new: Path
    patch: Path
    built: BuiltPatch


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, holders: Holders, patch_root: Root) -> Pair:
    station = Station(BundleMaker(tmp_path_factory.mktemp("pair"), holders), patch_root)
    old = station.bundle("old", old_contents(), sequence=1)
    new = station.bundle("new", new_contents(), sequence=2)
    built = station.build(old, new)
    station.maker.sign(built.folder, "carol", "mallory", role="patch")
    return Pair(station, old, new, built.folder, built)
