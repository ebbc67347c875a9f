"""Driver and kernel in preflight: what would fail after the reboot is named before anything is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.manifest import Component, Inference, Manifest, PayloadFile, Target
from appliance.hardware.machine import read_machine
from appliance.hardware.needs import HardwareNeeds
from appliance.node.driver_checks import driver_checks
from tests.unit.hardware.nodes import KERNEL, SECURE_BOOT, base64_of, h100_node, signature_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.node.verdict import Check

DRIVER = {
    "nvidia-open-kernel-dkms": "580.105.08-1",
    "nvidia-fabricmanager": "580.105.08-1",
    f"linux-headers-{KERNEL}": "6.12.118-1",
    "linux-headers-6.12.118+deb13-common": "6.12.118-1",
    f"linux-image-{KERNEL}": "6.12.118-1",
}
BUILT = {"linux-modules-nvidia-580-server-open-6.8.0-60-generic": "6.8.0-60.63"}
WHEELS = {"nvidia-cuda-runtime": "13.0.96", "vllm": "0.32.0"}
OTHER = "6.1.0-40-amd64"
EFI = h100_node()["efi"]
SECURE = {**EFI, "secure_boot": SECURE_BOOT[True]}


def file(component: str, name: str, version: str, size: int = 10**9) -> PayloadFile:
    origin = {"kind": component, "project": name}
    return PayloadFile(f"payload/{component}/{name}", size, "0" * 64, name, version, "MIT", origin)


def bundle(
    packages: Mapping[str, str] = DRIVER, wheels: Mapping[str, str] = WHEELS, **needs: int
) -> Manifest:
    components = {
        "driver": Component("debian", [file("driver", *each) for each in sorted(packages.items())]),
        "engine": Component("python", [file("engine", *each) for each in sorted(wheels.items())]),
        "model": Component("files", [file("model", "weights", "1", 140 * 10**9)]),
    }
    return Manifest(
        "demo",
        "1",
        1,
        "2026-01-31T12:00:00Z",
        Target("debian", "trixie", "amd64", "3.13"),
        Inference("engine", "model", "weights", "demo"),
        components,
        {},
        hardware=HardwareNeeds("h100-sxm", 8, **needs),
    )


def judged(manifest: Manifest | None = None, **changed: Any) -> dict[str, Check]:
    checks = driver_checks(read_machine(h100_node(**changed)), manifest or bundle())
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks}


def stops(manifest: Manifest | None = None, **changed: Any) -> list[str]:
    return [name for name, check in judged(manifest, **changed).items() if check.stops]


def test_a_node_and_a_bundle_that_fit_pass() -> None:
    assert stops() == []


def without(*names: str) -> dict[str, str]:
    return {name: version for name, version in DRIVER.items() if name not in names}


def test_headers_come_from_the_node_or_from_the_bundle() -> None:
    assert stops(headers=False) == [], "the bundle has those of the kernel that runs"
    bare = bundle(without(f"linux-headers-{KERNEL}"))
    assert stops(bare) == [], "the node has them"
    assert stops(bare, headers=False) == ["headers"]
    check = judged(kernel=OTHER, headers=False)["headers"]
    assert check.stops
    assert check.found == f"kernel {OTHER}; headers not on the node, in the bundle for {KERNEL}"
    assert f"linux-image-{KERNEL}" in check.hint
    check = judged(bundle(without(*(name for name in DRIVER if "linux" in name))), headers=False)["headers"]
    assert f"linux-headers-{KERNEL}" in check.hint


def test_a_built_module_is_for_one_kernel() -> None:
    ready = bundle({**BUILT, "nvidia-utils-580-server": "580.105.08-0ubuntu1"}, wheels={})
    assert stops(ready, kernel="6.8.0-60-generic", packages={}, pci=[]) == []
    assert stops(ready, kernel="6.8.0-61-generic", packages={}, pci=[]) == ["driver-kernel"]
    both = bundle({**DRIVER, **BUILT})
    assert stops(both) == [], "what is built on the node needs no module for this kernel"


def test_a_module_that_does_not_compile_for_the_running_kernel_is_refused() -> None:
    old = {**DRIVER, "nvidia-open-kernel-dkms": "550.163.01-2", "nvidia-fabricmanager": "550.163.01-2"}
    assert stops(bundle(old, wheels={})) == ["driver-kernel"]
    assert "issue 1272" in judged(bundle(old, wheels={}))["driver-kernel"].found
    assert stops(bundle(old, wheels={}), kernel="6.12.96+deb13-amd64") == []
    mended = {**old, "nvidia-open-kernel-dkms": "550.163.01-5"}
    assert stops(bundle(mended, wheels={})) == []


@pytest.mark.parametrize(
    ("key", "listed", "stopping"),
    [(b"", [], ["module-signature"]), (b"key", [], ["module-signature"]), (b"key", [b"key"], [])],
)
def test_with_secure_boot_the_key_of_dkms_must_be_enrolled(
    key: bytes, listed: list[bytes], stopping: list[str]
) -> None:
    efi = {**SECURE, "dkms_key": base64_of(key), "lists": [base64_of(signature_list(*listed))]}
    checks = judged(efi=efi)
    assert [name for name, check in checks.items() if check.stops] == stopping
    assert "needs the console" in checks["module-signature"].hint
    assert stops(efi={**efi, "secure_boot": SECURE_BOOT[False]}) == []


def test_a_distributions_own_module_is_signed_by_it() -> None:
    ready = bundle({**BUILT, "nvidia-utils-580-server": "580.105.08-0ubuntu1"}, wheels={})
    assert stops(ready, kernel="6.8.0-60-generic", efi=SECURE, packages={}, pci=[]) == []


def test_a_bundle_without_driver_asks_for_no_signature() -> None:
    checks = judged(bundle({}), efi=SECURE)
    assert "module-signature" not in checks
    assert "headers" not in checks


@pytest.mark.parametrize(
    ("manager", "stopping"),
    [
        ({"nvidia-fabricmanager": "580.105.08-1"}, []),
        ({"nvidia-fabricmanager-580": "1:580.105.08-0ubuntu1"}, []),
        ({"nvidia-fabricmanager": "580.105.9-1"}, ["fabric-manager"]),
        ({"nvidia-fabricmanager-590": "590.48.01-1"}, ["fabric-manager"]),
        (
            {"nvidia-fabricmanager": "580.105.08-1", "nvidia-fabricmanager-590": "590.48-1"},
            ["fabric-manager"],
        ),
        ({}, ["fabric-manager"]),
    ],
)
def test_fabric_manager_is_of_the_drivers_version_to_the_last_digit(
    manager: dict[str, str], stopping: list[str]
) -> None:
    brought = bundle({**without("nvidia-fabricmanager"), **manager})
    assert stops(brought, packages={}) == stopping
    no_switches = [device for device in h100_node()["pci"] if device["class"] != "0x068000"]
    assert stops(brought, packages={}, pci=no_switches) == [], "without NVSwitches it has nothing to do"


def test_what_the_bundle_brings_replaces_the_nodes_fabric_manager() -> None:
    assert stops(packages={"nvidia-fabricmanager": "550.1-1"}) == []
    only_node = bundle(without("nvidia-fabricmanager"))
    assert stops(only_node, packages={"nvidia-fabricmanager": "580.105.08-1"}) == []
    assert stops(only_node, packages={"nvidia-fabricmanager": "550.1-1"}) == ["fabric-manager"]


@pytest.mark.parametrize(
    ("driver", "wheels", "stopping"),
    [
        ("580.105.08-1", {"nvidia-cuda-runtime": "13.0.96"}, []),
        ("550.163.01-5", {"nvidia-cuda-runtime": "13.0.96"}, ["cuda-driver"]),
        ("550.163.01-5", {"nvidia-cuda-runtime-cu12": "12.8.90"}, []),
        ("515.1-1", {"nvidia-cuda-runtime-cu12": "12.8.90"}, ["cuda-driver"]),
        ("515.1-1", {"xllamacpp": "1"}, []),
    ],
)
def test_the_driver_is_new_enough_for_the_engines_cuda(
    driver: str, wheels: dict[str, str], stopping: list[str]
) -> None:
    packages = {**DRIVER, "nvidia-open-kernel-dkms": driver, "nvidia-fabricmanager": driver}
    assert stops(bundle(packages, wheels)) == stopping


def test_a_driver_whose_version_has_no_number_is_not_taken_for_new_enough() -> None:
    names = ("nvidia-open-kernel-dkms", "nvidia-fabricmanager")
    assert "cuda-driver" in stops(bundle({**DRIVER, **dict.fromkeys(names, "next-1")}))


def test_a_bundle_for_cuda_without_driver_needs_one_on_the_node() -> None:
    assert stops(bundle({}), pci=[]) == [], "the node's own module is new enough"
    assert stops(bundle({}), pci=[], modinfo="", packages={}) == ["cuda-driver"]


def by_ollama(version: str, **needs: int) -> Manifest:
    """A bundle whose engine is Ollama's archive, with a driver of that version."""
    names = ("nvidia-open-kernel-dkms", "nvidia-fabricmanager")
    given = bundle({**DRIVER, **dict.fromkeys(names, version)} if version else {}, **needs)
    archive = replace(
        file("engine", "ollama-linux-amd64.tgz", "1"), path="payload/engine/ollama-linux-amd64.tgz"
    )
    return replace(given, components={**given.components, "engine": Component("files", [archive])})


