"""A machine out of what was gathered there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.hardware.machine import Card, Disk, DriverModule, read_machine
from appliance.hardware.readings import ImpossibleReadingError
from appliance.node.remote.hardware import gather
from tests.unit.hardware.nodes import KERNEL, base64_of, h100_node, signature_list, text, this_machine

if TYPE_CHECKING:
    from pathlib import Path


def test_a_node_with_eight_gpus() -> None:
    machine = read_machine(h100_node())
    assert [len(machine.gpus), len(machine.nvswitches)] == [8, 4]
    assert machine.gpus[0].name == "NVIDIA Corporation GH100 [H100 SXM5 80GB]"
    assert machine.smi is not None
    assert (machine.smi.driver, machine.module) == ("580.105.08", DriverModule("580.105.08", KERNEL))
    assert (machine.uefi, machine.secure_boot, machine.dkms_trusted) == (True, False, None)
    assert (machine.memory_errors, machine.tpm, machine.loaded) == ((3, 0), ("2",), {"nvidia"})


def test_this_machine_as_it_was_and_as_it_is() -> None:
    machine = read_machine(this_machine())
    assert (machine.gpus, machine.smi, machine.uefi) == ((), None, False)
    assert machine.smi_trouble == "no nvidia-smi, or no answer from it"
    assert machine.processor == "AMD EPYC"
    assert machine.memory == 24684092 << 10
    assert machine.disks == (Disk("vda", 274877906944, ""),), "loops and memory are no disks"
    assert machine.cards == (Card("eth0", None, "virtio_net", "virtio2"),)
    assert machine.memory_errors is None
    live = read_machine(gather())
    assert live.memory > 0
    assert live.processors > 0
    assert live.kernel


def test_a_report_that_cannot_be_read_says_why() -> None:
    machine = read_machine(h100_node(nvidia_smi="No devices were found"))
    assert machine.smi is None
    assert machine.smi_trouble.startswith("not XML")


@pytest.mark.parametrize(
    ("key", "listed", "trusted"), [(b"", [], None), (b"k", [], False), (b"k", [b"k"], True)]
)
def test_the_key_of_dkms_is_trusted_if_the_firmware_lists_it(
    key: bytes,
    listed: list[bytes],
    trusted: bool | None,
) -> None:
    efi = {**h100_node()["efi"], "dkms_key": base64_of(key)}
    efi["lists"] = [base64_of(signature_list(b"other")), base64_of(signature_list(*listed))]
    assert read_machine(h100_node(efi=efi)).dkms_trusted is trusted


@pytest.mark.parametrize(
    "spoiled",
    [
        {"pci": None},
        {"efi": []},
        {"efi": {}},
        {"lspci": 3},
        {"processors": "many"},
        {"edac": {"mc0": {"ce_count": "x"}}},
        {"tpm": []},
        {"packages": []},
        {"modules": {}},
    ],
)
def test_what_the_script_does_not_write_is_an_error(spoiled: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError, IndexError)):
        read_machine(h100_node(**spoiled))


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "a disk of less than nothing": ({"disks": {"sda": {"size": "-5"}}}, "disk sda, sectors -5 x 512"),
    "a disk beyond the kernel": ({"disks": {"sda": {"size": f"{1 << 54}"}}}, "disk sda, sectors"),
    "a disk in words": ({"disks": {"sda": {"size": "big"}}}, "disk sda, sectors big"),
    "memory of 10^26 kB": ({"meminfo": f"MemTotal: {10**26} kB"}, "memory in kB 1000000"),
    "memory just beyond": ({"meminfo": f"MemTotal: {(1 << 42) + 1} kB"}, "memory in kB"),
    "less than no memory": ({"meminfo": "MemTotal: -1 kB"}, "memory in kB -1"),
    "a module of 10^26 GB": (
        {"dmidecode": text("dmidecode-epyc.txt").replace("Size: 32 GB", f"Size: {10**26} GB", 1)},
        "memory module 1000000",
    ),
    "less free than nothing": ({"disk_free": -1}, "bytes free -1"),
    "free in text that is none": ({"disk_free": "9e9"}, "bytes free 9e9"),
    "half a processor": ({"processors": 0.5}, "processors 0.5"),
    "a million processors": ({"processors": 10**6}, "processors 1000000"),
    "processors that are a yes": ({"processors": True}, "processors True"),
    "nodes below none": ({"numa_nodes": -1}, "NUMA nodes -1"),
    "errors below none": ({"edac": {"mc0": {"ue_count": "-1"}}}, "mc0 ue_count -1"),
    "a link below none": ({"cards": {"eth0": {"speed": "-2"}}}, "card eth0, Mbit/s -2"),
    "a link beyond the kernel": ({"cards": {"eth0": {"speed": f"{1 << 32}"}}}, "card eth0, Mbit/s"),
    "headers that are a word": ({"headers": "no"}, "headers no, wanted true or false"),
    "UEFI that is a number": ({"efi": {**h100_node()["efi"], "present": 0}}, "UEFI 0"),
}


@pytest.mark.parametrize(("changed", "told"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_number_that_no_machine_has_is_named(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ImpossibleReadingError) as caught:
        read_machine(h100_node(**changed))
    assert str(caught.value).startswith(told)
    assert "wanted" in str(caught.value)


def test_the_largest_that_a_machine_may_have_is_taken() -> None:
    machine = read_machine(
        h100_node(
            meminfo=f"MemTotal: {1 << 42} kB",
            disks={"sda": {"size": f"{(1 << 54) - 1}"}, "loop0": {"size": "8"}, "sdb": {"size": "0"}},
            cards={"a": {"speed": "400000"}, "b": {"speed": "-1"}, "c": {}, "d": {"speed": "4294967295"}},
        )
    )
    assert machine.memory == 1 << 52
    assert [(disk.name, disk.size) for disk in machine.disks] == [("sda", (1 << 63) - 512)]
    assert [card.rate for card in machine.cards] == [400000, None, None, None]


def test_a_missing_part_is_an_error() -> None:
    gathered = h100_node()
    for key in gathered:
        with pytest.raises(KeyError):
            read_machine({other: value for other, value in gathered.items() if other != key})


@pytest.mark.parametrize("present", ["nvidia", "nvidia-current", "nvidia-current-open", "nvidia-tesla-535"])
def test_the_module_is_asked_for_by_debians_names_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: str
) -> None:
    program = tmp_path / "modinfo"
    program.write_text(f'#!/bin/sh\n[ "$1" = {present} ] && echo "version:        550.163.01"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert read_machine(gather()).module.version == "550.163.01"


def test_nothing_recorded_names_a_person_or_a_serial_number() -> None:
    for name in ("smi-h100.xml", "smi-a100.xml", "smi-l40s.xml"):
        assert "<serial>" not in text(name)
