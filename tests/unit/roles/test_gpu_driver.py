"""The role gpu_driver: what it does to bring GPUs up, in order, and when it must not say that it did."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from appliance.hardware.driver_packages import is_dkms, prebuilt_for
from appliance.hardware.pci import NVSWITCHES

if TYPE_CHECKING:
    from collections.abc import Callable

ROLE = Path(__file__).parents[3] / "roles/gpu_driver"
KERNEL = "6.12.118+deb13-amd64"
PERSISTENCE, MANAGER = "nvidia-persistenced.service", "nvidia-fabricmanager.service"
UNITS = {"persistence": PERSISTENCE, "manager": MANAGER, "to_come": False}
GPU = {"vendor": "0x10de", "device": "0x2330", "class": "0x030200"}
SWITCH = {"vendor": "0x10de", "device": "0x22a3", "class": "0x068000"}
HEALTHY = (
    "00000000:53:00.0, Enabled, Enabled, 0, Disabled\n00000000:64:00.0, Enabled, Enabled, 0, Disabled\n"
)
MODES = "GPU-0, Disabled\nGPU-1, Disabled\n"
WHOLE = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n"
ROWS = "00000000:53:00.0, No, No\n00000000:64:00.0, No, No\n"


@pytest.fixture(scope="module")
def module(role_module: Callable[[str], Any]) -> Any:
    return role_module("gpu_driver/library/nvidia_driver.py")


@pytest.fixture(scope="module")
def rules(module: Any) -> Any:
    return sys.modules[module.count_devices.__module__]


@pytest.fixture
def ready(rules: Any) -> Any:
    """Two GPUs, the driver loaded, everything on."""
    return rules.Node(
        2,
        0,
        KERNEL,
        KERNEL,
        {"nvidia": 3, "nvidia_uvm": 1},
        {PERSISTENCE: ("enabled", "active")},
    )


def steps(rules: Any, node: Any) -> list[str]:
    found = [*rules.modules_to_change(node), *rules.units_to_change(node, PERSISTENCE, MANAGER)]
    return [str(step) for step in found]


# --- decisions ---------------------------------------------------------------------------------


def test_devices_are_counted_by_vendor_class_and_number(rules: Any) -> None:
    audio = {**GPU, "class": "0x040300"}
    other = {**SWITCH, "device": "0x2342"}
    foreign = {**GPU, "vendor": "0x1002"}
    assert rules.count_devices([GPU, GPU, SWITCH, audio, other, foreign]) == (2, 1)
    assert {int(number, 16) for number in rules.SWITCHES} == set(NVSWITCHES), "as preflight knows them"


def test_a_node_in_order_is_left_alone(rules: Any, ready: Any) -> None:
    assert steps(rules, ready) == []


def test_a_fresh_node_gets_the_driver_and_persistence(rules: Any, ready: Any) -> None:
    fresh = replace(ready, loaded={}, units={PERSISTENCE: ("disabled", "inactive")})
    assert steps(rules, fresh) == ["load nvidia", "load nvidia_uvm", f"enable {PERSISTENCE}"]


def test_idle_nouveau_goes_first_and_one_in_use_asks_for_a_restart(rules: Any, ready: Any) -> None:
    assert steps(rules, replace(ready, loaded={"nouveau": 0}))[0] == "unload nouveau"
    with pytest.raises(rules.InTheWay, match="restart"):
        steps(rules, replace(ready, loaded={"nouveau": 1}))


def test_a_module_that_is_missing_or_for_another_kernel_is_named(rules: Any, ready: Any) -> None:
    with pytest.raises(rules.InTheWay, match=r"no module nvidia for kernel .*make\.log"):
        steps(rules, replace(ready, loaded={}, module_release=""))
    with pytest.raises(rules.InTheWay, match=r"for kernel 6\.1\.0-40-amd64, and 6\.12\.118"):
        steps(rules, replace(ready, loaded={}, module_release="6.1.0-40-amd64"))


@pytest.mark.parametrize(
    ("unit", "on"),
    [
        (("enabled", "active"), True),
        (("static", "active"), True),
        (("enabled", "inactive"), False),
        (("enabled", "failed"), False),
        (("masked", "inactive"), False),
        (("disabled", "active"), False),
    ],
)
def test_persistence_is_on_now_and_at_the_next_start(
    rules: Any, ready: Any, unit: tuple[str, str], *, on: bool
) -> None:
    found = steps(rules, replace(ready, units={PERSISTENCE: unit}))
    assert found == ([] if on else [f"enable {PERSISTENCE}"])


def with_manager(node: Any, state: tuple[str, str], switches: int) -> Any:
    return replace(node, switches=switches, units={**node.units, MANAGER: state})


def test_fabric_manager_runs_where_there_are_switches_whatever_the_number_of_gpus(
    rules: Any, ready: Any
) -> None:
    assert steps(rules, with_manager(ready, ("enabled", "active"), 4)) == []
    assert steps(rules, with_manager(ready, ("disabled", "inactive"), 4)) == [f"enable {MANAGER}"]
    with pytest.raises(rules.InTheWay, match="error 802"):
        steps(rules, replace(ready, switches=4))
    eight = replace(ready, gpus=8)
    assert steps(rules, with_manager(eight, ("disabled", "inactive"), 0)) == []
    for state in (("enabled", "inactive"), ("enabled", "failed"), ("disabled", "active")):
        assert steps(rules, with_manager(eight, state, 0)) == [f"disable {MANAGER}"]


def test_a_node_without_gpus_is_left_alone(rules: Any) -> None:
    assert steps(rules, rules.Node(0, 0, KERNEL, "", {"nouveau": 5})) == []


def test_the_playbook_knows_the_drivers_that_the_builder_knows() -> None:
    pattern = yaml.safe_load((ROLE / "vars/main.yml").read_text())["gpu_driver_pattern"]
    for name in (
        "nvidia-open-kernel-dkms",
        "nvidia-kernel-dkms",
        "nvidia-tesla-535-kernel-dkms",
        "nvidia-tesla-kernel-dkms",
        "nvidia-dkms-580-server-open",
        "nvidia-kernel-open-dkms",
        "linux-modules-nvidia-580-server-open-6.8.0-60-generic",
    ):
        assert re.match(pattern, name)
        assert is_dkms(name) or prebuilt_for(name)
    for name in (
        "nvidia-smi",
        "nvidia-tesla-535-smi",
        "nvidia-persistenced",
        "linux-modules-6.8.0-60-generic",
    ):
        assert not re.match(pattern, name)


# --- what is done ------------------------------------------------------------------------------


@pytest.fixture
def told(module: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the node's programs were told; they answer as on a node with two GPUs in order."""
    asked: list[tuple[str, ...]] = []

    def run(*command: str) -> str:
        asked.append(command)
        if command == module.MEMORY:
            return HEALTHY
        if command == module.ROWS:
            return ROWS
        if command == module.MODES:
            return MODES
        return "2\n" if command[0] == "/usr/bin/env" else ""

    monkeypatch.setattr(module, "run", run)
    return asked


