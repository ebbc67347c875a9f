"""Hardware is asked of a node in one round trip; what fails is called by its name, before any change."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.definition.partition import Partition, Team
from appliance.errors import (
    DriverForOtherKernel,
    FabricManagerDiffers,
    GpusMissing,
    GpuUnsupported,
    HardwareUnfit,
    HeadersMissing,
    ModuleUnsigned,
    PatchRoomMissing,
    PreflightFailed,
    SlicesImpossible,
)
from appliance.hardware.machine import read_machine
from appliance.hardware.needs import FIRMWARE, HardwareNeeds
from appliance.node import hardware, preflight
from appliance.node.checks import Wanted
from appliance.node.connection import LocalConnection
from appliance.node.driver_checks import driver_checks
from appliance.node.hardware import (
    UNFIT,
    HardwareReport,
    gather,
    hardware_text,
    hardware_values,
    look_at_hardware,
    named,
    preflight_checks,
    refuse,
    report,
)
from appliance.node.hardware_checks import hardware_checks
from appliance.node.partition_checks import partition_checks
from appliance.node.preflight import NodeReport, look_at_nodes
from appliance.node.preflight import refuse as refuse_nodes
from appliance.node.site import load_inventory
from appliance.node.verdict import Check
from tests.unit.cli.inventories import EXAMPLE
from tests.unit.hardware.nodes import h100_node
from tests.unit.node.test_checks import NODE
from tests.unit.node.test_driver_checks import BUILT, bundle

if TYPE_CHECKING:
    from appliance.definition.inventory import NodeEntry
    from appliance.node.connection import Connection

NEEDS = HardwareNeeds("h100-sxm", 8)


@dataclass
class Answers:
    """A connection whose node says this."""

    out: bytes = b""
    code: int = 0
    err: bytes = b""
    slow: bool = False
    asked: int = 0
    node: NodeEntry = NODE

    def run(self, command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        self.asked += 1
        if self.slow:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return subprocess.CompletedProcess([], self.code, self.out, self.err)


def connection(answers: Answers) -> Connection:
    return cast("Connection", answers)


def saying(gathered: object) -> Answers:
    return Answers(json.dumps(gathered).encode() + b"\n")


def test_this_machine_is_asked_through_the_real_script() -> None:
    """What is sent runs on a Python that has nothing of ours: -I, and the script alone."""
    gathered, trouble = gather(LocalConnection(NODE))
    assert trouble == ""
    assert gathered is not None
    assert read_machine(gathered).kernel == Path("/proc/sys/kernel/osrelease").read_text().strip()


def test_a_bundle_that_asks_for_nothing_costs_no_round_trip(pristine_bundle: Path) -> None:
    manifest = parse_manifest((pristine_bundle / "manifest.json").read_bytes())
    answers = saying(h100_node())
    assert preflight_checks(connection(answers), manifest) == []
    assert answers.asked == 0
    asking = replace(manifest, hardware=NEEDS)
    checks = preflight_checks(connection(answers), asking)
    assert answers.asked == 1
    names = {check.name for check in checks}
    assert {"gpus", "memory", "driver-kernel", "fabric-manager", "disk-patch"} <= names
    assert [check.name for check in checks if check.stops] == []


def test_preflight_counts_what_is_staged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The facts of the node say how much of the bundle it has; the check of its disk is told."""
    size = sum(file.size for file in bundle().payload())
    checks = preflight_checks(connection(saying(h100_node(disk_free=140 * 10**9))), bundle(), staged=size)
    assert "disk-patch" in {check.name for check in checks}
    assert "disk-patch" not in {check.name for check in checks if check.stops}
    told: list[int] = []
    monkeypatch.setattr(preflight, "preflight_checks", lambda *_, staged: told.append(staged) or [])
    monkeypatch.setattr(preflight, "node_checks", lambda *_: [])
    wanted = Wanted(bundle(), "d" * 64, size, load_inventory(EXAMPLE), 0.0)
    (seen,) = look_at_nodes({NODE.name: connection(saying({"staged": 7}))}, None, wanted)
    assert (seen.passed, told) == (True, [7])


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (Answers(slow=True), "not reachable: no answer within 180 s"),
        (Answers(code=255, err=b"Connection refused"), "not reachable: Connection refused"),
        (Answers(code=127, err=b"sh: python3: not found"), "sh: python3: not found"),
        (Answers(code=1), "exit status 1"),
        (Answers(b"motd\n"), "motd"),
        (Answers(b"[]\n"), "no JSON object"),
        (saying({"pci": []}), "not what was asked for: KeyError 'lspci'"),
        (saying(h100_node(efi=None)), "not what was asked for: TypeError"),
        (Answers(b'{"pci":' + b"[" * 200_000), "nested too deeply"),
        (Answers(b'{"more":' + b"[" * 40 + b"]" * 40 + b"}"), "nested too deeply"),
        (saying(h100_node(disk_free=float("inf"))), "no machine has this: bytes free inf"),
        (saying(h100_node(tpm={"a": 2, "b": "2"})), "not what was asked for: TypeError"),
        (saying(h100_node(iommu=[1])), "not what was asked for: TypeError"),
        (saying(h100_node(nvidia_smi="\ud800")), "not what was asked for: UnicodeEncodeError"),
    ],
)
def test_a_node_that_gives_no_answer_stops_the_installation(answers: Answers, found: str) -> None:
    (check,) = preflight_checks(connection(answers), bundle())
    assert check.stops
    assert check.found.startswith(found)
    (told,) = look_at_hardware({"gpu-01": connection(answers)}, None)
    assert [(each.name, each.found) for each in told.failed] == [("hardware", check.found)]


