"""Which paths a bundle may hold.

The rules are the intersection of what every system on the way can hold and show: the build station,
sticks formatted with FAT or exFAT, a reviewer's terminal, scanners, the node.

- ASCII letters, digits and ``._+~@=-``, parts joined by ``/``; at most 512 bytes, 255 bytes a part,
  32 parts.
- No part is empty, ``.`` or ``..``, starts with ``-`` (it would be read as an option), ends with
  ``.`` (Windows drops it), is a Windows device name (``aux.gguf``) or has the shape of a FAT short
  name (``GIT~1``).
- No file is at the same time a folder of another; no two files or folders differ only in case.

Outside ``payload/`` lie the root files: few, small and known by name; and, under ``parity/``, what
lost or damaged files can be mended with.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from appliance.bundle.list_kind import INDEX, KINDS
from appliance.errors import BundleMalformed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from appliance.bundle.list_kind import ListKind

#: The list that is in every bundle, and identifies it.
LIST_PATH: Final = INDEX.path
MANIFEST_PATH: Final = "manifest.json"
BLOCKS_PATH: Final = "blocks.bin"
REVIEW_PATH: Final = "VERIFY.txt"
BOOTSTRAP_PATH: Final = "bootstrap.sh"
SBOM_PATH: Final = "sbom/bundle.cdx.json"
PAYLOAD_FOLDER: Final = "payload"
PARITY_FOLDER: Final = "parity"
TRUST_FOLDER: Final = "trust"
#: What a repair is putting in its place lies here meanwhile, at the top of the folder that is mended.
MENDED_PARTIAL: Final = ".appliance-mended.partial"

MAX_PATH_BYTES: Final = 512
MAX_PARTS: Final = 32

_PART = re.compile(r"(?!-)[A-Za-z0-9._+~@=-]{1,255}(?<!\.)")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_SHORT_NAME = re.compile(r"[^.]{1,6}~[0-9]{1,2}(?:\.[^.]{0,3})?")
_SLICE = re.compile(r".*\.slice-[0-9]{4}")
_HOLDER = r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
_SIGNATURE = {kind: re.compile(rf"{kind.name}\.{_HOLDER}\.sig") for kind in KINDS}
_POST_QUANTUM = {kind: re.compile(rf"{kind.name}\.{_HOLDER}\.mldsa87") for kind in KINDS}
_PROVENANCE = re.compile(rf"provenance\.{_HOLDER}\.dsse\.json")
_ROOT = re.compile(r"trust/root\.([1-9][0-9]{0,8})\.json")
_REVOKED = re.compile(r"trust/revoked\.([1-9][0-9]{0,15})\.json")
#: A signature of one of these two, and the document it is of.
_DOCUMENT_SIGNATURE = re.compile(
    rf"(trust/(?:root|revoked)\.[1-9][0-9]{{0,15}})\.{_HOLDER}\.[0-9a-f]{{8}}\.(?:sig|mldsa87)"
)
_PARITY = re.compile(r"parity/set-([0-9]{4})\.par2")


def check_path(path: str) -> None:
    """Refuse a path that breaks a rule of this module about a single path.

    Raises:
        BundleMalformed: saying which rule.
    """
    if not 0 < len(path) <= MAX_PATH_BYTES:
        raise _refused(path, f"is not 1 to {MAX_PATH_BYTES} bytes long")
    parts = path.split("/")
    if len(parts) > MAX_PARTS:
        raise _refused(path, f"has more than {MAX_PARTS} parts")
    for part in parts:
        if not _PART.fullmatch(part):
            raise _refused(path, "has a part that is empty, '.', '..', misspelled or too long")
        if _DEVICE.fullmatch(part):
            raise _refused(path, "has a part that Windows reserves for a device")
        if _SHORT_NAME.fullmatch(part):
            raise _refused(path, "has a part that looks like a FAT short name")


def check_paths(paths: Collection[str]) -> None:
    """Refuse a set of well-formed paths that could not all lie in one folder on every system.

    Raises:
        BundleMalformed: a file is a folder too, or two names differ only in case.
    """
    spelled: dict[str, str] = {}
    files = set(paths)
    for path in paths:
        for folder in folders_of(path):
            if folder in files:
                raise _refused(folder, f"is a file, and a folder of {path!a}")
            if spelled.setdefault(folder.lower(), folder) != folder:
                raise _refused(folder, f"differs only in case from {spelled[folder.lower()]!a}")
        if spelled.setdefault(path.lower(), path) != path:
            raise _refused(path, f"differs only in case from {spelled[path.lower()]!a}")


def folders_of(path: str) -> Iterator[str]:
    """The folders a path lies in, outermost first: ``a/b/c`` gives ``a``, ``a/b``."""
    position = path.find("/")
    while position != -1:
        yield path[:position]
        position = path.find("/", position + 1)


def slice_path(path: str, number: int) -> str:
    """The name of one slice of a file: ``payload/m/x.gguf.slice-0003``."""
    return f"{path}.slice-{number:04d}"


def is_slice(path: str) -> bool:
    """Whether a name is one that only slices may have."""
    return _SLICE.fullmatch(path) is not None


def whole_path(path: str) -> str:
    """Of a slice the path of its file; of any other path itself."""
    return path.rpartition(".slice-")[0] if is_slice(path) else path


def signature_path(holder: str, kind: ListKind = INDEX) -> str:
    """Where a holder's signature over a list lies."""
    return f"{kind.path}.{holder}.sig"


