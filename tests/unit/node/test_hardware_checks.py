"""Hardware in preflight: from a node in order, change one thing, and exactly one check stops it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.hardware.machine import read_machine
from appliance.hardware.needs import HardwareNeeds
from appliance.node.hardware_checks import hardware_checks
from tests.unit.hardware.nodes import (
    GPUS,
    KERNEL,
    SECURE_BOOT,
    SWITCHES,
    gpu,
    h100_node,
    switch,
    text,
    this_machine,
)

if TYPE_CHECKING:
    from appliance.node.verdict import Check

NEEDS = HardwareNeeds(
    "h100-sxm",
    8,
    tensor_parallel=8,
    mig="all-3g.40gb",
    nvswitches=4,
    memory_gib=2048,
    firmware=("iommu", "memory-ecc", "tpm2", "uefi"),
)
DISK = {"nvme0n1": {"size": f"{1920 * 10**9 // 512}", "model": "KIOXIA"}, "sda": {"size": "937703088"}}
CARDS = {"ens1f0": {"speed": "25000", "driver": "mlx5_core"}, "eno1": {"speed": "-1", "driver": "igb"}}
IPMI = "\n\nHandle 0x0050, DMI type 38, 18 bytes\nIPMI Device Information\n\tInterface Type: KCS\n"
SMI = text("smi-h100.xml")


def judged(needs: HardwareNeeds | None = NEEDS, **changed: Any) -> dict[str, Check]:
    checks = hardware_checks(read_machine(h100_node(**changed)), needs)
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks}


def stops(needs: HardwareNeeds | None = NEEDS, **changed: Any) -> list[str]:
    return [name for name, check in judged(needs, **changed).items() if check.stops]


def test_a_node_in_order_passes() -> None:
    assert stops() == []


def pci(*gpus: dict[str, str], switches: int = 4) -> list[dict[str, str]]:
    return [*gpus, *(switch(bus) for bus in SWITCHES[:switches])]


def eight(first: dict[str, str]) -> list[dict[str, str]]:
    return pci(first, *(gpu(bus) for bus in GPUS[1:]))


EFI = h100_node()["efi"]
CATALOGUE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a GPU nobody knows": ({"pci": eight(gpu("53", "0x2339"))}, ["gpu-known", "gpus"]),
    "an unknown GPU besides": (
        {"pci": [*h100_node()["pci"], gpu("db", "0x1eb8")]},
        ["gpu-known", "nvidia-smi"],
    ),
    "a GPU of another kind": ({"pci": eight(gpu("53", "0x2331"))}, ["gpus"]),
    "a GPU missing": ({"pci": pci(*(gpu(bus) for bus in GPUS[1:]))}, ["gpus", "nvidia-smi"]),
    "a narrow link": ({"pci": eight(gpu("53", current_link_width="8"))}, ["gpu-lanes"]),
    "no link": ({"pci": eight(gpu("53", current_link_width="0"))}, ["gpu-lanes"]),
    "an idle GPU": ({"pci": eight(gpu("53", current_link_speed="2.5 GT/s PCIe"))}, []),
    "no NUMA node": ({"pci": eight(gpu("53", numa_node="-1"))}, []),
    "a GPU fell off the bus": (
        {"nvidia_smi": SMI.replace("<attached_gpus>8", "<attached_gpus>7")},
        ["nvidia-smi"],
    ),
    "no driver yet": ({"nvidia_smi": ""}, []),
    "ECC off": (
        {"nvidia_smi": SMI.replace("<current_ecc>Enabled", "<current_ecc>Disabled", 1)},
        ["gpu-ecc"],
    ),
    "ECC going off": (
        {"nvidia_smi": SMI.replace("<pending_ecc>Enabled", "<pending_ecc>Disabled", 1)},
        ["gpu-ecc"],
    ),
    "ECC not said": (
        {"nvidia_smi": SMI.replace("<current_ecc>Enabled", "<current_ecc>N/A", 1)},
        ["gpu-ecc"],
    ),
    "a memory error": (
        {"nvidia_smi": SMI.replace("<dram_uncorrectable>0", "<dram_uncorrectable>1", 1)},
        ["gpu-memory"],
    ),
    "a row waits": (
        {"nvidia_smi": SMI.replace("<remapped_row_pending>No", "<remapped_row_pending>Yes", 1)},
        ["gpu-rows"],
    ),
    "a row lost": (
        {"nvidia_smi": SMI.replace("<remapped_row_failure>No", "<remapped_row_failure>Yes", 1)},
        ["gpu-rows"],
    ),
    "rows not said": (
        {"nvidia_smi": SMI.replace("<remapped_row_failure>No", "<remapped_row_failure>N/A", 1)},
        ["gpu-rows"],
    ),
    "errors not said": (
        {"nvidia_smi": re.sub(r"(<[ds]ram_unc\w+>)0", r"\1N/A", SMI, count=3)},
        ["gpu-memory"],
    ),
    "rows not said of a GPU that is cut": (
        {
            "nvidia_smi": SMI.replace("<current_mig>Disabled", "<current_mig>Enabled", 1)
            .replace("<remapped_row_failure>No", "<remapped_row_failure>N/A", 1)
            .replace("<remapped_row_pending>No", "<remapped_row_pending>N/A", 1)
        },
        [],
    ),
    "rows not said of a whole GPU": (
        {
            "nvidia_smi": SMI.replace("<remapped_row_failure>No", "<remapped_row_failure>N/A", 1).replace(
                "<remapped_row_pending>No", "<remapped_row_pending>N/A", 1
            )
        },
        ["gpu-rows"],
    ),
    "a switch missing": ({"pci": pci(*(gpu(bus) for bus in GPUS), switches=3)}, ["nvswitches"]),
    "too little memory": ({"meminfo": "MemTotal:       1056707340 kB\n"}, ["memory"]),
    "memory without ECC": (
        {"dmidecode": text("dmidecode-epyc.txt").replace("Total Width: 80", "Total Width: 64", 1)},
        ["memory-ecc"],
    ),
    "no dmidecode": ({"dmidecode": ""}, ["memory-ecc"]),
    "modules that differ": (
        {"dmidecode": text("dmidecode-epyc.txt").replace("Size: 32 GB", "Size: 16 GB", 1)},
        [],
    ),
    "memory errors": ({"edac": {"mc0": {"ce_count": "0", "ue_count": "1"}}}, ["memory-errors"]),
    "mended memory errors": ({"edac": {"mc0": {"ce_count": "999", "ue_count": "0"}}}, []),
    "no UEFI": ({"efi": {**EFI, "present": False}}, ["uefi"]),
    "an old TPM": ({"tpm": {"tpm0": "1"}}, ["tpm"]),
    "no TPM": ({"tpm": {}}, ["tpm"]),
    "no IOMMU": ({"iommu": []}, ["iommu"]),
}


@pytest.mark.parametrize(("changed", "stopping"), CATALOGUE.values(), ids=CATALOGUE)
def test_one_thing_wrong_is_found_and_says_what_to_do(changed: dict[str, Any], stopping: list[str]) -> None:
    checks = judged(**changed)
    assert [name for name, check in checks.items() if check.stops] == stopping
    for name in stopping:
        assert checks[name].hint
        assert checks[name].found
        assert checks[name].wanted


@pytest.mark.parametrize(
    ("changed", "noted"),
    [
        ({"pci": eight(gpu("53", current_link_speed="2.5 GT/s PCIe"))}, "gpu-rate"),
        ({"pci": eight(gpu("53", numa_node="-1"))}, "gpu-numa"),
        (
            {"dmidecode": text("dmidecode-epyc.txt").replace("Size: 32 GB", "Size: 16 GB", 1)},
            "memory-modules",
        ),
        (
            {"vulnerabilities": {"mds": "Vulnerable: Clear CPU buffers attempted, no microcode"}},
            "microcode",
        ),
    ],
)
def test_what_stops_nothing_is_noted(changed: dict[str, Any], noted: str) -> None:
    check = judged(**{"vulnerabilities": {}, **changed})[noted]
    assert (check.passed, check.level) == (False, "information")
    assert judged(vulnerabilities={})[noted].passed is True


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("<state>Completed", "<state>In Progress", "0000:53:00.0 In Progress"),
        ("<state>Completed", "<state>N/A", "0000:53:00.0 not said"),
        ("<status>Success", "<status>Insufficient Resources", "Completed, Insufficient Resources"),
        ("<status>Success", "<status>N/A", "0000:53:00.0 Completed"),
    ],
)
def test_a_gpu_that_has_not_joined_the_switches_is_noted(was: str, becomes: str, told: str) -> None:
    """Not refused: Fabric Manager may come with this very bundle, and starts when it is there."""
    check = judged(nvidia_smi=SMI.replace(was, becomes, 1))["gpu-fabric"]
    assert (check.passed, check.level) == (False, "information")
    assert told in check.found
    assert check.found.count("0000:") == 1
    assert judged()["gpu-fabric"].passed is True


def test_a_gpu_that_is_cut_is_in_order_as_it_was_recorded() -> None:
    gathered = {
        "pci": [gpu("01", "0x20b2")],
        "nvidia_smi": text("smi-a100-mig.xml").replace(">4<", ">1<", 1),
    }
    checks = judged(None, **gathered)
    assert [name for name, check in checks.items() if check.stops] == []
    assert [checks[name].passed for name in ("nvidia-smi", "gpu-ecc", "gpu-memory", "gpu-rows")] == [
        True
    ] * 4


def test_without_switches_or_driver_there_is_no_fabric_to_join() -> None:
    for changed in (
        {
            "pci": pci(*(gpu(bus) for bus in GPUS), switches=0),
            "nvidia_smi": SMI.replace("Completed", "N/A"),
        },
        {"nvidia_smi": ""},
    ):
        assert judged(needs=None, **changed)["gpu-fabric"].passed is None


def test_memory_whose_ecc_is_asked_for_and_not_shown_is_refused_with_the_reason() -> None:
    check = judged(dmidecode="")["memory-ecc"]
    assert (check.passed, check.level) == (False, "must")
    assert "no dmidecode" in check.found
    assert judged(None, dmidecode="")["memory-ecc"].passed is None


def test_secure_boot_stops_only_where_it_is_asked_for() -> None:
    assert stops(replace(NEEDS, firmware=("secure-boot",))) == ["secure-boot"]
    on = {**EFI, "secure_boot": SECURE_BOOT[True]}
    assert stops(replace(NEEDS, firmware=("secure-boot",)), efi=on) == []


@pytest.mark.parametrize(
    ("needs", "changed", "stopping"),
    [
        ({"disk_gb": 1920}, {"disks": DISK}, []),
        ({"disk_gb": 1921}, {"disks": DISK}, ["disks"]),
        ({"disk_gb": 2000}, {"disks": DISK | {"nvme1n1": DISK["nvme0n1"]}}, ["disks"]),  # not their sum
        ({"disk_gb": 1}, {"disks": {}}, ["disks"]),
        ({}, {"disks": {}}, []),
        ({"nic_gbps": 25}, {"cards": CARDS}, []),
        ({"nic_gbps": 26}, {"cards": CARDS}, ["network-cards"]),
        ({"nic_gbps": 1}, {"cards": {"eno1": CARDS["eno1"]}}, ["network-cards"]),
        ({}, {"cards": {}}, []),
        ({"firmware": ("bmc",)}, {"dmidecode": text("dmidecode-epyc.txt") + IPMI}, []),
        ({"firmware": ("bmc",)}, {}, ["bmc-interface"]),  # a recording of memory modules alone
        ({"firmware": ("numa",)}, {}, []),
        ({"firmware": ("numa",)}, {"pci": eight(gpu("53", numa_node="-1"))}, ["gpu-numa"]),
        ({"firmware": ("numa",)}, {"pci": eight(gpu("53", numa_node="-1")), "numa_nodes": 1}, []),
        ({"firmware": ("microcode",)}, {"vulnerabilities": {"mds": "Not affected"}}, []),
        ({"firmware": ("microcode",)}, {"vulnerabilities": {"mds": "Vulnerable"}}, ["microcode"]),
    ],
)
def test_what_a_definition_may_ask_for_stops_where_it_is_asked_for(
    needs: dict[str, Any], changed: dict[str, Any], stopping: list[str]
) -> None:
    wanted = replace(HardwareNeeds("h100-sxm", 8), **needs)
    checks = judged(wanted, **changed)
    assert [name for name, check in checks.items() if check.stops] == stopping
    for name in stopping:
        assert checks[name].wanted != "not asked for"
        assert checks[name].hint
    assert stops(HardwareNeeds("h100-sxm", 8), **changed) == [], "and nowhere else"


def test_disks_and_cards_are_told_beside_what_is_wanted_of_them() -> None:
    checks = judged(replace(NEEDS, disk_gb=3840, nic_gbps=100), disks=DISK, cards=CARDS)
    assert checks["disks"].found == "nvme0n1 1,920 GB KIOXIA, sda 480 GB"
    assert checks["disks"].wanted == "one of 3,840 GB or more"
    assert checks["network-cards"].found == "eno1 no link igb, ens1f0 25 Gbit/s mlx5_core"
    assert checks["network-cards"].wanted == "one with a link of 100 Gbit/s or more"


def test_slices_must_have_a_place_on_the_gpu_that_is_there() -> None:
    assert stops(replace(NEEDS, mig="4g.40gb,4g.40gb")) == ["mig"]
    nvl = [gpu(bus, "0x2321") for bus in GPUS]
    found = judged(replace(NEEDS, gpu="h100-nvl"), pci=pci(*nvl))["mig"]
    assert found.stops
    assert "h100-nvl" in found.found
    assert "mig" not in judged(replace(NEEDS, mig=""))


def test_a_model_over_more_gpus_than_found_stops_although_their_number_is_enough() -> None:
    assert stops(replace(NEEDS, gpus=1, tensor_parallel=8, mig="")) == []
    assert stops(replace(NEEDS, gpus=1, tensor_parallel=9, mig="")) == ["gpus"]


def test_of_a_machine_without_gpus_little_is_said() -> None:
    checks = {check.name: check for check in hardware_checks(read_machine(this_machine()), None)}
    assert {checks[name].found for name in ("gpu-lanes", "gpu-rate", "gpu-numa")} == {"no GPU"}
    assert checks["gpu-ecc"].found == "no driver to ask"
    assert checks["nvidia-smi"].found == "no nvidia-smi, or no answer from it"


def test_512_gib_of_modules_are_enough_for_512_although_the_kernel_sees_less() -> None:
    needs = replace(NEEDS, memory_gib=512)
    assert stops(needs, meminfo=f"MemTotal: {(503 * 2**20)} kB\n") == []
    assert stops(needs, meminfo=f"MemTotal: {(495 * 2**20)} kB\n") == ["memory"]


def test_without_needs_only_what_ails_stops() -> None:
    assert [
        check.name for check in hardware_checks(read_machine(this_machine()), None) if check.stops
    ] == []
    assert stops(None, pci=pci(switches=0), nvidia_smi="", meminfo="", efi={**EFI, "present": False}) == []
    assert stops(None, **CATALOGUE["a memory error"][0]) == ["gpu-memory"]
    assert stops(None, **CATALOGUE["memory errors"][0]) == ["memory-errors"]


def test_what_a_machine_is_made_of_is_told() -> None:
    checks = judged()
    assert checks["gpus"].found == "8 h100-sxm"
    assert checks["gpu-known"].found == "none that is unknown"
    assert checks["gpu-lanes"].found == "16 lanes each (8 GPUs)"
    assert checks["gpu-rate"].found == "as the GPUs can"
    assert checks["gpu-ecc"].found == "8 GPUs in order"
    assert checks["mig"].found == "h100-sxm can be cut like this"
    assert checks["nvswitches"].found == "4"
    assert checks["gpu-numa"].found == "4 at node 0, 4 at node 1"
    assert checks["nvidia-smi"].found == "8 GPUs, driver 580.105.08"
    assert checks["memory-modules"].found == "2 of 32 GiB at 4800 MT/s"
    assert checks["memory-ecc"].found == "2 modules, Multi-bit ECC"
    assert checks["disks"].found == "vda 275 GB"
    assert checks["kernel"].found == f"{KERNEL}, its headers are on the node, module nvidia 580.105.08"
    other = judged(headers=False, modinfo="")["kernel"]
    assert (other.found, other.passed) == (
        f"{KERNEL}, its headers are not on the node, no module nvidia",
        None,
    )
    stale = judged(modinfo="version: 580.105.08\nvermagic: 6.12.90+deb13-amd64 SMP\n")["kernel"]
    assert stale.found.endswith("module nvidia 580.105.08 for 6.12.90+deb13-amd64")
    assert stale.passed is False
    assert not stale.stops
    assert checks["network-cards"].found == "eth0 no link virtio_net"
