#!/usr/bin/python
"""Have NVIDIA's driver drive the GPUs, and refuse to call a GPU ready that is not."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.appliance_gpu import (
    CONSOLE,
    InTheWay,
    Node,
    Step,
    ailments,
    count_devices,
    cuda_devices,
    is_cut,
    modules_to_change,
    units_to_change,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: nvidia_driver
short_description: Load NVIDIA's driver, run its services, and prove that CUDA finds every GPU
description:
  - Unloads nouveau where nobody uses it, loads the driver, enables persistence, and Fabric Manager where
    there are NVSwitches and only there.
  - Fails where a GPU cannot compute, with what to do. What needs the console is never called done.
  - Does nothing on a node without NVIDIA's GPUs.
options:
  persistence:
    description: The unit that keeps the driver loaded.
    type: str
    required: true
  manager:
    description: The unit of Fabric Manager.
    type: str
    required: true
  to_come:
    description: Whether the driver's packages may be still to be installed; lets check mode go on.
    type: bool
    default: false
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Have the GPUs compute
  nvidia_driver:
    persistence: nvidia-persistenced.service
    manager: nvidia-fabricmanager.service
"""

RETURN = r"""
changes:
  description: What was done, one line each.
  returned: always
  type: list
  elements: str
gpus:
  description: How many GPUs were found on the PCI bus.
  returned: always
  type: int
switches:
  description: How many NVSwitches were found.
  returned: always
  type: int
"""

SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
MEMORY = (
    "nvidia-smi",
    (
        "--query-gpu=pci.bus_id,ecc.mode.current,ecc.mode.pending,ecc.errors.uncorrected.volatile.total,"
        "mig.mode.current"
    ),
    "--format=csv,noheader,nounits",
)
ROWS = (
    "nvidia-smi",
    "--query-remapped-rows=gpu_bus_id,remapped_rows.pending,remapped_rows.failure",
    "--format=csv,noheader,nounits",
)
REPORT = ("nvidia-smi", "-q", "-x")
MODES = ("nvidia-smi", "--query-gpu=uuid,mig.mode.current", "--format=csv,noheader,nounits")
#: A process of its own: what cuInit takes is given back, and one that hangs can be ended.
COUNT = (
    "import ctypes,sys\n"
    "cuda=ctypes.CDLL('libcuda.so.1'); number=ctypes.c_int(); fault=cuda.cuInit(0)\n"
    "fault=fault or cuda.cuDeviceGetCount(ctypes.byref(number))\n"
    "sys.exit(f'CUDA error {fault}') if fault else print(number.value)\n"
)
#: The module's file: NVIDIA's name for it, and Debian's, one of which /etc/modprobe.d leads to.
MODULES = ("nvidia", "nvidia-current", "nvidia-current-open", "nvidia-tesla-535")
SECONDS = 300


