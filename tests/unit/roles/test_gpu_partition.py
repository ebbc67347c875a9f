"""The program of the role gpu_partition, on simulated GPUs: what it does, refuses, and hands out."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from appliance.definition.partition import Cut, Partition, Team
from tests.unit.roles.simulated_gpus import Gpu, SimulatedGpus, gpu_uuid, install, simulated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

THIRDS = (Cut("3g.40gb", 0), Cut("3g.40gb", 4))
PARTITION = Partition(
    "h100-sxm",
    (THIRDS, ()),
    (
        Team("one", 8001, (0,), "3g.40gb"),
        Team("two", 8002, (0,), "3g.40gb"),
        Team("whole", 8003, (1,)),
    ),
)
FOLDER = "gpu_partition/files/usr/local/lib/appliance"
CUTTING = [
    "nvidia-smi -i 0 -mig 1",
    "nvidia-smi mig -i 0 -cgi 3g.40gb:0,3g.40gb:4 -C",
]


@pytest.fixture(scope="module")
def rules(role_module: Callable[[str], Any]) -> Any:
    found = role_module(f"{FOLDER}/gpu_layout.py")
    sys.modules["gpu_layout"] = found
    return found


@pytest.fixture(scope="module")
def program(rules: Any, role_module: Callable[[str], Any]) -> Any:
    assert rules, "which it imports"
    return role_module(f"{FOLDER}/gpu_partition.py")


@pytest.fixture
def node(program: Any, rules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedGpus:
    """Two whole GPUs, and the role's files."""
    found = simulated(tmp_path, 2)
    install(tmp_path, PARTITION.for_roles())
    monkeypatch.setattr(program, "run", partial(found.run, trouble=rules.Trouble))
    return found


def act(program: Any, node: SimulatedGpus, command: str = "apply") -> int:
    status: int = program.main([command], program.Places(node.root))
    return status


def handed(node: SimulatedGpus) -> dict[str, str]:
    return {path.stem: path.read_text() for path in (node.root / "run/appliance-gpu").glob("*.env")}


def drop_in(node: SimulatedGpus, team: str) -> list[str]:
    path = node.root / f"run/systemd/system/appliance-inference-{team}.service.d/50-gpus.conf"
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def stranger(node: SimulatedGpus, pid: int, group: str) -> None:
    (node.root / f"proc/{pid}").mkdir()
    (node.root / f"proc/{pid}/cgroup").write_text(f"0::/{group}\n")
    if "appliance" not in group:
        (node.root / f"proc/{pid}/stranger").touch()


def test_whole_gpus_are_cut_and_every_team_gets_its_own_part(program: Any, node: SimulatedGpus) -> None:
    assert act(program, node) == 0
    one, two = (part.uuid for part in node.gpus[0].slices)
    assert handed(node) == {
        "one": f"CUDA_VISIBLE_DEVICES={one}\n",
        "two": f"CUDA_VISIBLE_DEVICES={two}\n",
        "whole": f"CUDA_VISIBLE_DEVICES={gpu_uuid(1)}\n",
    }
    assert [each for each in node.told if each.startswith("nvidia-smi")] == CUTTING
    assert node.told[-1] == "systemctl daemon-reload"


def test_a_unit_may_open_its_own_part_and_no_other(program: Any, node: SimulatedGpus) -> None:
    """MIG User Guide, "Device Nodes and Capabilities": its GPU's node, and a slice's two capabilities."""
    act(program, node)
    common = ["/dev/nvidiactl rw", "/dev/nvidia-uvm rw", "/dev/nvidia-uvm-tools rw", "/dev/nvidia0 rw"]
    minors = (node.root / "proc/driver/nvidia-caps/mig-minors").read_text()
    caps = [
        f"/dev/nvidia-caps/nvidia-cap{line.split()[1]} r"
        for line in minors.splitlines()
        if line.startswith(("gpu0/gi1/access ", "gpu0/gi1/ci0/access "))
    ]
    allowed = [f"DeviceAllow={each}" for each in (*common, *caps)]
    assert len(caps) == 2
    assert drop_in(node, "one") == ["[Service]", "DeviceAllow=", *allowed], (
        "in place of the unit's own list"
    )
    assert not {*drop_in(node, "two")} & {f"DeviceAllow={each}" for each in caps}
    assert drop_in(node, "whole")[-1] == "DeviceAllow=/dev/nvidia1 rw"
    assert (node.root / caps[0].split()[0][1:]).exists(), "made by the driver's own helper"


