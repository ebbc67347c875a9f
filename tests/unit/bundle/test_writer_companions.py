"""What lies beside the payload is made before the list is, and is in it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import writer
from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.manifest import Build, ListedFile, Manifest, parse_manifest
from appliance.bundle.verify import verify_bundle
from appliance.definition.lock import lock_text
from appliance.errors import SpaceExhausted
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.bundle.writer import Companion
    from appliance.progress import Progress
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

SBOM, PARITY = "sbom/bundle.cdx.json", "parity/set-0000.par2"


class Recorder:
    """Writes one file, and remembers what it was given and what lay there."""

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self.data = data
        self.lay_there: set[str] = set()
        self.manifest: Manifest | None = None

    def __call__(self, folder: Path, manifest: Manifest, progress: Progress) -> Mapping[str, ListedFile]:
        self.lay_there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        self.manifest = manifest
        (folder / self.path).parent.mkdir()
        (folder / self.path).write_bytes(self.data)
        (folder / self.path).chmod(0o600)
        return {self.path: ListedFile(hashlib.sha256(self.data).hexdigest(), len(self.data))}


def write(maker: BundleMaker, root: Root, *companions: Companion, **options: int) -> Path:
    return writer.write_bundle(
        maker.folder / "bundle",
        maker.lock({**MODEL, "engine": ("python", {"engine-1.0-py3-none-any.whl": b"wheel"})}),
        maker.store(),
        root=root_bytes(root),
        progress=Silent(),
        companions=companions,
        **options,
    )


MODEL: Mapping[str, tuple[str, Mapping[str, bytes]]] = {
    "model": ("tiny-gguf", {"tiny.gguf": bytes(2 * BLOCK_SIZE + 1)})
}
ROOT_FILES = {"VERIFY.txt", "blocks.bin", "trust/root.1.json"}


def test_companions_see_what_is_there_and_are_listed(maker: BundleMaker, two_of_three: Root) -> None:
    """Each sees the payload as it lies there and what was made before it; all of it verifies."""
    sbom, parity = Recorder(SBOM, b"{}"), Recorder(PARITY, b"PAR2")
    bundle = write(maker, two_of_three, sbom, parity, slice_size=BLOCK_SIZE)
    slices = {f"payload/model/tiny.gguf.slice-{number:04d}" for number in range(3)}
    assert sbom.lay_there == ROOT_FILES | slices | {"payload/engine/engine-1.0-py3-none-any.whl"}
    assert parity.lay_there == sbom.lay_there | {SBOM}
    assert sbom.manifest is not None
    assert parity.manifest is not None
    assert set(sbom.manifest.files) == ROOT_FILES
    assert set(parity.manifest.files) == ROOT_FILES | {SBOM}

    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    assert manifest.components == sbom.manifest.components
    assert manifest.files == {**parity.manifest.files, PARITY: ListedFile(_sha256(b"PAR2"), 4)}
    assert stat.S_IMODE((bundle / PARITY).stat().st_mode) == 0o644
    maker.sign(bundle, "alice", "bob")
    assert PARITY in verify_bundle(bundle, root_bytes(two_of_three), progress=Silent()).files


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_manifest_names_what_it_was_built_from(maker: BundleMaker) -> None:
    """``sha256sum`` of the two files, as ``lock`` wrote the second, gives these digests."""
    lock = maker.lock()
    bundle = maker.write("bundle", None, lock)
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    assert manifest.build == Build(lock.definition, _sha256(lock_text(lock).encode()))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (RuntimeError("no"), RuntimeError),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), SpaceExhausted),
    ],
)
def test_a_companion_that_fails_leaves_nothing_behind(
    fault: BaseException, expected: type[BaseException], maker: BundleMaker, two_of_three: Root
) -> None:
    class Failing(Recorder):
        def __call__(
            self, folder: Path, manifest: Manifest, progress: Progress
        ) -> Mapping[str, ListedFile]:
            super().__call__(folder, manifest, progress)
            raise fault

    with pytest.raises(expected):
        write(maker, two_of_three, Failing(SBOM, b"{"))
    assert [path.name for path in maker.folder.iterdir()] == ["store"]


@pytest.mark.parametrize("made", [{SBOM: ListedFile("0" * 64, 3)}, {"VERIFY.txt": ListedFile("0" * 64, 2)}])
def test_a_companion_that_says_otherwise_than_it_did(
    made: Mapping[str, ListedFile], maker: BundleMaker, two_of_three: Root
) -> None:
    def lie(folder: Path, manifest: Manifest, progress: Progress) -> Mapping[str, ListedFile]:
        Recorder(SBOM, b"{}")(folder, manifest, progress)
        return made

    with pytest.raises(RuntimeError, match="otherwise"):
        write(maker, two_of_three, lie)


def test_room_is_asked_for_on_behalf_of_companions(
    maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "free_bytes", lambda _: 1 << 30)
    write(maker, two_of_three).rename(maker.folder / "without")
    with pytest.raises(SpaceExhausted, match="too little room"):
        write(maker, two_of_three, companion_bytes=1 << 30)
