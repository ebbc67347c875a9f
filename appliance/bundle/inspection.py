"""Looking into a bundle: what it says about itself, judged only if asked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.judging import judge_list
from appliance.bundle.opening import open_tree
from appliance.bundle.packages import Package, packages
from appliance.bundle.paths import MANIFEST_PATH, SBOM_PATH, parity_number
from appliance.bundle.provenance import statement_bytes
from appliance.bundle.reader import Contents, read_contents, read_listed, read_signed, require_file
from appliance.bundle.upstream import check_upstream
from appliance.bundle.verify import verify_bundle
from appliance.errors import BundleMalformed, BundleUntrusted, DigestMismatch
from appliance.trust.canonical import NotCanonicalError, parse_canonical
from appliance.trust.dsse import parse_envelope
from appliance.trust.root import parse_root
from appliance.trust.sshsig import parse_signature

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.manifest import Manifest
    from appliance.bundle.opening import BundleTree
    from appliance.bundle.reader import Signed
    from appliance.bundle.upstream import UpstreamFinding
    from appliance.progress import Progress
    from appliance.trust.root import Root

#: A bill of materials grows with the packages, not with the files.
_MAX_SBOM: Final = 128 << 20
_IDENTIFIER = re.compile(r"[!-~]{1,2048}")


@dataclass(frozen=True, slots=True)
class SeenSignature:
    """What a signature file claims, and the provenance file beside it; true only if verified.

    ``provenance`` is None if the holder states none; else whether it states what the manifest does.
    """

    holder: str
    namespace: str
    algorithm: str
    fingerprint: str
    provenance: bool | None = None


@dataclass(frozen=True, slots=True)
class Identifiers:
    """The names under which a scanner looks a package up; empty where it has none."""

    purl: str = ""
    cpe: str = ""


@dataclass(frozen=True, slots=True)
class Sbom:
    """The bill of materials the bundle carries: its own facts, and identifiers by package reference."""

    specification: str
    serial: str
    components: int
    identifiers: Mapping[str, Identifiers]


@dataclass(frozen=True)
class Inspection:
    """What a bundle says about itself: consistent, but true only as far as it was verified.

    ``verified``: signatures and every byte.  ``signed``: the signatures over the list, so that all
    that is shown here is what was signed, but nobody has looked whether the payload is.
    ``trusted`` is the root it was judged by; ``root`` is only the one carried.  ``kind`` is the list that
    is signed.
    ``role``: whose holders must have signed it.
    ``upstream``: signatures of models by their makers, which hold for the files the manifest names.
    """

    folders: tuple[Path, ...]
    digest: str
    kind: ListKind
    manifest: Manifest
    files: ListedFiles
    packages: tuple[Package, ...]
    signatures: tuple[SeenSignature, ...]
    root: Root | None
    sbom: Sbom | None
    verified: bool
    signed: bool
    trusted: Root | None
    role: str
    notes: tuple[str, ...] = ()
    upstream: tuple[UpstreamFinding, ...] = ()

    @property
    def judged_by(self) -> str | None:
        """The fingerprint of the root that was trusted."""
        return self.trusted.fingerprint if self.trusted else None

    @property
    def authority(self) -> Root | None:
        """The root whose rule is shown: the trusted one; without it the bundle's own, unproven."""
        return self.trusted or self.root

    @property
    def folder(self) -> Path:
        """The folder it lies in, or the first of several; for messages."""
        return self.folders[0]

    @property
    def parity(self) -> tuple[int, int]:
        """The number of recovery sets and their bytes together."""
        sizes = [file.size for path, file in self.manifest.files.items() if parity_number(path) is not None]
        return len(sizes), sum(sizes)