def test_a_second_run_changes_nothing(
    program: Any, node: SimulatedGpus, capsys: pytest.CaptureFixture[str]
) -> None:
    act(program, node)
    before, _ = handed(node), node.told.clear()
    capsys.readouterr()
    assert act(program, node, "check") == 0
    assert capsys.readouterr().out == "", "each line is something that differs"
    assert act(program, node) == 0
    assert (node.told, handed(node)) == ([], before)


def test_after_a_start_all_of_it_is_made_anew_with_other_uuids(program: Any, node: SimulatedGpus) -> None:
    act(program, node)
    before = handed(node)
    node.restart()
    assert act(program, node, "check") == 1
    assert act(program, node) == 0
    assert handed(node).keys() == before.keys()
    assert handed(node)["one"] != before["one"]
    assert handed(node)["whole"] == before["whole"]


def test_clients_are_stopped_first_and_started_again(program: Any, node: SimulatedGpus) -> None:
    old = "appliance-inference.service"  # nobody asks for it any more
    node.active = [old, "appliance-inference-one.service", "nvidia-dcgm.service"]
    stranger(node, 71, "system.slice/appliance-inference.service")
    node.gpus[0].used = [71]
    assert act(program, node) == 0
    assert node.told[0] == f"systemctl stop -- {' '.join([old, *node.active])}"
    assert node.active == ["appliance-inference-one.service", "nvidia-dcgm.service"]
    assert node.told[-1].startswith("systemctl start --no-block -- ")


