"""The preflight checks of driver and kernel: will the driver that a bundle brings run on this node?

Values in, verdicts out.  All of it is asked before anything is changed: otherwise a module that does not
load is found out after a reboot, when the node serves nothing any more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from appliance.hardware.driver_packages import (
    FABRIC_MANAGER,
    branch,
    cuda_needed,
    driver_version,
    headers_for,
    is_dkms,
    oldest_driver,
    prebuilt_for,
    unbuildable,
    upstream,
)
from appliance.node.serving_checks import served_by
from appliance.node.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.bundle.manifest import Manifest
    from appliance.hardware.machine import Machine

_IMAGE: Final = re.compile(r"linux-image-([0-9].*)")
_CONSOLE: Final = "needs the console"


def driver_checks(machine: Machine, manifest: Manifest, *, staged: int = 0) -> list[Check]:
    """Every check of the driver that a bundle brings; without one in it, what is told of the node.

    Args:
        machine: the node.
        manifest: the bundle's.
        staged: bytes of the bundle that the node has already.
    """
    brought = {
        file.name: file.version
        for component in manifest.components.values()
        if component.kind == "debian"
        for file in component.files
    }
    return [
        *_kernel(machine, brought),
        *_secure_boot(machine, brought),
        _fabric_manager(machine, brought),
        *_cuda(machine, manifest, brought),
        _nouveau(machine),
        *_room(machine, manifest, staged),
    ]


def _kernel(machine: Machine, brought: Mapping[str, str]) -> Iterator[Check]:
    running = machine.kernel
    others = sorted({kernel for name in brought if (kernel := prebuilt_for(name))} - {running})
    has_own = any(prebuilt_for(name) == running for name in brought)
    builds = any(is_dkms(name) for name in brought)
    broken = unbuildable(brought, running)
    yield Check(
        "driver-kernel",
        broken is None and (has_own or builds or not others),
        f"{broken.package} {broken.version} does not compile for {running}: {broken.why}"
        if broken
        else f"the bundle's module is for {', '.join(others)}"
        if others
        else f"kernel {running}",
        f"a module for kernel {running}, which runs, or one that is built on the node",
        "start the kernel that the module is for, or build the bundle for this one",
    )
    carried = {kernel for name in brought if (kernel := headers_for(name))}
    images = {found[1] for name in brought if (found := _IMAGE.fullmatch(name))}
    if builds:
        yield Check(
            "headers",
            machine.headers or running in carried,
            f"kernel {running}; headers "
            + ("on the node" if machine.headers else "not on the node")
            + f", in the bundle for {', '.join(sorted(carried)) or 'no kernel'}",
            f"headers of kernel {running}",
            f"install linux-image-{max(images)} from the medium (below payload/) with dpkg and start it: "
            "the bundle has the headers for that kernel"
            if images
            else f"name linux-headers-{running} among the packages of the bundle's definition",
        )


def _secure_boot(machine: Machine, brought: Mapping[str, str]) -> Iterator[Check]:
    """With secure boot, the kernel loads no module that is not signed by a key the firmware knows."""
    builds = any(is_dkms(name) for name in brought)
    prebuilt = any(prebuilt_for(name) for name in brought)
    if not builds and not prebuilt:
        return
    key = {True: "enrolled", False: "not enrolled", None: "not made yet"}[machine.dkms_trusted]
    signed = machine.dkms_trusted is True or (prebuilt and not builds)
    yield Check(
        "module-signature",
        machine.secure_boot is not True or signed,
        f"secure boot {'on' if machine.secure_boot else 'off'}"
        + (f"; the key that dkms signs with is {key}" if builds else "; signed by the distribution"),
        "secure boot off, or a module signed by a key that the firmware accepts",
        f"{_CONSOLE}: dkms generate_mok, mokutil --import /var/lib/dkms/mok.pub, restart, and confirm the "
        "key in MOK management before the system starts",
    )


def _fabric_manager(machine: Machine, brought: Mapping[str, str]) -> Check:
    """Fabric Manager refuses a driver of another version, and without it CUDA finds no GPU (error 802)."""
    driver = driver_version(brought) or driver_version(machine.packages)
    managers = {
        f"{name} {version} ({place})": upstream(version)
        for place, packages in (("node", machine.packages), ("bundle", brought))
        for name, version in sorted(packages.items())
        if FABRIC_MANAGER.fullmatch(name)
    }
    # What the bundle brings replaces what the node has.
    counted = [text for text in managers if text.endswith("(bundle)")] or list(managers)
    needed = bool(machine.nvswitches) and driver is not None
    return Check(
        "fabric-manager",
        not needed or (bool(counted) and all(managers[text] == driver for text in counted)),
        ", ".join(counted) or "none",
        f"Fabric Manager {driver}, for {len(machine.nvswitches)} NVSwitches"
        if needed
        else "none needed: no NVSwitches, or no driver",
        f"name nvidia-fabricmanager of version {driver} among the packages of the bundle's definition",
    )


def _cuda(machine: Machine, manifest: Manifest, brought: Mapping[str, str]) -> Iterator[Check]:
    """The engine's wheels are built for one CUDA, and that wants a driver that is new enough.

    Of an engine that is no wheel, the definition says what it wants, and its kind what it wants at least.
    """
    wheels = {
        file.origin.get("project", file.name): file.version
        for component in manifest.components.values()
        if component.kind == "python"
        for file in component.files
    }
    cuda, needs, engine = cuda_needed(wheels), manifest.hardware, served_by(manifest)
    reasons = (
        [(oldest_driver(cuda), f"the engine's wheels are for CUDA {cuda}")] if cuda is not None else []
    )
    if needs is not None and needs.driver:
        reasons.append((needs.driver, "hardware.driver in the bundle's definition says so"))
    if needs is not None and engine is not None and engine.driver:
        reasons.append((engine.driver, f"no {engine.name} that is served here runs with an older one"))
    if not reasons:
        return
    oldest, why = max(reasons)
    driver = driver_version(brought) or machine.module.version or driver_version(machine.packages)
    yield Check(
        "cuda-driver",
        driver is not None and (branch(driver) or 0) >= oldest,
        f"driver {driver}" if driver else "no driver, neither in the bundle nor on the node",
        f"a driver of branch {oldest} or newer: {why}",
        "bring the driver with the bundle, or an engine for an older one",
    )


def _nouveau(machine: Machine) -> Check:
    loaded = "nouveau" in machine.loaded
    return Check(
        "nouveau",
        not loaded,
        "loaded" if loaded else "not loaded",
        "not loaded, or it holds the GPUs",
        "the driver's packages bar it; it lets the GPUs go at the next start",
        level="information",
    )


def _room(machine: Machine, manifest: Manifest, staged: int) -> Iterator[Check]:
    """The next version is staged beside this one, so its weights need a place while these still serve."""
    needs = manifest.hardware
    if needs is None:
        return
    sizes = [sum(file.size for file in component.files) for component in manifest.components.values()]
    patch = needs.patch_gb * 10**9 or max(sizes, default=0)
    # What is staged already takes no more room: the command can be run again on a node that just held it.
    wanted = max(0, sum(sizes) - staged) + patch
    yield Check(
        "disk-patch",
        machine.disk_free >= wanted,
        f"{machine.disk_free / 1e9:,.1f} GB free",
        f"{wanted / 1e9:,.1f} GB below /var/lib/appliance, {patch / 1e9:,.1f} of them for a patch",
        "a larger disk, or a smaller patch_gb in the bundle's definition",
    )
