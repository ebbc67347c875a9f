"""GPUs on the live node, judged: recorded lists, one thing changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.definition.partition import Cut, Partition, Team
from appliance.hardware.smi_list import ListUnreadableError, parse_list
from appliance.node.qualification import gpus, service
from appliance.node.qualification.service import Service

RECORDED = Path(__file__).parents[1] / "roles/recorded"
NVL = (RECORDED / "smi-list-h100-nvl.txt").read_text("utf-8")
A100 = (RECORDED / "smi-list-a100.txt").read_text("utf-8")
FIRST, SECOND, THIRD, SMALL = (part for gpu in parse_list(NVL) for part in gpu.slices)
CUTS = (Cut("2g.24gb", 0), Cut("2g.24gb", 2), Cut("2g.24gb", 4), Cut("1g.12gb", 6))
TEAMS = (Team("one", 8001, (0,), "2g.24gb"), Team("two", 8002, (0,), "1g.12gb"))
PARTITION = Partition("h100-nvl", (CUTS,), TEAMS)


COMMON = "/dev/nvidiactl rw\n/dev/nvidia-uvm rw\n/dev/nvidia0 rw"


def running(**given: str) -> dict[str, Service]:
    """Servers with these parts; each may open two capabilities of its own."""
    found = {}
    for number, (team, parts) in enumerate(given.items()):
        own = [f"/dev/nvidia-caps/nvidia-cap{12 + 9 * number + more} r" for more in (0, 1)]
        unit = {"MainPID": "7", "DevicePolicy": "closed", "DeviceAllow": "\n".join([COMMON, *own])}
        found[f"appliance-inference-{team}.service"] = Service(
            unit, {}, frozenset({7}), "", {"CUDA_VISIBLE_DEVICES": parts}, ()
        )
    return found


def test_recorded_lists_are_read() -> None:
    (gpu,) = parse_list(NVL)
    assert (gpu.index, gpu.uuid) == (0, "GPU-81495ec7-da36-8ea5-9f7d-5804aa3fef20")
    assert list(gpu.slices.values()) == ["2g.24gb"] * 3 + ["1g.12gb"]
    assert [len(each.slices) for each in parse_list(A100)] == [4, 0, 0, 0]
    with pytest.raises(ListUnreadableError, match="NVIDIA-SMI has failed"):
        parse_list("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")


def test_the_recorded_layout_is_the_one_that_is_wanted() -> None:
    assert gpus.judge_layout(NVL, PARTITION).kept


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (NVL.replace("2g.24gb", "1g.24gb", 1), "GPU 0: 1g.12gb, 1g.24gb, 2g.24gb, 2g.24gb"),
        ("\n".join(NVL.splitlines()[:1]), "GPU 0: whole"),
        ("", ""),
        ("sh: 1: nvidia-smi: not found", "nvidia-smi lists no GPUs: sh: 1: nvidia-smi: not found"),
    ],
)
def test_another_layout_is_a_broken_promise(text: str, found: str) -> None:
    finding = gpus.judge_layout(text, PARTITION)
    assert (finding.kept, finding.found) == (False, found)
    assert finding.wanted == "GPU 0: 1g.12gb, 2g.24gb, 2g.24gb, 2g.24gb"


def test_teams_on_their_own_parts_keep_the_promise() -> None:
    finding = gpus.judge_teams(NVL, PARTITION, running(one=SECOND, two=SMALL))
    assert finding.kept
    assert finding.found.splitlines()[0] == f"appliance-inference-one.service: {SECOND}"


@pytest.mark.parametrize(
    ("one", "two", "found"),
    [
        (SMALL, SMALL, f"{SMALL} is given to 2 teams"),
        (SMALL, FIRST, f"appliance-inference-one.service: {SMALL}, 1g.12gb of GPU 0"),
        ("MIG-gone", SMALL, "MIG-gone, which is not there"),
        ("", SMALL, "appliance-inference-one.service: all GPUs"),
        (f"{FIRST},{SECOND}", SMALL, "appliance-inference-one.service"),
    ],
)
def test_another_part_than_its_own_is_named(one: str, two: str, found: str) -> None:
    finding = gpus.judge_teams(NVL, PARTITION, running(one=one, two=two))
    assert not finding.kept
    assert found in finding.found


@pytest.mark.parametrize(
    ("policy", "more", "found"),
    [
        ("closed", "/dev/nvidia-caps/nvidia-cap21 r", "/dev/nvidia-caps/nvidia-cap21 is open to 2 teams"),
        ("closed", "char-nvidia-caps rw", "appliance-inference-one.service: may open char-nvidia-caps"),
        ("closed", "/dev/sda rw", "appliance-inference-one.service: may open /dev/sda"),
        ("auto", "", "appliance-inference-one.service: may open any device, DevicePolicy=auto"),
    ],
)
def test_a_server_that_may_open_more_than_its_own_part_is_named(policy: str, more: str, found: str) -> None:
    """What a server was told to use says nothing of what it could."""
    services = running(one=SECOND, two=SMALL)
    unit = services["appliance-inference-one.service"].unit
    unit |= {"DevicePolicy": policy, "DeviceAllow": f"{unit['DeviceAllow']}\n{more}".strip()}
    finding = gpus.judge_teams(NVL, PARTITION, services)
    assert not finding.kept
    assert found in finding.found


def test_a_whole_gpu_is_open_to_its_team_alone() -> None:
    mixed = Partition("a100-80gb", ((), ()), (Team("one", 8001, (0,)), Team("two", 8002, (1,))))
    first, second = (each.uuid for each in parse_list(A100)[1:3])
    listed = f"GPU 0: A (UUID: {first})\nGPU 1: A (UUID: {second})\n"
    services = running(one=first, two=second)
    finding = gpus.judge_teams(listed, mixed, services)
    assert "/dev/nvidia0 is open to 2 teams" in finding.found
    unit = services["appliance-inference-two.service"].unit
    unit["DeviceAllow"] = unit["DeviceAllow"].replace("nvidia0", "nvidia1")
    assert gpus.judge_teams(listed, mixed, services).kept


def test_every_device_that_systemd_lists_is_read() -> None:
    said = "DevicePolicy=closed\nDeviceAllow=/dev/nvidia0 rw\nDeviceAllow=/dev/nvidiactl rw\nMainPID=7\n"
    assert "DevicePolicy" in service.LIVE
    assert "DeviceAllow" in service.LIVE
    assert service.parse_live(said).devices == ("/dev/nvidia0", "/dev/nvidiactl")


def test_a_team_that_is_not_served_is_named_and_whole_gpus_are_known() -> None:
    assert (
        "appliance-inference-two.service: no process"
        in gpus.judge_teams(NVL, PARTITION, running(one=FIRST)).found
    )
    whole = Partition("a100-80gb", ((), (), (), ()), (Team("pair", 8001, (2, 3)),))
    pair = ",".join(each.uuid for each in parse_list(A100)[2:])
    assert gpus.judge_teams(A100, whole, running(pair=pair)).kept
    swapped = ",".join(reversed(pair.split(",")))
    assert not gpus.judge_teams(A100, whole, running(pair=swapped)).kept
    assert not gpus.judge_teams("no list", whole, running(pair=pair)).kept
