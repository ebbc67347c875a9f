"""What of a drive is used, and by what: lsblk's tree, wipefs' list and /proc/swaps in, values out.

The rules:

* A drive is used by everything above it: partitions, volumes, RAID, open encrypted volumes.  What is
  mounted or swapped to on any of them is mounted or swapped to on the drive.
* It holds the root if ``/`` is among that; ``/boot`` and ``/boot/efi`` count as the root, since the node
  does not start without them.
* A swap file counts where the file system that it lies in does.
* Signatures count as content wherever they are, also those that lsblk shows for the drive itself, and a
  partition table without partitions.  lsblk shows none where several contradict one another, so wipefs is
  asked as well, and where it cannot be, nobody knows what the drive holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_STARTS: Final = ("/", "/boot", "/boot/efi")
_SWAP: Final = "[SWAP]"


@dataclass(frozen=True, slots=True)
class Use:
    """What of a drive is used.

    Attributes:
        mounted: places, sorted.
        root: whether the node starts from it.
        swap: what on it is swapped to: devices and files.
        partitions: their names.
        holders: what else is made of it, as dm-0, by the kernel's names.
        holds: signatures and where, as ``crypto_LUKS nvme0n1``.
        unread: whether there may be others, since the drive itself could not be looked through.
        volumes: names below /dev/mapper under which the drive itself is open.
    """

    mounted: tuple[str, ...] = ()
    root: bool = False
    swap: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    unread: bool = False
    volumes: tuple[str, ...] = ()


def read_use(
    name: str,
    tree: Sequence[Mapping[str, Any]],
    swaps: str,
    holders: Sequence[str] = (),
    signatures: Sequence[str] | None = (),
) -> Use | None:
    """What of a drive is used.

    Args:
        name: the kernel's name of it.
        tree: lsblk's ``blockdevices``.
        swaps: the text of /proc/swaps.
        holders: of the drive itself, by sysfs.
        signatures: of the drive itself, by wipefs; None where it could not look.

    Returns:
        None where lsblk does not show the drive: nobody knows.
    """
    top = next((one for one in tree if one.get("name") == name), None)
    if top is None:
        return None
    every = [*_with_children(top)]
    mounted = sorted(
        {place for one in every for place in one.get("mountpoints") or () if place and place != _SWAP}
    )
    return Use(
        mounted=tuple(mounted),
        root=any(place in _STARTS for place in mounted),
        swap=tuple(sorted({*_swap(every, mounted, _places(tree), swaps)})),
        partitions=tuple(one["name"] for one in every if one.get("type") == "part"),
        holders=tuple(holders),
        holds=tuple(dict.fromkeys([*_signatures(every), *(f"{kind} {name}" for kind in signatures or ())])),
        unread=signatures is None,
        volumes=tuple(one["name"] for one in top.get("children") or () if one.get("type") == "crypt"),
    )


def _with_children(device: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield device
    for child in device.get("children") or ():
        yield from _with_children(child)


def _places(tree: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every mount point of any device."""
    every = [one for top in tree for one in _with_children(top)]
    return [place for one in every for place in one.get("mountpoints") or () if place and place != _SWAP]


def _signatures(every: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in every:
        if kind := one.get("fstype"):
            yield f"{kind} {one['name']}"
        if (table := one.get("pttype")) and one.get("type") != "part":
            yield f"{table} {one['name']}"


def _swap(
    every: Sequence[Mapping[str, Any]], mounted: Sequence[str], places: Sequence[str], swaps: str
) -> Iterator[str]:
    paths = {one.get("path") for one in every}
    yield from (str(one.get("path")) for one in every if _SWAP in (one.get("mountpoints") or ()))
    for line in swaps.splitlines()[1:]:
        path, kind, *_ = [*line.split(), "", ""]
        if kind == "file":
            below = [place for place in places if path.startswith(place.rstrip("/") + "/")]
            if below and max(below, key=len) in mounted:
                yield path
        elif path in paths:
            yield path