@pytest.mark.parametrize(
    ("driver", "said", "wanted"),
    [
        ("535.261.03-1", 0, ""),
        ("525.147.05-1", 0, "531 or newer: no ollama that is served here runs with an older one"),
        ("525.147.05-1", 450, "531 or newer: no ollama that is served here runs with an older one"),
        ("535.261.03-1", 550, "550 or newer: hardware.driver in the bundle's definition says so"),
        ("550.163.01-5", 550, ""),
        ("", 580, ""),  # none in the bundle: the node's own, 580
        ("", 590, "590 or newer: hardware.driver"),
    ],
)
def test_an_engine_that_is_no_wheel_says_its_driver_too(driver: str, said: int, wanted: str) -> None:
    """Ollama goes on without a word where the driver is too old, on the processor."""
    manifest = by_ollama(driver, **({"driver": said} if said else {}))
    check = judged(manifest, pci=[])["cuda-driver"]
    assert check.stops is bool(wanted)
    assert wanted in check.wanted
    assert "cuda-driver" not in judged(replace(manifest, hardware=None), pci=[]), "it serves without GPUs"


def test_a_definition_can_want_a_newer_driver_than_its_wheels() -> None:
    assert stops(bundle(driver=590)) == ["cuda-driver"]
    assert stops(bundle(driver=550)) == []


