"""Preflight: what a kernel, or a module that dkms builds, writes below ``/boot`` fits there.

An initramfs is written beside the one it replaces (``initrd.img-….new``; update-initramfs in
initramfs-tools 0.142), for one kernel after another; a kernel brings files of its own besides.  Where that
does not fit, dpkg fails half-way, and the node is left with packages that are not configured.  How large it
gets, the largest that the node has tells: nobody knows before it is made.  Where there is none, nothing is
asked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from appliance.node.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.bundle.manifest import Manifest

#: Packages with a kernel, and with a module that is built for each of them.
_KERNEL: Final = re.compile(r"linux-image-(?:unsigned-)?[0-9].*")
_MODULE: Final = re.compile(r".+-dkms|nvidia-dkms-[0-9].*|linux-modules-nvidia-.+")
#: A new one may be larger than what is there by a quarter: firmware comes with it, or modules do.
_LARGER: Final = 1.25


def boot_room(facts: Mapping[str, Any], manifest: Manifest) -> int:
    """Bytes that the bundle's packages need below ``/boot`` while they are installed."""
    boot, there = facts["boot"], facts["packages"]
    new = [
        file.name
        for component in manifest.components.values()
        if component.kind == "debian"
        for file in component.files
        if there.get(file.name) != file.version
    ]
    kernels = sum(1 for name in new if _KERNEL.fullmatch(name))
    if not kernels and not any(_MODULE.fullmatch(name) for name in new):
        return 0
    # Those of new kernels stay; each that is made anew lies beside its old one until it is whole.
    initramfs, kernel = int(boot["initramfs"] * _LARGER), int(boot["kernel"])
    return kernels * (initramfs + kernel) + initramfs


def boot_checks(facts: Mapping[str, Any], manifest: Manifest) -> Iterator[Check]:
    """Where ``/boot`` is a file system of its own; else it counts as room beside the bundle."""
    boot, needed = facts["boot"], boot_room(facts, manifest)
    if boot["apart"] and needed:
        yield Check(
            "boot-space",
            boot["free"] >= needed,
            f"{boot['free'] / 1e6:,.0f} MB free",
            f"{needed / 1e6:,.0f} MB below /boot, for kernels and what starts them",
            "remove kernels that nobody starts (apt-get purge linux-image-...), or make /boot larger",
        )
