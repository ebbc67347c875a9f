"""From a lock to a manifest that only lacks what copying finds out: the digests of slices and blocks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from appliance.bundle.manifest import (
    Build,
    Component,
    Inference,
    ListedFile,
    Manifest,
    PayloadFile,
    Target,
    manifest_values,
)
from appliance.bundle.manifest_reader import MAX_SLICES, judge_values
from appliance.bundle.paths import BLOCKS_PATH, PAYLOAD_FOLDER
from appliance.definition.lock import lock_text
from appliance.errors import BundleMalformed, LockInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.definition.lock import Artefact, Lock

_UNKNOWN: Final = "0" * 64


def draft_manifest(lock: Lock, small: Iterable[str], slice_size: int) -> Manifest:
    """The manifest for ``lock``, with digests of zeros where they are not known yet.

    It has passed every rule for manifests, so a lock that cannot become a bundle is refused before
    anything is copied.

    Args:
        lock: what goes into the bundle.
        small: the paths outside the payload, ``blocks.bin`` excepted.
        slice_size: bytes; longer files are cut.

    Raises:
        LockInvalid: the lock asks for what no bundle can hold.
    """
    try:
        draft = Manifest(
            product=lock.product,
            version=lock.version,
            sequence=lock.sequence,
            created=lock.created,
            expires=lock.expires,
            target=Target(**lock.target.model_dump()),
            inference=Inference(**lock.inference.model_dump()),
            components={
                name: Component(
                    lock.components[name].kind,
                    tuple(
                        _payload_file(name, each, slice_size) for each in lock.components[name].artefacts
                    ),
                    tuple(sorted(set(lock.components[name].packages))),
                )
                for name in sorted(lock.components)
            },
            files={path: ListedFile(_UNKNOWN, 0) for path in sorted([*small, BLOCKS_PATH])},
            build=Build(lock.definition, hashlib.sha256(lock_text(lock).encode()).hexdigest()),
        )
        return judge_values(manifest_values(draft))
    except BundleMalformed as fault:
        raise LockInvalid(
            f"the lock cannot become a bundle: {fault.message}",
            found=fault.found,
            wanted=fault.wanted,
            hint="change the definition and lock it again",
        ) from fault


def _payload_file(component: str, artefact: Artefact, slice_size: int) -> PayloadFile:
    rest = artefact.size % slice_size or slice_size
    # One slice too many is enough for the rules to refuse an absurd size.
    count = min(-(-artefact.size // slice_size), MAX_SLICES + 1)
    slices = [ListedFile(_UNKNOWN, slice_size)] * (count - 1) + [ListedFile(_UNKNOWN, rest)]
    return PayloadFile(
        path=f"{PAYLOAD_FOLDER}/{component}/{artefact.path}",
        size=artefact.size,
        sha256=artefact.sha256,
        name=artefact.name,
        version=artefact.version,
        licence=artefact.licence,
        origin={str(key): value for key, value in artefact.origin.items()},
        slices=tuple(slices) if count > 1 else (),
    )
