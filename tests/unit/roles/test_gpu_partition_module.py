"""The module of the role gpu_partition: files, units, and when it must not say that GPUs are cut."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

ROLE = Path(__file__).parents[3] / "roles/gpu_partition"
UNIT, VENDOR = "appliance-gpu-partition.service", "nvidia-mig-manager.service"


@pytest.fixture(scope="module")
def module(role_module: Callable[[str], Any]) -> Any:
    return role_module("gpu_partition/library/gpu_partition.py")


class Node:
    """systemd and the program, as simulated; ``told`` is what changes something."""

    def __init__(self) -> None:
        self.units = {UNIT: "LoadState=loaded\nUnitFileState=disabled\nActiveState=inactive\n"}
        self.checks = [(1, "GPU 0: found whole, wanted 3g.40gb\n"), (0, "")]
        self.starts = self.proves = 0
        self.told: list[str] = []

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        *_, last = command
        if command[:2] == ("systemctl", "show"):
            return self._end(0, self.units.get(last, "LoadState=not-found\n"))
        if last == "check":
            return self._end(*(self.checks.pop(0) if len(self.checks) > 1 else self.checks[0]))
        if command[0] == "journalctl":
            return self._end(0, "GPU 0: MIG mode waits\n")
        self.told.append(" ".join(command).replace("/usr/bin/python3 -I -B ", ""))
        if command[1] == "restart":
            return self._end(self.starts, "")
        return self._end(self.proves if last == "prove" else 0, "")

    @staticmethod
    def _end(status: int, said: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], status, said, said)


@pytest.fixture
def node(module: Any, monkeypatch: pytest.MonkeyPatch) -> Node:
    found = Node()
    monkeypatch.setattr(module, "run", found.run)
    return found


def options(folder: Path) -> dict[str, Any]:
    files = [{"path": str(folder / "lib/program.py"), "text": "new\n"}]
    return {"unit": UNIT, "program": files[0]["path"], "vendor_unit": VENDOR, "files": files}


def test_a_fresh_node_is_cut_and_asked_again(module: Any, node: Node, tmp_path: Path) -> None:
    changes = module.present(options(tmp_path), check_mode=False)
    program = tmp_path / "lib/program.py"
    assert program.read_text() == "new\n"
    assert changes == [
        f"write {program}",
        f"enable {UNIT}",
        "GPU 0: found whole, wanted 3g.40gb",
        f"restart {UNIT}",
    ]
    assert node.told == [
        "systemctl daemon-reload",
        f"systemctl enable -- {UNIT}",
        f"systemctl restart -- {UNIT}",
        f"{program} prove",
    ]


def test_a_second_run_changes_nothing_and_proves_again(module: Any, node: Node, tmp_path: Path) -> None:
    module.present(options(tmp_path), check_mode=False)
    node.units[UNIT] = "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\n"
    node.told.clear()
    assert module.present(options(tmp_path), check_mode=False) == []
    assert node.told == [f"{tmp_path / 'lib/program.py'} prove"]


def test_check_mode_on_a_clean_node_writes_nothing(module: Any, node: Node, tmp_path: Path) -> None:
    changes = module.present(options(tmp_path), check_mode=True)
    assert changes[-1] == f"restart {UNIT}"
    assert (node.told, list(tmp_path.iterdir())) == ([], [])


def test_the_vendors_unit_is_kept_off(module: Any, node: Node, tmp_path: Path) -> None:
    """At first it would make every GPU whole (MIG_PARTED_SELECTED_CONFIG=all-disabled), at every start."""
    node.units[VENDOR] = "LoadState=loaded\nUnitFileState=enabled\n"
    assert f"mask {VENDOR}" in module.present(options(tmp_path), check_mode=False)
    assert f"systemctl mask --now -- {VENDOR}" in node.told


def test_what_is_refused_is_refused_before_a_server_is_stopped(
    module: Any, node: Node, tmp_path: Path
) -> None:
    node.checks = [(2, "process 72 uses GPU 0: end it; nothing was changed\n")]
    with pytest.raises(module.Refused, match="process 72 uses GPU 0"):
        module.present(options(tmp_path), check_mode=False)
    assert not [each for each in node.told if "restart" in each]


def test_a_unit_that_fails_or_changes_nothing_or_cuda_that_finds_nothing_is_no_success(
    module: Any, node: Node, tmp_path: Path
) -> None:
    node.starts = 1
    with pytest.raises(module.Refused, match="no server runs: GPU 0: MIG mode waits"):
        module.present(options(tmp_path), check_mode=False)
    node.starts, node.checks = 0, [(1, "GPU 0: found whole\n")]
    with pytest.raises(module.Refused, match="ended well, and still: GPU 0: found whole"):
        module.present(options(tmp_path), check_mode=False)
    node.checks, node.proves = [(0, "")], 2
    with pytest.raises(module.Refused):
        module.present(options(tmp_path), check_mode=False)


def test_a_program_that_breaks_off_has_not_said_that_nothing_differs(
    module: Any, node: Node, tmp_path: Path
) -> None:
    """Python ends with 1 for whatever was not thought of: the status that says "something differs"."""
    node.checks = [(1, "")]
    node.units[UNIT] = "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\n"
    with pytest.raises(module.Refused, match="check ended with 1"):
        module.present(options(tmp_path), check_mode=False)


def test_where_nothing_is_divided_any_more_gpus_are_made_whole(
    module: Any, node: Node, tmp_path: Path
) -> None:
    assert module.absent(options(tmp_path), check_mode=False) == []
    assert node.told == [], "nothing was ever cut here"
    module.present(options(tmp_path), check_mode=False)
    node.told.clear()
    program = tmp_path / "lib/program.py"
    assert module.absent(options(tmp_path), check_mode=True) == ["make all GPUs whole", f"remove {program}"]
    assert (node.told, program.exists()) == ([], True)
    module.absent(options(tmp_path), check_mode=False)
    assert node.told == [
        f"{program} clear",
        f"systemctl disable --now -- {UNIT}",
        "systemctl daemon-reload",
    ]
    assert not program.exists()


def rendered() -> str:
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    teams = [{"unit": "appliance-inference-one.service"}]
    loader = jinja2.FileSystemLoader(ROLE / "templates")
    surroundings = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined)  # noqa: S701 - no HTML
    return surroundings.get_template(f"etc/systemd/system/{UNIT}.j2").render(
        gpu_partition_clients=variables["gpu_partition_clients"],
        gpu_partition_settings={"teams": teams},
        gpu_partition_program="/usr/bin/true",
        gpu_partition_stamp="5eed",
    )


def test_the_unit_comes_after_the_driver_and_before_everybody_who_uses_gpus(tmp_path: Path) -> None:
    text = rendered()
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] != "#")
    assert "nvidia-persistenced.service" in lines["After"]
    assert {"appliance-inference-one.service", "nvidia-dcgm.service"} <= {*lines["Before"].split()}
    assert lines["WantedBy"] == "multi-user.target"
    (tmp_path / UNIT).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_program_and_role_know_the_same_clients() -> None:
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    text = (ROLE / "files/usr/local/lib/appliance/gpu_partition.py").read_text()
    assert all(f'"{client}"' in text for client in variables["gpu_partition_clients"])
    assert "/nvidia-mig-manager/" not in variables["gpu_partition_layout_path"], (
        "that one the vendor writes"
    )


def test_servers_that_nobody_asks_for_are_told_from_others(role_module: Callable[[str], Any]) -> None:
    servers = role_module("inference_server/library/other_servers.py")
    one, two, shared = (f"appliance-inference{each}.service" for each in ("-one", "-two", ""))
    names = [
        one,
        two,
        shared,
        "appliance-inference-one.socket",
        "appliance-inferences.service",
        "ssh.service",
    ]
    assert servers.others(names, [one]) == [two, shared]
    assert servers.others(names, [one, two, shared]) == []
