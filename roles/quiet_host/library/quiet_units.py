#!/usr/bin/python
"""Stop units for good, keep those that are wanted running, and list what nobody has judged."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.appliance_units import (
    Difference,
    Unit,
    Unwilling,
    differences,
    parse_files,
    parse_loaded,
    units,
    unknown_scripts,
    unknown_units,
)
from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Iterable

DOCUMENTATION = r"""
module: quiet_units
short_description: Stop units for good, and list what starts by itself without having been judged
description:
  - Stops and masks units that are present, by name or pattern; what is absent is left alone.
  - Enables and starts units that are wanted.
  - Takes the right to be run from scripts that cron or a login would run.
  - Warns of units and scripts that start by themselves and that no pattern names.
options:
  off:
    description: Units to stop, names or patterns.
    type: list
    elements: str
    default: []
  "on":
    description: Units that are enabled and active.
    type: list
    elements: str
    default: []
  on_own_kernel:
    description: Units that are enabled and active where the node has them and a kernel of its own.
    type: list
    elements: str
    default: []
  scripts_off:
    description: Scripts that lose the right to be run, where they are.
    type: list
    elements: path
    default: []
  known:
    description: Patterns of units that are known to be quiet.
    type: list
    elements: str
    default: []
  known_scripts:
    description: Patterns of scripts that are known to be quiet.
    type: list
    elements: str
    default: []
  to_come:
    description: Units that packages still to be installed bring; lets check mode go on without them.
    type: bool
    default: false
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Stop what phones home
  quiet_units:
    off: [apt-daily.timer]
    known: [ssh.service]
"""

RETURN = r"""
changes:
  description: What differed, one line each.
  returned: always
  type: list
  elements: str
unknown:
  description: Units and scripts that start by themselves and that nobody has judged.
  returned: always
  type: list
  elements: str
"""

#: Where cron and a login look for what to run (crontab(5), run-parts(8), update-motd(5)).
SCRIPTS = (
    "etc/cron.d/*",
    "etc/cron.hourly/*",
    "etc/cron.daily/*",
    "etc/cron.weekly/*",
    "etc/cron.monthly/*",
    "etc/cron.yearly/*",
    "var/spool/cron/crontabs/*",
    "etc/update-motd.d/*",
)
#: Of these, what root may not run is not run; entries of the others are read, not run.
RUN = (
    "/etc/cron.hourly/",
    "/etc/cron.daily/",
    "/etc/cron.weekly/",
    "/etc/cron.monthly/",
    "/etc/cron.yearly/",
)


def systemctl(*words: str) -> str:
    """Standard output of systemctl; Unwilling with what it wrote when it fails."""
    command = ["systemctl", *words]
    done = subprocess.run(
        command,
        env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unwilling(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def read_units() -> dict[str, Unit]:
    """Every unit that has a file or is loaded."""
    plain = ("--all", "--no-legend", "--no-pager", "--plain", "--full")
    return units(
        parse_files(systemctl("list-unit-files", *plain)), parse_loaded(systemctl("list-units", *plain))
    )


def read_scripts(root: Path = Path("/")) -> list[str]:
    """Scripts that cron or a login runs."""
    found = [f"/{path.relative_to(root)}" for pattern in SCRIPTS for path in sorted(root.glob(pattern))]
    return [path for path in found if runs(root, path)]


def runs(root: Path, path: str) -> bool:
    """Whether this file would be run or read; ``.placeholder`` and its like are passed over by all."""
    file = root / path[1:]
    if file.name.startswith(".") or not file.is_file():
        return False
    by_mode = path.startswith((*RUN, "/etc/update-motd.d/"))
    return not by_mode or bool(file.stat().st_mode & 0o111)


def in_container() -> bool:
    """Whether the kernel is somebody else's."""
    detect = ["systemd-detect-virt", "--container", "--quiet"]
    return subprocess.run(detect, capture_output=True, check=False).returncode == 0


def change(found: list[Difference]) -> None:
    """Make the units as wanted; several at a time, so that one does not start another meanwhile.

    Stopped first and masked then: a timer whose service is masked under it is not stopped but fails.
    """
    off = [item.unit for item in found if item.wanted == "masked"]
    # A template (x@.service) is masked so that no instance starts, but only instances can be stopped.
    running = [name for name in off if "@." not in name]
    if running:
        systemctl("stop", "--", *running)
    if off:
        systemctl("mask", "--", *off)
    on = [item.unit for item in found if item.wanted == "on"]
    if on:
        systemctl("unmask", "--", *on)
        systemctl("enable", "--now", "--", *on)


def silence(paths: Iterable[str]) -> None:
    """Take the right to be run; packages keep a file's mode when they replace it."""
    for path in paths:
        file = Path(path)
        file.chmod(file.stat().st_mode & 0o7666)


def bring_about(parameters: dict[str, Any], check: bool) -> dict[str, Any]:
    """Compare and change; the module's result."""
    present = read_units()
    on = [name for name in parameters["on"] if name in present or not (check and parameters["to_come"])]
    own_kernel = not in_container()
    if own_kernel:
        on += [name for name in parameters["on_own_kernel"] if name in present]
    off = parameters["off"]
    found = differences(present, off, on, own_kernel=own_kernel)
    loud = [path for path in parameters["scripts_off"] if os.access(path, os.X_OK)]
    if not check:
        change(found)
        silence(loud)
        left = differences(read_units(), off, on, own_kernel=own_kernel) if found else []
        if left:
            raise Unwilling("still not as wanted: " + "; ".join(map(str, left)))
    unknown = unknown_units(present, [*parameters["known"], *off, *on])
    scripts = unknown_scripts(read_scripts(), [*parameters["known_scripts"], *parameters["scripts_off"]])
    changes = [*map(str, found), *(f"{path}: may be run -> may not" for path in loud)]
    return {"changed": bool(changes), "changes": changes, "unknown": [*unknown, *scripts]}


def main() -> None:
    """Run as an Ansible module."""
    texts = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "off": texts,
            "on": texts,
            "on_own_kernel": texts,
            "scripts_off": {"type": "list", "elements": "path", "default": []},
            "known": texts,
            "known_scripts": texts,
            "to_come": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = bring_about(module.params, module.check_mode)
    except (Unwilling, OSError) as fault:
        module.fail_json(msg=str(fault))
    for name in result["unknown"]:
        module.warn(f"{name} starts by itself, and nobody has judged it: see docs/quiet-host.md")
    lines = "".join(f"{line}\n" for line in result["changes"])
    module.exit_json(**result, diff={"before": "", "after": lines} if lines else {})


if __name__ == "__main__":
    main()
