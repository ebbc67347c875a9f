"""What is to be believed of a damaged bundle, found among all its copies.

The list that is to be believed says what every other file is; of the small ones the bytes are kept, from
whichever copy is sound.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.bundle import listing as listings
from appliance.bundle.judging import require_role
from appliance.bundle.list_kind import INDEX
from appliance.bundle.manifest import ListedFile, Manifest, parse_manifest
from appliance.bundle.manifest_reader import MAX_BYTES as MAX_MANIFEST
from appliance.bundle.media.layout import is_shared_out
from appliance.bundle.parity.believing import believe_by_root, believe_by_themselves
from appliance.bundle.parity.gathering import POST_QUANTUM, STATEMENTS, find_sound, gather
from appliance.bundle.paths import LIST_PATH, MANIFEST_PATH
from appliance.bundle.review import review_bytes
from appliance.bundle.volume_rules import refuse_unfinished
from appliance.errors import BundleUntrusted, DamageTooGreat, FileMissing, SignerUnknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.parity.believing import Believed
    from appliance.bundle.volume import Volume
    from appliance.trust.documents import SignedDocument


@dataclass(frozen=True)
class SoundCopy:
    """A bundle as it should be: what each file's bytes are, and the small files nobody can compute.

    ``listing`` is the list that identifies it, ``kind`` that of the list which is signed.  ``unlisted`` are
    the lists, the signatures that verify, and provenance, by path.  ``hopeless`` are those of which
    no copy does, with what to do about each.  ``signers`` are the holders whose signatures were judged by
    the trusted root; empty if there was no root to judge by.
    """

    listing: bytes
    kind: ListKind
    manifest: Manifest
    files: Mapping[str, ListedFile]
    contents: Mapping[str, bytes]
    unlisted: Mapping[str, bytes]
    hopeless: Mapping[str, str] = field(default_factory=dict)
    signers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The bundle's identity: SHA-256 (hex) of its list."""
        return hashlib.sha256(self.listing).hexdigest()


def find_sound_copy(
    volumes: Sequence[Volume], root: bytes | None, role: str, revocations: Sequence[SignedDocument] = ()
) -> SoundCopy:
    """The one bundle of which these folders hold damaged copies or parts.

    Args:
        volumes: the open folders.
        root: the bytes of the root that is trusted; None to believe signatures about themselves.
        role: the role whose holders must have signed.
        revocations: brought by another way than the bundle; they count where there is a root.

    Raises:
        FileMissing: no copy of the list can be read; or a volume was not written that far.
        VolumesMixed: the folders are of several bundles.
        DamageTooGreat: list, manifest, or a root on the way to the bundle's are damaged in every copy.
        BundleUntrusted: not signed as the root, and those that follow from it, want; or of another kind
            than the role may bring.
    """
    copies = gather(volumes)
    if not copies.lists:
        refuse_unfinished(volumes)
        raise FileMissing(
            f"no copy of {copies.kind} can be read",
            found=", ".join(volume.name for volume in volumes),
            wanted="the folder of a bundle, or one volume's; at least one sound list",
            hint="name more volumes of this bundle",
        )
    if root is None:
        believed = believe_by_themselves(copies, role)
    else:
        believed = believe_by_root(copies, root, role, revocations)
    listing = _index(volumes, believed)
    digests = listings.parse_listing(listing)
    data = find_sound(volumes, MANIFEST_PATH, digests[MANIFEST_PATH], MAX_MANIFEST)
    if data is None:
        raise DamageTooGreat(
            f"{MANIFEST_PATH} is damaged in every copy",
            found=f"no file of sha256 {digests[MANIFEST_PATH]}",
            hint="name more volumes of this bundle: each has two copies of it",
        )
    manifest = parse_manifest(data)
    if root is not None:
        require_role(manifest, role)
    contents = {LIST_PATH: listing, MANIFEST_PATH: data}
    ours = [review_bytes(), *([root] if root is not None else [])]  # the same in every such bundle
    for path, file in manifest.files.items():
        if not is_shared_out(path):
            found = find_sound(volumes, path, file.sha256, file.size)
            if found is None:
                found = next(
                    (each for each in ours if hashlib.sha256(each).hexdigest() == file.sha256), None
                )
            if found is not None:
                contents[path] = found
    hopeless = dict(_hopeless(believed))
    return SoundCopy(
        listing=listing,
        kind=believed.kind,
        manifest=manifest,
        files={**manifest.listed(), MANIFEST_PATH: ListedFile(digests[MANIFEST_PATH], len(data))},
        contents=contents,
        unlisted={LIST_PATH: listing, believed.kind.path: believed.listing, **believed.beside},
        hopeless=hopeless,
        signers=believed.signers,
        notes=(*believed.notes, *_unjudged(believed)),
    )


def _index(volumes: Sequence[Volume], believed: Believed) -> bytes:
    """The list that identifies the bundle: the one that is signed, or the one which that names."""
    if believed.kind is INDEX:
        return believed.listing
    digest = listings.parse_listing(believed.listing, believed.kind)[LIST_PATH]
    data = find_sound(volumes, LIST_PATH, digest, listings.MAX_BYTES, believed.kind)
    if data is None:
        raise DamageTooGreat(
            f"{LIST_PATH} is damaged in every copy",
            found=f"no file of {believed.kind.algorithm} {digest}",
            hint="name more volumes of this bundle: each has two copies of it",
        )
    return data


def _hopeless(believed: Believed) -> Iterator[tuple[str, str]]:
    """What lies beside the list and cannot be mended: only its holder can make it again."""
    for path, fault in believed.faults.items():
        if _is_unjudged(believed, path, fault):
            continue
        kind, holder = _said_by(path, believed.kind)
        without = (
            "; or remove it from every folder: enough others signed"
            if believed.signers
            else "; or remove it from every folder, if enough others signed"
        )
        do = f"name another volume or copy of this bundle, or ask {holder} to sign again{without}"
        yield path, f"no copy of the {kind} of {holder} is good ({fault.message}): {do}"


def _unjudged(believed: Believed) -> Iterator[str]:
    for path, fault in believed.faults.items():
        if _is_unjudged(believed, path, fault):
            yield f"{path} was not looked at: no root here names its key; judge it with --trust"


def _is_unjudged(believed: Believed, path: str, fault: BundleUntrusted) -> bool:
    """Whether an ML-DSA signature, which does not name its key, could not be held against one."""
    is_second = POST_QUANTUM.holder_in(path.rpartition("/")[2], believed.kind) is not None
    return is_second and not believed.signers and isinstance(fault, SignerUnknown)


def _said_by(path: str, listed: ListKind) -> tuple[str, str]:
    """What a file beside the list is called, and whose it is."""
    name = path.rpartition("/")[2]
    return next((kind.what, holder) for kind in STATEMENTS if (holder := kind.holder_in(name, listed)))