def have(module: Any, monkeypatch: pytest.MonkeyPatch, node: Any) -> None:
    monkeypatch.setattr(module, "look", lambda *_: node)


def test_everything_is_done_in_order_and_then_proven(
    module: Any, ready: Any, told: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    have(module, monkeypatch, replace(ready, loaded={"nouveau": 0}, units={PERSISTENCE: ("disabled", "x")}))
    done = module.bring_about(UNITS, check=False)
    assert done["changed"] is True
    assert told[:6] == [
        ("modprobe", "--remove", "nouveau"),
        ("modprobe", "nvidia"),
        ("modprobe", "nvidia_uvm"),
        ("systemctl", "unmask", "--", PERSISTENCE),
        ("systemctl", "enable", "--now", "--", PERSISTENCE),
        module.MEMORY,
    ]
    assert told[-1][:2] == ("/usr/bin/env", "/usr/bin/python3")


def test_a_service_that_is_not_loaded_any_more_has_nothing_to_forget(
    module: Any, rules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    refused = "reset-failed"

    def run(*command: str) -> str:
        asked.append(command)
        if command[1] == refused:
            raise rules.InTheWay(f"systemctl {refused} ended with 1: Unit {MANAGER} not loaded.")
        return ""

    monkeypatch.setattr(module, "run", run)
    module.take(rules.Step("disable", MANAGER))
    assert asked == [
        ("systemctl", "disable", "--now", "--", MANAGER),
        ("systemctl", "reset-failed", "--", MANAGER),
    ]
    refused = "disable"
    with pytest.raises(rules.InTheWay, match="disable ended with 1"):
        module.take(rules.Step("disable", MANAGER))


def test_a_second_run_changes_nothing_and_proves_again(
    module: Any, ready: Any, told: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    have(module, monkeypatch, ready)
    assert module.bring_about(UNITS, check=False)["changed"] is False
    assert [command[0] for command in told] == [*["nvidia-smi"] * 4, "/usr/bin/env"]


def test_check_tells_and_touches_nothing(
    module: Any, ready: Any, told: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    have(module, monkeypatch, replace(ready, loaded={}))
    assert module.bring_about(UNITS, check=True)["changes"] == ["load nvidia", "load nvidia_uvm"]
    have(module, monkeypatch, replace(ready, loaded={}, module_release=""))
    to_come = {**UNITS, "to_come": True}
    assert module.bring_about(to_come, check=True)["changes"] == ["load nvidia"]
    assert told == []


def test_what_is_to_come_does_not_excuse_a_module_that_is_missing_after_the_installation(
    module: Any, rules: Any, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(module, monkeypatch, replace(ready, loaded={}, module_release=""))
    with pytest.raises(rules.InTheWay, match="dkms has built none"):
        module.bring_about({**UNITS, "to_come": True}, check=False)


def test_without_gpus_nothing_is_asked(
    module: Any, rules: Any, told: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    have(module, monkeypatch, rules.Node(0, 0, KERNEL, "", {}))
    assert module.bring_about(UNITS, check=False) == {
        "changed": False,
        "changes": [],
        "gpus": 0,
        "switches": 0,
    }
    assert told == []


def test_missing_fabric_manager_is_found_before_a_module_is_touched(
    module: Any, rules: Any, ready: Any, told: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    have(module, monkeypatch, replace(ready, loaded={}, switches=4))
    with pytest.raises(rules.InTheWay):
        module.bring_about(UNITS, check=False)
    assert told == []


@pytest.mark.parametrize("secure", [True, False])
def test_a_refused_module_under_secure_boot_needs_the_console(
    module: Any, rules: Any, ready: Any, monkeypatch: pytest.MonkeyPatch, *, secure: bool
) -> None:
    def run(*command: str) -> str:
        raise rules.InTheWay(f"{command[0]} ended with 1: Key was rejected by service")

    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module, "secure_boot", lambda: secure)
    have(module, monkeypatch, replace(ready, loaded={}))
    with pytest.raises(rules.InTheWay, match="Key was rejected") as caught:
        module.bring_about(UNITS, check=False)
    assert ("needs the console" in str(caught.value)) is secure


def test_cuda_has_the_last_word(
    module: Any, rules: Any, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {module.MEMORY: HEALTHY, module.ROWS: ROWS, module.MODES: MODES, ("nvidia-smi", "-L"): WHOLE}
    monkeypatch.setattr(module, "run", lambda *command: answers.get(command, "1\n"))
    have(module, monkeypatch, ready)
    with pytest.raises(rules.InTheWay, match="CUDA finds 1 GPUs, and 2 are on the PCI bus"):
        module.bring_about(UNITS, check=False)
    answers[module.MEMORY] = HEALTHY.replace("Enabled, 0", "Enabled, 7", 1)
    with pytest.raises(rules.InTheWay, match="7 memory errors"):
        module.bring_about(UNITS, check=False)


# --- this machine ------------------------------------------------------------------------------


def test_a_program_that_fails_hangs_or_is_missing_says_so(
    module: Any, rules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.run("sh", "-c", "echo out") == "out\n"
    with pytest.raises(rules.InTheWay, match="ended with 3: why"):
        module.run("sh", "-c", "echo why >&2; exit 3")
    with pytest.raises(rules.InTheWay, match="is not on the node"):
        module.run("/nowhere/nvidia-smi")
    monkeypatch.setattr(module, "SECONDS", 0.05)
    with pytest.raises(rules.InTheWay, match="does not end"):
        module.run("sleep", "5")


def test_the_call_of_cuda_runs_on_a_bare_python_and_fails_without_a_driver(module: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", module.COUNT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "libcuda.so.1" in done.stderr


@pytest.mark.parametrize(
    "present", ["nvidia", "nvidia-current", "nvidia-current-open", "nvidia-tesla-535", "none"]
)
def test_debians_names_of_the_module_count_too(
    module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: str
) -> None:
    program = tmp_path / "modinfo"
    program.write_text(
        f'#!/bin/sh\n[ "$3" = {present} ] && echo "{KERNEL} SMP preempt mod_unload modversions "\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.module_release() == ("" if present == "none" else KERNEL)


def test_this_machine_is_looked_at(module: Any, tmp_path: Path) -> None:
    found = module.devices()
    assert all(set(each) == {"vendor", "device", "class"} for each in found)
    (tmp_path / "0000:53:00.0").mkdir()
    for name, value in GPU.items():
        (tmp_path / "0000:53:00.0" / name).write_text(f"{value}\n")
    assert module.devices(tmp_path) == [GPU]
