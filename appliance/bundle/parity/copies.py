"""What is to be believed of a damaged bundle, found among all its copies.

The list, its signatures, the manifest and the root lie on every volume, twice.  A list counts if enough
holders signed it by the trusted root; signatures may come from any copy, since each proves itself.
Without a root the signatures are still verified, each by the key it names: that finds damage, though
not a forger, and the result says so.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.bundle import listing as listings
from appliance.bundle.manifest import ListedFile, Manifest, parse_manifest
from appliance.bundle.manifest_reader import MAX_BYTES as MAX_MANIFEST
from appliance.bundle.media.label import SPARE_FOLDER
from appliance.bundle.media.layout import is_shared_out
from appliance.bundle.paths import (
    LIST_PATH,
    MANIFEST_PATH,
    TRUST_FOLDER,
    provenance_holder,
    provenance_path,
    signature_holder,
    signature_path,
)
from appliance.bundle.reader import MAX_PROVENANCE_BYTES
from appliance.bundle.review import review_bytes
from appliance.bundle.volume_rules import refuse_unfinished
from appliance.errors import (
    BundleMalformed,
    BundleUntrusted,
    DamageTooGreat,
    DigestMismatch,
    FileMissing,
    FileUnexpected,
    SignerUnknown,
    VolumesMixed,
)
from appliance.trust import dsse, sshsig
from appliance.trust.policy import Verdict, decide, judge_signature
from appliance.trust.root import MAX_BYTES as MAX_ROOT
from appliance.trust.root import namespace, parse_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from appliance.bundle.volume import Volume

_MAX_NAMES: Final = 4096
_PREFIXES: Final = ("", f"{SPARE_FOLDER}/")
#: What damage does to a file, as against what only a person does.
_DAMAGED: Final = (FileMissing, DigestMismatch, BundleMalformed)


@dataclass(frozen=True)
class SoundCopy:
    """A bundle as it should be: what each file's bytes are, and the small files nobody can compute.

    ``unlisted`` are the signatures that verify, and provenance, by path.  ``signers`` are the holders
    whose signatures were judged by the trusted root; empty if there was no root to judge by.
    """

    listing: bytes
    manifest: Manifest
    files: Mapping[str, ListedFile]
    contents: Mapping[str, bytes]
    unlisted: Mapping[str, bytes]
    signers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The bundle's identity: SHA-256 (hex) of its list."""
        return hashlib.sha256(self.listing).hexdigest()


@dataclass
class _Copies:
    """Everything of ``trust/`` that could be read anywhere."""

    lists: Counter[bytes] = field(default_factory=Counter)
    where: dict[bytes, list[str]] = field(default_factory=dict)
    signatures: dict[str, Counter[bytes]] = field(default_factory=dict)
    provenance: dict[str, Counter[bytes]] = field(default_factory=dict)


def find_sound_copy(volumes: Sequence[Volume], root: bytes | None, role: str) -> SoundCopy:
    """The one bundle of which these folders hold damaged copies or parts.

    Args:
        volumes: the open folders.
        root: the bytes of the root that is trusted; None to believe signatures about themselves.
        role: the role whose holders must have signed.

    Raises:
        FileMissing: no copy of the list can be read; or a volume was not written that far.
        VolumesMixed: the folders are of several bundles.
        DamageTooGreat: list or manifest are damaged in every copy.
        BundleUntrusted: not signed as the root wants.
    """
    copies = _gather(volumes)
    if not copies.lists:
        refuse_unfinished(volumes)
        raise FileMissing(
            f"no copy of {LIST_PATH} can be read",
            found=", ".join(volume.name for volume in volumes),
            wanted="the folder of a bundle, or one volume's; at least one sound list",
            hint="name more volumes of this bundle",
        )
    listing, signatures, signers = (
        _judged(copies, root, role) if root is not None else _plausible(copies, volumes, role)
    )
    digests = listings.parse_listing(listing)
    data = _find(volumes, MANIFEST_PATH, digests[MANIFEST_PATH], MAX_MANIFEST)
    if data is None:
        raise DamageTooGreat(
            f"{MANIFEST_PATH} is damaged in every copy",
            found=f"no file of sha256 {digests[MANIFEST_PATH]}",
            hint="name more volumes of this bundle: each has two copies of it",
        )
    manifest = parse_manifest(data)
    files = {**manifest.listed(), MANIFEST_PATH: ListedFile(digests[MANIFEST_PATH], len(data))}
    contents = {LIST_PATH: listing, MANIFEST_PATH: data}
    ours = [review_bytes(), *([root] if root is not None else [])]  # the same in every such bundle
    for path, file in manifest.files.items():
        if not is_shared_out(path):
            found = _find(volumes, path, file.sha256, file.size)
            if found is None:
                found = next((each for each in ours if _sha256(each) == file.sha256), None)
            if found is not None:
                contents[path] = found
    provenance = _good(copies.provenance, _maker(signatures))
    notes = [
        f"the {what} of {holder} is damaged in every copy: ask {holder} to sign again"
        for what, found, good in (
            ("signature", copies.signatures, signatures),
            ("provenance", copies.provenance, provenance),
        )
        for holder in sorted(found.keys() - good.keys())
    ]
    return SoundCopy(
        listing=listing,
        manifest=manifest,
        files=files,
        contents=contents,
        unlisted={signature_path(holder): data for holder, data in signatures.items()}
        | {provenance_path(holder): data for holder, data in provenance.items()},
        signers=signers,
        notes=tuple(notes),
    )