def test_the_disk_holds_the_next_version_beside_this_one() -> None:
    size = sum(file.size for file in bundle().payload())
    assert size == 147 * 10**9
    assert stops(disk_free=size + 140 * 10**9) == []
    assert stops(disk_free=size + 140 * 10**9 - 1) == ["disk-patch"]
    assert stops(bundle(patch_gb=10), disk_free=size + 10 * 10**9) == []
    assert stops(bundle(patch_gb=10), disk_free=size + 10 * 10**9 - 1) == ["disk-patch"]
    assert "disk-patch" not in judged(replace(bundle(), hardware=None), disk_free=0)


def test_what_is_staged_already_needs_no_room_again() -> None:
    """An installation that was broken off after the copy is started again, on a disk that just held it."""
    machine = read_machine(h100_node(disk_free=140 * 10**9))
    size = sum(file.size for file in bundle().payload())

    def room(staged: int) -> bool:
        checks = driver_checks(machine, bundle(), staged=staged)
        return not next(check for check in checks if check.name == "disk-patch").stops

    assert [room(staged) for staged in (0, size - 1, size, size + 10**9)] == [False, False, True, True]


def test_nouveau_is_noted() -> None:
    check = judged(modules="nouveau 3178496 1 - Live 0x0\n")["nouveau"]
    assert (check.passed, check.level) == (False, "information")
    assert judged()["nouveau"].passed is True