def test_somebody_elses_process_stops_it_before_anything_is_touched(
    program: Any, node: SimulatedGpus, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger(node, 72, "user.slice/user-0.slice/session-1.scope")
    node.gpus[0].used = [72]
    assert act(program, node, "check") == 2
    assert "process 72 uses GPU 0: end it; nothing was changed" in capsys.readouterr().err
    assert act(program, node) == 2
    assert not [each for each in node.told if each.startswith("nvidia-smi")]
    assert (node.gpus[0].mig, handed(node)) == (False, {})
    node.gpus[0].used, node.gpus[1].used = [], [72]
    assert act(program, node, "check") == 1, "the GPU that stays as it is may be in use"


def test_a_mode_that_waits_for_a_reset_is_no_success(
    program: Any, node: SimulatedGpus, capsys: pytest.CaptureFixture[str]
) -> None:
    """nvidia-smi itself ends with 0 there."""
    node.needs_reset = True
    node.active = ["appliance-inference-whole.service"]
    assert act(program, node) == 2
    assert (
        "GPU 0: MIG mode is to be on and waits for a reset of the GPU: restart" in capsys.readouterr().err
    )
    assert (node.active, handed(node)) == ([], {}), "no server runs, and nothing is handed out"
    assert act(program, node, "check") == 1
    assert "waits for a reset" in capsys.readouterr().out


@pytest.mark.parametrize("refused", ["-cgi", "-dci", "-dgi", "-mig"])
def test_what_fails_halfway_leaves_no_server_running(
    program: Any, node: SimulatedGpus, refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    act(program, node)
    install(node.root, replace(PARTITION, layout=((Cut("7g.80gb", 0),), ()), teams=()).for_roles())
    if refused == "-mig":
        install(node.root, replace(PARTITION, layout=((), ()), teams=()).for_roles())
    node.active, node.refuses = ["appliance-inference-one.service"], refused
    assert act(program, node) == 2
    assert f"{refused}" in capsys.readouterr().err
    assert (node.active, handed(node)) == ([], {})
    node.refuses = "nothing"
    assert act(program, node) == 0, "the next run makes it good"


@pytest.mark.parametrize("refused", ["daemon-reload", "stop"])
def test_what_systemd_has_not_read_is_handed_to_nobody(
    program: Any, node: SimulatedGpus, refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that lie there already would be taken by the next run for handed out, and never be read."""
    if refused == "stop":
        act(program, node)
        node.gpus.pop()
        node.active = ["appliance-inference-one.service"]
    node.refuses = refused
    assert act(program, node) == 2
    assert refused in capsys.readouterr().err
    assert handed(node) == {}
    assert not list((node.root / "run/systemd/system").glob("*.d/*"))
    if refused == "daemon-reload":
        node.refuses = "nothing"
        node.told.clear()
        assert act(program, node) == 0
        assert "systemctl daemon-reload" in node.told


def test_a_fault_that_nobody_thought_of_is_no_difference_and_hands_out_nothing(
    program: Any, node: SimulatedGpus, capsys: pytest.CaptureFixture[str]
) -> None:
    act(program, node)
    node.active = ["appliance-inference-one.service"]
    (node.root / "proc/driver/nvidia-caps/mig-minors").write_bytes(b"\xff\xfe")
    capsys.readouterr()
    assert act(program, node, "check") == 2
    assert act(program, node) == 2
    assert "UnicodeDecodeError" in capsys.readouterr().err
    assert (node.active, handed(node)) == ([], {})


def test_nodes_that_cuda_would_make_at_its_first_call_are_there_before_a_server_starts(
    program: Any, node: SimulatedGpus, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device that is missing as the unit starts, systemd leaves out, and the server may not make it."""
    act(program, node)
    assert "nvidia-modprobe -u -c 0" in node.told
    unified = node.root / "dev/nvidia-uvm"
    assert unified.exists()
    unified.unlink()
    assert act(program, node, "check") == 1
    assert f"{unified} is missing" in capsys.readouterr().out
    node.refuses = "-u"
    assert act(program, node) == 2
    assert handed(node) == {}


def test_another_layout_destroys_compute_instances_before_gpu_instances(
    program: Any, node: SimulatedGpus
) -> None:
    act(program, node)
    node.told.clear()
    seven = tuple(Cut("1g.10gb", start) for start in range(7))
    install(node.root, replace(PARTITION, layout=(seven, ()), teams=()).for_roles())
    assert act(program, node) == 0
    wanted = ",".join(f"1g.10gb:{start}" for start in range(7))
    assert [each for each in node.told if each.startswith("nvidia-smi")] == [
        "nvidia-smi mig -i 0 -dci",
        "nvidia-smi mig -i 0 -dgi",
        f"nvidia-smi mig -i 0 -cgi {wanted} -C",
    ]
    assert handed(node) == {}, "teams that are gone have nothing"


def test_without_slices_gpu_instances_that_are_not_there_are_no_fault(
    program: Any, node: SimulatedGpus
) -> None:
    node.gpus[0] = Gpu(mig=True, pending=True)
    assert act(program, node) == 0


def test_clear_makes_every_gpu_whole(program: Any, node: SimulatedGpus) -> None:
    act(program, node)
    node.active = ["appliance-inference-one.service", "nvidia-dcgm.service"]
    node.told.clear()
    assert act(program, node, "clear") == 0
    assert [gpu.mig for gpu in node.gpus] == [False, False]
    assert handed(node) == {}
    assert node.told[0] == "systemctl stop -- appliance-inference-one.service nvidia-dcgm.service"
    assert node.active == ["nvidia-dcgm.service"], "a server's start is another role's"


def test_clear_leaves_everything_to_somebody_elses_process(program: Any, node: SimulatedGpus) -> None:
    act(program, node)
    before = handed(node)
    stranger(node, 72, "user.slice/user-0.slice/session-1.scope")
    node.gpus[0].used, node.active = [72], ["appliance-inference-one.service"]
    assert act(program, node, "clear") == 2
    assert (node.gpus[0].mig, handed(node)) == (True, before)
    assert node.active == ["appliance-inference-one.service"]


def test_fewer_slices_than_asked_for_are_no_success(
    program: Any, node: SimulatedGpus, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever nvidia-smi ended with: what there is, is read again."""
    node.creates = 1
    assert act(program, node) == 2
    assert "not as wanted after cutting: GPU 0: found 3g.40gb, wanted 3g.40gb, 3g.40gb" in (
        capsys.readouterr().err
    )
    assert handed(node) == {}


def test_a_gpu_is_known_by_its_number_and_its_nodes_by_the_drivers_own(
    program: Any, node: SimulatedGpus
) -> None:
    """nvidia-smi counts by PCI address, the driver's nodes as they were found: they need not agree."""
    node.turned = True
    assert act(program, node) == 0
    assert [gpu.mig for gpu in node.gpus] == [True, False]
    assert handed(node)["whole"] == f"CUDA_VISIBLE_DEVICES={gpu_uuid(1)}\n"
    assert drop_in(node, "whole")[-1] == "DeviceAllow=/dev/nvidia0 rw"
    numbers = (node.root / "proc/driver/nvidia-caps/mig-minors").read_text().split("\n")
    own = [line.split()[1] for line in numbers if line.startswith(("gpu1/gi1/access", "gpu1/gi1/ci0/"))]
    assert drop_in(node, "one")[-3:] == [
        "DeviceAllow=/dev/nvidia1 rw",
        *(f"DeviceAllow=/dev/nvidia-caps/nvidia-cap{number} r" for number in own),
    ]


def test_a_server_between_two_tries_is_stopped_too(program: Any, node: SimulatedGpus) -> None:
    node.starting = ["appliance-inference-one.service"]
    assert act(program, node) == 0
    assert node.told[0] == "systemctl stop -- appliance-inference-one.service"


def test_cuda_is_called_with_each_teams_own_variables(
    program: Any, node: SimulatedGpus, capsys: pytest.CaptureFixture[str]
) -> None:
    act(program, node)
    assert act(program, node, "prove") == 0
    variables = [each.split()[1] for each in node.told if each.startswith("/usr/bin/env")]
    assert [f"{each}\n" for each in variables] == [handed(node)[team.name] for team in PARTITION.teams]
    node.cuda = "0\n"
    assert act(program, node, "prove") == 2
    assert "one: CUDA finds 0 devices by CUDA_VISIBLE_DEVICES=MIG-" in capsys.readouterr().err


def test_more_gpus_than_the_inventory_counts_are_named(
    program: Any, node: SimulatedGpus, capsys: pytest.CaptureFixture[str]
) -> None:
    node.gpus.append(Gpu())
    assert act(program, node, "check") == 2
    assert "found 3 GPUs, wanted 2: the inventory's count" in capsys.readouterr().err


def test_a_layout_that_was_edited_on_the_node_is_refused(
    program: Any, node: SimulatedGpus, capsys: pytest.CaptureFixture[str]
) -> None:
    path = node.root / "etc/appliance/gpu/mig-parted.yaml"
    path.write_text(path.read_text().replace('"3g.40gb": 2', '"3g.40gb": 1'))
    assert act(program, node) == 2
    assert "the layout was changed on the node" in capsys.readouterr().err
    path.write_text("version: v1\n")
    assert act(program, node) == 2
    path.unlink()
    assert act(program, node) == 2
    assert "install again" in capsys.readouterr().err


def test_what_is_asked_for_is_a_command(program: Any, node: SimulatedGpus) -> None:
    assert act(program, node, "status") == 2


def test_a_program_that_fails_or_is_missing_says_so(program: Any, rules: Any) -> None:
    assert program.run("sh", "-c", "echo out; exit 6", allowed=(0, 6)) == "out\n"
    assert program.run("sh", "-c", 'echo "$LC_ALL"') == "C.UTF-8\n", "whatever the node's language is"
    with pytest.raises(rules.Trouble, match="ended with 3: why"):
        program.run("sh", "-c", "echo why; exit 3")
    with pytest.raises(rules.Trouble, match="is not on the node"):
        program.run("/nowhere/nvidia-smi")
