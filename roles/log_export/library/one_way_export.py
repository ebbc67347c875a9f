#!/usr/bin/python
"""The units of the one-way export: their files, that they run by these files, and that the walls stand.

What runs may have been started by former files, if a run was cut off between writing and restarting; so
the files carry a stamp, and what runs is asked for it: processes by their environment, the line by what it
wrote down when it was put up.  And the walls themselves are looked at: whoever took a rule away on the node
finds it back after the next run.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.appliance_root_file import RootFile
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: one_way_export
short_description: The units of the one-way export, running by their files, behind walls that stand
description:
  - Writes the files, once C(systemd-analyze verify) accepts the units among them.
  - Enables the units, and restarts all where one does not run by the present files or a wall is amiss.
options:
  state:
    description: C(absent) stops the units and removes the files.
    type: str
    choices: [present, absent]
    default: present
  files:
    description: Text by path.
    type: dict
    required: true
  units:
    description: The units in the order in which they start; the first one is the line.
    type: list
    elements: str
    required: true
  stamp:
    description: Value of C(APPLIANCE_STAMP) in the units' environment.
    type: str
    default: ""
  program:
    description: The program C(appliance), which is asked whether the walls stand.
    type: str
    default: ""
author:
  - The appliance developers
"""

UNITS = Path("/etc/systemd/system")
RAISED = Path("/run/appliance-export-line/raised.json")
VARIABLE = "APPLIANCE_STAMP"
PROPERTIES = "ActiveState,UnitFileState,NeedDaemonReload,MainPID,Environment,Type"
JOURNAL_LINES = "25"


class ExportFailed(Exception):
    """The export does not run as wanted; the arguments are message, found, wanted."""


def systemctl(*arguments: str) -> str:
    """Run systemctl and return what it printed.

    Raises:
        ExportFailed: it failed.
    """
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ExportFailed(f"systemctl {' '.join(arguments)} failed", done.stderr.strip(), "exit status 0")
    return done.stdout


def read_state(unit: str) -> dict[str, str]:
    """The unit's properties, and under C(running) the stamp of what runs."""
    shown = systemctl("show", "--property", PROPERTIES, unit)
    state = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return {**state, "running": running_stamp(state)}


def running_stamp(state: dict[str, str]) -> str:
    """The stamp of a unit's process (proc_pid_environ(5)); of the line, which has none, what it wrote."""
    try:
        if state.get("Type") == "oneshot":
            return str(json.loads(RAISED.read_bytes())["started_by"])
        environment = Path("/proc", state.get("MainPID", "0"), "environ").read_bytes()
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    for entry in environment.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == VARIABLE.encode():
            return value.decode("ascii", "replace")
    return ""


def reasons_to_restart(
    states: dict[str, dict[str, str]], stamp: str, rewritten: list[str], amiss: list[str]
) -> list[str]:
    """Why the units must start anew, a sentence each; none where all is as wanted."""
    reasons = [f"{path} was another" for path in rewritten]
    for unit, state in states.items():
        if state.get("ActiveState") != "active":
            reasons.append(f"{unit} is {state.get('ActiveState')}")
        elif state["running"] != stamp:
            reasons.append(f"{unit} runs by other files")
    return reasons + amiss


def walls_amiss(program: str) -> list[str]:
    """What the program says of the walls; empty where they stand, or where it is not installed yet."""
    try:
        done = subprocess.run(
            [program, "export", "line", "show", "--json"], capture_output=True, text=True, check=False
        )
    except OSError:
        return []
    try:
        return [str(each) for each in json.loads(done.stdout).get("faults", ())]
    except ValueError:
        return [done.stderr.strip() or f"exit status {done.returncode}"] if done.returncode else []


def check_unit(unit: str, draft: Path) -> None:
    """Ask systemd what it thinks of a unit file, under the name it will have.

    Raises:
        ExportFailed: it finds a fault.
    """
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"{draft}:{unit}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ExportFailed(
            "systemd finds fault with a unit", done.stderr.strip(), f"success of: {' '.join(command)}"
        )


def ensure_present(options: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Files, units and walls as wanted, or in check mode what would be done.

    Raises:
        ExportFailed: systemd finds fault, or the export does not run afterwards.
    """
    units, stamp = options["units"], options["stamp"]
    files = {path: RootFile(Path(path), text) for path, text in options["files"].items()}
    rewritten = [path for path, file in files.items() if not file.is_as_wanted]
    states = {unit: read_state(unit) for unit in units}
    disabled = [unit for unit, state in states.items() if state.get("UnitFileState") != "enabled"]
    reasons = reasons_to_restart(states, stamp, rewritten, walls_amiss(options["program"]))
    diff = [files[path].difference() for path in rewritten]
    if reasons or disabled:
        diff.append(
            {"before": "\n".join([*reasons, *disabled]) + "\n", "after": f"running, stamp {stamp}\n"}
        )
    result = {"changed": bool(reasons or disabled), "reasons": reasons, "diff": diff}
    if check_mode:
        return result
    for path in rewritten:
        is_unit = Path(path).parent == UNITS
        files[path].replace(
            (lambda draft, unit=Path(path).name: check_unit(unit, draft))
            if is_unit
            else lambda _draft: None
        )
    if rewritten or any(state.get("NeedDaemonReload") == "yes" for state in states.values()):
        systemctl("daemon-reload")
    for unit in disabled:
        systemctl("enable", unit)
    if reasons:
        for unit in reversed(units):
            systemctl("stop", unit)
        for unit in units:
            subprocess.run(["systemctl", "reset-failed", unit], capture_output=True, check=False)
            systemctl("start", unit)
    left = reasons_to_restart(
        {unit: read_state(unit) for unit in units}, stamp, [], walls_amiss(options["program"])
    )
    if left:
        raise ExportFailed(
            "the export does not run as wanted", "\n".join(left), f"every unit active, stamp {stamp}"
        )
    return result


def ensure_absent(options: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Nothing left but keys and spool, or in check mode what would go."""
    there = [path for path in options["files"] if Path(path).exists()]
    running = [
        unit for unit in options["units"] if read_state(unit).get("ActiveState") not in {None, "inactive"}
    ]
    gone = [*there, *running]
    diff = [{"before": "\n".join(gone) + "\n", "after": "absent\n"}] if gone else []
    if gone and not check_mode:
        for unit in reversed(options["units"]):
            if unit in running:
                systemctl("stop", unit)
            if (UNITS / unit).exists():
                systemctl("disable", unit)
        for path in there:
            Path(path).unlink()
        systemctl("daemon-reload")
    return {"changed": bool(gone), "reasons": gone, "diff": diff}


def journal(units: list[str]) -> list[str]:
    """The last lines that the units wrote, for whoever has to find out why."""
    named = [word for unit in units for word in ("--unit", unit)]
    command = ["journalctl", *named, "--boot", "--lines", JOURNAL_LINES, "--output", "short-monotonic"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "files": {"type": "dict", "required": True},
            "units": {"type": "list", "elements": "str", "required": True},
            "stamp": {"type": "str", "default": ""},
            "program": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    work = ensure_present if module.params["state"] == "present" else ensure_absent
    try:
        module.exit_json(**work(module.params, check_mode=module.check_mode))
    except ExportFailed as problem:
        message, found, wanted = problem.args
        lines = journal(module.params["units"])
        text = "\n".join([f"{message}: {found}", *lines])
        module.fail_json(msg=text, found=found, wanted=wanted, journal=lines)


if __name__ == "__main__":
    main()
