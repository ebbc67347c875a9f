"""Verifying a bundle: signatures first, then every byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.bundle.manifest import ListedFile, Manifest
    from appliance.progress import Progress
    from appliance.trust.policy import Signer
    from appliance.trust.root import Root


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle of which every byte was checked.

    ``digest`` is the SHA-256 (hex) of trust/SHA256SUMS: the bundle's identity.  ``files`` holds every
    listed file by path, and nothing else was in the folder but the list and its signatures.
    ``root_digest`` is the fingerprint of the root it was judged by.
    """

    folder: Path
    digest: str
    manifest: Manifest
    files: Mapping[str, ListedFile]
    signers: tuple[Signer, ...]
    root: Root
    root_digest: str
    role: str

    @property
    def size(self) -> int:
        """Bytes of all listed files."""
        return sum(file.size for file in self.files.values())


def verify_bundle(
    folder: Path,
    root: bytes,
    *,
    progress: Progress,
    workers: int | None = None,
    role: str = "release",
) -> VerifiedBundle:
    """Check everything about the bundle in ``folder``; changes nothing.

    Args:
        folder: the bundle.
        root: the bytes of the root that is trusted.
        progress: told of each file as it is done.
        workers: threads that hash; as many as there are cores if None.
        role: the role whose holders must have signed.

    Raises:
        BundleUntrusted: the bundle must not be used; the subclass says why.
    """
    raise NotImplementedError
