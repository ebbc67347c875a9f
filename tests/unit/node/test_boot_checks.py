"""Room below /boot is asked for where a bundle brings a kernel or a module, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.manifest import Manifest, parse_manifest
from appliance.errors import BootRoomMissing, PreflightFailed
from appliance.node.checks import Wanted, node_checks
from appliance.node.preflight import NodeReport, refuse
from tests.unit.node.test_checks import FACTS, INVENTORY, NODE
from tests.unit.node.test_network_checks import script

if TYPE_CHECKING:
    from types import ModuleType

    from appliance.node.verdict import Check

__all__ = ["script"]

KERNEL, OTHER_KERNEL = "linux-image-6.12.48+deb13-amd64", "linux-image-6.12.57+deb13-amd64"
DKMS, PREBUILT = "nvidia-open-kernel-dkms", "linux-modules-nvidia-580-server-open-6.8.0-60-generic"
#: Of an initramfs of 100 MB and a kernel of 20.
ANEW, OWN = 125 * 10**6, 145 * 10**6


@pytest.fixture(scope="module")
def manifest(pristine_bundle: Path) -> Manifest:
    return parse_manifest((pristine_bundle / "manifest.json").read_bytes())


def bringing(manifest: Manifest, *names: str, kind: str = "debian") -> Manifest:
    """A bundle with packages of these names besides, which take no room themselves."""
    component = next(iter(manifest.components.values()))
    files = tuple(replace(component.files[0], name=name, version="1", size=0) for name in names)
    return replace(
        manifest, components={**manifest.components, "more": replace(component, kind=kind, files=files)}
    )


def checks(manifest: Manifest, boot: dict[str, Any], **facts: Any) -> dict[str, Check]:
    said = FACTS | {"boot": FACTS["boot"] | boot} | facts
    wanted = Wanted(manifest, "d" * 64, 1000, INVENTORY, 1_000_000.0)
    return {check.name: check for check in node_checks(NODE, said, wanted)}


@pytest.mark.parametrize(
    ("names", "needed"),
    [
        ([], None),
        (["linux-headers-6.12.48+deb13-amd64", "linux-image-amd64", "dkms", "openssh-server"], None),
        ([DKMS], ANEW),
        (["nvidia-dkms-580-server-open"], ANEW),
        ([PREBUILT], ANEW),
        ([KERNEL], ANEW + OWN),
        (["linux-image-unsigned-6.8.0-60-generic"], ANEW + OWN),
        ([KERNEL, DKMS], ANEW + OWN),
        ([KERNEL, OTHER_KERNEL], ANEW + 2 * OWN),
    ],
)
def test_so_much_is_asked_for(names: list[str], needed: int | None, manifest: Manifest) -> None:
    bundle = bringing(manifest, *names)
    for free in (0, ANEW - 1, ANEW, ANEW + OWN - 1, ANEW + OWN, ANEW + 2 * OWN):
        check = checks(bundle, {"free": free}).get("boot-space")
        assert (check.passed if check else None) == (None if needed is None else free >= needed)


def test_what_is_installed_in_that_version_is_not_installed_again(manifest: Manifest) -> None:
    bundle = bringing(manifest, KERNEL, DKMS)
    had = {KERNEL: "1", DKMS: "1"}
    assert "boot-space" not in checks(bundle, {"free": 0}, packages=FACTS["packages"] | had)
    assert not checks(bundle, {"free": 0}, packages=FACTS["packages"] | had | {DKMS: "0"})[
        "boot-space"
    ].passed


def test_files_that_are_no_packages_install_nothing(manifest: Manifest) -> None:
    assert "boot-space" not in checks(bringing(manifest, KERNEL, kind="files"), {"free": 0})


def test_where_nothing_starts_a_kernel_nothing_is_asked(manifest: Manifest) -> None:
    """In a container, say; or where dracut names its files otherwise, which nobody here knows."""
    nothing = {"free": 0, "initramfs": 0, "kernel": 0}
    assert "boot-space" not in checks(bringing(manifest, KERNEL, DKMS), nothing)


def test_on_the_same_file_system_it_is_room_beside_the_bundle(manifest: Manifest) -> None:
    def least(bundle: Manifest) -> int:
        low, high = 0, 10**11
        while high - low > 1:
            free = (low + high) // 2
            found = checks(bundle, {"apart": False, "free": 0}, free=free)
            assert "boot-space" not in found
            low, high = (low, free) if found["disk-space"].passed else (free, high)
        return high

    assert least(bringing(manifest, KERNEL)) - least(bringing(manifest)) == ANEW + OWN


def test_the_node_is_refused_before_anything_changes(manifest: Manifest) -> None:
    found = checks(bringing(manifest, DKMS), {"free": 9 * 10**7})
    with pytest.raises(BootRoomMissing, match="nothing was changed") as raised:
        refuse([NodeReport(NODE, tuple(found.values()))])
    fault = raised.value
    assert fault.found == "gpu-01: boot-space: 90 MB free"
    assert fault.wanted == "gpu-01: boot-space: 125 MB below /boot, for kernels and what starts them"
    assert "apt-get purge linux-image-" in (fault.hint or "")
    assert fault.exit_code == 5
    with pytest.raises(PreflightFailed) as more:
        refuse([NodeReport(NODE, tuple(checks(bringing(manifest, DKMS), {"free": 0}, free=0).values()))])
    assert not isinstance(more.value, BootRoomMissing), "where other things are wrong too"


def test_a_node_says_what_its_kernels_take(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot: Any = script.__dict__
    monkeypatch.setitem(boot, "BOOT", str(tmp_path / "boot"))
    monkeypatch.setitem(boot, "HOME", str(tmp_path / "var/lib/appliance"))
    said = script.boot()
    assert said == {"free": said["free"], "apart": False, "initramfs": 0, "kernel": 0}
    assert said["free"] > 0
    (tmp_path / "boot").mkdir()
    for name, size in {
        "initrd.img-6.1": 500,
        "initrd.img-6.12": 700,
        "vmlinuz-6.1": 40,
        "vmlinuz-6.12": 30,
        "System.map-6.12": 5,
        "config-6.12": 2,
        "grub": 10_000,
    }.items():
        (tmp_path / "boot" / name).write_bytes(bytes(size))
    assert script.boot() | {"free": 0} == {"free": 0, "apart": False, "initramfs": 700, "kernel": 47}
    monkeypatch.setitem(boot, "BOOT", "/proc")
    assert Path("/proc").stat().st_dev != tmp_path.stat().st_dev
    assert script.boot()["apart"]


def test_a_node_says_what_is_unpacked_of_a_bundle(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(script.__dict__, "PROGRAMS", f"{tmp_path}/*/")
    for name in ("inference/dddddddddddd/venv", "export/dddddddddddd", "inference/eeeeeeeeeeee"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(bytes(1000))
    assert script.facts("", "d" * 64)["unpacked"] == 2000
    assert script.facts("", "f" * 64)["unpacked"] == 0
