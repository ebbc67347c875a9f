"""Fixtures every tier may use: holders with real keys, and small bundles made by the real writer."""

from __future__ import annotations

import gc
import hashlib
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.bundle.media.label import VolumeLabel, VolumeShare, label_bytes
from appliance.bundle.sign import sign_bundle
from appliance.bundle.writer import write_bundle
from appliance.definition.lock import Artefact, Lock, LockedComponent
from appliance.definition.names import Inference, Target
from appliance.progress import Silent
from appliance.sources.store import Store
from appliance.trust.keys import parse_public_file
from appliance.trust.root import Root, root_bytes
from tests.roots import first_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

# A shell that starts something in the background makes it ignore Ctrl-C, and so would every program that
# is started here.  Tests interrupt what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Likewise one under nohup, and SIGHUP.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """What is collected, thousands of tests, stays: it need not be looked through for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _own_memory() -> Iterator[None]:
    """Commands that run in the tests' own process leave its memory as it is (``appliance.disk.memory``)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("appliance.disk.memory.protect_memory", lambda: True)
        yield


#: A few bytes for every kind of component; the model is the one that is served.
CONTENTS = {
    "engine": ("python", {"engine-1.0-py3-none-any.whl": b"wheel", "requirements.txt": b"engine==1.0\n"}),
    "extras": ("files", {"site/notice.txt": b"notice\n", "empty": b""}),
    "model": ("tiny-gguf", {"tiny.gguf": b"GGUF" * 1000}),
}


@dataclass(frozen=True)
class Holders:
    """Real OpenSSH keys of some holders, by name; ``key`` gives the private key file."""

    folder: Path

    def key(self, name: str) -> Path:
        return self.folder / name

    def public(self, name: str) -> str:
        return (self.folder / f"{name}.pub").read_text()

    def root(self, *names: str, solo: bool = False, **thresholds: int) -> Root:
        keys = {name: parse_public_file(self.public(name)) for name in names}
        return first_root(keys, thresholds=thresholds, solo=solo)


@dataclass(frozen=True)
class BundleMaker:
    """Makes small bundles through lock, store, the real writer and real signatures."""

    folder: Path
    holders: Holders

    def lock(self, contents: Mapping[str, tuple[str, Mapping[str, bytes]]] = CONTENTS) -> Lock:
        """A lock for these bytes, which are put into the store; contents: name -> kind, path -> bytes."""
        store = self.store()
        components = {}
        for name, (kind, files) in contents.items():
            for data in files.values():
                store.add_bytes(data)
            artefacts = tuple(
                Artefact(
                    path=path,
                    name=path,
                    version="1.0",
                    size=len(files[path]),
                    sha256=hashlib.sha256(files[path]).hexdigest(),
                    licence="CC0-1.0",
                    # Every wheel says that it is of an engine: preflight looks for one.
                    origin={"kind": "python", "project": "xllamacpp"}
                    if path.endswith(".whl")
                    else {"kind": "file"},
                )
                for path in sorted(files)
            )
            components[name] = LockedComponent(kind=kind, artefacts=artefacts)
        return Lock(
            format=1,
            definition="0" * 64,
            product="demo",
            version="1.0.0",
            sequence=7,
            created="2026-01-31T12:00:00Z",
            target=Target(distribution="debian", suite="trixie", architecture="amd64", python="3.13"),
            inference=Inference(engine="engine", model="model", file="tiny.gguf", name="demo"),
            components=components,
        )

    def store(self) -> Store:
        return Store(self.folder / "store")

    def write(self, name: str, root: Root | None, lock: Lock | None = None, **options: int) -> Path:
        """Write an unsigned bundle."""
        return write_bundle(
            self.folder / name,
            lock or self.lock(),
            self.store(),
            root=None if root is None else root_bytes(root),
            progress=Silent(),
            **options,
        )

    def sign(self, bundle: Path, *names: str, role: str = "release") -> Path:
        """Add these holders' signatures."""
        for name in names:
            sign_bundle(bundle, self.holders.key(name), role=role)
        return bundle

    def sign_regardless(self, bundle: Path, *names: str, role: str) -> Path:
        """The same by ssh-keygen, which does not ask what it signs; without provenance."""
        listing = bundle / "trust/SHA256SUMS"
        for name in names:
            command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(self.holders.key(name))]
            command += ["-n", f"{role}@appliance"]
            done = subprocess.run(command, input=listing.read_bytes(), stdout=subprocess.PIPE, check=True)
            listing.with_name(f"SHA256SUMS.{name}.sig").write_bytes(done.stdout)
        return bundle