def inspect_bundle(
    folders: Path | Sequence[Path],
    *,
    trusted: bytes | None,
    progress: Progress,
    every_byte: bool = True,
    role: str = "release",
) -> Inspection:
    """Read everything but the payload's bytes; verify first if there is a root to do it by.

    Args:
        folders: where the bundle lies.
        trusted: the bytes of a root; None to verify nothing.
        progress: told of what verifying does.
        every_byte: with a root, refuse the bundle unless all of it verifies.  Otherwise only the
            signatures are judged, and the result is told by ``Inspection.signed``.
        role: the role whose holders must have signed it, if it is verified.  Otherwise it is the one that
            its kind asks for.

    Raises:
        BundleUntrusted: malformed, or list, manifest and folder contradict each other, or not
            verified by the given root.
        Usage: one of ``folders`` is not a folder that can be read.
    """
    verified = None
    if trusted is not None and every_byte:
        verified = verify_bundle(folders, trusted, progress=progress, role=role)
    with open_tree(folders) as tree:
        require_file(tree, MANIFEST_PATH)
        signed = read_signed(tree)
        contents = read_contents(tree, signed)
        sbom = _sbom(tree, contents)
        upstream = check_upstream(tree, contents) if every_byte else ()
        if verified is None:
            role = "release" if contents.manifest.makes is None else "patch"
        judge, is_signed = (None, False) if trusted is None else _judged(tree, signed, trusted, role)
    if verified is not None and verified.digest != signed.digest:
        raise DigestMismatch(
            "the bundle was exchanged while it was inspected",
            found=signed.digest,
            wanted=verified.digest,
            hint="make the medium read-only and inspect again",
        )
    return Inspection(
        folders=tree.folders,
        digest=signed.digest,
        kind=signed.kind,
        manifest=contents.manifest,
        files=contents.files,
        packages=tuple(packages(contents.manifest)),
        signatures=_signatures(signed, contents),
        root=parse_root(contents.root) if contents.root is not None else None,
        sbom=sbom,
        verified=verified is not None,
        signed=verified is not None or is_signed,
        trusted=judge,
        role=role,
        notes=tree.notes,
        upstream=upstream,
    )


def _signatures(signed: Signed, contents: Contents) -> tuple[SeenSignature, ...]:
    statement = statement_bytes(signed.digests, contents.manifest, contents.files)
    stated = {
        holder: parse_envelope(data).payload == statement for holder, data in signed.provenance.items()
    }
    seen = []
    for holder, armoured in sorted(signed.signatures.items()):
        signature = parse_signature(armoured)
        key = signature.key
        seen.append(
            SeenSignature(holder, signature.namespace, key.algorithm, key.fingerprint, stated.get(holder))
        )
    return tuple(seen)


def _judged(tree: BundleTree, signed: Signed, trusted: bytes, role: str) -> tuple[Root, bool]:
    """The newest root that the trusted one leads to, and whether enough of its holders signed."""
    try:
        judged = judge_list(tree, signed, trusted, role)
    except BundleUntrusted:
        return parse_root(trusted), False  # verify says why
    return judged.chain.root, judged.verdict.accepted


def _sbom(tree: BundleTree, contents: Contents) -> Sbom | None:
    if SBOM_PATH not in contents.files:
        return None
    data = read_listed(tree, contents.files.lists, SBOM_PATH, limit=_MAX_SBOM)
    try:
        document = parse_canonical(data, limit=_MAX_SBOM)
        if not isinstance(document, dict):
            raise TypeError("not an object")
        components = document["components"]
        identifiers = {
            str(each["bom-ref"]): Identifiers(_identifier(each, "purl"), _identifier(each, "cpe"))
            for each in components
        }
        facts = _identifier(document, "specVersion"), _identifier(document, "serialNumber")
    except (NotCanonicalError, LookupError, TypeError, AttributeError, ValueError) as fault:
        raise BundleMalformed(
            f"{SBOM_PATH} is not a bill of materials",
            found=ascii(str(fault))[1:-1][:200],
            wanted="CycloneDX as canonical JSON, as the builder writes it",
            hint="obtain the bundle again; its builder made a mistake",
        ) from fault
    return Sbom(*facts, len(components), identifiers)


def _identifier(values: Mapping[str, object], key: str) -> str:
    text = values.get(key)
    if text is None:
        return ""
    if not isinstance(text, str) or not _IDENTIFIER.fullmatch(text):
        raise ValueError(f"{key} is not printable ASCII")
    return text
