"""Kernel modules that stay after a node went back are told; nobody unloads what somebody may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from appliance.node.remote.kernel_modules import KernelModules
from tests.unit.node.patching.switched_node import Node, arm, of
from tests.unit.node.patching.test_policy_back import node, units
from tests.unit.node.patching.test_policy_left import ReadOnly

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["node", "units"]


@pytest.fixture
def modules(tmp_path: Path) -> KernelModules:
    """A kernel of its own with two modules, whose role refuses sticks."""
    for path, text in {
        "proc/modules": "ext4 1 0 - Live 0x0\nuas 1 0 - Live 0x0\n",
        "proc/sys/kernel/modules_disabled": "0\n",
        "etc/modprobe.d/appliance.conf": "# sticks\nblacklist usb-storage\ninstall sctp /bin/false\n"
        "blacklist uas\noptions nouveau modeset=0\n",
        "etc/modprobe.d/other.conf": "blacklist pcspkr\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return KernelModules(str(tmp_path))


def load(modules: KernelModules, *names: str) -> None:
    place = modules.root / "proc/modules"
    place.write_text(place.read_text() + "".join(f"{name} 1 0 - Live 0x0\n" for name in names))


def test_a_module_that_a_newer_policy_let_in_is_told_to_stay(modules: KernelModules) -> None:
    """What was loaded before, what nobody refuses, and what is not ours to refuse, is no news."""
    before = modules.keep()
    assert modules.stay(before) == []
    load(modules, "usb_storage", "sctp", "nfs", "pcspkr", "nouveau")
    assert modules.stay(before) == [
        "the module sctp stays loaded until the next start",
        "the module usb_storage stays loaded until the next start",
    ]


def test_a_kernel_that_a_newer_policy_locked_is_told(modules: KernelModules) -> None:
    before = modules.keep()
    (modules.root / "proc/sys/kernel/modules_disabled").write_text("1\n")
    assert modules.stay(before) == ["the kernel loads no module before the next start"]
    assert modules.stay(modules.keep()) == []


def test_of_a_kernel_that_is_anothers_nothing_is_told(
    modules: KernelModules, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = modules.keep()
    load(modules, "usb_storage")
    monkeypatch.setattr(KernelModules, "is_ours", lambda _: False)
    assert modules.keep() == {}
    assert modules.stay(before) == modules.stay({}) == modules.stay(None) == []


def test_a_container_has_its_hosts_kernel(modules: KernelModules, monkeypatch: pytest.MonkeyPatch) -> None:
    assert modules.is_ours()

    monkeypatch.setattr(os, "statvfs", lambda _: ReadOnly)
    assert not modules.is_ours()


def test_modules_that_nobody_can_tell_are_no_end_of_going_back(modules: KernelModules) -> None:
    before = modules.keep()
    (modules.root / "etc/modprobe.d/appliance-gpu.conf").mkdir()
    (told,) = modules.stay(before)
    assert told.startswith("nobody knows which kernel modules stay loaded")


def test_the_history_and_whoever_asked_are_told_of_modules(node: Node) -> None:
    """In ``patch apply`` and ``rollback`` it is what did not go back, as a service that does not run."""
    (node.root / "proc/modules").touch()
    arm(node)
    node.apply()
    (node.root / "proc/modules").write_text("usb_storage 1 0 - Live 0x0\n")
    (node.root / "etc/modprobe.d/appliance.conf").unlink(missing_ok=True)
    kept = node.root / "var/lib/appliance/switch/pending/files/etc/modprobe.d/appliance.conf"
    kept.write_text("install usb_storage /bin/false\n")
    told = "the module usb_storage stays loaded until the next start"
    assert told in of(node).back("it failed")["ill"]
    assert told in node.results()[-1]
