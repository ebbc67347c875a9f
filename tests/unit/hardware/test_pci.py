"""PCI devices out of sysfs's texts; names out of lspci's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from appliance.hardware.gpus import gpu_of_device
from appliance.hardware.pci import Link, device_of, lspci_names, plain_address
from appliance.node.remote.hardware import pci
from tests.unit.hardware.nodes import gpu, switch, this_machine


def test_an_h100_is_a_gpu_of_the_table_at_full_width() -> None:
    device = device_of(gpu("53"), {"0000:53:00.0": "NVIDIA Corporation GH100 [H100 SXM5 80GB]"})
    assert device is not None
    assert (device.is_gpu, device.is_nvswitch, device.is_network) == (True, False, False)
    known = gpu_of_device(device.device)
    assert known is not None
    assert known.name == "h100-sxm"
    assert (device.link, device.best, device.numa) == (Link(5, 16), Link(5, 16), 0)
    assert str(device) == "0000:53:00.0 NVIDIA Corporation GH100 [H100 SXM5 80GB]"


def test_an_nvswitch_is_a_bridge_of_nvidia_with_a_known_number() -> None:
    device = device_of(switch("05"), {})
    assert device is not None
    assert (device.is_gpu, device.is_nvswitch) == (False, True)
    other = device_of({**switch("05"), "device": "0x2342"}, {})  # a bridge of Grace Hopper
    assert other is not None
    assert not other.is_nvswitch
    foreign = device_of({**switch("05"), "vendor": "0x8086"}, {})
    assert foreign is not None
    assert not foreign.is_nvswitch


@pytest.mark.parametrize(
    ("speed", "width", "link"),
    [
        ("2.5 GT/s PCIe", "16", Link(1, 16)),
        ("5.0 GT/s PCIe", "8", Link(2, 8)),
        ("8 GT/s", "1", Link(3, 1)),
        ("16.0 GT/s PCIe", "16", Link(4, 16)),
        ("64.0 GT/s PCIe", "32", Link(6, 32)),
        ("Unknown", "0", Link(None, None)),
        ("Unknown", "255", Link(None, None)),
        ("", "", Link(None, None)),
    ],
)
def test_a_link_is_as_the_kernel_words_it(speed: str, width: str, link: Link) -> None:
    device = device_of(gpu("53", current_link_speed=speed, current_link_width=width), {})
    assert device is not None
    assert device.link == link


@pytest.mark.parametrize(("text", "numa"), [("-1", None), ("0", 0), ("7", 7), ("", None), ("x", None)])
def test_no_numa_node_is_none(text: str, numa: int | None) -> None:
    device = device_of(gpu("53", numa_node=text), {})
    assert device is not None
    assert device.numa == numa


@pytest.mark.parametrize("lost", ["address", "vendor", "device", "class"])
def test_what_is_no_device_is_left_out(lost: str) -> None:
    assert device_of({key: value for key, value in gpu("53").items() if key != lost}, {}) is None
    assert device_of({**gpu("53"), "vendor": "nvidia"}, {}) is None


def test_nvidia_smi_spells_addresses_its_own_way() -> None:
    assert plain_address("00000000:A8:00.0") == "0000:a8:00.0"
    assert plain_address("0000:a8:00.0") == "0000:a8:00.0"
    assert plain_address("nonsense") == "nonsense"


def test_the_recorded_devices_are_all_read() -> None:
    gathered = this_machine()
    names = lspci_names(gathered["lspci"])
    devices = [device_of(each, names) for each in gathered["pci"]]
    assert [device.numbers for device in devices if device] == [
        "8086:0d57",
        "1af4:1045",
        "1af4:1042",
        "1af4:1041",
        "1af4:1053",
        "1af4:1044",
    ]
    assert names["0000:00:03.0"].startswith("Red Hat, Inc. Virtio")
    assert [device.address for device in devices if device and device.is_network] == ["0000:00:03.0"]


def test_this_machines_sysfs_and_its_lspci_agree() -> None:
    """Two programs look at the same devices: ours at sysfs, lspci with numbers."""
    shown = subprocess.run(
        ["lspci", "-D", "-n", "-vmm"], capture_output=True, text=True, check=False
    ).stdout
    records = [
        dict(line.split(":\t", 1) for line in record.splitlines())
        for record in shown.strip().split("\n\n")
        if record
    ]
    wanted = {each["Slot"]: (each["Vendor"], each["Device"], each["Class"]) for each in records}
    devices = [device for each in pci() if (device := device_of(each, {}))]
    found = {
        device.address: (f"{device.vendor:04x}", f"{device.device:04x}", f"{device.kind >> 8:04x}")
        for device in devices
    }
    assert found == wanted
    assert len(found) == len(list(Path("/sys/bus/pci/devices").glob("*")))