def run(*command: str) -> str:
    """Standard output; InTheWay with what the program wrote when it fails."""
    shown = " ".join(command[:2]) if command[0] != "/usr/bin/env" else "a call of CUDA"
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError as fault:
        raise InTheWay(f"{command[0]} is not on the node: name its package in the definition") from fault
    except subprocess.TimeoutExpired as fault:
        raise InTheWay(f"{shown} does not end within {SECONDS} s: look into journalctl -k") from fault
    if done.returncode:
        raise InTheWay(f"{shown} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def devices(root: Path = Path("/sys/bus/pci/devices")) -> list[dict[str, str]]:
    """Vendor, device and class of each PCI device."""
    return [
        {name: (path / name).read_text("ascii").strip() for name in ("vendor", "device", "class")}
        for path in sorted(root.glob("*"))
    ]


def unit_states(*names: str) -> dict[str, tuple[str, str]]:
    """State of the file and of the unit, of those that there are."""
    shown = run("systemctl", "show", "--property=Id,LoadState,UnitFileState,ActiveState", *names)
    found = {}
    for block in shown.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if fields.get("LoadState") not in {None, "not-found"}:
            found[fields["Id"]] = (fields.get("UnitFileState", ""), fields.get("ActiveState", ""))
    return found


def look(persistence: str, manager: str) -> Node:
    """What there is."""
    gpus, switches = count_devices(devices())
    if not gpus:
        return Node(0, 0, platform.release(), "", {})
    modules = Path("/proc/modules")
    rows = [line.split() for line in modules.read_text("utf-8").splitlines()] if modules.exists() else []
    return Node(
        gpus,
        switches,
        platform.release(),
        module_release(),
        {row[0]: int(row[2]) for row in rows},
        unit_states(persistence, manager),
    )


def module_release() -> str:
    """The kernel that the module on the disk is for; empty where there is none."""
    for name in MODULES:
        command = ["modinfo", "--field", "vermagic", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.partition(" ")[0].strip()
    return ""


def secure_boot() -> bool:
    """Whether the kernel may refuse a module for its signature."""
    try:
        return SECURE_BOOT.read_bytes()[4:] == b"\x01"
    except OSError:
        return False


def take(step: Step) -> None:
    """Do one thing; a module that the kernel refuses under secure boot is a matter for the console."""
    if step.verb == "unload":
        run("modprobe", "--remove", step.word)
    elif step.verb == "load":
        try:
            run("modprobe", step.word)
        except InTheWay as fault:
            raise InTheWay(f"{CONSOLE} ({fault})" if secure_boot() else str(fault)) from fault
    elif step.verb == "enable":
        run("systemctl", "unmask", "--", step.word)
        run("systemctl", "enable", "--now", "--", step.word)
    else:
        run("systemctl", "disable", "--now", "--", step.word)
        # A unit that failed must not be told as failing for ever; one that is not loaded any more, now that
        # it is disabled, has nothing to forget, and systemctl then fails.
        with suppress(InTheWay):
            run("systemctl", "reset-failed", "--", step.word)


def cuda(part: str | None = None) -> str:
    """How many devices CUDA finds, of all or in this part of a GPU."""
    visible = [f"CUDA_VISIBLE_DEVICES={part}"] if part else []
    return run("/usr/bin/env", *visible, "/usr/bin/python3", "-I", "-c", COUNT).strip()


def prove(gpus: int) -> None:
    """Refuse GPUs that are ailing, and those that CUDA does not find: nvidia-smi alone can look healthy.

    Raises:
        InTheWay: with every GPU that is not in order.
    """
    memory = run(*MEMORY)
    found = ailments(memory, run(*ROWS), run(*REPORT) if is_cut(memory) else "")
    if found:
        raise InTheWay("; ".join(found))
    parts = cuda_devices(run("nvidia-smi", "-L"), run(*MODES))
    for part in parts or ():
        if (counted := cuda(part)) != "1":
            raise InTheWay(f"CUDA finds {counted} devices in {part}, and not 1: look into journalctl -k")
    if parts is not None:
        return
    counted = cuda()
    if counted != str(gpus):
        raise InTheWay(f"CUDA finds {counted} GPUs, and {gpus} are on the PCI bus: look into journalctl -k")


def bring_about(parameters: dict[str, Any], check: bool) -> dict[str, Any]:
    """Compare and change; the module's result."""
    persistence, manager = parameters["persistence"], parameters["manager"]
    node = look(persistence, manager)
    waits = check and parameters["to_come"] and not node.module_release
    if waits or not node.gpus:
        changes = ["load nvidia"] if waits and node.gpus else []
        return {"changed": bool(changes), "changes": changes, "gpus": node.gpus, "switches": node.switches}
    # A refusal about units comes before the first module is touched.
    modules = modules_to_change(node)
    steps = [*modules, *units_to_change(node, persistence, manager)]
    if not check:
        for step in steps:
            take(step)
        prove(node.gpus)
    return {
        "changed": bool(steps),
        "changes": [str(step) for step in steps],
        "gpus": node.gpus,
        "switches": node.switches,
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "persistence": {"type": "str", "required": True},
            "manager": {"type": "str", "required": True},
            "to_come": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = bring_about(module.params, module.check_mode)
    except (InTheWay, OSError) as fault:
        module.fail_json(msg=str(fault))
    lines = "".join(f"{line}\n" for line in result["changes"])
    module.exit_json(**result, diff={"before": "", "after": lines} if lines else {})


if __name__ == "__main__":
    main()