def signature_holder(name: str, kind: ListKind) -> str | None:
    """The holder that a file name within ``trust/`` speaks of; None if it is no signature's."""
    match = _SIGNATURE[kind].fullmatch(name)
    return match[1] if match else None


def post_quantum_path(holder: str, kind: ListKind = INDEX) -> str:
    """Where a holder's ML-DSA signature over a list lies: beside the other, outside the lists."""
    return f"{kind.path}.{holder}.mldsa87"


def post_quantum_holder(name: str, kind: ListKind) -> str | None:
    """The holder that a file name within ``trust/`` speaks of; None if it is no ML-DSA signature's."""
    match = _POST_QUANTUM[kind].fullmatch(name)
    return match[1] if match else None


def lies_beside_list(name: str) -> bool:
    """Whether a file of this name within ``trust/`` says who signed, and so is in no list itself."""
    patterns = (*_SIGNATURE.values(), *_POST_QUANTUM.values(), _PROVENANCE)
    return any(pattern.fullmatch(name) for pattern in patterns)


def root_path(version: int) -> str:
    """Where the bundle's copy of a root lies."""
    return f"{TRUST_FOLDER}/root.{version}.json"


def root_version(path: str) -> int | None:
    """The version in a root's path; None if the path is not a root's."""
    match = _ROOT.fullmatch(path)
    return int(match[1]) if match else None


def revocation_serial(path: str) -> int | None:
    """The serial in a revocation's path; None if the path is not a revocation's."""
    match = _REVOKED.fullmatch(path)
    return int(match[1]) if match else None


def signed_document(path: str) -> str | None:
    """The path of the root or revocation that a path speaks of as signed; None if it is no signature's."""
    match = _DOCUMENT_SIGNATURE.fullmatch(path)
    return f"{match[1]}.json" if match else None


def provenance_path(holder: str) -> str:
    """Where a holder's statement about the build lies: beside the signature, outside the list."""
    return f"{TRUST_FOLDER}/provenance.{holder}.dsse.json"


def provenance_holder(name: str) -> str | None:
    """The holder that a file name within ``trust/`` speaks of; None if it is no provenance's name."""
    match = _PROVENANCE.fullmatch(name)
    return match[1] if match else None


def parity_path(number: int) -> str:
    """Where one of the parity files lies; they are numbered from 0 without gaps."""
    return f"{PARITY_FOLDER}/set-{number:04d}.par2"


def parity_number(path: str) -> int | None:
    """The number in a parity file's path; None if the path is not one."""
    match = _PARITY.fullmatch(path)
    return int(match[1]) if match else None


def misplaced(paths: Iterable[str], *, required: frozenset[str]) -> tuple[str, str] | None:
    """What is wrong with the files outside the payload: (found, wanted), or None if nothing is.

    Args:
        paths: all of them.
        required: those that must be there; the optional ones of format 1 may be.
    """
    given = set(paths)
    if absent := sorted(required - given):
        return f"no {absent[0]}", "what every bundle has: " + ", ".join(sorted(required))
    rest = given - required - {BOOTSTRAP_PATH, SBOM_PATH}
    roots = {version for path in rest if (version := root_version(path)) is not None}
    if roots and roots != set(range(min(roots), max(roots) + 1)):
        return ", ".join(map(root_path, sorted(roots))), "a chain of roots without gaps"
    revoked = {path for path in rest if revocation_serial(path) is not None}
    if len(revoked) > 1:
        return ", ".join(sorted(revoked)), f"at most one {TRUST_FOLDER}/revoked.N.json"
    documents = {*map(root_path, roots), *revoked}
    documents |= {path for path in rest if signed_document(path) in documents}
    parity = {path for path in rest if parity_number(path) is not None}
    if unknown := sorted(rest - documents - parity):
        return unknown[0], "files that format 1 has (docs/format.md, Folder)"
    if parity != {parity_path(number) for number in range(len(parity))}:
        return ", ".join(sorted(parity)[:10]), f"{parity_path(0)} and on, without gaps"
    return None


def _refused(path: str, why: str) -> BundleMalformed:
    return BundleMalformed(
        f"the path {path[:120]!a} {why}",
        wanted="a path that every system on the way can hold (docs/format.md, Paths)",
        hint="obtain the bundle again; if it was built here, rename the file in its definition",
    )
