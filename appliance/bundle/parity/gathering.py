"""Everything of ``trust/`` that can be read anywhere, and small files from whichever copy is sound.

The list, its signatures, the manifest and the roots lie on every volume, twice.  What is gathered here
is judged by ``appliance.bundle.parity.believing``.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.bundle import listing
from appliance.bundle.list_kind import INDEX, strongest
from appliance.bundle.media.label import SPARE_FOLDER
from appliance.bundle.paths import (
    TRUST_FOLDER,
    post_quantum_holder,
    post_quantum_path,
    provenance_holder,
    provenance_path,
    signature_holder,
    signature_path,
)
from appliance.bundle.reader import MAX_PROVENANCE_BYTES
from appliance.errors import BundleMalformed, DigestMismatch, FileMissing, FileUnexpected
from appliance.trust import mldsa, sshsig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.volume import Volume

_MAX_NAMES: Final = 4096
_PREFIXES: Final = ("", f"{SPARE_FOLDER}/")
#: What damage does to a file, as against what only a person does.
_DAMAGED: Final = (FileMissing, DigestMismatch, BundleMalformed)

#: Of each holder every different copy, and how often it lies there; none if no copy can be read.
Found = dict[str, Counter[bytes]]


@dataclass(frozen=True, slots=True)
class Statement:
    """A kind of file that lies beside the list, says something of it, and is not in it.

    ``what`` people call it; ``holder_in`` tells by a name within ``trust/`` whose it is, ``path`` where a
    holder's lies, both for a kind of list; it has at most ``limit`` bytes.
    """

    what: str
    holder_in: Callable[[str, ListKind], str | None]
    path: Callable[[str, ListKind], str]
    limit: int


SIGNATURE: Final = Statement("signature", signature_holder, signature_path, sshsig.MAX_BYTES)
POST_QUANTUM: Final = Statement(
    "ML-DSA signature", post_quantum_holder, post_quantum_path, mldsa.SIGNATURE_SIZE
)
PROVENANCE: Final = Statement(
    "provenance",
    lambda name, _: provenance_holder(name),
    lambda holder, _: provenance_path(holder),
    MAX_PROVENANCE_BYTES,
)
STATEMENTS: Final = (SIGNATURE, POST_QUANTUM, PROVENANCE)


@dataclass
class Copies:
    """What was read: each different list and where it lies, and what lies beside it by kind and holder.

    ``lists`` are those of the kind that is signed, which is the strongest that lies anywhere.
    """

    volumes: Sequence[Volume]
    kind: ListKind
    lists: Counter[bytes] = field(default_factory=Counter)
    where: dict[bytes, list[str]] = field(default_factory=dict)
    beside: Mapping[Statement, Found] = field(default_factory=lambda: {kind: {} for kind in STATEMENTS})


def gather(volumes: Sequence[Volume]) -> Copies:
    """Read every signed list and what lies beside it, as far as it can be read."""
    places = {
        (volume, prefix): _names(volume, prefix + TRUST_FOLDER)
        for volume in volumes
        for prefix in _PREFIXES
    }
    copies = Copies(volumes, strongest({name for names in places.values() for name in names}))
    for (volume, prefix), names in places.items():
        data = _read(volume, prefix + copies.kind.path, listing.MAX_BYTES)
        if data is not None:
            copies.lists[data] += 1
            copies.where.setdefault(data, []).append(volume.name)
        for name in names:
            for kind, found in copies.beside.items():
                if holder := kind.holder_in(name, copies.kind):
                    data = _read(volume, f"{prefix}{TRUST_FOLDER}/{name}", kind.limit)
                    found.setdefault(holder, Counter()).update([data] if data else [])
    return copies


def find_sound(
    volumes: Sequence[Volume], path: str, digest: str, limit: int, kind: ListKind = INDEX
) -> bytes | None:
    """The bytes of a small file from whichever copy has this digest (hex); None if there is none.

    Args:
        volumes: where it may lie.
        path: its path in the bundle.
        digest: as a list names it.
        limit: the most bytes it may have.
        kind: of the list.
    """
    for volume in volumes:
        for prefix in _PREFIXES:
            data = _read(volume, prefix + path, limit)
            if data is not None and kind.digest(data) == digest:
                return data
    return None


def _read(volume: Volume, path: str, limit: int) -> bytes | None:
    with suppress(*_DAMAGED):
        return volume.tree.read(path, limit=limit)
    return None


def _names(volume: Volume, folder: str) -> list[str]:
    with suppress(*_DAMAGED, FileUnexpected):
        return volume.tree.names(folder, most=_MAX_NAMES)
    return []
