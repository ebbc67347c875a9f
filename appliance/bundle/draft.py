"""From a lock to a manifest that only lacks what copying finds out: the digests of slices and blocks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from appliance.bundle.large_manifest import read_large
from appliance.bundle.listing import listing_of, parse_listing
from appliance.bundle.locked_files import UNKNOWN, LockedFiles
from appliance.bundle.manifest import (
    Base,
    Build,
    Component,
    Inference,
    ListedFile,
    Manifest,
    Target,
    manifest_values,
)
from appliance.bundle.manifest_pieces import listed_parts, manifest_pieces
from appliance.bundle.manifest_reader import judge_values
from appliance.bundle.paths import BLOCKS_PATH, MANIFEST_PATH
from appliance.definition.lock import lock_digest
from appliance.errors import BundleMalformed, LockInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from appliance.definition.lock import Lock
    from appliance.hardware.needs import HardwareNeeds


@dataclass(frozen=True, slots=True)
class Leads:
    """What a patch leads from, and to: the digest of the bundle that it makes, its date, what it needs."""

    base: Base
    makes: str
    expires: str | None = None
    hardware: HardwareNeeds | None = None


def draft_manifest(
    lock: Lock, small: Iterable[str], slice_size: int, patch: Leads | None = None
) -> Manifest:
    """The manifest for ``lock``, with digests of zeros where they are not known yet.

    It has passed every rule for manifests, so a lock that cannot become a bundle is refused before
    anything is copied.

    Args:
        lock: what goes into the bundle.
        small: the paths outside the payload, ``blocks.bin`` excepted.
        slice_size: bytes; longer files are cut.
        patch: what the manifest of a patch says besides; nobody wrote a definition for it.

    Raises:
        LockInvalid: the lock asks for what no bundle can hold.
    """
    draft = Manifest(
        product=lock.product,
        version=lock.version,
        sequence=lock.sequence,
        created=lock.created,
        expires=patch.expires if patch else lock.expires,
        target=Target(**lock.target.model_dump()),
        inference=Inference(**lock.inference.model_dump()),
        components={
            name: Component(
                lock.components[name].kind,
                LockedFiles(name, lock.components[name].artefacts, slice_size),
                tuple(sorted(set(lock.components[name].packages))),
            )
            for name in sorted(lock.components)
        },
        files={path: ListedFile(UNKNOWN, 0) for path in sorted([*small, BLOCKS_PATH])},
        build=None if patch else Build(lock.definition, lock_digest(lock)),
        requires=(patch.base,) if patch else (),
        makes=patch.makes if patch else None,
        hardware=patch.hardware if patch else lock.hardware.needs() if lock.hardware else None,
    )
    try:
        judge(draft)
    except BundleMalformed as fault:
        raise LockInvalid(
            f"the lock cannot become a bundle: {fault.message}",
            found=fault.found,
            wanted=fault.wanted,
            hint="change the definition and lock it again",
        ) from fault
    return draft


def judge(manifest: Manifest) -> None:
    """Refuse a manifest that breaks a rule; what it says of itself and of the list need not be known yet.

    Raises:
        BundleMalformed: naming the rule.
    """
    try:
        fits = (
            read_large(
                _Unsaid(manifest),
                parse_listing(listing_of(listed_parts(manifest, (MANIFEST_PATH, UNKNOWN)))),
            )
            is not None
        )
    except BundleMalformed:
        fits = False
    if not fits:  # to say which rule is broken, the manifest is judged as a whole
        judge_values(manifest_values(manifest))


class _Unsaid:
    """The bytes of a manifest that is not written yet; nobody knows its digest, and zeros stand for it."""

    sha256 = UNKNOWN
    size = 0

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    def __iter__(self) -> Iterator[bytes]:
        return manifest_pieces(self._manifest)

    def __getitem__(self, number: int) -> bytes:
        return next(islice(self, number, None))
