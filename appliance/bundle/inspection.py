"""Looking into a bundle: what it says about itself, judged only if asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.opening import open_tree
from appliance.bundle.paths import MANIFEST_PATH
from appliance.bundle.reader import read_contents, read_signed, require_file
from appliance.bundle.verify import verify_bundle
from appliance.errors import DigestMismatch
from appliance.trust.root import parse_root
from appliance.trust.sshsig import parse_signature

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.manifest import Manifest
    from appliance.progress import Progress
    from appliance.trust.root import Root


@dataclass(frozen=True, slots=True)
class SeenSignature:
    """What a signature file claims: nobody has checked it."""

    holder: str
    namespace: str
    algorithm: str
    fingerprint: str


@dataclass(frozen=True)
class Inspection:
    """What a bundle says about itself: consistent, but true only if ``verified``."""

    folders: tuple[Path, ...]
    digest: str
    manifest: Manifest
    files: ListedFiles
    signatures: tuple[SeenSignature, ...]
    root: Root | None
    verified: bool
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder it lies in, or the first of several; for messages."""
        return self.folders[0]


def inspect_bundle(
    folders: Path | Sequence[Path], *, trusted: bytes | None, progress: Progress
) -> Inspection:
    """Read everything but the payload's bytes; verify first if there is a root to do it by.

    Args:
        folders: where the bundle lies.
        trusted: the bytes of a root; None to verify nothing.
        progress: told of what verifying does.

    Raises:
        BundleUntrusted: malformed, or list, manifest and folder contradict each other, or not
            verified by the given root.
        Usage: one of ``folders`` is not a folder that can be read.
    """
    verified = None
    if trusted is not None:
        verified = verify_bundle(folders, trusted, progress=progress)
    with open_tree(folders) as tree:
        require_file(tree, MANIFEST_PATH)
        signed = read_signed(tree)
        contents = read_contents(tree, signed)
    if verified is not None and verified.digest != signed.digest:
        raise DigestMismatch(
            "the bundle was exchanged while it was inspected",
            found=signed.digest,
            wanted=verified.digest,
            hint="make the medium read-only and inspect again",
        )
    seen = []
    for holder, armoured in sorted(signed.signatures.items()):
        signature = parse_signature(armoured)
        key = signature.key
        seen.append(SeenSignature(holder, signature.namespace, key.algorithm, key.fingerprint))
    return Inspection(
        folders=tree.folders,
        digest=signed.digest,
        manifest=contents.manifest,
        files=contents.files,
        signatures=tuple(seen),
        root=parse_root(contents.root) if contents.root is not None else None,
        verified=verified is not None,
        notes=tree.notes,
    )
