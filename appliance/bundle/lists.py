"""All lists of one bundle, seen together: the same files by the same numbers, each with every digest.

Everything names files by the first list, the index.  A stricter list has one line more, the index's own:
that is compared with the index before a line of it is read, and the paths of the two are compared before
anything else is.  From then on a file has one digest of each list, and is right only if all of them fit.

Both are compared although one of them is what holders signed: the SHA-256 of a file is what its makers'
signature, copies, nodes and permits speak of, and who reads "verified" must be able to rely on that too
(docs/decisions/0037).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.bundle.list_kind import INDEX, Hashes, differing
from appliance.bundle.listing import AT_ONCE, parse_listing
from appliance.bundle.plain_files import MEND
from appliance.errors import BundleMalformed, DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from hashlib import _Hash

    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.listing import Listing
    from appliance.bundle.reader import Signed


@dataclass(frozen=True)
class Stricter:
    """A list of more digits, read by the numbers of the index; ``place`` is its line for the index."""

    listing: Listing
    place: int

    def some(self, first: int, end: int) -> Iterator[tuple[str, str]]:
        """Paths and digests, from one number of the index to another."""
        yield from self.listing.some(first, min(end, self.place))
        yield from self.listing.some(max(first, self.place) + 1, end + 1)


@dataclass(frozen=True)
class Lists:
    """``index`` is the first list; of ``stricter``, with longer digests, the last one is signed."""

    index: Listing
    stricter: tuple[Stricter, ...] = ()
    kinds: tuple[ListKind, ...] = field(init=False)
    _new: tuple[Callable[..., _Hash], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kinds = (self.index.kind, *(each.listing.kind for each in self.stricter))
        object.__setattr__(self, "kinds", kinds)
        object.__setattr__(self, "_new", tuple(kind.new for kind in kinds))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def signed(self) -> Listing:
        """The list that holders sign."""
        return self.stricter[-1].listing if self.stricter else self.index

    def wanted(self, path: str) -> tuple[str, ...]:
        """The digests of a file, one for each list.

        Raises:
            KeyError: it is not listed.
        """
        return (self.index[path], *(each.listing[path] for each in self.stricter))

    def digests(self, path: str) -> dict[str, str]:
        """The digests of a file by their algorithms."""
        return dict(zip((kind.algorithm for kind in self.kinds), self.wanted(path), strict=True))

    def further(self, path: str) -> tuple[tuple[str, str], ...]:
        """The algorithms and digests of a file besides the index's."""
        return tuple((each.listing.kind.algorithm, each.listing[path]) for each in self.stricter)

    def some(self, first: int, end: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Paths and all digests, from one number to another."""
        end = min(end, len(self))
        if not self.stricter:  # of 200,000 short files the general way shows
            return ((path, (digest,)) for path, digest in self.index.some(first, end))
        further = [each.some(first, end) for each in self.stricter]
        lines = zip(self.index.some(first, end), *further, strict=True)
        return ((path, (digest, *(other for _, other in others))) for (path, digest), *others in lines)

    def fit(self, data: memoryview, digests: Sequence[str]) -> bool:
        """Whether these are all bytes of the file with these digests, for short ones."""
        if not self.stricter:  # likewise
            return self._new[0](data).hexdigest() == digests[0]
        return [new(data).hexdigest() for new in self._new] == [*digests]

    def hashes(self) -> Hashes:
        """What computes the digests of a file, to be compared with ``wanted``."""
        return Hashes.of(self.kinds)

    def require(self, path: str, found: Sequence[str]) -> None:
        """Refuse a file with other digests.

        Raises:
            DigestMismatch: naming the first of them.
        """
        wanted = self.wanted(path)
        if tuple(found) != wanted:
            one, other = differing(self.kinds, found, wanted)
            raise DigestMismatch(f"{path} is not what was signed", found=one, wanted=other, hint=MEND)


def parse_lists(signed: Signed) -> Lists:
    """Read the lists of a bundle, the signed one first.

    Raises:
        BundleMalformed: one is misspelled, or they name other files.
        DigestMismatch: the index is not the one that was signed.
    """
    if signed.kind is INDEX:
        return Lists(parse_listing(signed.listing))
    listing = parse_listing(signed.message, signed.kind)
    path, found = INDEX.path, signed.kind.digest(signed.listing)
    if found != listing[path]:
        raise DigestMismatch(
            f"{path} is not what was signed",
            found=f"{signed.kind.algorithm} {found}",
            wanted=f"{signed.kind.algorithm} {listing[path]}",
            hint=MEND,
        )
    stricter = Stricter(listing, listing.paths.index(path))
    index = parse_listing(signed.listing)
    _require_same_paths(index, stricter)
    return Lists(index, (stricter,))


def _require_same_paths(index: Listing, stricter: Stricter) -> None:
    same = len(index) + 1 == len(stricter.listing) and all(
        [path for path, _ in index.some(first, first + AT_ONCE)]
        == [path for path, _ in stricter.some(first, first + AT_ONCE)]
        for first in range(0, len(index), AT_ONCE)
    )
    if same:
        return
    here, there = set(index), set(stricter.listing) - {index.kind.path}
    odd = min(here ^ there)
    raise BundleMalformed(
        "the lists name other files",
        found=f"{odd!a} only in {index.kind if odd in here else stricter.listing.kind}",
        wanted=f"the same files in both, and {index.kind} itself in {stricter.listing.kind}",
        hint="obtain the bundle again; its builder made a mistake",
    )