def test_an_answer_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "MAX_BYTES", 1000)
    assert gather(connection(Answers(b" " * 1000 + b"{}"))) == (
        None,
        "1,002 bytes, which no machine has to say",
    )


def test_a_driver_without_a_number_is_not_new_enough() -> None:
    """What modinfo says of a module is whatever its maker wrote."""
    asking = bundle({}, {"nvidia-cuda-runtime": "13.0.96"})
    odd = saying(h100_node(modinfo="version: x\n", packages={}))
    checks = {check.name: check for check in preflight_checks(connection(odd), asking)}
    assert checks["cuda-driver"].stops
    assert checks["cuda-driver"].found == "driver x"


NAMED: dict[str, tuple[type[PreflightFailed], dict[str, Any], dict[str, Any]]] = {
    "an unknown GPU": (
        GpuUnsupported,
        {"pci": [{**h100_node()["pci"][0], "device": "0x1eb8"}]},
        {"gpus": 0},
    ),
    "too few GPUs": (GpusMissing, {"pci": [], "nvidia_smi": ""}, {}),
    "impossible slices": (SlicesImpossible, {}, {"mig": "7g.80gb,1g.10gb"}),
    "an unsigned module": (
        ModuleUnsigned,
        {"efi": {**h100_node()["efi"], "secure_boot": "BgAAAAE="}},
        {},
    ),
    "another Fabric Manager": (FabricManagerDiffers, {}, {"packages": {"nvidia-fabricmanager": "550.1-1"}}),
    "no headers": (HeadersMissing, {"headers": False, "kernel": "6.1.0-40-amd64"}, {}),
    "a driver for another kernel": (
        DriverForOtherKernel,
        {"kernel": "6.8.0-61-generic"},
        {"packages": BUILT},
    ),
    "no room for a patch": (PatchRoomMissing, {"disk_free": 10**9}, {}),
}


@pytest.mark.parametrize(("error", "changed", "asked"), NAMED.values(), ids=NAMED)
def test_each_wrong_machine_has_its_own_error(
    error: type[PreflightFailed], changed: dict[str, Any], asked: dict[str, Any]
) -> None:
    packages = {"nvidia-open-kernel-dkms": "580.105.08-1", "nvidia-fabricmanager": "580.105.08-1"}
    if "packages" in asked:
        packages = (packages if "nvidia-fabricmanager" in asked["packages"] else {}) | asked["packages"]
    needs = replace(NEEDS, mig=asked.get("mig", ""), gpus=asked.get("gpus", 8))
    manifest = replace(bundle(packages, wheels={}), hardware=needs)
    machine = read_machine(h100_node(**changed))
    checks = (*hardware_checks(machine, needs), *driver_checks(machine, manifest))
    if error is GpuUnsupported:  # the driver counts eight, one is on the bus
        checks = tuple(check for check in checks if check.name not in {"nvidia-smi", "gpus"})
    if error is DriverForOtherKernel:
        checks = tuple(check for check in checks if check.name != "fabric-manager")
    with pytest.raises(error) as caught:
        refuse_nodes([NodeReport(NODE, checks)])
    assert type(caught.value) is error
    assert caught.value.exit_code == 5
    assert "nothing was changed" in caught.value.message
    assert caught.value.found
    assert caught.value.wanted
    assert caught.value.hint


def test_several_faults_of_hardware_have_a_common_name_and_others_none() -> None:
    assert named({"gpus"}) is GpusMissing
    assert named({"gpus", "headers"}) is HardwareUnfit
    assert named({"gpus", "disk-space"}) is None
    assert named(set()) is None
    checks = [Check(name, False, "a", "b", "c") for name in ("gpus", "disk-space")]
    with pytest.raises(PreflightFailed) as caught:
        refuse_nodes([NodeReport(NODE, tuple(checks))])
    assert type(caught.value) is PreflightFailed


def test_every_check_that_can_stop_has_a_name() -> None:
    needs = replace(NEEDS, mig="all-3g.40gb", nvswitches=4, memory_gib=1, disk_gb=1, nic_gbps=1)
    machine = read_machine(h100_node())
    manifest = replace(bundle(), hardware=needs)
    every = replace(needs, firmware=FIRMWARE)
    checks = (
        *hardware_checks(machine, every),
        *partition_checks(machine, manifest, Partition("h100-sxm", ((),), (Team("one", 8001, (0,)),))),
        *driver_checks(machine, manifest),
    )
    assert {check.name for check in checks if check.level == "must"} | {"hardware"} == set(UNFIT)


def test_one_table_and_one_object_for_all_nodes() -> None:
    good = report("gpu-01", h100_node(), "", NEEDS)
    bad = report("gpu-02", h100_node(tpm={}, disk_free=0), "", replace(NEEDS, firmware=("tpm2",)))
    lines = hardware_text([good, bad]).splitlines()
    assert lines[0].split() == ["node", "check", "as", "wanted", "found", "wanted"]
    (tpm,) = [line for line in lines if line.startswith("gpu-02") and " tpm " in line]
    assert tpm.split() == ["gpu-02", "tpm", "NO", "none", "a", "TPM", "2.0"]
    assert all("\x1b" not in line for line in lines)
    values = hardware_values([good, bad])["nodes"]
    assert isinstance(values, dict)
    assert (values["gpu-01"]["fit"], values["gpu-02"]["fit"]) == (True, False)
    refuse([good])
    with pytest.raises(HardwareUnfit, match="1 of 2 nodes"):
        refuse([good, bad])


def test_a_report_keeps_what_was_gathered() -> None:
    gathered = h100_node()
    assert report("gpu-01", gathered, "", None).gathered is gathered
    assert report("gpu-01", None, "no answer", None) == HardwareReport(
        "gpu-01", report("gpu-01", None, "no answer", None).checks, None
    )
