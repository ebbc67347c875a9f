"""A node that is this machine: a home with the copy of an old bundle, and the patch to the next one."""

from __future__ import annotations

import fcntl
import random
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.parity.creating import parity_companion
from appliance.bundle.verify import verify_bundle
from appliance.definition.inventory import NodeEntry
from appliance.node.connection import LocalConnection
from appliance.node.patching.base import read_base
from appliance.node.patching.reader import CopyReader
from appliance.node.patching.target import make_target
from appliance.node.patching.transfer import begin_transfer
from appliance.node.remote.inventory import copy_of
from appliance.node.remote.patched_copy import FICLONE
from appliance.node.sent import files_to_send
from appliance.node.transfer import Transfer
from appliance.progress import Silent
from appliance.trust.node_inventory import HeldCopy
from tests.conftest import BundleMaker
from tests.unit.bundle.patch.conftest import (
    Station,
    new_contents,
    old_contents,
    root_with_patches,
)

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.node.patching.target import Target
    from appliance.node.patching.transfer import PatchTransfer
    from tests.conftest import Holders

NODE = NodeEntry("here", "local", IPv4Address("10.20.0.11"), 22, ())
MODEL, LONG = "payload/model/tiny.gguf", "payload/model/long.bin"
#: Of more than one block; what changed lies in the last one.
LONG_BYTES = random.Random(76).randbytes((5 << 20) + 17)  # noqa: S311 - the same bytes each time
LONGER_BYTES = LONG_BYTES[:-20] + b"another end, longer than that"


@dataclass(frozen=True)
class Bundles:
    """An old bundle and the next one, whole and verified, and the patch between them."""

    old: VerifiedBundle
    new: VerifiedBundle
    patch: VerifiedBundle


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, holders: Holders) -> Bundles:
    return make_bundles(tmp_path_factory.mktemp("patching"), holders)


def make_bundles(
    folder: Path,
    holders: Holders,
    long: tuple[bytes, bytes] = (LONG_BYTES, LONGER_BYTES),
    *,
    parity: int = 5,
    **options: Any,
) -> Bundles:
    """Both bundles and the patch, signed; what ``LONG`` is in the old one and in the new one.

    ``options``: as of ``write_bundle``.
    """
    root = root_with_patches(holders)
    station = Station(BundleMaker(folder, holders), root)
    before, after = old_contents(), new_contents()
    before["model"][1]["long.bin"], after["model"][1]["long.bin"] = long
    companions = [parity_companion(parity)]
    old = station.bundle("old", before, sequence=1, companions=companions, **options)
    new = station.bundle("new", after, sequence=2, companions=companions, **options)
    patch = station.patch(old, new)
    return Bundles(
        verify_bundle(old, station.root_data, progress=Silent()),
        verify_bundle(new, station.root_data, progress=Silent()),
        verify_bundle(patch, station.root_data, progress=Silent(), role="patch"),
    )


@dataclass(frozen=True)
class NodeHere:
    """Its home, and what a station does to it."""

    folder: Path
    bundles: Bundles

    @property
    def home(self) -> Path:
        return self.folder / "home/staged"

    def copy(self, bundle: VerifiedBundle) -> Path:
        return self.home / bundle.digest

    def install(self, bundle: VerifiedBundle) -> Transfer:
        """Stage a whole bundle."""
        transfer = Transfer.begin(
            LocalConnection(NODE),
            bundle.folders,
            bundle.digest,
            files_to_send(bundle),
            progress=Silent(),
            home=str(self.home),
        )
        transfer.send(Silent())
        return transfer

    def held(self, bundle: VerifiedBundle) -> HeldCopy:
        """What the node says of a copy, now."""
        said = copy_of(str(self.home.parent), bundle.digest, recheck=False, short=False)
        return HeldCopy(
            bundle.digest,
            said["complete"],
            said["files"],
            said["hashed"],
            len(said["wrong"]),
            said["wrong"],
            said["holds"],
        )

    def reader(self, bundle: VerifiedBundle) -> CopyReader:
        return CopyReader(LocalConnection(NODE), bundle.digest, home=str(self.home))

    def target(self) -> Target:
        """What the patch leads to, asked of this node."""
        number = len([*self.folder.glob("target-*")])
        target, base = self.folder / f"target-{number}", self.folder / f"base-{number}"
        for folder in (target, base):
            folder.mkdir()
        held = self.held(self.bundles.old)
        with self.reader(self.bundles.old) as reader:
            found = read_base(reader, self.bundles.old.digest, base)
            return make_target(self.bundles.patch, found, held, target, progress=Silent())

    def begin(self, target: Target) -> PatchTransfer:
        return begin_transfer(
            LocalConnection(NODE),
            target,
            self.bundles.patch.folders,
            home=str(self.home),
            progress=Silent(),
        )

    def patch(self) -> PatchTransfer:
        transfer = self.begin(self.target())
        transfer.send(Silent())
        return transfer


@pytest.fixture
def node(tmp_path: Path, bundles: Bundles) -> NodeHere:
    """With the old bundle staged."""
    here = NodeHere(tmp_path, bundles)
    here.install(bundles.old)
    return here


def reflinks(folder: Path) -> bool:
    """Whether files in a folder can share blocks."""
    one, other = folder / "reflink.1", folder / "reflink.2"
    one.write_bytes(b"x" * 4096)
    with one.open("rb") as source, other.open("wb") as made:
        try:
            fcntl.ioctl(made.fileno(), FICLONE, source.fileno())
        except OSError:
            return False
    return True
