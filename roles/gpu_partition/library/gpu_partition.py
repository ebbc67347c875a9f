#!/usr/bin/python
"""Have a node's GPUs cut by a unit of ours, now and at every start; or have none of that."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: gpu_partition
short_description: Have a node's GPUs cut by a unit of ours, now and at every start
description:
  - C(state=present) writes program, layout and unit, keeps the vendor's unit off, and starts ours where
    something is not as it shall be. Then it asks again, calls CUDA for each team, and fails where something
    is not right.
  - A GPU that is to be cut anew, and is used by a process of nobody known, fails before any server is
    stopped.
  - C(state=absent) makes all GPUs whole, where this had cut them, and removes what it wrote.
options:
  state:
    description: What to bring about.
    type: str
    choices: [present, absent]
    required: true
  unit:
    description: The unit that cuts.
    type: str
    required: true
  program:
    description: What the unit runs; one of the files.
    type: path
    required: true
  vendor_unit:
    description: A unit that would cut otherwise; masked where it is there.
    type: str
    required: true
  files:
    description: Every file, C(path) and C(text), root's and open to read.
    type: list
    elements: dict
    required: true
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Leave GPUs whole
  gpu_partition:
    state: absent
    unit: appliance-gpu-partition.service
    program: /usr/local/lib/appliance/gpu_partition.py
    vendor_unit: nvidia-mig-manager.service
    files: []
"""

RETURN = r"""
changes:
  description: What was done, one line each.
  returned: always
  type: list
  elements: str
"""

MODE = 0o644
DIFFERS = 1


class Refused(Exception):
    """It cannot be brought about; the text says why, and what to do."""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A program's end, whatever it is."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def systemctl(*words: str) -> str:
    """Run systemctl and return what it printed; Refused with what it wrote when it fails."""
    done = run("systemctl", *words)
    if done.returncode != 0:
        raise Refused(f"systemctl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def is_as_wanted(path: Path, text: str) -> bool:
    """Whether a plain file of root's has this text."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    plain = stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == MODE
    return plain and status.st_uid == os.geteuid() and path.read_bytes() == text.encode()


def write(path: Path, text: str) -> None:
    """Put a file in place whole; folders that are missing are root's and open to read."""
    for folder in reversed([each for each in path.parents if not each.exists()]):
        folder.mkdir()
        folder.chmod(0o755)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".appliance-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fchmod(file.fileno(), MODE)
        os.fsync(file.fileno())
    Path(draft).replace(path)


def state_of(unit: str) -> dict[str, str]:
    """A unit's properties as systemd knows it."""
    shown = systemctl("show", "--property=LoadState,UnitFileState,ActiveState", "--", unit)
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def differing(program: str) -> list[str]:
    """What the program would change; Refused when it would not even begin."""
    done = run("/usr/bin/python3", "-I", "-B", program, "check")
    # A program that breaks off ends with 1 too, and has named no difference.
    if done.returncode not in {0, DIFFERS} or (done.returncode == DIFFERS and not done.stdout.strip()):
        raise Refused(done.stderr.strip() or f"{program} check ended with {done.returncode}")
    return done.stdout.splitlines()


def start(unit: str) -> None:
    """Have the unit do its work; Refused with what it said when it could not."""
    done = run("systemctl", "restart", "--", unit)
    if done.returncode != 0:
        said = run("journalctl", "--unit", unit, "--boot", "--lines", "5", "--output", "cat").stdout.strip()
        raise Refused(f"{unit} failed, and no server runs: {said}")


def present(options: dict[str, Any], *, check_mode: bool) -> list[str]:
    """Bring it about; what was done, or in check mode what would be."""
    unit, program = options["unit"], options["program"]
    changes = settled(options, check_mode=check_mode)
    if check_mode and changes:
        # What the program would find with other files, only these could say.
        return [*changes, f"restart {unit}"]
    found = state_of(unit)
    if found.get("UnitFileState") != "enabled":
        changes.append(f"enable {unit}")
        if not check_mode:
            systemctl("enable", "--", unit)
    reasons = differing(program)
    if reasons or found.get("ActiveState") != "active":
        changes += [*reasons, f"restart {unit}"]
        if not check_mode:
            start(unit)
    if not check_mode:
        prove(unit, program)
    return changes


def settled(options: dict[str, Any], *, check_mode: bool) -> list[str]:
    """Files in place, and the vendor's unit off; what was done or would be."""
    vendor = options["vendor_unit"]
    stale = [each for each in options["files"] if not is_as_wanted(Path(each["path"]), each["text"])]
    masks = state_of(vendor).get("LoadState") == "loaded"
    if not check_mode:
        for each in stale:
            write(Path(each["path"]), each["text"])
        if masks:
            systemctl("mask", "--now", "--", vendor)
        if stale:
            systemctl("daemon-reload")
    return [*(f"write {each['path']}" for each in stale), *([f"mask {vendor}"] if masks else [])]


def prove(unit: str, program: str) -> None:
    """Refused where something is still not as it shall be, or CUDA does not find a team's part."""
    if left := differing(program):
        raise Refused(f"{unit} ended well, and still: {'; '.join(left)}")
    done = run("/usr/bin/python3", "-I", "-B", program, "prove")
    if done.returncode != 0:
        raise Refused(done.stderr.strip())


def absent(options: dict[str, Any], *, check_mode: bool) -> list[str]:
    """Undo it where it was done."""
    unit, program = options["unit"], options["program"]
    there = [Path(each["path"]) for each in options["files"] if Path(each["path"]).exists()]
    if not there:
        return []
    if not check_mode:
        if Path(program).exists():
            done = run("/usr/bin/python3", "-I", "-B", program, "clear")
            if done.returncode != 0:
                raise Refused(done.stderr.strip())
        if state_of(unit).get("LoadState") == "loaded":
            systemctl("disable", "--now", "--", unit)
        for path in there:
            path.unlink()
        systemctl("daemon-reload")
    return ["make all GPUs whole", *(f"remove {path}" for path in there)]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "required": True},
            "unit": {"type": "str", "required": True},
            "program": {"type": "path", "required": True},
            "vendor_unit": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    act = present if module.params["state"] == "present" else absent
    try:
        changes = act(module.params, check_mode=module.check_mode)
    except (Refused, OSError) as fault:
        module.fail_json(msg=str(fault))
    lines = "".join(f"{line}\n" for line in changes)
    module.exit_json(
        changed=bool(changes), changes=changes, diff={"before": "", "after": lines} if changes else {}
    )


if __name__ == "__main__":
    main()
