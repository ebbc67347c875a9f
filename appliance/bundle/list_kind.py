"""The lists a bundle may have of its files, each by another digest; one of them is what holders sign.

``trust/SHA256SUMS`` is in every bundle: its SHA-256 identifies the bundle, and the manifest, media, repair
and nodes know files by the digests in it.  Where the root's profile asks for more, another list is there
too, with the same grammar.  It names the same files by longer digests, and ``trust/SHA256SUMS`` itself,
and it alone is signed.  What is signed is chosen here, once, by the digest that a profile names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.errors import ProfileNotMet

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from hashlib import _Hash

    from appliance.trust.profiles import Profile


@dataclass(frozen=True, slots=True)
class ListKind:
    """One of the lists: its name in ``trust/``, the digest it is made of, and that one's hex digits."""

    name: str
    algorithm: str
    digits: int

    @property
    def path(self) -> str:
        """Where it lies in a bundle."""
        return f"trust/{self.name}"

    @property
    def title(self) -> str:
        """The digest's name for people: SHA-384."""
        return f"SHA-{self.algorithm.removeprefix('sha')}"

    def digest(self, data: bytes | memoryview) -> str:
        """The digest (hex) of some bytes."""
        found: str = self.new(data).hexdigest()
        return found

    @property
    def new(self) -> Callable[..., _Hash]:
        """Makes what computes the digest; a third of what ``hashlib.new`` costs."""
        made: Callable[..., _Hash] = getattr(hashlib, self.algorithm)
        return made

    def __str__(self) -> str:
        return self.path


SHA256: Final = ListKind("SHA256SUMS", "sha256", 64)
SHA384: Final = ListKind("SHA384SUMS", "sha384", 96)
#: From the weakest to the strongest.
KINDS: Final = (SHA256, SHA384)
#: The one that is in every bundle, identifies it, and by which everything knows its files.
INDEX: Final = KINDS[0]


def kind_for(profile: Profile) -> ListKind:
    """The list that holders sign under a profile."""
    return next(kind for kind in KINDS if kind.algorithm == profile.list_digest)


def kinds_for(profile: Profile) -> tuple[ListKind, ...]:
    """The lists of a bundle that is built for a root of this profile; the last one is signed."""
    return KINDS[: KINDS.index(kind_for(profile)) + 1]


def strongest(names: Collection[str]) -> ListKind:
    """What is signed in a bundle, by the names in its ``trust/``; a root may ask for more."""
    return next((kind for kind in reversed(KINDS) if kind.name in names), INDEX)


def require_kind(kind: ListKind, profile: Profile) -> None:
    """Refuse a bundle in which another list is signed than the profile of the judging root asks for.

    So nobody turns a bundle of the stricter profile into one of the other by taking its list away.

    Raises:
        ProfileNotMet: naming both.
    """
    wanted = kind_for(profile)
    if kind is not wanted:
        raise ProfileNotMet(
            f"the root's profile {profile.name} asks for another signed list than the bundle has",
            found=f"{kind} is the strongest list there",
            wanted=f"{wanted}, and the holders' signatures over it",
            hint="build the bundle again with --root and this root, and have it signed; if it was built "
            "so, somebody took the list away or added one: do not use the bundle",
        )


class Hashes:
    """Digests of the same bytes by several algorithms, each byte read once."""

    __slots__ = ("_each",)

    def __init__(self, each: Sequence[_Hash]) -> None:
        self._each = each

    @classmethod
    def of(cls, kinds: Sequence[ListKind]) -> Hashes:
        """Of nothing yet, one for each of the lists."""
        return cls([kind.new() for kind in kinds])

    def update(self, data: bytes | memoryview) -> None:
        """Take more bytes in."""
        for each in self._each:
            each.update(data)

    def copy(self) -> Hashes:
        """The same, to go on from here."""
        return Hashes([each.copy() for each in self._each])

    def hexdigests(self) -> tuple[str, ...]:
        """All digests, hex, in the order of the kinds."""
        return tuple(each.hexdigest() for each in self._each)


def differing(kinds: Sequence[ListKind], found: Sequence[str], wanted: Sequence[str]) -> tuple[str, str]:
    """The first digest that is not the wanted one, and that one, for messages."""
    for kind, one, other in zip(kinds, found, wanted, strict=True):
        if one != other:
            return f"{kind.algorithm} {one}", f"{kind.algorithm} {other}"
    raise ValueError("they do not differ")
