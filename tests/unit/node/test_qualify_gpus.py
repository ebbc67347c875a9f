"""GPUs on the live node, judged: recorded lists, one thing changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.definition.partition import Cut, Partition, Team
from appliance.hardware.smi_list import ListUnreadableError, parse_list
from appliance.node.qualification import gpus
from appliance.node.qualification.service import Service

RECORDED = Path(__file__).parents[1] / "roles/recorded"
NVL = (RECORDED / "smi-list-h100-nvl.txt").read_text("utf-8")
A100 = (RECORDED / "smi-list-a100.txt").read_text("utf-8")
FIRST, SECOND, THIRD, SMALL = (part for gpu in parse_list(NVL) for part in gpu.slices)
CUTS = (Cut("2g.24gb", 0), Cut("2g.24gb", 2), Cut("2g.24gb", 4), Cut("1g.12gb", 6))
TEAMS = (Team("one", 8001, (0,), "2g.24gb"), Team("two", 8002, (0,), "1g.12gb"))
PARTITION = Partition("h100-nvl", (CUTS,), TEAMS)


def running(**given: str) -> dict[str, Service]:
    return {
        f"appliance-inference-{team}.service": Service(
            {"MainPID": "7"}, {}, frozenset({7}), "", {"CUDA_VISIBLE_DEVICES": parts}, ()
        )
        for team, parts in given.items()
    }


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