def _gather(volumes: Sequence[Volume]) -> _Copies:
    copies = _Copies()
    for volume in volumes:
        for prefix in _PREFIXES:
            data = _read(volume, prefix + LIST_PATH, listings.MAX_BYTES)
            if data is not None:
                copies.lists[data] += 1
                copies.where.setdefault(data, []).append(volume.name)
            for name in _names(volume, prefix + TRUST_FOLDER):
                for holder_of, limit, found in (
                    (signature_holder, sshsig.MAX_BYTES, copies.signatures),
                    (provenance_holder, MAX_PROVENANCE_BYTES, copies.provenance),
                ):
                    if holder := holder_of(name):
                        data = _read(volume, f"{prefix}{TRUST_FOLDER}/{name}", limit)
                        found.setdefault(holder, Counter()).update([data] if data else [])
    return copies


def _judged(copies: _Copies, root: bytes, role: str) -> tuple[bytes, Mapping[str, bytes], tuple[str, ...]]:
    """The one list that enough holders signed by the trusted root, with their good signatures."""
    trusted = parse_root(root)
    accepted: dict[bytes, tuple[dict[str, bytes], Verdict]] = {}
    refused: list[Verdict] = []
    for listing in copies.lists:

        def judge(holder: str, data: bytes, listing: bytes = listing) -> None:
            judge_signature(listing, holder, data, (trusted,), role)

        good = _good(copies.signatures, judge) if role in trusted.roles else {}
        verdict = decide(listing, good, trusted, role)
        if verdict.accepted:
            accepted[listing] = good, verdict
        else:
            refused.append(verdict)
    if not accepted:
        max(refused, key=lambda verdict: len(verdict.signers)).require()
    _refuse_mixture(copies, list(accepted))
    ((chosen, (right, verdict)),) = accepted.items()
    return chosen, right, tuple(sorted({signer.holder for signer in verdict.signers}))


def _plausible(
    copies: _Copies, volumes: Sequence[Volume], role: str
) -> tuple[bytes, Mapping[str, bytes], tuple[str, ...]]:
    """The list that most speaks for: signatures that verify by their own keys, then copies, then files."""
    ranked: list[tuple[tuple[int, int, int], bytes, dict[str, bytes]]] = []
    for listing, count in copies.lists.items():
        try:
            digests = listings.parse_listing(listing)
        except BundleMalformed:
            continue

        def judge(_: str, data: bytes, listing: bytes = listing) -> None:
            sshsig.verify_signature(sshsig.parse_signature(data), listing, namespace(role))

        good = _good(copies.signatures, judge)
        agreeing = sum(_find(volumes, path, digests[path], MAX_ROOT) is not None for path in _few(digests))
        ranked.append(((len(good), count, agreeing), listing, good))
    if not ranked:
        raise DamageTooGreat(
            f"{LIST_PATH} is damaged in every copy",
            found=f"{len(copies.lists)} copies, none well-formed",
            hint="name more volumes of this bundle: each has two copies of it",
        )
    _refuse_mixture(copies, [listing for (signed, _, _), listing, _ in ranked if signed])
    _, chosen, right = max(ranked, key=lambda each: each[0])
    return chosen, right, ()


def _few(digests: Mapping[str, str]) -> Iterator[str]:
    return (path for path in digests if not is_shared_out(path))


def _maker(signatures: Mapping[str, bytes]) -> Callable[[str, bytes], None]:
    """Judges provenance by the key with which its holder signed the list."""

    def judge(holder: str, data: bytes) -> None:
        if holder not in signatures:
            raise SignerUnknown("a holder who did not sign the list")
        key = sshsig.parse_signature(signatures[holder]).key
        dsse.verify_envelope(dsse.parse_envelope(data), key)

    return judge


def _good(found: Mapping[str, Counter[bytes]], judge: Callable[[str, bytes], None]) -> dict[str, bytes]:
    """Of each holder a copy that is right, if there is one."""
    good: dict[str, bytes] = {}
    for holder, copies in sorted(found.items()):
        for data in copies:
            with suppress(BundleUntrusted):
                judge(holder, data)
                good[holder] = data
    return good


def _refuse_mixture(copies: _Copies, lists: Sequence[bytes]) -> None:
    if len(lists) < 2:  # noqa: PLR2004 - one bundle
        return
    places = (
        f"{', '.join(sorted(set(copies.where[each])))}: {hashlib.sha256(each).hexdigest()[:12]}"
        for each in lists
    )
    raise VolumesMixed(
        "these folders are of several bundles",
        found="; ".join(places),
        wanted="volumes or copies of one bundle",
        hint="name only the folders of one bundle",
    )


def _find(volumes: Sequence[Volume], path: str, sha256: str, limit: int) -> bytes | None:
    """The bytes of a small file from whichever copy is sound."""
    for volume in volumes:
        for prefix in _PREFIXES:
            data = _read(volume, prefix + path, limit)
            if data is not None and _sha256(data) == sha256:
                return data
    return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(volume: Volume, path: str, limit: int) -> bytes | None:
    with suppress(*_DAMAGED):
        return volume.tree.read(path, limit=limit)
    return None


def _names(volume: Volume, folder: str) -> list[str]:
    with suppress(*_DAMAGED, FileUnexpected):
        return volume.tree.names(folder, most=_MAX_NAMES)
    return []
