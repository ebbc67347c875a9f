"""Which volume holds what, as the labels tell it: for naming what is missing, and for nothing else.

A label gives each volume's share as a range of the bundle's order: payload files as they lie there
(slices) in manifest order, then parity files.  That order follows from the paths alone, so volumes are
named without reading a manifest.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from appliance.bundle.media.sizes import size_text
from appliance.bundle.paths import PARITY_FOLDER, PAYLOAD_FOLDER, is_slice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appliance.bundle.media.label import VolumeLabel, VolumeShare

_SLICE_SUFFIX: Final = len(".slice-0000")
_VOLUMES_SHOWN: Final = 10


def is_shared_out(path: str) -> bool:
    """Whether a file of the bundle lies on one volume only; all others lie on each."""
    return path.startswith((f"{PAYLOAD_FOLDER}/", f"{PARITY_FOLDER}/"))


def bundle_order(path: str) -> tuple[bool, str, str, str]:
    """The key that sorts payload files as they lie there, then parity files, into the bundle's order.

    Manifest order is by component, then by the file's own path: slices stand where their file stands.
    """
    if not path.startswith(f"{PAYLOAD_FOLDER}/"):
        return True, "", path, ""
    component, _, name = path[len(PAYLOAD_FOLDER) + 1 :].partition("/")
    if is_slice(name):
        return False, component, name[:-_SLICE_SUFFIX], name[-_SLICE_SUFFIX:]
    return False, component, name, ""


@dataclass(frozen=True)
class Layout:
    """The shares of a bundle's volumes; the first is volume 1."""

    shares: tuple[VolumeShare, ...]

    @cached_property
    def _starts(self) -> list[tuple[bool, str, str, str]]:
        return [bundle_order(share.first) for share in self.shares]

    def __len__(self) -> int:
        return len(self.shares)

    def volume_of(self, path: str) -> int:
        """The number of the volume whose share a file is in."""
        return max(1, bisect_right(self._starts, bundle_order(path)))

    def volumes_of(self, paths: Iterable[str]) -> Mapping[int, list[str]]:
        """The files that are in each volume's share, by its number; in the bundle's order."""
        volumes: dict[int, list[str]] = {}
        for path in sorted(paths, key=bundle_order):
            volumes.setdefault(self.volume_of(path), []).append(path)
        return volumes

    def name(self, number: int) -> str:
        """What a volume is called: "volume 2 of 5"."""
        return f"volume {number} of {len(self.shares)}"

    def describe(self, numbers: Iterable[int]) -> str:
        """What these volumes hold, for people."""
        wanted = sorted(numbers)
        parts = [self._describe(number) for number in wanted[:_VOLUMES_SHOWN]]
        return "; ".join(parts) + (" …" if len(wanted) > _VOLUMES_SHOWN else "")

    def _describe(self, number: int) -> str:
        share = self.shares[number - 1]
        files = share.first if share.files == 1 else f"{share.first} to {share.last} ({share.files} files)"
        return f"volume {number}: {files}, {size_text(share.size)}"


def agreed_layout(labels: Iterable[VolumeLabel]) -> Layout | None:
    """The layout that all the labels tell; None if there is none, or they tell different ones."""
    told = {label.volumes for label in labels}
    if len(told) != 1:
        return None
    layout = Layout(told.pop())
    ends = [(bundle_order(share.first), bundle_order(share.last)) for share in layout.shares]
    apart = all(one[1] < other[0] for one, other in pairwise(ends))
    return layout if apart and all(first <= last for first, last in ends) else None


def listed_numbers(numbers: Iterable[int], count: int) -> str:
    """Volumes by their numbers: "volume 3 of 5", "volumes 2, 4 of 5"."""
    ordered = sorted(numbers)
    shown = ", ".join(map(str, ordered[:_VOLUMES_SHOWN])) + (" …" if len(ordered) > _VOLUMES_SHOWN else "")
    return f"volume{'s' if len(ordered) > 1 else ''} {shown} of {count}"