@pytest.fixture(scope="session")
def holders(tmp_path_factory: pytest.TempPathFactory) -> Holders:
    """alice, bob and carol, and mallory whom no root enrols."""
    folder = tmp_path_factory.mktemp("holders")
    kinds = {
        "alice": ["-t", "ed25519"],
        "bob": ["-t", "ecdsa", "-b", "384"],
        "carol": ["-t", "ecdsa", "-b", "256"],
        "mallory": ["-t", "ed25519"],
    }
    for name, kind in kinds.items():
        command = ["ssh-keygen", "-q", *kind, "-N", "", "-C", f"{name}@example", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    return Holders(folder)


@pytest.fixture(scope="session")
def maker_in(holders: Holders) -> Callable[[Path], BundleMaker]:
    """Makes bundles under a folder of one's own choice."""
    return lambda folder: BundleMaker(folder, holders)


@pytest.fixture
def maker(tmp_path: Path, holders: Holders) -> BundleMaker:
    """Makes bundles under this test's own folder."""
    return BundleMaker(tmp_path, holders)


@pytest.fixture(scope="session")
def two_of_three(holders: Holders) -> Root:
    """A root of alice, bob and carol, two of whom must sign."""
    return holders.root("alice", "bob", "carol")


@pytest.fixture(scope="session")
def pristine_bundle(tmp_path_factory: pytest.TempPathFactory, holders: Holders, two_of_three: Root) -> Path:
    """A bundle signed by alice and bob; read only, never changed by a test."""
    maker = BundleMaker(tmp_path_factory.mktemp("pristine"), holders)
    return maker.sign(maker.write("bundle", two_of_three), "alice", "bob")


@pytest.fixture
def bundle(pristine_bundle: Path, tmp_path: Path) -> Path:
    """This test's own copy of the bundle signed by alice and bob."""
    return shutil.copytree(pristine_bundle, tmp_path / "bundle", symlinks=True)


@pytest.fixture
def root_file(two_of_three: Root, tmp_path: Path) -> Path:
    """The trusted root, as a file."""
    path = tmp_path / "trusted-root.json"
    path.write_bytes(root_bytes(two_of_three))
    return path


@pytest.fixture
def volumes(tmp_path: Path) -> Callable[..., list[Path]]:
    """Lay a signed bundle out on several media, as docs/format.md says; its folder on each of them."""

    def lay_out(bundle: Path, *ends: int, spare: bool = True, medium: str = "medium") -> list[Path]:
        """One volume up to each of ``ends`` in the bundle's order, and one for the rest."""
        manifest = parse_manifest((bundle / "manifest.json").read_bytes())
        order = [path for file in manifest.payload() for path, _ in file.parts()]
        order += sorted(path for path in manifest.files if path.startswith("parity/"))
        digest = hashlib.sha256((bundle / "trust/SHA256SUMS").read_bytes()).hexdigest()
        parts = [order[start:end] for start, end in zip((0, *ends), (*ends, len(order)), strict=True)]
        shares = tuple(
            VolumeShare(sum((bundle / path).stat().st_size for path in part), len(part), part[0], part[-1])
            for part in parts
        )
        folders = []
        for number, part in enumerate(parts, 1):
            label = VolumeLabel(digest, manifest.product, manifest.version, number, shares)
            folder = tmp_path / f"{medium}-{number}" / label.folder_name
            shutil.copytree(bundle, folder, ignore=lambda *_: ("payload", "parity"))
            for path in part:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(bundle / path, folder / path)
            if spare:
                shutil.copytree(bundle / "trust", folder / "spare/trust")
                shutil.copy(bundle / "manifest.json", folder / "spare/manifest.json")
            (folder / "volume.json").write_bytes(label_bytes(label))
            folders.append(folder)
        return folders

    return lay_out


@pytest.fixture
def snapshot() -> Callable[[Path], object]:
    """Everything about a folder that a program might change, without following links."""

    def take(folder: Path) -> object:
        found = {}
        for path in sorted(folder.rglob("*")):
            status = path.lstat()
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else None
            found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_size, data)
        return found

    return take
