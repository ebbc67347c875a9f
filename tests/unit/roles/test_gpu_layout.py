"""What the role gpu_partition reads of nvidia-smi: recorded output, and what must not pass for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.hardware.gpus import find_gpu, find_slice, parse_layout, placements

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDED = Path(__file__).with_name("recorded")
REPORT = (RECORDED / "smi-report-a100-mig.xml").read_text("utf-8")
#: The list that goes with the report; nobody recorded both.
LIST = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-27b94a00-ed54-5c24-b1fd-1054085de32a)
  MIG 3g.20gb     Device  0: (UUID: MIG-a)
  MIG 3g.20gb     Device  1: (UUID: MIG-b)
"""


@pytest.fixture(scope="module")
def rules(role_module: Callable[[str], Any]) -> Any:
    return role_module("gpu_partition/files/usr/local/lib/appliance/gpu_layout.py")


def test_list_and_report_are_joined_by_the_number_of_the_slice(rules: Any) -> None:
    (gpu,) = rules.read_gpus(LIST, REPORT)
    assert (gpu.index, gpu.minor, gpu.mig, gpu.pending, gpu.processes) == (0, 0, True, False, ())
    assert gpu.slices == (
        rules.Slice("3g.20gb", "MIG-a", (1, 0)),
        rules.Slice("3g.20gb", "MIG-b", (2, 0)),
    )


def test_a_mode_that_waits_is_seen_and_processes_are(rules: Any) -> None:
    waiting = REPORT.replace("<pending_mig>Enabled", "<pending_mig>Disabled")
    process = "<processes><process_info><pid>41394</pid></process_info></processes>"
    (gpu,) = rules.read_gpus(LIST, waiting.replace("<processes/>", process))
    assert (gpu.pending, gpu.processes) == (True, (41394,))
    assert not rules.fits(gpu, (("3g.20gb", 0), ("3g.20gb", 4)))


@pytest.mark.parametrize(
    ("listed", "report"),
    [
        ("No devices were found", REPORT),
        ("", REPORT),
        (LIST, ""),
        (LIST, "<nvidia_smi_log/>"),
        (LIST.replace("Device  1", "Device  2"), REPORT),
        (LIST.replace("GPU-27b94a00", "GPU-37b94a00"), REPORT),
        (LIST, REPORT.replace("<minor_number>0</minor_number>", "")),
    ],
)
def test_what_does_not_fit_together_judges_nothing(rules: Any, listed: str, report: str) -> None:
    with pytest.raises(rules.Trouble):
        rules.read_gpus(listed, report)


def test_other_recorded_lists_are_read(rules: Any) -> None:
    for name in ("smi-list-h100-nvl.txt", "smi-list-a100.txt"):
        for line in (RECORDED / name).read_text().splitlines():
            assert rules._GPU.fullmatch(line) or rules._SLICE.fullmatch(line.strip()), line


def test_slices_are_asked_for_where_a_real_gpu_had_them(rules: Any) -> None:
    """The placement that nvidia-smi listed of an H100 NVL is one that the table finds room for."""
    listed = [
        (words[3], int(words[-2].partition(":")[0]))
        for words in map(str.split, (RECORDED / "smi-lgi-h100-nvl.txt").read_text().splitlines())
        if words[1:2] == ["0"]
    ]
    gpu = find_gpu("h100-nvl")
    assert all(start in find_slice(gpu, name).starts for name, start in listed)
    ours = parse_layout(gpu, "3*2g.24gb,1g.12gb")
    starts = placements(ours) or ()
    assert sorted(zip((each.name for each in ours), starts, strict=True)) == sorted(listed)
    assert rules.creation(tuple(listed)) == "2g.24gb:0,2g.24gb:2,2g.24gb:4,1g.12gb:6"


def test_a_table_of_capabilities_of_another_form_is_refused(rules: Any) -> None:
    assert rules.minors("config 1\ngpu0/gi1/access 12\n") == {"config": 1, "gpu0/gi1/access": 12}
    with pytest.raises(rules.Trouble, match="another form"):
        rules.minors("<html>")


def test_a_slice_that_the_driver_does_not_know_is_nobodys(rules: Any) -> None:
    (gpu,) = rules.read_gpus(LIST, REPORT)
    with pytest.raises(rules.Trouble, match=r"no capability gpu0/gi1/access"):
        rules.drop_in([(gpu, gpu.slices[0])], {})


def test_teams_that_share_a_kind_of_slice_get_them_by_the_numbers_of_instances(rules: Any) -> None:
    """UUIDs are others after each start, and a list may have another order."""
    parts = (rules.Slice("3g.20gb", "MIG-a", (2, 0)), rules.Slice("3g.20gb", "MIG-b", (1, 0)))
    gpu = rules.Gpu(0, "GPU-1", 0, True, False, parts, ())
    teams = tuple(rules.Team(name, f"{name}.service", (0,), "3g.20gb") for name in ("x", "y"))
    given = rules.shares([gpu], rules.Wanted((), teams))
    assert [given[name][0][1].uuid for name in ("x", "y")] == ["MIG-b", "MIG-a"]


def test_teams_are_given_no_more_slices_than_there_are(rules: Any) -> None:
    gpus = rules.read_gpus(LIST, REPORT)
    team = rules.Team("x", "x.service", (0,), "3g.20gb")
    with pytest.raises(rules.Trouble, match=r"no 3g\.20gb left"):
        rules.shares(gpus, rules.Wanted((), (team, team, team)))
