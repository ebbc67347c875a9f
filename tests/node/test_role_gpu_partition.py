"""The role ``gpu_partition`` and servers of teams on a real node, whose one GPU is simulated.

systemd, units, drop-ins, users and servers are real; what `nvidia-smi` says is not
(simulated_nvidia_smi.py).  There is no libcuda, so the last step of the role, a call of CUDA, has to fail:
and that is tested too.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from appliance.definition.partition import Cut, Partition, Team
from tests.node.test_role_inference_server import (
    SENTENCE,
    STAGED,
    Subject,
    bundle,
    changes,
)

__all__ = ["bundle"]

pytestmark = [pytest.mark.node, pytest.mark.archive]

HERE = Path(__file__).parent
TEAMS = (Team("one", 8001, (0,), "3g.40gb"), Team("two", 8002, (0,), "3g.40gb"))
PARTITION = Partition("h100-sxm", ((Cut("3g.40gb", 0), Cut("3g.40gb", 4)),), TEAMS)
CUTS = "appliance-gpu-partition.service"
INSTANCES = [{"name": team.name, "port": team.port} for team in TEAMS]


class Divided(Subject):
    """A node whose GPU is divided."""

    def cut(self, *, check: bool = False) -> dict[str, Any]:
        """Run the role gpu_partition."""
        return self.play("gpu_partition", {"gpu_partition_gpus": PARTITION.for_roles()}, check=check)

    def handed(self) -> list[str]:
        """What the teams' servers were started with."""
        found = []
        for team in TEAMS:
            pid = self.node.run(f"systemctl show --property MainPID --value {team.unit}").stdout.strip()
            variables = self.node.run(f"tr '\\0' '\\n' < /proc/{pid}/environ").stdout.splitlines()
            found += [line for line in variables if line.startswith("CUDA_VISIBLE_DEVICES=")]
        return found


@pytest.fixture(scope="module")
def node(fresh_lab: Any, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Divided:
    """Staged, with the simulated program and one server that all share."""
    found = Divided(fresh_lab, tmp_path_factory.mktemp("run"), bundle)
    root = Path(f"/proc/{found.node.leader}/root")
    shutil.copytree(bundle / "payload", root / STAGED.lstrip("/"))
    shutil.copy(HERE / "simulated_nvidia_smi.py", root / "usr/local/bin/nvidia-smi")
    (root / "usr/local/bin/nvidia-smi").chmod(0o755)
    found.node.run(f"dpkg --install {STAGED}/system/gcc-*-base_*.deb {STAGED}/system/libgomp1_*.deb")
    changes(found.apply())
    found.results["rehearsal"] = found.cut(check=True)
    found.results["untouched"] = found.node.run(f"systemctl is-enabled {CUTS}", check=False).returncode != 0
    found.results["cut"] = found.cut()
    found.results["served"] = found.apply(inference_server_instances=INSTANCES)
    return found


def test_a_rehearsal_says_what_it_would_do_and_does_nothing(node: Divided) -> None:
    assert len(changes(node.results["rehearsal"])) == 1
    assert node.results["untouched"]


def test_nvidia_smi_looks_healthy_and_the_role_fails_all_the_same_without_cuda(node: Divided) -> None:
    (trouble,) = node.results["cut"]["troubles"]
    assert "libcuda.so.1" in trouble["message"]
    assert node.node.run(f"systemctl is-active {CUTS}").stdout.strip() == "active"
    listed = node.node.run("nvidia-smi -L").stdout
    assert listed.count("MIG 3g.40gb") == 2


def test_each_team_is_answered_on_its_own_port_by_its_own_user_on_its_own_slice(node: Divided) -> None:
    changes(node.results["served"])
    assert [node.answer(team.port)["whole"] for team in TEAMS] == [SENTENCE] * 2
    assert len(set(node.handed())) == 2
    for team in TEAMS:
        pid = node.node.run(f"systemctl show --property MainPID --value {team.unit}").stdout.strip()
        assert node.node.run(f"stat -c %U /proc/{pid}").stdout.strip() == team.unit.removesuffix(".service")
        allowed = node.node.run(f"systemctl show --property DeviceAllow --value {team.unit}").stdout.split()
        assert "/dev/nvidia0" in allowed
        assert len([each for each in allowed if each.startswith("/dev/nvidia-caps/")]) == 2
        assert not [each for each in allowed if each.startswith("char-nvidia")]
    assert node.node.run("systemctl cat appliance-inference.service", check=False).returncode != 0
    assert node.node.run("ss -Hltn 'sport = :8000'").stdout == "", "the shared server is gone"


def test_a_second_run_changes_nothing(node: Divided) -> None:
    assert node.cut()["changes"] == []
    assert changes(node.apply(inference_server_instances=INSTANCES)) == []


def test_after_a_restart_the_slices_are_made_anew_and_every_server_has_the_new_ones(node: Divided) -> None:
    before = node.handed()
    node.node.reboot()
    node.node.run("systemctl is-system-running --wait", check=False)
    assert [node.answer(team.port)["whole"] for team in TEAMS] == [SENTENCE] * 2
    after = node.handed()
    assert len(set(after)) == 2
    assert not set(after) & set(before)


def test_a_layout_that_cannot_be_had_leaves_no_server_running(node: Divided) -> None:
    node.node.run("mv /usr/local/bin/nvidia-smi /root/")
    assert node.node.run(f"systemctl restart {CUTS}", check=False).returncode != 0
    states = node.node.run(
        f"systemctl is-active {' '.join(team.unit for team in TEAMS)}", check=False
    ).stdout
    assert "active" not in states.split()
    assert node.node.run("ls /run/appliance-gpu").stdout == ""
    node.node.run("mv /root/nvidia-smi /usr/local/bin/")
